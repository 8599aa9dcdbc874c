"""Progress: a live bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from typing_extensions import Self


class TrainingProgress:
    """Show step, words a second, loss, last validation and time to go.

    Args:
        console: where to print.
        steps: all steps of the run.
        done: steps done before (a resumed run).
        shown: False on all processes but the main one.
        log: file that the plain lines are added to, whatever the console is; None for none.
    """

    def __init__(
        self, console: Console, steps: int, done: int = 0, shown: bool = True, log: Path | None = None
    ) -> None:
        self.console, self.steps, self.shown, self.log = console, steps, shown, log
        self.live = shown and console.is_terminal
        self.validation = "not validated yet"
        self._started, self._first, self._words = time.monotonic(), done, 0
        self.words_per_second = 0.0
        self._bar = Progress(
            TextColumn("step"), MofNCompleteColumn(), BarColumn(), TextColumn("{task.fields[told]}"),
            TimeRemainingColumn(), console=console, disable=not self.live,
        )  # fmt: skip
        self._task = self._bar.add_task("train", total=steps, completed=done, told="")

    def __enter__(self) -> Self:
        """Start the bar."""
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop the bar."""
        self._bar.stop()

    def step(self, step: int, loss: float, words: int, say: bool, hits: Mapping[str, float] | None = None) -> None:
        """Move on to `step`; with `say`, print a plain line where there is no live bar.

        `hits` are percentages of what caches still had.
        """
        self._words += words
        elapsed = max(time.monotonic() - self._started, 1e-9)
        rate = self.words_per_second = self._words / elapsed
        self._bar.update(self._task, completed=step, told=f"loss {loss:.3f}  {rate:.0f} words/s  {self.validation}")
        if say:
            left = elapsed / max(step - self._first, 1) * (self.steps - step)
            cached = "".join(f"  {name} {value:.0f}%" for name, value in (hits or {}).items())
            speed = f"{rate:.0f} words/s{cached}"
            self._tell(step, f"loss {loss:.3f}  {speed}  {self.validation}  {left / 60:.1f} min left")

    def validated(self, step: int, accuracy: float, one_minus_ned: float) -> None:
        """Take note of a validation: percent of words right, and 1-NED in percent."""
        self.validation = f"words right {accuracy:.2f}% 1-NED {one_minus_ned:.2f}% @{step}"
        self._tell(step, self.validation)

    def _tell(self, step: int, what: str) -> None:
        if not self.shown:
            return
        line = f"step {step}/{self.steps}  {what}"
        if self.log is not None:
            with self.log.open("a", encoding="utf-8") as file:
                file.write(line + "\n")
        if not self.live:
            self.console.print(line, highlight=False, soft_wrap=True)
