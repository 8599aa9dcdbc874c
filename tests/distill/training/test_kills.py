"""A run that is killed again and again, at moments drawn by a seed, ends as one that nothing disturbed.

Some kills come between two moments of training, some while a checkpoint or the best student is written: after a file
was opened there, before a folder gets its name or an old one is removed.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.launch import launch, wait
from tests.runs import checkpoints, same_end, trained_steps

WORDS = 26
"""Words of the training set, see conftest.py."""
LATE_S = 0.06
"""A kill comes up to so long after a batch was begun: about the time of two."""


class Moment(NamedTuple):
    """When a process kills itself."""

    batch: int | None = None
    """At the k-th batch since its start."""
    late: float = 0.0
    """Seconds after that."""
    write: int | None = None
    """At the k-th time since its start that it opens, makes, renames or removes something it keeps."""
    rank: int = 0
    """Which of several processes."""


def draw_moments(count: int, seed: int, world: int = 1) -> list[Moment]:
    """Draw moments: every other one lies in the writing of a checkpoint or of the best student."""
    source = random.Random(seed)
    return [
        Moment(write=source.randint(1, 60)) if number % 2 else
        Moment(batch=source.randint(1, 9), late=source.uniform(0, LATE_S), rank=source.randrange(world))
        for number in range(count)
    ]  # fmt: skip


def live(arguments: list[str], seen: Path, moment: Moment | None) -> None:
    """Train in this process, and die at the moment; write down which words each batch had."""
    from distill.commands.distill import main
    from distill.training.distillation import DistillationTask

    rank, prepare, begun = int(os.environ.get("RANK", "0")), DistillationTask.prepare, 0

    def die() -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    def prepare_and_note(self: Any, batch: Any, step: int, progress: float, part: int) -> Any:
        nonlocal begun
        begun += 1
        with seen.with_suffix(f".{rank}").open("a", encoding="utf-8") as file:
            file.write(json.dumps([2 * step + part, batch.indices.tolist()]) + "\n")
        if moment is not None and (moment.batch, moment.rank) == (begun, rank):
            threading.Timer(moment.late, die).start()
        return prepare(self, batch, step, progress, part)

    DistillationTask.prepare = prepare_and_note  # type: ignore[method-assign]
    writes = 0

    def note_writes(event: str, given: tuple[Any, ...]) -> None:
        nonlocal writes
        if event in ("open", "os.mkdir", "os.rename", "os.remove", "os.rmdir", "shutil.rmtree") and begun:
            parts = Path(str(given[0])).parts
            writes += "checkpoints" in parts or any("student" in part for part in parts)
            if moment is not None and writes == moment.write:
                die()

    sys.addaudithook(note_writes)
    sys.exit(main(arguments))


def batches_of(seen: Path, rank: int) -> dict[int, list[int]]:
    """The words of each batch of a process, by its number; one that was repeated had the same words again."""
    batches: dict[int, list[int]] = {}
    for line in seen.with_suffix(f".{rank}").read_text(encoding="utf-8").splitlines():
        step, words = json.loads(line)
        assert batches.setdefault(step, words) == words, f"batch {step} had other words when it was repeated"
    return batches


def compare(
    moments: list[Moment], steps: int, write_config: Callable[[Path], Path], folder: Path, world: int = 1
) -> None:
    """Train once without and once with kills, and compare all that is left."""
    options = [
        f"train.steps={steps}", "train.grad_accum=2", "train.batch_size=3", "train.checkpoint_every=2", "train.keep=1",
        "train.validate_every=3", "train.select=last", "data.workers=1", "data.train[0].augmentation=strong",
        "guidance.interval=2", "student.dropout=0.2",
    ]  # fmt: skip
    runs = [folder / "unbroken", folder / "killed"]
    arguments = []
    for run in runs:
        run.mkdir()
        arguments.append(["--config", str(write_config(run)), *options])
    assert wait(launch(world, live, arguments[0], runs[0] / "seen", None)) == {0}
    died_writing = 0
    for number, moment in enumerate(moments):
        more = ["--resume", "auto"] if number else []
        codes = wait(launch(world, live, [*arguments[1], *more], runs[1] / "seen", moment))
        assert -signal.SIGKILL in codes, f"kill {number}, {moment}: {codes}"
        assert not (runs[1] / "run" / "report.json").exists(), "the run was over before all kills had come"
        died_writing += any((runs[1] / "run").rglob("*.partial"))
    assert wait(launch(world, live, [*arguments[1], "--resume", "auto"], runs[1] / "seen", None)) == {0}
    assert died_writing > 0, "no kill came while a checkpoint was written"

    one, other = (run / "run" for run in runs)
    assert trained_steps(one) == list(range(1, steps + 1))
    same_end(one, other)
    assert checkpoints(one) == checkpoints(other), "nothing is left of what was half written"
    assert sorted(path.name for path in one.iterdir()) == sorted(path.name for path in other.iterdir())
    ranks = [batches_of(runs[1] / "seen", rank) for rank in range(world)]
    assert ranks == [batches_of(runs[0] / "seen", rank) for rank in range(world)]
    together = [word for number in sorted(ranks[0]) for batches in ranks for word in batches[number]]
    for start_of_epoch in range(0, len(together) - WORDS, WORDS):
        epoch = together[start_of_epoch : start_of_epoch + WORDS]
        assert sorted(epoch) == list(range(WORDS)), "each word once"


def test_three_kills(write_config: Callable[[Path], Path], tmp_path: Path) -> None:
    compare([Moment(write=5), Moment(batch=6, late=0.01), Moment(write=15)], 8, write_config, tmp_path)


@pytest.mark.slow
def test_twenty_kills(write_config: Callable[[Path], Path], tmp_path: Path) -> None:
    compare(draw_moments(20, seed=0), 90, write_config, tmp_path)


@pytest.mark.slow
def test_six_kills_of_one_of_two_processes(write_config: Callable[[Path], Path], tmp_path: Path) -> None:
    compare(draw_moments(6, seed=2, world=2), 30, write_config, tmp_path, world=2)
