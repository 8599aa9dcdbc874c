"""The overlap check: do training pictures show up among test pictures, equal or nearly so?"""

from __future__ import annotations

import contextlib
import hashlib
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image

from distill.data.caches import user_cache
from distill.data.progress import followed
from distill.data.records import BadRecordError, Records
from distill.data.trees import open_all, open_sets
from students.charset import Charset
from students.files import replacing
from students.pictures import DamagedPictureError, decode_picture

SAME_LABEL_BITS = 32
"""Hash bits that may differ between pictures of one label."""
OTHER_LABEL_BITS = 7
"""Hash bits that may differ between pictures of different labels."""
LEAST_CORRELATION = 0.97
"""What a pair with hashes that close must reach to count.

Chosen on 500 pictures of the six benchmarks: found are 96 in 100 saved again as JPEG of quality 50, all resized to
32 x 128, 65 in 100 halved in size and saved as JPEG of quality 80. None of 68 million pairs of different real test and
training pictures reaches all limits. Pictures cut out differently are not found.
"""
Kind = Literal["equal bytes", "equal pixels", "nearly equal"]
_BITS = np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1).sum(axis=1).astype(np.uint8)
_VERSION = 1


@dataclass(frozen=True)
class Overlap:
    """A test picture that is also a training picture."""

    kind: Kind
    test: str
    """Test record, named for people."""
    train: str
    """Training record, named for people."""
    label: str
    """Test label as it is stored."""
    correlation: float
    """Correlation of the two in grey at 32 x 128; 1 when equal."""


@dataclass(frozen=True)
class Prints:
    """Fingerprints of a set's N pictures."""

    content: np.ndarray
    """(N, 16) uint8 digests of the encoded files."""
    pixels: np.ndarray
    """(N, 16) uint8 digests of size and RGB pixels."""
    hashes: np.ndarray
    """(N, 16) uint8: 128-bit difference hashes."""
    readable: np.ndarray
    """(N,) bool; the rest means nothing where a picture can't be read."""


def find_overlaps(
    train: Path | str | Sequence[Records], test: Path | str | Sequence[Records], cache: Path | None = None
) -> list[Overlap]:
    """Search training sets for the pictures of test sets: each overlapping test record once, with its closest match.

    Args:
        train: a folder with training sets at any depth, pictures without labels among them, or the sets.
        test: a folder with test sets, or the sets.
        cache: where fingerprints are kept; None takes the user's cache.

    Raises:
        UserError: when a folder holds no sets.
    """
    trained = _Tree(open_all(train) if isinstance(train, Path | str) else train, cache)
    tested = _Tree(open_sets(test) if isinstance(test, Path | str) else test, cache)
    found: dict[int, Overlap] = {}
    equal: tuple[tuple[Kind, np.ndarray, np.ndarray], ...] = (
        ("equal bytes", tested.prints.content, trained.prints.content),
        ("equal pixels", tested.prints.pixels, trained.prints.pixels),
    )
    for kind, theirs, ours in equal:
        places = {digest.tobytes(): place for place, digest in enumerate(ours) if trained.prints.readable[place]}
        for place in np.flatnonzero(tested.prints.readable).tolist():
            match = places.get(theirs[place].tobytes())
            if match is not None and place not in found:
                found[place] = _overlap(kind, tested, place, trained, match, 1.0)
    best: dict[int, tuple[float, int]] = {}
    for place, match in _close_pairs(tested, trained):
        if place not in found:
            alike = float((tested.thumbnail(place) * trained.thumbnail(match)).sum())
            if alike >= LEAST_CORRELATION and alike > best.get(place, (0.0, 0))[0]:
                best[place] = alike, match
    for place, (alike, match) in best.items():
        found[place] = _overlap("nearly equal", tested, place, trained, match, alike)
    return [found[place] for place in sorted(found)]


def difference_hash(image: Image.Image) -> np.ndarray:
    """Hash a picture to 128 bits (16,) uint8: is a cell of its 8 x 17 grid brighter than the one to the left?"""
    cells = np.asarray(image.convert("L").resize((17, 8), Image.Resampling.BOX))
    return np.packbits(cells[:, 1:] > cells[:, :-1])


