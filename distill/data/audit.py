"""Examine sets of words: what they hold, what the label rules drop of it and why, and what can't be read."""

from __future__ import annotations

import hashlib
import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from distill.data.columns import COLUMNS, unpack_columns
from distill.data.distributions import DistributionReader
from distill.data.label_files import is_quoted, is_structured
from distill.data.progress import followed
from distill.data.records import BadRecordError, Records, decode_record
from distill.data.sampling import spread
from distill.data.sheets import INK, WRONG, Line, SheetItem, record_item
from students.charset import Charset
from students.decoding import ctc_columns_needed
from students.errors import UserError
from students.turning import TALL

EXAMPLES = 5
"""Labels that are shown for each reason."""
QUANTILES = (0.0, 0.05, 0.5, 0.95, 1.0)
SPREADSHEET = re.compile(r"#(NAME\?|REF!|VALUE!|DIV/0!|N/A|NULL!|NUM!)|\d([.,]\d+)?E[+-]\d{2,3}|nan|NaN|<NA>")
"""What spreadsheets make of labels that look like a formula or a number, `=A1B` and `12E4`; pandas' missing values."""


@dataclass(frozen=True)
class SetReport:
    """What a set holds. Each record is usable, dropped or corrupt."""

    name: str
    path: str
    records: int
    """Records, readable or not."""
    usable: int
    """Records whose label the alphabet can write and whose picture can be read."""
    dropped: dict[str, int]
    """Records that the label rules drop, by reason."""
    examples: dict[str, list[str]]
    """Some of their labels."""
    removed: dict[str, int]
    """Characters that the alphabet lacks and that are left out of labels, most frequent first."""
    folded: dict[str, int]
    """Characters that the alphabet lacks and that are replaced (`é` by `e`), most frequent first."""
    too_long_for_ctc: int
    """Usable words that a CTC student can't spell: with a blank between equal neighbours they exceed its columns."""
    too_long_for_ctc_examples: list[str]
    """Some of them."""
    corrupt: int
    """Records without a label or a picture that can be read."""
    corrupt_records: list[str]
    """Each of them, and why."""
    beside: list[str]
    """Confidences and distributions that can't be read; learning from labels doesn't need them."""
    beyond: int
    """Records that are stored beyond `num-samples`."""
    repeated: int
    """Entries of a label file left out because an earlier one names the same picture and label."""
    reformatted: list[str]
    """Labels that a spreadsheet has changed, by their looks."""
    quoted: list[str]
    """Labels in quotation marks, which may be a spreadsheet's."""
    structured: list[str]
    """Labels that are lists or objects of JSON."""
    joined: list[str]
    """Labels of several words, which are joined for want of the space in the alphabet."""
    tall: int
    """Tall pictures of several characters: they are read turned too, and learned from as they stand."""
    copies: int
    """Records whose picture, to the byte, an earlier one has."""
    contradictions: list[str]
    """Each of them with another label, and the earlier one."""
    unlisted: list[str]
    """Pictures in a folder that its label file does not name."""
    widths: list[int]
    """Smallest, 5%, median, 95% and largest width in pixels."""
    heights: list[int]
    """The same for heights."""
    with_columns: int
    """Usable records that have the character under each column."""

    @property
    def is_damaged(self) -> bool:
        """Whether something is stored that can't be read, or is never read."""
        return self.corrupt > 0 or bool(self.beside) or self.beyond > 0


