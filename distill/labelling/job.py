"""A labelling job: parts of a set that processes read one after the other, and that outlive a kill."""

from __future__ import annotations

import base64
import dataclasses
import functools
import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from distill.data.distributions import likeliest_classes
from distill.data.records import BadRecordError, Records, decode_record
from distill.data.trees import open_all
from distill.labelling.readers import LabelReader, Read, open_readers
from distill.labelling.verdicts import Rules, Verdict, judge
from distill.plugins import import_plugins
from distill.workers import map_in_processes
from students.charset import Charset
from students.errors import UserError
from students.files import write_file

PART = 256
"""Pictures of a part: what is lost at most when a job is killed."""
BATCH = 32
"""Pictures that are read at once. Batches don't reach over parts, so that no number of processes changes a digit."""
REQUEST = "request.json"


@dataclass(frozen=True)
class LabelRequest:
    """What is to be labelled, and how."""

    data: str
    """Folder of the pictures: an LMDB, pictures, or a tree of both."""
    readers: tuple[str, ...]
    """Names, folders or files of those that read."""
    charset: str
    """Characters of the labels' alphabet."""
    max_length: int = 25
    """Longest label in characters."""
    threshold: float = 0.9
    """Least confidence."""
    agree: int = 1
    """How many readers have to read the same."""
    likeliest: int = 8
    """Classes that are stored of each distribution; 0 stores none."""
    relabel: bool = False
    """Label words anew that have a label."""
    drop_mistakes: bool = False
    """Leave out words whose own label is likely wrong."""
    language_model: str | None = None
    """What readers by CTC weigh words by; None leaves what they have."""
    plugins: tuple[str, ...] = ()
    """Files and modules that register readers; each process imports them."""

    @property
    def rules(self) -> Rules:
        """What a label has to be."""
        return Rules(Charset(self.charset), self.max_length, self.threshold, self.agree, self.drop_mistakes)

    def open_records(self) -> list[Records]:
        """Open the sets; raises `UserError` when there are none."""
        return open_all(self.data)


@dataclass(frozen=True)
class LabelledPicture:
    """One picture, labelled or left out."""

    verdict: Verdict
    """What came of it."""
    own: str | None
    """The label that stands with it, which stays; None when there is none, or labels are made anew."""
    readings: tuple[tuple[str, float], ...]
    """Text and confidence of each reader."""
    distribution: bytes | None
    """Its distributions, packed; None for a picture that is left out, or when no reader has any."""

    def to_json(self) -> dict[str, Any]:
        """Write it for a part's file."""
        packed = None if self.distribution is None else base64.b64encode(self.distribution).decode()
        return {**dataclasses.asdict(self), "distribution": packed}

    @classmethod
    def from_json(cls, stored: dict[str, Any]) -> LabelledPicture:
        """Read what `to_json` wrote."""
        verdict = Verdict(**{**stored["verdict"], "readers": tuple(stored["verdict"]["readers"])})
        packed = None if stored["distribution"] is None else base64.b64decode(stored["distribution"])
        readings = tuple((text, confidence) for text, confidence in stored["readings"])
        return cls(verdict, stored["own"], readings, packed)


DAMAGED = Verdict(None, "damaged picture", "", 0.0, (), False)


