"""Benchmarks: the test sets of the field by name and count, found under DATA/test, and the overlap check.

Labels go through the rules of docs/method.md, section 1.6.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from PIL import Image
from rapidfuzz import process

from distill.data.folders import walk_files
from distill.data.holding_out import HELD_OUT
from distill.data.label_files import LABEL_FILES
from distill.data.lmdb_reader import DATA_FILE
from distill.data.overlap import find_overlaps
from distill.data.progress import followed
from distill.data.records import LIST_SUFFIX, BadRecordError, Records, decode_record
from distill.data.sampling import spread
from distill.data.trees import find_sets, is_set, open_all, open_set
from students.charset import Charset
from students.errors import UserError

MAX_LENGTH = 25
"""Longest label of the protocol, in characters."""
SIX = ("IIIT5k", "SVT", "IC13_857", "IC15_1811", "SVTP", "CUTE80")
"""The six benchmarks, in the order of the field's tables."""

COUNTS = {
    "IIIT5k": 3000, "SVT": 647, "IC13_857": 857, "IC15_1811": 1811, "SVTP": 645, "CUTE80": 288,
    "IC13_1015": 1015, "IC15_2077": 2077,
    "COCO-Text": 9825, "ArT": 35149, "Uber-Text": 80551, "HOST": 2416, "WOST": 2416,
}  # fmt: skip
"""Words of the sets whose count is known."""

OTHER_NAMES = {
    "iiit5k3000": "IIIT5k", "svt647": "SVT", "svtp645": "SVTP", "cute": "CUTE80", "cute288": "CUTE80",
    "cute80288": "CUTE80", "coco": "COCO-Text", "cocov14": "COCO-Text", "uber": "Uber-Text",
}  # fmt: skip
"""Folder names in common use, lower case without punctuation."""

MAX_CHARACTERS = 20
"""Characters that a note lists."""
LARGER = {"IC13_857": "IC13_1015", "IC15_1811": "IC15_2077"}
"""Sets that are part of another one."""


@dataclass(frozen=True)
class Benchmark:
    """A test set after the label rules: what is read and what should be read."""

    name: str
    """Its name in tables."""
    records: Records
    """Where its words are stored."""
    positions: tuple[int, ...]
    """Positions in `records` that are scored."""
    labels: tuple[str, ...]
    """Cleaned label of each."""
    vocabulary: tuple[str, ...]
    """Distinct cleaned labels of the whole set, sorted: the words of a closed lexicon."""
    dropped: dict[str, int] = field(default_factory=dict)
    """Records that the label rules drop, by reason."""
    folded: dict[str, int] = field(default_factory=dict)
    """Characters that the alphabet lacks and that were folded or removed, with their number of labels."""
    partial: bool = False
    """Whether only some of its words are read, for a quick look."""

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def note(self) -> str | None:
        """A warning beside its results: dropped labels, a count that differs from the known one, a part only."""
        parts = [f"{count} labels dropped ({reason})" for reason, count in sorted(self.dropped.items())]
        if self.folded:
            characters = ", ".join(f"{char} in {count}" for char, count in list(self.folded.items())[:MAX_CHARACTERS])
            parts.append(f"characters that the alphabet lacks, folded or removed from labels: {characters}")
        total = len(self) + sum(self.dropped.values())
        if self.partial:
            parts.insert(0, f"{len(self)} words of {len(self.records)} only, for a quick look")
        elif len(self) != COUNTS.get(self.name, len(self)):
            parts.insert(0, f"{len(self)} words scored of {total}, the set of the field has {COUNTS[self.name]}")
        return f"{self.name}: {'; '.join(parts)}" if parts else None

    def load(self, number: int) -> Image.Image:
        """Decode the `number`-th word's picture.

        Raises:
            UserError: when it is missing or can't be decoded: a set is never scored on fewer words than it has.
        """
        try:
            return decode_record(self.records, self.positions[number])
        except BadRecordError as error:
            raise UserError(f"{self.name}: {error}; check-lmdb names all such records") from None

    def check_pictures(self) -> None:
        """Decode every picture, see `load`."""
        for number in followed(range(len(self)), len(self), f"checking {self.name}"):
            self.load(number)


