"""Prefix beam search over CTC columns (Graves et al. 2006; Hannun et al. 2014, arXiv 1408.2873).

The module imports no torch.
"""

from __future__ import annotations

from heapq import nlargest

import numpy as np

WIDTH = 16
"""Words that are followed from column to column."""
LEAST = 1e-3
"""Probability from which on a class of a column is looked at."""


def beam_search(
    probabilities: np.ndarray, blank: int, width: int = WIDTH, least: float = LEAST
) -> dict[tuple[int, ...], float]:
    """Find the most likely words of one picture, with their probabilities over the alignments that were followed.

    Args:
        probabilities: (W, classes) of its columns. Their products must not leave the range of the numbers, which holds
            for hundreds of columns.
        blank: the class without a character.
        width: words that are followed.
        least: probability from which on a class of a column is looked at.

    Returns:
        By class ids of its characters, the probability of each word.
    """
    # A word is a string here, a code point a class. With it go the probabilities of its alignments that end in a blank
    # and of those that end in its last character.
    nothing = chr(blank)
    beam: dict[str, tuple[float, float]] = {"": (1.0, 0.0)}
    for column in probabilities:
        classes = np.flatnonzero(column > least)
        choices = [
            (chr(token), chance) for token, chance in zip(classes.tolist(), column[classes].tolist(), strict=True)
        ]
        blanks: dict[str, float] = {}
        characters: dict[str, float] = {}
        for word, (in_blank, in_character) in beam.items():
            both, last = in_blank + in_character, word[-1:]
            for token, chance in choices:
                if token == nothing:
                    blanks[word] = both * chance
                elif token == last:  # goes on, or comes again after a blank
                    characters[word] = characters.get(word, 0.0) + in_character * chance
                    characters[word + token] = characters.get(word + token, 0.0) + in_blank * chance
                else:
                    characters[word + token] = characters.get(word + token, 0.0) + both * chance
        ends = {word: (blanks.get(word, 0.0), characters.get(word, 0.0)) for word in blanks | characters}
        beam = dict(nlargest(width, ends.items(), key=lambda one: sum(one[1]))) if len(ends) > width else ends
    return {tuple(map(ord, word)): sum(both) for word, both in beam.items() if any(both)}
