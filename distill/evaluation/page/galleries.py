"""Galleries of the page: which words to look at, with their pictures and what each reader made of them."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from PIL import Image
from rapidfuzz.distance import Levenshtein

from distill.evaluation.readings import ReadWord

WORDS = 24
"""Most words of a gallery."""
PICTURE = (220, 72)
"""Largest width and height of a picture in the page, pixels."""
QUALITY = 72
"""Of the page's pictures, as WebP."""
LoadPicture = Callable[[str, int], Image.Image]
"""Loads the picture of a word by its set and its number there."""


@dataclass(frozen=True)
class ShownReading:
    """One reader's reading of a word."""

    reader: str
    parts: tuple[tuple[str, bool], ...]
    """Pieces of what was read, and whether each stands in the label too."""
    confidence: float
    right: bool


@dataclass(frozen=True)
class Item:
    """A word of a gallery."""

    picture: str
    """As a data URI."""
    size: tuple[int, int]
    """Width and height of the picture in the page, pixels."""
    label: str
    record: str
    """Where it is stored."""
    seen: tuple[ShownReading, ...]


@dataclass(frozen=True)
class Gallery:
    """Words of one kind."""

    title: str
    explanation: str
    total: int
    """How many words are of this kind; the page has the first of them."""
    items: tuple[Item, ...]


def make_galleries(
    words: Sequence[ReadWord], readers: Sequence[str], subject: str, load_picture: LoadPicture
) -> Iterator[Gallery]:
    """Make the galleries: misread by all, only one reader right, the subject least sure.

    Args:
        words: what the galleries are chosen from.
        readers: names of those that are compared, the subject among them.
        subject: the reader that the page is about.
        load_picture: loads a word's picture.
    """

    def gallery(title: str, explanation: str, chosen: Sequence[ReadWord]) -> Gallery:
        items = tuple(make_item(word, readers, load_picture) for word in chosen[:WORDS])
        return Gallery(title, explanation, len(chosen), items)

    def surest_mistake(word: ReadWord) -> float:
        return -max((word.readings[name][1] for name in readers if not word.is_hit(name)), default=0.0)

    if len(readers) > 1:
        missed = [word for word in words if not any(word.is_hit(name) for name in readers)]
        yield gallery(
            "Misread by all", "Hard words, and labels that are wrong; the surest mistakes first.",
            sorted(missed, key=surest_mistake),
        )  # fmt: skip
        for reader in readers:
            alone = [word for word in words if [name for name in readers if word.is_hit(name)] == [reader]]
            yield gallery(
                f"Only {reader} right", "All others misread them; their surest mistakes first.",
                sorted(alone, key=surest_mistake),
            )  # fmt: skip
    else:
        missed = [word for word in words if not word.is_hit(subject)]
        yield gallery("Misread", "The surest mistakes first.", sorted(missed, key=surest_mistake))
    unsure = sorted(words, key=lambda word: word.readings[subject][1])
    yield gallery(f"{subject} least sure", "All words by its confidence, the lowest first; right or wrong.", unsure)


def make_item(word: ReadWord, readers: Sequence[str], load_picture: LoadPicture) -> Item:
    """Put a word with its picture and readings together."""
    uri, size = embed(load_picture(word.set, word.number))
    seen = tuple(
        ShownReading(name, compare_parts(word.label, word.readings[name][0]), word.readings[name][1], word.is_hit(name))
        for name in readers
    )
    return Item(uri, size, word.label, word.record, seen)


def compare_parts(label: str, text: str) -> tuple[tuple[str, bool], ...]:
    """Cut what was read into pieces that stand in the label, and pieces that don't, by the fewest edits."""
    opcodes = Levenshtein.opcodes(label, text)
    return tuple(
        (text[each.dest_start : each.dest_end], each.tag == "equal")
        for each in opcodes
        if each.dest_end > each.dest_start
    )


def embed(picture: Image.Image) -> tuple[str, tuple[int, int]]:
    """Encode a picture, made smaller where it is large, as a data URI of WebP; and its size."""
    small = picture.convert("RGB")
    small.thumbnail(PICTURE, Image.Resampling.LANCZOS)
    stored = io.BytesIO()
    small.save(stored, format="WEBP", quality=QUALITY, method=4)
    return "data:image/webp;base64," + base64.b64encode(stored.getvalue()).decode("ascii"), small.size
