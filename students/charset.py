"""Alphabets: label rules and token ids.

The module imports no torch before labels are encoded.
"""

from __future__ import annotations

import os
import re
import unicodedata
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from string import ascii_lowercase, ascii_uppercase, digits, punctuation
from typing import TYPE_CHECKING, Literal

from students.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor

CHARSETS: dict[str, str] = {
    "36": digits + ascii_lowercase,
    "62": digits + ascii_lowercase + ascii_uppercase,
    "94": digits + ascii_lowercase + ascii_uppercase + punctuation,
    "95": digits + ascii_lowercase + ascii_uppercase + punctuation + " ",
}
"""The alphabets in common use, in the order of their token ids; 95 is 94 and the space, for lines of text."""
ILLEGIBLE = re.compile(r"#+|\*+|\.")
"""Labels that mark a word nobody can read: `###` and `*` (ICDAR), `#` (Total-Text), `.` (TextOCR)."""
SIGMA, FINAL_SIGMA = "\u03c3", "\u03c2"
DOTLESS, DOTTED = "\u0131", "\u0130"
"""Turkish's small i without a dot, and its capital I with one."""

DropReason = Literal["too long", "empty", "illegible"]
"""Why a label is dropped: too many characters, none that the alphabet has, or a mark for an illegible word."""


@dataclass(frozen=True)
class LabelVerdict:
    """What the label rules make of one label."""

    text: str | None
    """The label as it is taught and scored; None when it is dropped."""
    reason: DropReason | None
    """Why it is dropped; None when it is kept."""
    folded: str
    """Characters that the alphabet lacks and that were replaced (`é` by `e`), in their order."""
    removed: str
    """Characters that the alphabet lacks and that were left out, in their order; white space is not listed."""
    joined: bool = False
    """Whether words were joined, for want of the space in the alphabet."""

    @property
    def changed(self) -> set[str]:
        """Characters whose replacement or loss changes the word: all but ASCII punctuation, which the field ignores."""
        changed = {char for char in self.folded + self.removed if not char.isascii() or char.isalnum()}
        return changed | {" "} if self.joined else changed