def open_benchmarks(
    data: str | Path, sets: str, charset: Charset, limit: int | None = None, max_length: int = MAX_LENGTH
) -> list[Benchmark]:
    """Open the wanted test sets.

    Args:
        data: a folder with test/ in it, a folder of sets, or one set; `sets` means nothing to the last.
        sets: `six`, `all` that lie there, or names with commas.
        charset: test alphabet, whose rules labels go through.
        limit: at most so many words of each set, spread evenly.
        max_length: longest label.

    Raises:
        UserError: when data is missing or broken, or a wanted set isn't there.
    """
    paths = locate_benchmarks(data, sets)
    return [open_benchmark(name, path, charset, limit, max_length) for name, path in paths.items()]


def locate_benchmarks(data: str | Path, sets: str) -> dict[str, Path]:
    """Find the wanted test sets without reading them: name to path; see `open_benchmarks`.

    Raises:
        UserError: when there are no sets, or a wanted one isn't there.
    """
    data = Path(data)
    name = os.path.basename(os.path.abspath(data)).removesuffix(LIST_SUFFIX)
    if is_set(data) or data.name.endswith(LIST_SUFFIX) or Path(f"{data}{LIST_SUFFIX}").is_file():
        return {recognise(name): data}
    if not data.is_dir():
        beside = data.with_name(HELD_OUT)
        other = f", or {HELD_OUT} (eval.test={HELD_OUT}), which is there" if is_set(beside) else ""
        raise UserError(f"{data}: no such folder; give a set of words, or a folder of sets{other}")
    paths = name_sets(data / "test" if (data / "test").is_dir() else data)
    return {name: paths[name] for name in choose(sets, list(paths), data)}


def open_benchmark(
    name: str, path: Path, charset: Charset, limit: int | None = None, max_length: int = MAX_LENGTH
) -> Benchmark:
    """Open one set and clean its labels.

    Raises:
        UserError: when a label can't be read, or none is left.
    """
    records = open_set(path)
    dropped: Counter[str] = Counter()
    if beyond := records.count_beyond():
        dropped["stored beyond num-samples"] = beyond
    folded: Counter[str] = Counter()
    scored: list[tuple[int, str]] = []
    missing = set(records.missing())
    for position, raw in records.labels():
        if raw is None:
            raise UserError(f"{path}: {records.describe(position)} has no readable label; check-lmdb names all of them")
        verdict = charset.examine(raw, max_length)
        if verdict.text is None:
            dropped[verdict.reason or "empty"] += 1
            continue
        if position in missing:
            raise UserError(f"{path}: {records.describe(position)} isn't there; check-lmdb names all such records")
        scored.append((position, verdict.text))
        folded.update(verdict.changed - {" "})  # the protocol reads words without spaces
    if not len(records):
        raise UserError(f"{path} holds no words")
    if not scored:
        size = len(charset.characters)
        listed = ", ".join(f"{count} {reason}" for reason, count in dropped.most_common())
        raise UserError(
            f"{path}: no label is left for an alphabet of {size} characters ({listed}); give that of these words: "
            "--charset, or eval.charset in a run"
        )
    vocabulary = tuple(sorted({label for _, label in scored}))
    partial = limit is not None and limit < len(scored)
    if partial and limit is not None:
        scored = spread(scored, limit)
    positions, labels = zip(*scored, strict=True)
    return Benchmark(name, records, positions, labels, vocabulary, dict(dropped), dict(folded.most_common()), partial)


