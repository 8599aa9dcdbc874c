"""What the readings of a comparison tell: accuracy by kind of word and character, confusions, worth of confidences."""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from rapidfuzz.distance import Editops, Levenshtein

from distill.evaluation.metrics import Tally, percent
from distill.evaluation.readings import ReadWord

LENGTHS = (1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 12, 15, 20, 30, 40, 60)
"""Where bins of word lengths begin, characters."""
HEIGHTS = (1, 12, 16, 24, 32, 48, 64, 96, 128, 256)
"""Where bins of picture heights begin, pixels."""
BINS = 10
"""Bins of the confidence, equally wide."""
AIM = 99.0
"""Per cent that should be right of what is accepted, for the threshold of the confidence."""


@dataclass(frozen=True)
class Bin:
    """Words of one kind, as one reader read them."""

    name: str
    tally: Tally


def by_bins(
    words: Sequence[ReadWord], reader: str, starts: Sequence[int], measure: Callable[[ReadWord], int]
) -> list[Bin]:
    """Score a reader by bins of a measure, without those that no word is in; the last is open above."""
    counts: dict[int, Counter[bool]] = {}
    for word in words:
        index = max(bisect_right(starts, measure(word)) - 1, 0)
        counts.setdefault(index, Counter())[word.is_hit(reader)] += 1
    return [Bin(bin_name(starts, index), Tally(each.total(), each[True])) for index, each in sorted(counts.items())]


def bin_name(starts: Sequence[int], index: int) -> str:
    """Name a bin: its first and last value."""
    low = starts[index]
    if index + 1 == len(starts):
        return f"{low}+"
    high = starts[index + 1] - 1
    return str(low) if low == high else f"{low}–{high}"


@dataclass(frozen=True)
class Characters:
    """One reader's labels aligned with what it read, character by character."""

    scores: dict[str, Tally]
    """By character of the labels: how often it stands there, and how often it was read; most frequent first."""
    confusions: Counter[tuple[str, str]]
    """Label's character and what was read instead; an empty one where a character is missing or too much."""
    examples: dict[tuple[str, str], tuple[str, str]]
    """A label and what was read of it, for each confusion: of the words with the fewest edits the surest."""


def by_characters(words: Sequence[ReadWord], reader: str) -> Characters:
    """Align labels with readings by the fewest edits, and count characters that were read, confused, lost, added."""
    seen: Counter[str] = Counter()
    missed: Counter[str] = Counter()
    confusions: Counter[tuple[str, str]] = Counter()
    examples: dict[tuple[str, str], tuple[str, str]] = {}
    misread: list[tuple[Editops, float, str, str]] = []
    for word in words:
        text, sure = word.readings[reader]
        seen.update(word.label)
        if text != word.label:
            misread.append((Levenshtein.editops(word.label, text), sure, word.label, text))
    for edits, _, label, text in sorted(misread, key=lambda each: (len(each[0]), -each[1])):
        for edit in edits:
            lost = "" if edit.tag == "insert" else label[edit.src_pos]
            pair = (lost, "" if edit.tag == "delete" else text[edit.dest_pos])
            confusions[pair] += 1
            examples.setdefault(pair, (label, text))
            missed.update(lost)
    scores = {char: Tally(count, count - missed[char]) for char, count in seen.most_common()}
    return Characters(scores, confusions, examples)


@dataclass(frozen=True)
class Threshold:
    """The lowest confidence to accept so that `AIM` per cent of what is accepted are right."""

    confidence: float
    accepted: Tally
    """Words that are accepted, and those of them that are right."""
    covered: float
    """Per cent of all words that are accepted."""


@dataclass(frozen=True)
class Reliability:
    """What a reader's confidence is worth."""

    bins: tuple[tuple[float, Tally], ...]
    """Mean confidence in per cent, and words, of each bin that words are in."""
    error: float
    """Expected calibration error in points: how far confidence and accuracy are apart, averaged over words."""
    coverage: tuple[tuple[float, float], ...]
    """Per cent of words that are accepted and per cent of those that are right, as the threshold falls."""
    threshold: Threshold | None
    """None when no threshold reaches `AIM`."""


def reliability(words: Sequence[ReadWord], reader: str) -> Reliability:
    """Compare a reader's confidences with how often it is right."""
    judged = sorted(((word.readings[reader][1], word.is_hit(reader)) for word in words), reverse=True)
    binned: dict[int, list[tuple[float, bool]]] = {}
    for sure, hit in judged:
        binned.setdefault(min(int(BINS * sure), BINS - 1), []).append((sure, hit))
    bins = tuple(
        (100 * sum(sure for sure, _ in each) / len(each), Tally(len(each), sum(hit for _, hit in each)))
        for _, each in sorted(binned.items())
    )
    error = sum(tally.words * abs(sure - tally.accuracy) for sure, tally in bins) / len(judged)
    coverage: list[tuple[float, float]] = []
    best, hits = None, 0
    for count, (sure, hit) in enumerate(judged, start=1):
        hits += hit
        if count < len(judged) and judged[count][0] == sure:
            continue  # equal confidences are accepted together
        accepted = Tally(count, hits)
        coverage.append((percent(count, len(judged)), accepted.accuracy))
        if accepted.accuracy >= AIM:
            best = Threshold(sure, accepted, percent(count, len(judged)))
    return Reliability(bins, error, tuple(coverage), best)
