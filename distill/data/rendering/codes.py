"""Draw labels that take after given ones: number plates, serial numbers and other codes, which are no words."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from random import Random

from distill.data.rendering.labels import MAX_LENGTH, WordSampler
from students.errors import UserError

EXCHANGED = 0.8
"""Share of the characters that stand at their place in a given label. Others are any of their kind, so that what is
rare among few labels is seen too."""


class CodeSampler(WordSampler):
    """Draw codes of the shapes that given labels have, and words between them.

    A shape says which places hold capitals, small letters, digits and which mark: `AB12-xyz` and `QK70-abc` have the
    same. A code takes the shape of a label, and each character from the same place of any label of this shape, or at
    random from its kind.

    Args:
        words: draws the words between them.
        labels: labels as they stand in pictures; characters that `words` may not draw are left out.
        share: how many of what is drawn are codes, 0 to 1.

    Raises:
        UserError: when no label has a letter or digit of the alphabet.
    """

    def __init__(self, words: WordSampler, labels: Iterable[str], share: float) -> None:
        self.single, self.share = words, share
        self.split, self.charset, self.extra, self.languages = words.split, words.charset, words.extra, words.languages
        self._kinds_of: dict[str, list[str]] = defaultdict(list)
        for char in sorted(self.charset):
            self._kinds_of[_kind(char)].append(char)
        written = ("".join(char for char in label if char in self.charset)[:MAX_LENGTH] for label in labels)
        self.labels = tuple(label for label in written if any(char.isalnum() for char in label))
        if not self.labels:
            raise UserError("data.synthetic.codes_from has no label with a letter or digit that the alphabet can write")
        self._of_shape: dict[str, list[str]] = defaultdict(list)
        for label in self.labels:
            self._of_shape[shape(label)].append(label)

    def draw(self, random: Random) -> str:
        """Draw a code, or a word as `WordSampler.draw` does."""
        if random.random() >= self.share:
            return self.single.draw(random)
        alike = self._of_shape[shape(random.choice(self.labels))]
        return "".join(
            random.choice(alike)[place] if random.random() < EXCHANGED else random.choice(self._kinds_of[_kind(char)])
            for place, char in enumerate(alike[0])
        )

    def examples(self, count: int = 3) -> str:
        """Name some codes, for people to see what is rendered."""
        random = Random(0)
        codes = CodeSampler(self.single, self.labels, 1.0)
        return ", ".join(codes.draw(random) for _ in range(count))


def shape(label: str) -> str:
    """Return which places of a label hold capitals (A), small letters (a), digits (9), and which mark."""
    return "".join(map(_kind, label))


def _kind(char: str) -> str:
    if char.isdigit():
        return "9"
    if not char.isalpha():
        return char
    return "A" if char.isupper() else "a"