def take_prints(records: Records, cache: Path | None = None) -> Prints:
    """Take the fingerprints of a set, or read those taken before."""
    folder = cache or user_cache()
    file = folder / f"prints-{records.name}-v{_VERSION}-{records.fingerprint()}.npz"
    if file.is_file():
        with contextlib.suppress(OSError, ValueError, KeyError, EOFError), np.load(file, allow_pickle=False) as stored:
            prints = Prints(stored["content"], stored["pixels"], stored["hashes"], stored["readable"])
            if len(prints.readable) == len(records):
                return prints
    count = len(records)
    content, pixels, hashes = np.zeros((3, count, 16), np.uint8)
    prints = Prints(content, pixels, hashes, np.zeros(count, bool))
    for position in followed(range(count), count, f"fingerprints of {records.name}"):
        with contextlib.suppress(BadRecordError, DamagedPictureError):
            data = records.image(position)
            image = decode_picture(data)
            raw = b"%d %d " % image.size + image.tobytes()
            prints.content[position] = np.frombuffer(hashlib.blake2b(data, digest_size=16).digest(), np.uint8)
            prints.pixels[position] = np.frombuffer(hashlib.blake2b(raw, digest_size=16).digest(), np.uint8)
            prints.hashes[position] = difference_hash(image)
            prints.readable[position] = True
    with contextlib.suppress(OSError):  # without a place to keep them they are taken again next time
        folder.mkdir(parents=True, exist_ok=True)
        with replacing(file) as beside, beside.open("wb") as stored:  # to a path, numpy would add a suffix
            np.savez(stored, **vars(prints))
    return prints


class _Tree:
    """The pictures of several sets under one count, labels folded to letters and digits."""

    def __init__(self, sets: Sequence[Records], cache: Path | None) -> None:
        self.sets = list(sets)
        taken = [take_prints(records, cache) for records in self.sets]
        self.prints = Prints(
            np.concatenate([each.content for each in taken]), np.concatenate([each.pixels for each in taken]),
            np.concatenate([each.hashes for each in taken]), np.concatenate([each.readable for each in taken]),
        )  # fmt: skip
        self.starts = np.cumsum([0, *(len(records) for records in self.sets)])

    def place(self, place: int) -> tuple[Records, int]:
        number = int(np.searchsorted(self.starts, place, side="right")) - 1
        return self.sets[number], place - int(self.starts[number])

    def describe(self, place: int) -> str:
        records, position = self.place(place)
        return records.describe(position)

    def label(self, place: int) -> str:
        records, position = self.place(place)
        try:
            return records.label(position)
        except BadRecordError:
            return ""

    def by_label(self) -> dict[str, list[int]]:
        charset, found = Charset.load("36"), defaultdict(list)
        for number, records in enumerate(self.sets):
            for position, label in records.labels():
                place = int(self.starts[number]) + position
                folded = charset.adapt(label or "")
                if folded and self.prints.readable[place]:
                    found[folded].append(place)
        return found

    def thumbnail(self, place: int) -> np.ndarray:
        records, position = self.place(place)
        grey = decode_picture(records.image(position)).convert("L").resize((128, 32), Image.Resampling.BICUBIC)
        pixels = np.asarray(grey, dtype=np.float32)
        pixels = pixels - pixels.mean()
        # A picture of one grey has no shape to compare: it correlates with nothing.
        return pixels / max(float(np.linalg.norm(pixels)), 1.0)


def _overlap(kind: Kind, tested: _Tree, place: int, trained: _Tree, match: int, correlation: float) -> Overlap:
    return Overlap(kind, tested.describe(place), trained.describe(match), tested.label(place), correlation)


def _close_pairs(tested: _Tree, trained: _Tree) -> Iterator[tuple[int, int]]:
    """Give pairs of places whose hashes are close enough to look at the pictures."""
    ours = trained.by_label()
    for label, places in tested.by_label().items():
        candidates = np.asarray(ours.get(label, ()), dtype=np.int64)
        for place in places if len(candidates) else ():
            distance = _distance(tested.prints.hashes[place], trained.prints.hashes[candidates])
            yield from ((place, int(match)) for match in candidates[distance <= SAME_LABEL_BITS])
    # Of 8 pieces at least one is the same when at most 7 bits differ.
    theirs, known = (tree.prints.hashes.view(np.uint16).reshape(-1, 8) for tree in (tested, trained))
    for piece in range(8):
        order = np.argsort(known[:, piece], kind="stable")
        ordered = known[order, piece]
        lows = np.searchsorted(ordered, theirs[:, piece], side="left")
        highs = np.searchsorted(ordered, theirs[:, piece], side="right")
        for place in np.flatnonzero((highs > lows) & tested.prints.readable).tolist():
            candidates = order[lows[place] : highs[place]]
            distance = _distance(tested.prints.hashes[place], trained.prints.hashes[candidates])
            close = candidates[(distance <= OTHER_LABEL_BITS) & trained.prints.readable[candidates]]
            yield from ((place, int(match)) for match in close)


def _distance(one: np.ndarray, many: np.ndarray) -> np.ndarray:
    return _BITS[one ^ many].sum(axis=1)
