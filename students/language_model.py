"""Language models: lists of words by which a CTC reader chooses between readings that look alike.

The module imports no torch.
"""

from __future__ import annotations

import lzma
import math
import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path

from students.errors import UserError

WEIGHT = 0.3
"""Exponent of a word's frequency, chosen on real training words that were held out (docs/results.md)."""
RAREST = 1e-9
"""Frequency of what stands in no list."""
CODE_SHARE = 1e-3
"""Frequency of a code that isn't listed over that of its shape, were characters drawn evenly."""
EVENLY = 10.0
"""Codes that count as drawn evenly beside the listed ones of a shape: what few of them have in common is no law."""
SHIPPED = {"european": Path(__file__).parent / "language_models" / "european.tsv.xz"}
"""The lists of the package: `european` has words of English and of six other languages of western Europe."""
NO_MODEL, OWN = "none", "own"
"""Names of no language model, and of a list that a reader brings with it."""
OWN_FILE = "language_model.tsv"
"""Such a list in the reader's folder."""

_COUNT_LAST = re.compile(r"\s*[^\d\t]*[^\W\d_][^\d\t]*?(?P<sign>[ ,;:|])\s*(?P<count>\d+(\.\d+)?)")
_CODE_COUNT_LAST = re.compile(r"(?=[^,]*$|.*[^\W\d_])[^\t]*?\s*(?P<sign>[,;|])\s*(?P<count>\d+)")
"""A code, which may have digits, with a count; by a comma only behind letters: `1,50` is a price."""
_COUNT_FIRST = re.compile(r"\s*(?P<count>\d+(\.\d+)?)\s*(?P<sign>[ ,;:|])\s*[^\W\d_][^\d\t]*")
_LABEL_LINE = re.compile(r'\s*\{|[^\t,;]+\.(?:png|jpe?g|webp|bmp|tiff?|gif)"?\s*[\t,; ]', re.IGNORECASE)
"""The beginning of a line of a file that names pictures and their labels."""
_RUN = re.compile(r"[^\W_]+")
"""Letters and digits without anything between them."""


class WordList:
    """Words and how often they occur.

    A word with digits is a code. It stands for other codes with letters and digits in the same places too, the more so
    the more often listed ones have their characters in these places. Case, accents and punctuation don't matter.

    Args:
        name: what it goes by.
        source: the words with their counts, as `fold` writes them; or a text file, see `read_counts`, which is read
            when it is first needed.
    """

    def __init__(self, name: str, source: Mapping[str, float] | Path) -> None:
        self.name, self._source = name, source

    @cached_property
    def counts(self) -> Mapping[str, float]:
        """The words with their counts."""
        return read_counts(self._source) if isinstance(self._source, Path) else self._source

    @cached_property
    def total(self) -> float:
        """Sum of all counts."""
        return sum(self.counts.values())

    @cached_property
    def shapes(self) -> Mapping[str, Sequence[Mapping[str, float]]]:
        """By shape of codes and place in it, how often which character stands there."""
        found: dict[str, list[dict[str, float]]] = {}
        for word, count in self.counts.items():
            if not word.isalpha():
                places = found.setdefault(_shape(word), [defaultdict(float) for _ in word])
                for place, char in zip(places, word, strict=True):
                    place[char] += count
        return found

    @property
    def text(self) -> str:
        """The list as a file has it, see `read_counts`; with the terms that a shipped one is under."""
        if isinstance(self._source, Path):
            return _read_text(self._source)
        return "".join(f"{word}\t{_shortest(count)}\n" for word, count in self.counts.items())

    def frequency(self, word: str) -> float:
        """Return the share of a word, as `fold` writes it, among all words; 0 where there is nothing like it."""
        count = self.counts.get(word, 0.0)
        if not word.isalpha() and (places := self.shapes.get(_shape(word))):
            count += _count_alike(word, places)
        return count / self.total


class LanguageModel:
    """Lists of words, and the prior that follows from them.

    Args:
        lists: a word is as frequent as in the list in which it is most frequent.
    """

    def __init__(self, lists: Sequence[WordList]) -> None:
        self.lists = tuple(lists)

    @property
    def name(self) -> str:
        """Names of the lists."""
        return "+".join(each.name for each in self.lists)

    @property
    def own_text(self) -> str | None:
        """The list that isn't shipped, as a file has it; None where there is none."""
        return next((each.text for each in self.lists if each.name == OWN), None)

    def prior(self, text: str) -> float:
        """Weigh a text by how common it is: its frequency to the power of `WEIGHT`.

        Text with spaces or punctuation between letters counts as one word or as several, whichever is more common.
        """
        runs = [fold(run) for run in _RUN.findall(text)]
        whole = self._frequency("".join(runs))
        return float(max(whole, math.prod(map(self._frequency, runs)) if len(runs) > 1 else 0.0) ** WEIGHT)

    def _frequency(self, word: str) -> float:
        return max(RAREST, *(each.frequency(word) for each in self.lists))


def load_language_model(name: str, own: Path | str | None = None) -> LanguageModel | None:
    """Open the language model that a reader is configured with; `none` is None.

    Args:
        name: names of lists with `+` between them.
        own: the list that goes by `own`, as text or as a file; without it that list is left out.

    Raises:
        UserError: when there is no such list.
    """
    lists = []
    for part in name.split("+") if name != NO_MODEL else ():
        if part in SHIPPED:
            lists.append(WordList(part, SHIPPED[part]))
        elif part != OWN:
            raise UserError(f"there is no language model {part!r}; choose {', '.join(SHIPPED)} or {NO_MODEL}")
        elif own is not None:
            counts = read_counts(own) if isinstance(own, Path) else parse_counts(own.splitlines(), OWN_FILE)
            lists.append(WordList(OWN, counts))
    return LanguageModel(lists) if lists else None


