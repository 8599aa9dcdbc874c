"""Draw lines of text to render: some words with single spaces between them, mostly in one case."""

from __future__ import annotations

from random import Random

from distill.data.rendering.atlas import CAP_HEIGHT
from distill.data.rendering.labels import LabelSampler
from distill.data.rendering.layout import SetWord

MAX_LINE_WIDTH = 640
"""Pixels of the widest crop of a line."""
WORD_EXTENT = 6.0
"""Width of a word in cap heights up to which it may be bent and turned as any; longer lines proportionally less."""


class LineSampler(LabelSampler):
    """Draw lines of words that a sampler of words draws; each word is of its split.

    Args:
        words: draws the words.
        line_words: fewest and most words of a line.
        max_length: longest line in characters; words that would make it longer are left out.
    """

    def __init__(self, words: LabelSampler, line_words: tuple[int, int], max_length: int) -> None:
        super().__init__(words.split, words.charset, words.languages)
        self.words, self.line_words, self.max_length = words, line_words, max_length

    def draw(self, random: Random) -> str:
        """Draw one line."""
        count = random.randint(*self.line_words)
        words = [self.words.draw(random) for _ in range(count)]
        if count > 1:
            words = self._in_one_case(words, random)
        line = ""
        for word in words:
            longer = f"{line} {word}".lstrip()
            if len(longer) <= self.max_length:
                line = longer
        return line or self.words.draw(random)  # some letters are two as capitals

    def _in_one_case(self, words: list[str], random: Random) -> list[str]:
        """Turn words to the case of a line: capitals, a sentence, a title, or each as it was drawn."""
        dice = random.random()
        if dice < 0.3:
            turned = [word.upper() for word in words]
        elif dice < 0.65:
            turned = [words[0].capitalize(), *(word.lower() for word in words[1:])]
        elif dice < 0.8:
            turned = [word.capitalize() for word in words]
        else:
            return words
        return turned if self.charset.issuperset("".join(turned)) else words


def long_line_factor(word: SetWord) -> float:
    """Return the factor by which bend, tilt and rotation of a long line are reduced; 1 for a word."""
    left, _, right, _ = word.box
    return min(1.0, WORD_EXTENT * CAP_HEIGHT / (right - left))
