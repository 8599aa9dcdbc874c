"""Search training sets for test pictures, equal or nearly so, by content and by perceptual hash."""

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

from distill.data.label_index import Positions
from distill.data.progress import followed
from distill.data.records import BadRecordError, Records, decode_record, user_cache
from distill.data.trees import open_all, open_sets
from students.charset import Charset
from students.files import replacing

SAME_LABEL_BITS = 32
"""Hash bits that may differ between pictures of one label."""
OTHER_LABEL_BITS = 7
"""Hash bits that may differ between pictures of different labels."""
MIN_CORRELATION = 0.97
"""Correlation that a pair with hashes this close must reach to count.

Chosen on 500 pictures of the six benchmarks. Of pictures saved again as JPEG of quality 50 it detects 96%, of those
resized to 32 x 128 all, of those halved in size and saved as JPEG of quality 80 65%. None of 68 million pairs of
different real test and training pictures reaches all limits. Pictures cut out differently are not detected.
"""
MOST_COMPARED = 200_000
"""Pictures of a set that are read to look for copies before a training; more of them would keep it waiting."""
Kind = Literal["equal bytes", "equal pixels", "nearly equal"]
_BITS = np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1).sum(axis=1).astype(np.uint8)
_VERSION = 2


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
        cache: folder of stored fingerprints; None takes the user's cache.

    Raises:
        UserError: when a folder holds no sets.
    """
    trained = _Tree(open_all(train) if isinstance(train, Path | str) else train, cache)
    tested = _Tree(open_sets(test) if isinstance(test, Path | str) else test, cache)
    overlaps: dict[int, Overlap] = {}
    digests: tuple[tuple[Kind, np.ndarray, np.ndarray], ...] = (
        ("equal bytes", tested.prints.content, trained.prints.content),
        ("equal pixels", tested.prints.pixels, trained.prints.pixels),
    )
    for kind, test_digests, train_digests in digests:
        known = {digest.tobytes(): n for n, digest in enumerate(train_digests) if trained.prints.readable[n]}
        for number in np.flatnonzero(tested.prints.readable).tolist():
            match = known.get(test_digests[number].tobytes())
            if match is not None and number not in overlaps:
                overlaps[number] = _overlap(kind, tested, number, trained, match, 1.0)
    best: dict[int, tuple[float, int]] = {}
    for number, match in _close_pairs(tested, trained):
        if number not in overlaps:
            correlation = float((tested.thumbnail(number) * trained.thumbnail(match)).sum())
            if correlation >= MIN_CORRELATION and correlation > best.get(number, (0.0, 0))[0]:
                best[number] = correlation, match
    for number, (correlation, match) in best.items():
        overlaps[number] = _overlap("nearly equal", tested, number, trained, match, correlation)
    return [overlaps[number] for number in sorted(overlaps)]


Chosen = Sequence[tuple[Records, Sequence[int] | Positions]]
"""Sets, and the positions of those of their pictures that take part."""


def count_copies(some: Chosen, others: Chosen) -> int:
    """Count the pictures of some sets that others hold too, byte for byte; others of too many pictures don't count."""
    looked_at = [(records, positions) for records, positions in others if len(positions) <= MOST_COMPARED]
    known = set(_digests(looked_at)) if some and looked_at else set()
    return sum(digest in known for digest in _digests(some)) if known else 0


def _digests(sets: Chosen) -> Iterator[bytes]:
    for records, positions in sets:
        for number in followed(range(len(positions)), len(positions), f"looking for copies in {records.name}"):
            with contextlib.suppress(BadRecordError):
                yield hashlib.blake2b(records.image(positions[number]), digest_size=16).digest()


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
        with contextlib.suppress(BadRecordError):
            data = records.image(position)
            image = decode_record(records, position)
            raw = b"%d %d " % image.size + image.tobytes()
            prints.content[position] = np.frombuffer(hashlib.blake2b(data, digest_size=16).digest(), np.uint8)
            prints.pixels[position] = np.frombuffer(hashlib.blake2b(raw, digest_size=16).digest(), np.uint8)
            prints.hashes[position] = difference_hash(image)
            prints.readable[position] = True
    with contextlib.suppress(OSError):  # where they can't be stored they are taken again next time
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

    def locate(self, number: int) -> tuple[Records, int]:
        """Return the set and the position in it of a picture."""
        part = int(np.searchsorted(self.starts, number, side="right")) - 1
        return self.sets[part], number - int(self.starts[part])

    def describe(self, number: int) -> str:
        records, position = self.locate(number)
        return records.describe(position)

    def label(self, number: int) -> str:
        records, position = self.locate(number)
        try:
            return records.label(position)
        except BadRecordError:
            return ""

    def by_label(self) -> dict[str, list[int]]:
        """Group the pictures that can be read by label."""
        charset, groups = Charset.load("36"), defaultdict(list)
        for part, records in enumerate(self.sets):
            for position, label in records.labels():
                number = int(self.starts[part]) + position
                folded = charset.adapt(label or "")
                if folded and self.prints.readable[number]:
                    groups[folded].append(number)
        return groups

    def thumbnail(self, number: int) -> np.ndarray:
        """Shrink a picture to grey (32, 128), of zero mean and unit length."""
        grey = decode_record(*self.locate(number)).convert("L").resize((128, 32), Image.Resampling.BICUBIC)
        pixels = np.asarray(grey, dtype=np.float32)
        pixels = pixels - pixels.mean()
        # A picture of one grey has no shape to compare: it correlates with nothing.
        return pixels / max(float(np.linalg.norm(pixels)), 1.0)


def _overlap(kind: Kind, tested: _Tree, number: int, trained: _Tree, match: int, correlation: float) -> Overlap:
    return Overlap(kind, tested.describe(number), trained.describe(match), tested.label(number), correlation)


def _close_pairs(tested: _Tree, trained: _Tree) -> Iterator[tuple[int, int]]:
    """Yield pairs of pictures, by their numbers in both trees, whose hashes are close enough to compare them."""
    trained_by_label = trained.by_label()
    for label, numbers in tested.by_label().items():
        candidates = np.asarray(trained_by_label.get(label, ()), dtype=np.int64)
        for number in numbers if len(candidates) else ():
            distance = _distance(tested.prints.hashes[number], trained.prints.hashes[candidates])
            yield from ((number, int(match)) for match in candidates[distance <= SAME_LABEL_BITS])
    # Of 8 pieces at least one is the same when at most 7 bits differ.
    test_pieces, train_pieces = (tree.prints.hashes.view(np.uint16).reshape(-1, 8) for tree in (tested, trained))
    for piece in range(8):
        order = np.argsort(train_pieces[:, piece], kind="stable")
        ordered = train_pieces[order, piece]
        lows = np.searchsorted(ordered, test_pieces[:, piece], side="left")
        highs = np.searchsorted(ordered, test_pieces[:, piece], side="right")
        for number in np.flatnonzero((highs > lows) & tested.prints.readable).tolist():
            candidates = order[lows[number] : highs[number]]
            distance = _distance(tested.prints.hashes[number], trained.prints.hashes[candidates])
            close = candidates[(distance <= OTHER_LABEL_BITS) & trained.prints.readable[candidates]]
            yield from ((number, int(match)) for match in close)


def _distance(one: np.ndarray, many: np.ndarray) -> np.ndarray:
    """Count the bits in which a hash (16,) differs from each of many (N, 16)."""
    return _BITS[one ^ many].sum(axis=1)
