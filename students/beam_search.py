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
    probabilities: np.ndarray, blank: int, merged: np.ndarray | None = None, width: int = WIDTH,
    least: float = LEAST,
) -> dict[tuple[int, ...], float]:  # fmt: skip
    """Find the most likely words of one picture, with their probabilities over the alignments that were followed.

    Args:
        probabilities: (W, classes) of its columns. Their products must not leave the range of the numbers, which holds
            for hundreds of columns.
        blank: the class without a character.
        merged: (classes,) what each is in a word, where both cases of a letter are the same, for instance. Between `A`
            and `a` no blank has to stand; between `a` and `a` one has. None takes the classes as they are.
        width: words that are followed.
        least: probability from which on a class of a column is looked at.

    Returns:
        By the (merged) classes of its characters, the probability of each word.
    """
    # A word is a string here, a code point a merged class. With it go the probabilities of its alignments: under the
    # blank of those that end in one, under a class of those that end in that.
    beam: dict[str, dict[int, float]] = {"": {blank: 1.0}}
    for column in probabilities:
        classes = np.flatnonzero(column > least)
        merged_classes = classes if merged is None else merged[classes]
        choices = [*zip(classes.tolist(), map(chr, merged_classes.tolist()), column[classes].tolist(), strict=True)]
        ends: dict[str, dict[int, float]] = {}
        for word, alignments in beam.items():
            whole, last = sum(alignments.values()), word[-1:]
            for token, character, chance in choices:
                if token == blank:
                    _add(ends, word, token, whole * chance)
                elif character != last:
                    _add(ends, word + character, token, whole * chance)
                else:  # goes on, or comes again, after a blank or as another class
                    others = sum(probability for ended, probability in alignments.items() if ended != token)
                    _add(ends, word, token, alignments.get(token, 0.0) * chance)
                    _add(ends, word + character, token, others * chance)
        kept = (
            nlargest(width, ends.items(), key=lambda one: sum(one[1].values())) if len(ends) > width else ends.items()
        )
        beam = dict(kept)
    sums = {tuple(map(ord, word)): sum(alignments.values()) for word, alignments in beam.items()}
    return {word: probability for word, probability in sums.items() if probability > 0}


def _add(ends: dict[str, dict[int, float]], word: str, token: int, probability: float) -> None:
    of_word = ends.setdefault(word, {})
    of_word[token] = of_word.get(token, 0.0) + probability
