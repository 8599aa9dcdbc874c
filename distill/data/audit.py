"""The data doctor: what a set holds, what training drops of it and why, and what can't be read."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from distill.data.overlap import Overlap, find_overlaps
from distill.data.progress import followed
from distill.data.records import BadRecordError, Records
from students.charset import Charset
from students.pictures import DamagedPictureError, decode_picture

__all__ = ["Overlap", "SetReport", "examine", "find_overlaps", "sample_sheet"]

EXAMPLES = 5
"""Dropped labels that are shown for each reason."""
SHOWN_CORRUPT = 20
"""Corrupt records that are named."""
QUANTILES = (0.0, 0.05, 0.5, 0.95, 1.0)


@dataclass(frozen=True)
class SetReport:
    """What is known of one set."""

    name: str
    path: str
    records: int
    """Records, readable or not."""
    kept: int
    """Records whose label the alphabet can write and whose picture can be read."""
    dropped: dict[str, int]
    """Records that label rules drop, by reason."""
    examples: dict[str, list[str]]
    """Some of their labels."""
    outside: dict[str, int]
    """Characters that the alphabet has not, in all labels, most frequent first."""
    corrupt: int
    """Records without a picture that can be read."""
    corrupt_named: list[str]
    """The first of them, and why."""
    widths: list[int]
    """Smallest, 5%, median, 95% and largest width in pixels."""
    heights: list[int]
    """The same for heights."""
    with_columns: int
    """Records that say which character stands under each column."""


def examine(records: Records, charset: Charset, max_length: int = 25) -> SetReport:
    """Read every label and decode every picture of a set."""
    dropped: Counter[str] = Counter()
    examples: defaultdict[str, list[str]] = defaultdict(list)
    outside: Counter[str] = Counter()
    widths: list[int] = []
    heights: list[int] = []
    corrupt: list[str] = []
    kept = with_columns = 0
    for position, label in followed(records.labels(), len(records), f"checking {records.name}"):
        verdict = None if label is None else charset.examine(label, max_length)
        reason = "no label" if verdict is None else verdict.reason
        if verdict is not None and reason != "illegible":
            outside.update(verdict.removed)
        if reason is not None:
            dropped[reason] += 1
            if len(examples[reason]) < EXAMPLES:
                examples[reason].append(records.describe(position) if label is None else label)
        try:
            width, height = decode_picture(records.image(position)).size
        except (BadRecordError, DamagedPictureError) as error:
            said = str(error) if isinstance(error, BadRecordError) else f"{records.describe(position)}: {error}"
            corrupt.append(said)
            continue
        widths.append(width)
        heights.append(height)
        kept += reason is None
        with_columns += records.columns(position) is not None
    return SetReport(
        name=records.name, path=str(records.path), records=len(records), kept=kept, dropped=dict(dropped.most_common()),
        examples=dict(examples), outside=dict(outside.most_common()), corrupt=len(corrupt),
        corrupt_named=corrupt[:SHOWN_CORRUPT], widths=_quantiles(widths), heights=_quantiles(heights),
        with_columns=with_columns,
    )  # fmt: skip


def sample_sheet(sets: Sequence[Records], count: int = 100, across: int = 8) -> Image.Image:
    """Draw pictures, spread evenly over the sets, with their labels below.

    Records that can't be read appear as empty frames.
    """
    total = sum(len(records) for records in sets)
    count = min(count, total)
    width, height, text = 160, 40, 18
    rows = -(-count // across)
    sheet = Image.new("RGB", (across * width, rows * (height + text)), "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(12)
    for number in range(count):
        records, position = _at(sets, number * total // count)
        left, top = number % across * width, number // across * (height + text)
        try:
            label = records.label(position)
            image = decode_picture(records.image(position))
            image.thumbnail((width - 8, height - 4))
            sheet.paste(image, (left + 4, top + 4))
        except (BadRecordError, DamagedPictureError):
            label = records.describe(position)
            draw.rectangle((left + 4, top + 4, left + width - 5, top + height - 1), outline="red")
        draw.text((left + 4, top + height), label[:24], fill="black", font=font)
    return sheet


def _at(sets: Sequence[Records], place: int) -> tuple[Records, int]:
    for records in sets:
        if place < len(records):
            return records, place
        place -= len(records)
    raise IndexError(place)


def _quantiles(values: Sequence[int]) -> list[int]:
    return [round(value) for value in np.quantile(values, QUANTILES).tolist()] if values else []
