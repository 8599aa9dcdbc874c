"""Verdicts: from what readers read of a picture to its label, or to the reason why it gets none."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from students.charset import Charset
from students.decoding import Reading

Reason = Literal[
    "damaged picture", "nothing read", "not writable in the alphabet", "too long", "readers disagree",
    "below the threshold", "own label not writable", "own label illegible", "own label too long",
    "likely a wrong label",
]  # fmt: skip
"""Why a picture is left out."""
Mistake = Literal["another word", "case or punctuation"]
"""How what is read differs from a label that stands with the picture."""


@dataclass(frozen=True)
class Rules:
    """What a label has to be."""

    charset: Charset
    """Its alphabet."""
    max_length: int
    """Most characters."""
    threshold: float
    """Least confidence."""
    agree: int
    """How many readers have to read the same."""
    drop_mistakes: bool = False
    """Leave out words whose own label is likely wrong."""


@dataclass(frozen=True)
class Verdict:
    """The decision on one picture."""

    label: str | None
    """The label to write, as it will stand; None for a picture that is left out."""
    reason: Reason | None
    """Why it is left out."""
    text: str
    """What was read, in the alphabet; the word that most readers read."""
    confidence: float
    """How sure the readers of that word were, on average."""
    readers: tuple[int, ...]
    """Which readers read it."""
    sure: bool
    """Whether the reading is good enough to be a label."""
    mistake: Mistake | None = None
    """How it differs from the picture's own label."""


def judge(readings: Sequence[Reading], own: str | None, rules: Rules) -> Verdict:
    """Judge what readers read of a picture.

    The word that most readers read counts; of several the one read with more confidence. Words are compared in the
    alphabet, after the label rules.

    Args:
        readings: one a reader.
        own: the label that stands with the picture, which stays; None or "" when there is none.
        rules: what a label has to be.
    """
    text, readers, unusable = _chosen(readings, rules)
    confidence = sum(readings[number].confidence for number in readers) / len(readers)
    reason: Reason | None = unusable
    if reason is None and len(readers) < rules.agree:
        reason = "readers disagree"
    if reason is None and confidence < rules.threshold:
        reason = "below the threshold"
    if not own:
        return Verdict(text if reason is None else None, reason, text, confidence, readers, reason is None)
    verdict = rules.charset.examine(own, rules.max_length)
    mistake = _compare(text, verdict.text) if verdict.text is not None else None
    why = None if verdict.reason is None else _OWN[verdict.reason]
    if why is None and rules.drop_mistakes and reason is None and mistake == "another word":
        why = "likely a wrong label"
    return Verdict(own if why is None else None, why, text, confidence, readers, reason is None, mistake)


_OWN: dict[str, Reason] = {
    "too long": "own label too long", "empty": "own label not writable", "illegible": "own label illegible",
}  # fmt: skip


def _chosen(readings: Sequence[Reading], rules: Rules) -> tuple[str, tuple[int, ...], Reason | None]:
    """Choose the word that most readers read, who read it, and why it can't be a label."""
    by_text: dict[str, list[int]] = {}
    reasons: dict[str, Reason | None] = {}
    for number, reading in enumerate(readings):
        text, reason = clean_reading(reading.text, rules)
        by_text.setdefault(text, []).append(number)
        reasons[text] = reasons.get(text) or reason

    def rank(text: str) -> tuple[int, float]:
        return len(by_text[text]), sum(readings[number].confidence for number in by_text[text])

    text = max(by_text, key=rank)
    return text, tuple(by_text[text]), reasons[text]


def clean_reading(text: str, rules: Rules) -> tuple[str, Reason | None]:
    """Write what was read in the alphabet, and say why that is no label: the picture shows more than it can write."""
    verdict = rules.charset.examine(text, rules.max_length, keep_illegible=True)
    if not text.strip():
        return "", "nothing read"
    if verdict.reason == "too long":
        return rules.charset.adapt(text), "too long"
    if verdict.text is None or verdict.removed:
        return verdict.text or "", "not writable in the alphabet"
    return verdict.text, None if rules.charset.clean(text, rules.max_length) else "not writable in the alphabet"


def _compare(read: str, label: str) -> Mistake | None:
    if read == label:
        return None
    plain = ["".join(filter(str.isalnum, text.casefold())) for text in (read, label)]
    return "case or punctuation" if plain[0] == plain[1] != "" else "another word"
