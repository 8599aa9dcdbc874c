"""Describe the words of a run for people: how many from where, what was left out and why, what was replaced."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from distill.data.datasets import Words, parts_of, stored_parts
from distill.data.folders import list_names
from distill.data.overlap import count_copies
from distill.data.records import share_records
from distill.data.rendering.synthetic import SyntheticWords
from students.charset import Charset

REASONS = {
    "too long": "longer than {max_length} characters",
    "empty": "without a character of the alphabet",
    "illegible": "marked as illegible",
    "no label": "without a label that can be read",
}
"""What the reasons of the label rules mean."""
MOST_CHARACTERS = 12
"""Replaced characters that are named."""
LOOKALIKES = frozenset("АВЕЅІЈКМНОРСТУХаеіјорсухѕΑΒΕΖΗΙΚΜΝΟΡΤΥΧο")  # noqa: RUF001
"""Letters of Cyrillic and Greek that look like Latin ones."""


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
        lines += [f"  {line}" for line in describe_lookalikes(folded, stored[0].charset)]
    if too_long:
        examples = ", ".join(dict.fromkeys(word for each in selections for word in each.too_long_for_ctc_examples))
        verb = "word needs" if too_long == 1 else "words need"
        lines.append(
            f"  {too_long:,} {verb} more than {stored[0].options.ctc_columns} columns, e.g. {examples}: "
            "CTC can't spell them and leaves them out"
        )
    return lines


def describe_shared(validation: Words, learned: Sequence[Words]) -> list[str]:
    """Say in a line what of the validation words is learned from too: whole sets, or copies of pictures."""
    checked = stored_parts(validation)
    others = [part for words in learned for part in stored_parts(words)]
    shared = [str(one.records.path) for one in checked if any(share_records(one.records, o.records) for o in others)]
    if shared:
        return [f"  these are learned from too, so that validation says little: {list_names(shared)}"]
    copies = count_copies(*([(part.records, part.positions) for part in parts] for parts in (checked, others)))
    return [f"  {copies:,} of their pictures are learned from too: validation says too much of them"] if copies else []


def name_characters(counts: Mapping[str, int]) -> str:
    """Name characters with how often each occurs, the most frequent of many."""
    most = Counter(counts).most_common(MOST_CHARACTERS)
    named = " ".join(f"{name_character(char)} ({count:,})" for char, count in most)
    return named + (f" and {len(counts) - MOST_CHARACTERS} more" if len(counts) > MOST_CHARACTERS else "")


def name_character(char: str) -> str:
    """Write a character so that it can't be taken for another: `␣`, `U+200B`, `Я Cyrillic`."""
    if char == " ":
        return "␣"
    if unicodedata.category(char)[0] in "CMZ":  # can't be seen by itself
        return f"U+{ord(char):04X}"
    script = unicodedata.name(char, "").partition(" ")[0].title()
    return f"{char} {script}" if script in ("Cyrillic", "Greek") else char


def describe_lookalikes(characters: Iterable[str], charset: Charset) -> list[str]:
    """Say in a line that labels were typed with letters that only look like Latin ones, if all foreign ones do."""
    foreign = [char for char in characters if " " in name_character(char)]
    if not foreign or not LOOKALIKES.issuperset(foreign) or not charset.adapt("a"):
        return []
    return [f"{', '.join(map(name_character, foreign))} only look like Latin letters; write these in the labels"]