@dataclass(frozen=True)
class Charset:
    """An alphabet, its label rules and its token ids.

    Token ids: end 0, characters 1..C in their order, start C + 1, padding C + 2; the last two are inputs only.
    Characters are single code points in composed form (NFC), whichever form `characters` is given in.
    """

    characters: str

    end_id = 0

    def __post_init__(self) -> None:
        """Compose the characters; raise `UserError` for an alphabet that is empty or repeats a character."""
        object.__setattr__(self, "characters", unicodedata.normalize("NFC", self.characters))
        repeated = sorted(char for char, count in Counter(self.characters).items() if count > 1)
        if not self.characters or repeated:
            problem = f"repeats {''.join(repeated)!r}" if repeated else "is empty"
            raise UserError(f"the alphabet {problem}; list each character once")

    @classmethod
    def load(cls, name_or_file: str) -> Charset:
        """Load `36`, `62`, `94`, `95`, or the characters of a UTF-8 text file.

        Line ends and a byte-order mark are no characters of the alphabet; a space is one when the file has it.

        Raises:
            UserError: when there is no such alphabet or file, or the file has a character that no alphabet can have:
                white space other than a space, invisible characters, accents without a letter.
        """
        if name_or_file in CHARSETS:
            return cls(CHARSETS[name_or_file])
        path = Path(name_or_file)
        if not os.path.isfile(path):  # unlike Path.is_file it takes a name that is too long for one that isn't there
            raise UserError(
                f"no alphabet {name_or_file!r}; give {', '.join(CHARSETS)}, or a text file with its characters"
            )
        try:
            lines = re.split(r"\r\n|\n|\r", path.read_bytes().decode("utf-8-sig"))
        except UnicodeDecodeError:
            raise UserError(f"{path} is no UTF-8 text; save the alphabet as UTF-8") from None
        characters = "".join(unicodedata.normalize("NFC", line) for line in lines)
        for char in characters:
            if problem := _unusable(char):
                raise UserError(f"{path}: {problem}; remove it from the alphabet")
        for pair in pairwise(characters):
            if len(unicodedata.normalize("NFC", "".join(pair))) == 1:
                raise UserError(
                    f"{path}: {pair[0]!r} and {pair[1]!r} would become one character; list another between them"
                )
        try:
            return cls(characters)
        except UserError as error:
            raise UserError(f"{path}: {error}") from None

    @property
    def writes_ascii_words(self) -> bool:
        """Whether the characters are ASCII, and have every letter, in some case, and every digit."""
        return self.characters.isascii() and all(map(self.adapt, digits + ascii_lowercase))

    @property
    def start_id(self) -> int:
        """Token id of the start."""
        return len(self.characters) + 1

    @property
    def pad_id(self) -> int:
        """Token id of padding."""
        return len(self.characters) + 2

    @cached_property
    def ids(self) -> dict[str, int]:
        """Token id of each character."""
        return {char: number for number, char in enumerate(self.characters, start=1)}

    @cached_property
    def case(self) -> Literal["lower", "upper"] | None:
        """The case that labels and predictions are turned to; None for an alphabet of both cases.

        A letter whose upper case is longer than itself (`ß`) doesn't make an alphabet of capitals one of both cases.
        """
        if self.characters == self.characters.lower():
            return "lower"
        capitals = all(char.upper() == char or len(char.upper()) > 1 for char in self.characters)
        return "upper" if capitals else None

    @cached_property
    def is_turkish(self) -> bool:
        """Whether it has one case with both of Turkish's letters i, and not all of q, w and x, as Turkish does."""
        own, foreign = (DOTTED + "I", "QWX") if self.case == "upper" else (DOTLESS + "i", "qwx")
        return self.case is not None and set(own) <= self.ids.keys() and not set(foreign) <= self.ids.keys()

    def apply_case(self, text: str) -> str:
        """Turn `text` to the alphabet's case, if it has one case only, by Unicode's rules.

        Characters of the alphabet stay as they are. A Greek final sigma becomes a sigma where the alphabet lacks it.
        One that `is_turkish` turns its two letters i by Turkish's rule.
        """
        if self.case == "lower":
            if self.is_turkish:
                text = text.replace("I", DOTLESS).replace(DOTTED, "i")
            text = text.lower()
        elif self.case == "upper":
            if self.is_turkish:
                text = text.replace("i", DOTTED).replace(DOTLESS, "I")
            text = "".join(char if char in self.ids else self._capitals.get(char, char.upper()) for char in text)
        return text if FINAL_SIGMA in self.ids else text.replace(FINAL_SIGMA, SIGMA)

    def counterpart(self, char: str) -> str | None:
        """Return the character itself, or its other case, whichever the alphabet has; None when it has neither."""
        cases = (char, char.swapcase(), char.lower(), char.upper(), self._capitals.get(char, ""))
        return next((each for each in cases if each in self.ids), None)

    def adapt(self, text: str) -> str:
        """Apply the case rule and drop characters outside the alphabet: the protocol's rule for predictions."""
        if not self._is_ascii:
            text = unicodedata.normalize("NFC", text)
        return "".join(char for char in self.apply_case(text) if char in self.ids)

    def adapt_reading(self, text: str) -> str:
        """Apply `adapt` to a reading; characters that the alphabet lacks, and spaces, follow the rules for labels too.

        So a reader that knows more characters may read `é` where the label is `e` for want of it: labels are folded,
        and so is what is compared with them. Where the alphabet has the space, runs of spaces become one, and those at
        the ends go: no picture tells how many there are.
        """
        if not text.isascii():
            text = "".join(map(self._fold, self._clusters(text)))
        text = self.adapt(text)
        return " ".join(text.split()) if " " in self.ids else text

    def examine(
        self,
        label: str,
        max_length: int = 25,
        remove_whitespace: bool | None = None,
        normalize_unicode: bool = True,
        keep_illegible: bool = False,
    ) -> LabelVerdict:
        """Apply the protocol's label rules to a label and report what they did.

        In this order: white space goes; characters that the alphabet lacks are folded by NFKD to ASCII, or to
        characters that it has; the length is checked; the case rule is applied; what is left outside the alphabet is
        removed. For an alphabet of ASCII alone that is the published protocol to the letter.

        Args:
            label: as it is stored; composed and decomposed forms (NFC, NFD) give the same.
            max_length: longest label, in characters, after folding and before characters are removed.
            remove_whitespace: None removes it unless the alphabet has the space, where it becomes single spaces.
            normalize_unicode: fold characters; otherwise those outside the alphabet are removed.
            keep_illegible: take marks such as `###` for words.
        """
        text, reason, parts = self._apply_rules(label, max_length, remove_whitespace, normalize_unicode, keep_illegible)
        folded, removed = [], []
        for part, plain in parts:
            if not any(map(self._has, plain)):
                removed.append("" if part.isspace() else part)
            elif plain != part:
                # Of a letter that the alphabet has, with marks that it lacks, the marks go.
                folded.append("".join(char for char in part if not self._has(char)) or part)
        joined = " " not in self.ids and remove_whitespace is not False and len(label.split()) > 1
        return LabelVerdict(text, reason, "".join(folded), "".join(removed), joined)

    def clean(
        self,
        label: str,
        max_length: int = 25,
        remove_whitespace: bool | None = None,
        normalize_unicode: bool = True,
        keep_illegible: bool = False,
    ) -> str | None:
        """Apply the protocol's label rules, see `examine`; None when the label is dropped."""
        return self._apply_rules(label, max_length, remove_whitespace, normalize_unicode, keep_illegible)[0]

    def _apply_rules(
        self,
        label: str,
        max_length: int,
        remove_whitespace: bool | None,
        normalize_unicode: bool,
        keep_illegible: bool,
    ) -> tuple[str | None, DropReason | None, list[tuple[str, str]]]:
        """Return text, reason, and what each character, with the marks that follow it, was folded to."""
        single_spaces = remove_whitespace is None and " " in self.ids
        if single_spaces:
            label = " ".join(label.split())
        elif remove_whitespace is not False:
            label = "".join(label.split())
        if normalize_unicode and not label.isascii():
            parts = [(part, self._fold(part)) for part in self._clusters(label)]
            text = "".join(plain for _, plain in parts)
        else:
            parts, text = [(char, char) for char in label], label
        if not keep_illegible and ILLEGIBLE.fullmatch(text):
            return None, "illegible", parts
        if len(text) > max_length:
            return None, "too long", parts
        text = self.adapt(text)
        if not self._is_ascii and not unicodedata.is_normalized("NFC", text):
            # A letter and a mark met that had a character between them which the alphabet lacks: compose them too.
            for _ in range(len(text)):
                text = self.adapt("".join(map(self._fold, self._clusters(text))))
        if single_spaces:
            text = " ".join(text.split())
        if not keep_illegible and ILLEGIBLE.fullmatch(text):
            return None, "illegible", parts
        return (text, None, parts) if text else (None, "empty", parts)

    @cached_property
    def _is_ascii(self) -> bool:
        return self.characters.isascii()

    @cached_property
    def _capitals(self) -> dict[str, str]:
        """Capitals by their lower case, for alphabets of capitals: Unicode's upper case of ß is not ẞ."""
        return {char.lower(): char for char in self.characters if char.lower() != char}

    def _has(self, char: str) -> bool:
        """Whether the alphabet has a character, in its case; one of ASCII alone has ASCII alone."""
        if char in self.ids:
            return True
        return (char.isascii() or not self._is_ascii) and self.apply_case(char) in self.ids

    def _clusters(self, label: str) -> Iterator[str]:
        """Split a label, composed, into characters, each with the combining marks after it that the alphabet lacks."""
        cluster = ""
        for char in unicodedata.normalize("NFC", label):
            if cluster and not self._has(char) and _only_marks(char):
                cluster += char
                continue
            if cluster:
                yield cluster
            cluster = char
        if cluster:
            yield cluster

    def _fold(self, cluster: str) -> str:
        """Replace what the alphabet lacks by its compatibility decomposition: the ASCII of it, and what it has."""
        if len(cluster) == 1 and (cluster.isascii() or self._has(cluster)):
            return cluster
        known = [char if self._has(char) else unicodedata.normalize("NFKC", char) for char in cluster]
        plain = []
        for char in unicodedata.normalize("NFC", "".join(known)):
            parts = char if self._has(char) else unicodedata.normalize("NFKD", char)
            plain += [part for part in parts if part.isascii() or self._has(part)]
        return "".join(plain)

    def encode(self, labels: Sequence[str]) -> Tensor:
        """Encode cleaned labels to ids (N, L + 2): start, characters, end, padding; L is the longest label.

        Raises:
            UserError: when a label has a character outside the alphabet.
        """
        import torch

        longest = max(map(len, labels), default=0)
        encoded = torch.full((len(labels), longest + 2), self.pad_id)
        for row, label in enumerate(labels):
            try:
                tokens = [self.start_id, *(self.ids[char] for char in label), self.end_id]
            except KeyError:
                outside = "".join(char for char in label if char not in self.ids)
                raise UserError(
                    f"label {label!r} has {outside!r}, outside the alphabet of "
                    f"{len(self.characters)} characters; clean labels first, or set student.charset to one that has it"
                ) from None
            encoded[row, : len(tokens)] = torch.tensor(tokens)
        return encoded


def show_characters(characters: str) -> str:
    """Return characters as they are listed for people: the space, which can't be seen there, as `␣`."""
    return characters.replace(" ", "␣")


def _only_marks(char: str) -> bool:
    """Whether a character is nothing but combining marks, a half-width voicing mark among them."""
    return all(unicodedata.category(part).startswith("M") for part in unicodedata.normalize("NFKD", char))


def _unusable(char: str) -> str | None:
    """Explain why a character of an alphabet file can't be taught; None when it can."""
    name = f"U+{ord(char):04X} {unicodedata.name(char, '')}".strip()
    if char != " " and char.isspace():
        return f"{name} is white space, and only the space can be a character"
    if unicodedata.category(char) in ("Cc", "Cf", "Cs", "Cn") and char not in "\u200c\u200d":
        return f"{name} can't be seen in a picture"
    if unicodedata.name(char, "").startswith(("COMBINING ", "VARIATION SELECTOR")):
        return f"{name} has no letter before it that it forms one character with"
    return None
