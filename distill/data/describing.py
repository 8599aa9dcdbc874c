"""Describe the words of a run for people: how many from where, what was left out and why, what was replaced."""

from __future__ import annotations

from collections import Counter

from distill.data.datasets import Words, parts_of, stored_parts
from distill.data.rendering.synthetic import SyntheticWords

REASONS = {
    "too long": "longer than {max_length} characters",
    "empty": "without a character of the alphabet",
    "illegible": "marked as illegible",
    "no label": "without a label that can be read",
}
"""What the reasons of the label rules mean."""
MOST_CHARACTERS = 12
"""Replaced characters that are named."""


def describe_words(words: Words, purpose: str) -> list[str]:
    """Describe words in lines for the terminal, the first with their number.

    Args:
        words: a set, several, or words that are rendered while training runs.
        purpose: what they are for, such as `to train on`.
    """
    stored = stored_parts(words)
    selections = [part.selection for part in stored if part.selection is not None]
    dropped: Counter[str] = sum((selection.dropped for selection in selections), Counter())
    folded: Counter[str] = sum((selection.folded for selection in selections), Counter())
    too_long = sum(selection.too_long_for_ctc for selection in selections)

    line = f"{len(words):,} words {purpose}: {words.name}"
    if any(part.drawn_from is not None for part in stored):
        line += f", drawn from {sum(part.drawn_from or len(part) for part in stored):,}"
    if any(isinstance(part, SyntheticWords) for part in parts_of(words)):
        line += ", other ones in each epoch"
    if any(not part.labelled for part in stored):
        line += ", read by the teacher"
    lines = [line]
    lines += [text for part in stored if part.distributions is not None for text in part.distributions.describe()]
    if dropped:
        length = stored[0].options.max_length
        reasons = [
            f"{count:,} {REASONS.get(reason, reason).format(max_length=length)}"
            for reason, count in dropped.most_common()
        ]
        lines.append(f"  left out: {', '.join(reasons)}")
    if folded:
        lines.append(f"  outside the alphabet, replaced or removed in so many words: {name_characters(folded)}")
    if too_long:
        examples = ", ".join(dict.fromkeys(word for each in selections for word in each.too_long_for_ctc_examples))
        verb = "word needs" if too_long == 1 else "words need"
        lines.append(
            f"  {too_long:,} {verb} more than {stored[0].options.ctc_columns} columns, e.g. {examples}: "
            "CTC can't spell them and leaves them out"
        )
    return lines


def name_characters(counts: Counter[str]) -> str:
    """Name characters with how often each occurs, the most frequent of many."""
    named = " ".join(f"{char} ({count:,})" for char, count in counts.most_common(MOST_CHARACTERS))
    return named + (f" and {len(counts) - MOST_CHARACTERS} more" if len(counts) > MOST_CHARACTERS else "")