def name_sets(root: Path) -> dict[str, Path]:
    """Find the test sets at and below `root`: name to path, the six first, the others sorted.

    A known set goes by its known name, another by its path below `root`; folders called `train` are no test.

    Raises:
        UserError: when there is none.
    """
    paths: dict[str, Path] = {}
    for path in find_sets(root, lists=True, skip=("train",)):
        known = recognise(path.name)
        name = known if known in COUNTS and known not in paths else path.relative_to(root).as_posix()
        paths[name] = path
    if not paths:
        expected = f"an LMDB ({DATA_FILE}), pictures with {LABEL_FILES[0]}, or a list (SET{LIST_SUFFIX})"
        raise UserError(f"{root} holds no test set; put {expected} there for each")
    order = {name: number for number, name in enumerate(COUNTS)}
    return {name: paths[name] for name in sorted(paths, key=lambda name: (order.get(name, len(order)), name))}


def recognise(name: str) -> str:
    """Return the known name of a set whose folder is called `name`, or `name` itself."""
    key = _key(name)
    return OTHER_NAMES.get(key) or next((known for known in COUNTS if _key(known) == key), name)


def choose(sets: str, names: list[str], data: Path) -> list[str]:
    """Choose among the names of the sets in `data`.

    Raises:
        UserError: for a name that isn't there, with those that are.
    """
    if sets == "all":
        return names
    asked = SIX if sets == "six" else [name.strip() for name in sets.split(",") if name.strip()]
    chosen = [name if name in names else recognise(name) for name in asked]
    missing = [name for name in chosen if name not in names]
    if missing or not chosen:
        near = process.extractOne(missing[0], names, score_cutoff=70) if missing and sets != "six" else None
        there = f"there are {', '.join(names)}; name some of them (--sets, or eval.benchmarks in a run), or take all"
        hint = f"did you mean {near[0]!r}?" if near else there
        raise UserError(f"{data} has no set {', '.join(missing) or repr(sets)}; {hint}")
    return list(dict.fromkeys(chosen))


def averaged(benchmarks: Sequence[Benchmark]) -> list[str]:
    """Name the sets that averages and pairs are taken over: the six when all are there.

    Without the six, all but sets that are part of another one: no word counts twice.
    """
    names = [benchmark.name for benchmark in benchmarks]
    if set(SIX) <= set(names):
        return list(SIX)
    paths = {benchmark.records.path.resolve() for benchmark in benchmarks}

    def is_part(each: Benchmark) -> bool:
        whole = each.records.whole
        return LARGER.get(each.name) in names or (whole is not each.records and whole.path.resolve() in paths)

    return [each.name for each in benchmarks if not is_part(each)]


def _key(name: str) -> str:
    return "".join(char for char in name.lower() if char.isalnum())


@dataclass(frozen=True)
class OverlapCheck:
    """Test words that are among training words."""

    against: str
    """The training trees that were searched."""
    overlaps: tuple[str, ...]
    """One line for each test word that is there too."""


def check_overlap(benchmarks: Sequence[Benchmark], *against: Path, cache: Path | None = None) -> OverlapCheck:
    """Search training trees for the pictures of test sets, by content and by perceptual hash.

    Each picture is listed once, also when two sets have it.

    Args:
        benchmarks: the test sets.
        against: the training trees.
        cache: where fingerprints are cached; None takes the user's cache.

    Raises:
        UserError: when there is no such tree.
    """
    learned = [records for tree in against for records in open_all(tree)]
    overlaps = find_overlaps(learned, [benchmark.records for benchmark in benchmarks], cache)
    lines = (f"{overlap.test} ({overlap.label}) is {overlap.train} too: {overlap.kind}" for overlap in overlaps)
    return OverlapCheck(", ".join(map(str, against)), tuple(dict.fromkeys(lines)))


def find_training(data: Path, against: Path | None) -> Path | None:
    """Return the training tree to search: the one that was named, else DATA/train when words lie there.

    Raises:
        UserError: when the one that was named holds no words, or words there can't be read.
    """
    if against is not None:
        open_all(against)
        return against
    train = data / "train"
    if not train.is_dir() or not (find_sets(train) or walk_files(train).pictures):
        return None
    open_all(train)
    return train
