"""Draw labels that take after given ones: number plates, serial numbers and other codes, which are no words."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from random import Random

from distill.data.rendering.labels import LabelSampler, script_of
from distill.data.rendering.vocabulary import is_test_word
from students.charset import Charset
from students.errors import UserError

EXCHANGED = 0.8
"""Part of the characters that stand at their place in a given label. Others are any of their kind, so that what is rare
among few labels is seen too."""
TRIES = 100
"""Codes that are drawn for one that isn't held out for testing, before a word takes its place."""


class CodeSampler(LabelSampler):
    """Draw codes of the shapes that given labels have, and words between them.

    A shape says which places hold capitals, small letters, digits and which mark: `AB12-xyz` and `QK70-abc` have the
    same. A code takes the shape of a label, and each character from the same place of any label of this shape, or at
    random from its kind. Codes that are held out for testing, as a tenth of all words, are not drawn.

    Args:
        words: draws the words between them.
        labels: labels as they are stored; the label rules are applied, with the characters that `words` may draw.
        ratio: part of what is drawn that are codes, 0 to 1.

    Attributes:
        labels: those that are left.

    Raises:
        UserError: when no label is left that has a letter or digit.
    """

    def __init__(self, words: LabelSampler, labels: Sequence[str], ratio: float) -> None:
        super().__init__(words.split, words.charset, words.languages)
        self.words, self.ratio, self.max_length = words, ratio, words.max_length
        alphabet = Charset("".join(sorted(self.charset)))
        cleaned = (alphabet.clean(label, self.max_length) for label in labels)
        self.labels = tuple(label for label in cleaned if label is not None and any(map(str.isalnum, label)))
        if not self.labels:
            raise UserError(
                "data.synthetic.codes_from has no label with a letter or digit that the alphabet can write in "
                f"{self.max_length} characters"
            )
        self._kinds_of: dict[str, list[str]] = defaultdict(list)
        for char in sorted(self.charset):
            self._kinds_of[_kind(char)].append(char)
        self._of_shape: dict[str, list[str]] = defaultdict(list)
        for label in self.labels:
            self._of_shape[shape(label)].append(label)

    def draw(self, random: Random) -> str:
        """Draw a code, or what stands between them."""
        if random.random() < self.ratio:
            for _ in range(TRIES):
                code = self.draw_code(random)
                if self.split == "all" or is_test_word(code) == (self.split == "test"):
                    return code
        return self.words.draw(random)

    def draw_code(self, random: Random) -> str:
        """Draw a code, held out or not."""
        alike = self._of_shape[shape(random.choice(self.labels))]
        return "".join(
            random.choice(alike)[place] if random.random() < EXCHANGED else random.choice(self._kinds_of[_kind(char)])
            for place, char in enumerate(alike[0])
        )


def shape(label: str) -> str:
    """Return which places of a label hold capitals (A), small letters (a), digits (9), and which mark.

    Letters of scripts without case are named by their script, in brackets.
    """
    return "".join(map(_kind, label))


def _kind(char: str) -> str:
    if char.isdigit():
        return "9"
    if not char.isalpha():
        return char
    if char.isupper():
        return "A"
    return "a" if char.islower() else f"[{script_of(char)}]"
