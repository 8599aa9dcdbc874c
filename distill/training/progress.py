"""Progress of a run: a live bar or plain lines for people, metrics.jsonl and TensorBoard for programs."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch.utils.tensorboard import SummaryWriter
from typing_extensions import Self

from distill.data.progress import print_lines
from students.files import write_file


class TrainingProgress:
    """Show step, loss, words a second, the latest accuracy and the time left.

    A terminal gets a bar; elsewhere (a file, a notebook) plain lines are printed.

    Args:
        console: where to print.
        steps: all steps of the run.
        done: steps done before (a resumed run).
        visible: False on all processes but the main one.
        log: file that the plain lines are added to, whatever the console is; None for none.
    """

    def __init__(
        self, console: Console, steps: int, done: int = 0, visible: bool = True, log: Path | None = None
    ) -> None:
        self.console, self.steps, self.visible, self.log = console, steps, visible, log
        self.live = visible and console.is_terminal
        self.words_per_second = 0.0
        self._started, self._first, self._words, self._accuracy = time.monotonic(), done, 0, ""
        self._bar = Progress(
            TextColumn("step"), MofNCompleteColumn(), BarColumn(), TextColumn("{task.fields[status]}"),
            TimeRemainingColumn(), console=console, disable=not self.live,
        )  # fmt: skip
        self._task = self._bar.add_task("train", total=steps, completed=done, status="")

    def __enter__(self) -> Self:
        """Start the bar."""
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop the bar."""
        self._bar.stop()

    def step(self, step: int, loss: float, words: int, logged: bool) -> None:
        """Move on to `step`, in which all processes learned from `words` words; `logged` steps get a plain line."""
        self._words += words
        elapsed = max(time.monotonic() - self._started, 1e-9)
        self.words_per_second = self._words / elapsed
        status = f"loss {loss:.3f}  {self.words_per_second:.0f} words/s"
        self._bar.update(self._task, completed=step, status=f"{status}  {self._accuracy}")
        if logged:
            left = elapsed / max(step - self._first, 1) * (self.steps - step)
            self._line(step, f"{status}  {format_duration(left)} left" if step < self.steps else status)

    def validated(self, step: int, scores: Mapping[str, float]) -> None:
        """Show the scores of a validation, percent by name; the bar keeps the first of them."""
        lines = [f"{name} {score:.2f}%" for name, score in scores.items()]
        self._accuracy = lines[0]
        self._line(step, "  ".join(lines))

    def note(self, step: int, text: str) -> None:
        """Print a line, above the bar too."""
        self._line(step, text, above_bar=True)

    def _line(self, step: int, text: str, above_bar: bool = False) -> None:
        if not self.visible:
            return
        line = f"step {step}/{self.steps}  {text}"
        if self.log is not None:
            with self.log.open("a", encoding="utf-8") as file:
                file.write(line + "\n")
        if above_bar or not self.live:
            print_lines(self.console, line)


def format_duration(seconds: float) -> str:
    """Write a time in hours and minutes, rounded up to whole minutes."""
    minutes = math.ceil(seconds / 60)
    return f"{minutes // 60} h {minutes % 60:02d} min" if minutes >= 60 else f"{minutes} min"


class Tracker:
    """Append numbers to metrics.jsonl and to TensorBoard; only the main process has one.

    Args:
        folder: the run's folder.
        resumed_step: rows after this step are dropped first: a resumed run writes them again.
    """

    def __init__(self, folder: Path, resumed_step: int = 0) -> None:
        self.path = folder / "metrics.jsonl"
        if self.path.exists():
            earlier = [
                line for line in self.path.read_text(encoding="utf-8").splitlines() if _step(line) <= resumed_step
            ]
            write_file(self.path, "".join(f"{line}\n" for line in earlier))
        self.writer = SummaryWriter(str(folder / "tensorboard"), purge_step=resumed_step + 1)

    def log(self, step: int, group: str, values: dict[str, float]) -> None:
        """Write one row: {"step", "group", name: value}."""
        # fp16 may overflow while it looks for its loss scale, and JSON has no infinity.
        finite = {name: value if math.isfinite(value) else None for name, value in values.items()}
        row: dict[str, Any] = {"step": step, "group": group, **finite}
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")
        for name, value in values.items():
            self.writer.add_scalar(f"{group}/{name}", value, step)

    def log_to_tensorboard(self, step: int, group: str, values: dict[str, float]) -> None:
        """Write numbers that describe this process and not the run, such as cache rates: to TensorBoard only.

        In metrics.jsonl they would make a resumed run differ from an unbroken one.
        """
        for name, value in values.items():
            self.writer.add_scalar(f"{group}/{name}", value, step)

    def picture(self, step: int, name: str, pixels: np.ndarray) -> None:
        """Write an (H, W, 3) uint8 picture to TensorBoard."""
        self.writer.add_image(name, pixels, step, dataformats="HWC")

    def close(self) -> None:
        """Flush and close."""
        self.writer.close()

    def __enter__(self) -> Self:
        """Return itself, to be closed at the end of the block."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close."""
        self.close()


def _step(line: str) -> float:
    try:
        return float(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError):
        return float("inf")  # a line cut off by a kill