def read_counts(path: Path) -> dict[str, float]:
    """Read a list: UTF-8 text with a word a line, and behind a tab how often it occurs, 1 where that is left out.

    Lines that start with `#` are notes, but for numbers such as `#12`. The text may be compressed (`.xz`).

    Raises:
        UserError: when it can't be read, has no words, or a count that is none.
    """
    return parse_counts(_read_text(path).splitlines(), str(path))


def _read_text(path: Path) -> str:
    try:
        data = path.read_bytes()
        return (lzma.decompress(data) if path.suffix == ".xz" else data).decode("utf-8-sig")
    except (OSError, lzma.LZMAError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "no UTF-8 text"
        raise UserError(
            f"{path}: can't be read as a language model ({reason}); give a text file with a word a line, labelled "
            f"words, {', '.join(SHIPPED)}, several of these with +, or {NO_MODEL}"
        ) from None


def _shortest(count: float) -> str:
    """Write a count in as few digits as tell it."""
    return f"{count:g}" if float(f"{count:g}") == count else repr(count)


def parse_counts(lines: Iterable[str], name: str) -> dict[str, float]:
    """Read the lines of a list, see `read_counts`; `name` is for errors."""
    lines = list(lines)
    refuse_other_lists(lines, name)
    _refuse_counts_without_tabs(lines, name)
    counts: dict[str, float] = defaultdict(float)
    for number, line in enumerate(lines, 1):
        word, _, count = line.partition("\t")
        if _is_note(line) or not (key := fold(word)):
            continue
        try:
            often = float(count or 1)
        except ValueError:
            often = math.nan
        if not 0 < often < math.inf:
            raise UserError(
                f"{name}: line {number} says {count[:40]!r} of {word[:40]!r}; give a number above 0 behind the tab, "
                "or the word alone"
            )
        counts[key] += often
    if not counts:
        raise UserError(f"{name}: has no words; give a text file with a word a line")
    return dict(counts)


def refuse_other_lists(lines: Sequence[str], name: str) -> None:
    """Raise `UserError` for a label file, and for several words on each line."""
    if any(_LABEL_LINE.match(line) for line in lines[:3]):  # the first may be a header
        raise UserError(f"{name} looks like a label file, which names pictures; give the folder that it lies in")
    words = [line for line in lines if line.strip() and not _is_note(line)]
    if words and all(len([part for part in re.split("[,;|]", line) if fold(part)]) > 2 for line in words):
        raise UserError(f"{name}: {words[0].strip()[:40]!r} looks like several words; write each in a line of its own")


def _refuse_counts_without_tabs(lines: Sequence[str], name: str) -> None:
    """Raise `UserError` for a list whose counts don't stand behind tabs: they would be taken for codes.

    `KA 1234`, `12 ABC` and `Gate: 3` may stand on plates and doors. So counts are told by a comma, semicolon or bar
    behind the words, or by their order, the most frequent first; before words also by being set flush right, as
    `uniq -c` does.
    """
    words = [line.rstrip() for line in lines if line.strip() and not _is_note(line)]
    for form, signs in ((_COUNT_LAST, ",;|"), (_CODE_COUNT_LAST, ",;|"), (_COUNT_FIRST, "|")):
        rows: list[re.Match[str]] = []
        for number, line in enumerate(words):
            row = form.fullmatch(line)
            if row is not None:
                rows.append(row)
            elif number > 0:  # the first may be a header
                rows.clear()
                break
        counts = [float(row["count"]) for row in rows]
        falling = len(counts) > 4 and counts == sorted(counts)[::-1] and counts[0] > counts[-1]
        flush = form is _COUNT_FIRST and len(rows) > 1 and _is_flush_right(rows)
        if rows and (all(row["sign"] in signs for row in rows) or falling or flush):
            raise UserError(
                f"{name}: {rows[0][0].strip()!r} looks like a word with a count; put the word first and a tab between, "
                "or, if all of it is a word, a tab and 1 behind it"
            )


def _is_flush_right(rows: Sequence[re.Match[str]]) -> bool:
    """Whether numbers of different lengths begin their lines and end in the same column."""
    ends = {row.end("count") for row in rows}
    return len(ends) == 1 and len({row.start("count") for row in rows}) > 1


def _is_note(line: str) -> bool:
    """Whether a line is a note: `#` and anything but a number, as house numbers are written."""
    return line.startswith("#") and not line[1:].partition("\t")[0].strip().isdigit()


def fold(text: str) -> str:
    """Reduce a text to its letters and digits, without case and accents."""
    if text.isascii() and text.isalnum():
        return text.lower()
    # Case is folded again, since what ™ stands for are capital letters.
    folded = unicodedata.normalize("NFKD", text.casefold()).casefold()
    return "".join(char for char in folded if char.isalnum())


def _shape(word: str) -> str:
    """Put one letter for all letters, and one digit for all digits."""
    return "".join("a" if char.isalpha() else "0" for char in word)


def _count_alike(code: str, places: Sequence[Mapping[str, float]]) -> float:
    """Estimate how often a code occurs from the characters that listed ones of its shape have in the same places."""
    listed = sum(places[0].values())
    likelier = 1.0
    for char, place in zip(code, places, strict=True):
        choices = 26 if char.isalpha() else 10
        likelier *= (place.get(char, 0.0) * choices + EVENLY) / (listed + EVENLY)
    return listed * min(CODE_SHARE * likelier, 1.0)
