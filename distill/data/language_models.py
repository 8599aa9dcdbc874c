"""Open language models by what a user names: shipped lists, text files, and the labels of words.

The shipped list is written from wordfreq's by
`python -m distill.data.language_models students/language_models/european.tsv.xz`.
"""

from __future__ import annotations

import lzma
import os
import sys
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

from distill.data.rendering.vocabulary import frequencies
from distill.data.trees import open_words
from students.charset import Charset
from students.errors import UserError
from students.language_model import NO_MODEL, OWN, SHIPPED, LanguageModel, WordList, fold, read_counts

ENGLISH_WORDS, OTHER_WORDS = 100_000, 20_000
"""Words that are taken of English and of each of the others, the most frequent ones."""
ENGLISH_SHARE = 0.6
OTHERS = ("de", "es", "fr", "it", "nl", "pt")
PER = 1e9
"""Counts are of so many words of text."""
HEADER = (
    "# Words of English, German, Spanish, French, Italian, Dutch and Portuguese, and how often a billion words of",
    "# mixed text have them. From wordfreq (Robyn Speer, 2022, doi:10.5281/zenodo.7199437), whose data are under",
    "# CC BY-SA 4.0 (https://creativecommons.org/licenses/by-sa/4.0/), and so is this list.",
)


def open_language_model(
    given: str | Path, resolve: Callable[[str], Path] = Path, charset: Charset | None = None
) -> LanguageModel | None:
    """Open what a user names; `none` is None.

    Args:
        given: `european`, a text file (see `students.language_model.read_counts`), or labelled words; or several of
            these with `+` between them.
        resolve: brings a path to where it starts from.
        charset: whose label rules labelled words go through, as those that a student learns from do.

    Raises:
        UserError: when there is nothing of that name, or it has no words.
    """
    if not isinstance(given, str | Path):
        known = ", ".join([*SHIPPED, NO_MODEL])
        raise UserError(f"{given!r} is no language model; give {known}, a text file, or labelled words")
    if given == "" or (isinstance(given, str) and "" in given.split("+") and not os.path.exists(resolve(given))):
        raise UserError(f"{str(given)!r} has an empty name in it; give names or paths, with + between several")
    parts = [str(given)] if isinstance(given, Path) or os.path.exists(resolve(given)) else given.split("+")
    if given == NO_MODEL:
        return None
    lists: list[WordList] = []
    own: dict[str, float] = defaultdict(float)
    for part in parts:
        if part in SHIPPED:
            lists.append(WordList(part, SHIPPED[part]))
            continue
        path = resolve(part)
        for word, count in (_label_counts(path, charset) if os.path.isdir(path) else read_counts(path)).items():
            own[word] += count
    return LanguageModel([*lists, WordList(OWN, dict(own))] if own else lists)


def _label_counts(folder: Path, charset: Charset | None) -> dict[str, float]:
    counts: dict[str, float] = defaultdict(float)
    for records in open_words(folder):
        for _, label in records.labels():
            taught = label if charset is None or label is None else charset.clean(label, sys.maxsize)
            if word := fold(taught or ""):
                counts[word] += 1
    if not counts:
        raise UserError(f"{folder}: no label to make a language model of; give labelled words, or a text file")
    return counts


def write_shipped(path: Path) -> None:
    """Write the shipped list, compressed: equal counts together, which compresses well."""
    shares: dict[str, float] = defaultdict(float)
    for language in ("en", *OTHERS):
        english = language == "en"
        found = frequencies(language, "large" if english else "small")
        commonest = sorted(found, key=lambda word: -found[word])
        for word in commonest[: ENGLISH_WORDS if english else OTHER_WORDS]:
            key = fold(word)
            # Numbers stand in these lists as zeros.
            if key.isascii() and key.isalpha():
                shares[key] += found[word] * (ENGLISH_SHARE if english else (1 - ENGLISH_SHARE) / len(OTHERS))
    counts = {word: int(float(f"{share * PER:.2g}")) for word, share in shares.items()}
    lines = [f"{word}\t{count}" for word, count in sorted(counts.items(), key=lambda one: (-one[1], one[0])) if count]
    path.write_bytes(lzma.compress(("\n".join([*HEADER, *lines]) + "\n").encode(), preset=9))


if __name__ == "__main__":
    write_shipped(Path(sys.argv[1]))