class PartReader:
    """Reads parts of the sets; each process has its own.

    Args:
        request: what is asked for.
        folder: where finished parts are written.
    """

    def __init__(self, request: LabelRequest, folder: Path) -> None:
        import_plugins(request.plugins)
        torch.set_num_threads(1)  # sums in another order would be other sums
        self.request, self.folder, self.rules = request, folder, request.rules
        self.records = request.open_records()
        opened = open_readers(request.readers, request.language_model)
        self.readers = [LabelReader(reader, self.rules.charset) for reader in opened]

    def work(self, part: Part) -> int:
        """Read a part and write its file; returns its number."""
        records = self.records[part.set_number]
        words: list[LabelledPicture] = []
        for start in range(part.start, part.stop, BATCH):
            words += self._read(records, range(start, min(start + BATCH, part.stop)))
        content = json.dumps([word.to_json() for word in words])
        write_file(part.file(self.folder), content)
        return part.number

    def _read(self, records: Records, positions: range) -> list[LabelledPicture]:
        pictures: list[Image.Image] = []
        there: list[int] = []
        for position in positions:
            try:
                pictures.append(decode_record(records, position))
                there.append(position)
            except BadRecordError:
                pass
        words = {}
        reads = [reader.read(pictures) for reader in self.readers] if pictures else []
        for number, position in enumerate(there):
            words[position] = self._word([each[number] for each in reads], self._own_label(records, position))
        return [words.get(position) or LabelledPicture(DAMAGED, None, (), None) for position in positions]

    def _own_label(self, records: Records, position: int) -> str | None:
        if self.request.relabel:
            return None
        try:
            return records.label(position) or None
        except BadRecordError:
            return None

    def _word(self, reads: Sequence[Read], own: str | None) -> LabelledPicture:
        verdict = judge([read.reading for read in reads], own, self.rules)
        packed = None
        if verdict.label is not None and self.request.likeliest > 0:
            packed = self._pack(reads, verdict)
        readings = tuple((each.reading.text, each.reading.confidence) for each in reads)
        return LabelledPicture(verdict, own, readings, packed)

    def _pack(self, reads: Sequence[Read], verdict: Verdict) -> bytes | None:
        """Average and pack the distributions of the readers that read a word with as many characters as its label."""
        label = self.rules.charset.clean(verdict.label or "", self.rules.max_length) or ""
        if len(verdict.text) != len(label):
            return None
        given = [self.readers[number].distributions(reads[number], label) for number in verdict.readers]
        tables = [table for table in given if table is not None]
        if not tables:
            return None
        # Rows of characters are averaged over all readers, that of the end over those that have one.
        rows = [
            np.mean([table[row] for table in tables if len(table) > row], axis=0)
            for row in range(max(map(len, tables)))
        ]
        return likeliest_classes(np.stack(rows), self.request.likeliest).pack()


@dataclass(frozen=True)
class Part:
    """Some pictures of one set."""

    number: int
    """Its number in the job."""
    set_number: int
    """Which of the sets."""
    start: int
    """First position."""
    stop: int
    """Position behind the last."""

    def file(self, folder: Path) -> Path:
        """Return the file of its words."""
        return folder / f"part-{self.number:06d}.json"


def split(sets: Sequence[Records]) -> list[Part]:
    """Split sets into parts."""
    bounds = [
        (number, start, min(start + PART, len(records)))
        for number, records in enumerate(sets)
        for start in range(0, len(records), PART)
    ]
    return [Part(number, *part) for number, part in enumerate(bounds)]


def open_job(request: LabelRequest, sets: Sequence[Records], folder: Path) -> None:
    """Begin a job in its folder, or take it up where it was killed.

    Raises:
        UserError: when the folder holds another job.
    """
    lists = request.language_model.split("+") if request.language_model else []
    state = {
        **dataclasses.asdict(request),
        "sets": [[str(records.path.resolve()), records.fingerprint()] for records in sets],
        "files": [_fingerprint(name) for name in (*request.readers, *lists)],
        "part": PART,
        "batch": BATCH,
    }
    content = json.dumps(state, indent=1, sort_keys=True)
    file = folder / REQUEST
    if not file.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        write_file(file, content)
    elif file.read_text(encoding="utf-8") != content:
        raise UserError(
            f"{folder} holds an unfinished labelling of other pictures or with other options; run that command again, "
            "or remove the folder"
        )


def work(request: LabelRequest, parts: Sequence[Part], folder: Path, workers: int) -> Iterator[int]:
    """Read the parts that aren't done, in some processes, and yield the number of each part, those that are done first.

    Raises:
        UserError: when a process was killed.
    """
    open_parts = [part for part in parts if not part.file(folder).is_file()]
    yield from (part.number for part in parts if part not in open_parts)
    if not open_parts:
        return
    workers = min(workers, len(open_parts))
    if workers <= 1:
        reader = PartReader(request, folder)
        yield from map(reader.work, open_parts)
        return
    build = functools.partial(_build_worker, request, folder)
    yield from map_in_processes(build, open_parts, workers, "start again with fewer --workers: it goes on")


def _build_worker(request: LabelRequest, folder: Path) -> Callable[[Part], int]:
    return PartReader(request, folder).work


def read_part(part: Part, folder: Path) -> list[LabelledPicture]:
    """Read the words of a part that is done."""
    return [LabelledPicture.from_json(word) for word in json.loads(part.file(folder).read_text(encoding="utf-8"))]


def _fingerprint(name: str) -> str:
    """Hash the files of a reader or list that is a folder or a file, so that a job doesn't go on with another one."""
    path = Path(name)
    files = sorted(path.glob("*")) if path.is_dir() else [path] if path.is_file() else []
    stats = [(file.name, file.stat().st_size, file.stat().st_mtime_ns) for file in files if file.is_file()]
    return hashlib.sha256(json.dumps(stats).encode()).hexdigest()[:16] if stats else ""