def examine(records: Records, charset: Charset, max_length: int = 25, keep_illegible: bool = False) -> SetReport:
    """Read every label and decode every picture of a set.

    Args:
        records: the set.
        charset: the alphabet whose rules are applied.
        max_length: longest label in characters.
        keep_illegible: take marks for illegible words, such as `###`, for words.
    """
    dropped, removed, folded = Counter[str](), Counter[str](), Counter[str]()
    examples: defaultdict[str, list[str]] = defaultdict(list)
    sizes: list[tuple[int, int]] = []
    corrupt: list[str] = []
    too_long_for_ctc: list[str] = []
    usable = with_columns = copies = 0
    beside = find_damage_beside(records, charset)
    seen: dict[bytes, tuple[str, str]] = {}
    contradictions: list[str] = []
    reformatted: list[str] = []
    quoted: list[str] = []
    structured: list[str] = []
    joined: list[str] = []
    tall = 0
    for position, label in followed(records.labels(), len(records), f"checking {records.name}"):
        try:
            label = records.label(position) if label is None else label
            sizes.append(decode_record(records, position).size)
        except BadRecordError as error:
            corrupt.append(str(error))
            continue
        digest = hashlib.blake2b(records.image(position), digest_size=16).digest()
        first, other = seen.setdefault(digest, (place := records.describe(position), label))
        copies += first != place
        if other != label:
            contradictions.append(f"{first} {other!r}, {place} {label!r}")
        if SPREADSHEET.fullmatch(label.strip()):
            reformatted.append(label)
        if is_quoted(label.strip()):
            quoted.append(label)
        if is_structured(label):
            structured.append(label)
        verdict = charset.examine(label, max_length, keep_illegible=keep_illegible)
        if verdict.reason != "illegible":
            removed.update(verdict.removed)
            folded.update(verdict.folded)
        if verdict.text is None:
            reason = verdict.reason or "empty"
            dropped[reason] += 1
            if len(examples[reason]) < EXAMPLES:
                examples[reason].append(label)
            continue
        usable += 1
        if verdict.joined:
            joined.append(label)
        width, height = sizes[-1]
        tall += height >= TALL * width and len(verdict.text) > 1
        with_columns += unpack_columns(records.columns(position)) is not None
        if ctc_columns_needed(verdict.text) > COLUMNS:
            too_long_for_ctc.append(verdict.text)
    widths, heights = ([size[side] for size in sizes] for side in (0, 1))
    return SetReport(
        name=records.name, path=str(records.path), records=len(records), usable=usable,
        dropped=dict(dropped.most_common()), examples=dict(examples), removed=dict(removed.most_common()),
        folded=dict(folded.most_common()), too_long_for_ctc=len(too_long_for_ctc),
        too_long_for_ctc_examples=too_long_for_ctc[:EXAMPLES],
        corrupt=len(corrupt), corrupt_records=corrupt, beside=beside,
        beyond=records.count_beyond(), repeated=records.repeated,
        reformatted=reformatted, quoted=quoted, structured=structured, joined=joined, tall=tall,
        copies=copies, contradictions=contradictions,
        unlisted=records.unlisted(),
        widths=_quantiles(widths), heights=_quantiles(heights), with_columns=with_columns,
    )  # fmt: skip


def find_damage_beside(records: Records, charset: Charset) -> list[str]:
    """Read what is stored with words beside picture and label, and name what can't be read."""
    damage, distributions = [], None
    try:
        distributions = None if records.distributions() is None else DistributionReader(records, charset)
    except UserError as error:
        return [str(error)]
    for position in range(len(records)):
        try:
            records.confidence(position)
            if distributions is not None:
                distributions.read(position, "")
            elif records.distribution(position) is not None:
                raise BadRecordError(f"{records.describe(position)} has distributions that its set doesn't describe")
        except BadRecordError as error:
            damage.append(str(error))
    return damage


def sample_items(sets: Sequence[Records], count: int = 100) -> list[SheetItem]:
    """Show records with their labels for a sheet, spread evenly over the sets; damaged pictures are grey."""
    chosen = (_at(sets, number) for number in spread(range(sum(map(len, sets))), count))
    return [record_item(records, position, _label_lines(records, position)) for records, position in chosen]


def _label_lines(records: Records, position: int) -> list[Line]:
    try:
        return [(records.label(position), INK)]
    except BadRecordError:
        return [(records.describe(position), WRONG)]


def _at(sets: Sequence[Records], number: int) -> tuple[Records, int]:
    for records in sets:
        if number < len(records):
            return records, number
        number -= len(records)
    raise IndexError(number)


def _quantiles(values: Sequence[int]) -> list[int]:
    return [round(value) for value in np.quantile(values, QUANTILES).tolist()] if values else []
