"""Tracking: metrics.jsonl and TensorBoard, one row a logged step."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
from torch.utils.tensorboard import SummaryWriter

from students.files import write_file


class Tracker:
    """Append numbers to metrics.jsonl and to TensorBoard; only the main process has one.

    Args:
        folder: the run's folder.
        resumed_step: rows after this step are dropped first: a resumed run writes them again.
    """

    def __init__(self, folder: Path, resumed_step: int = 0) -> None:
        self.path = folder / "metrics.jsonl"
        if self.path.exists():
            kept = [line for line in self.path.read_text(encoding="utf-8").splitlines() if _step(line) <= resumed_step]
            write_file(self.path, "".join(f"{line}\n" for line in kept))
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

    def watch(self, step: int, group: str, values: dict[str, float]) -> None:
        """Show numbers that tell of this process and not of the run: TensorBoard only.

        In metrics.jsonl a run that was taken up would differ by them from one that was not.
        """
        for name, value in values.items():
            self.writer.add_scalar(f"{group}/{name}", value, step)

    def picture(self, step: int, name: str, pixels: np.ndarray) -> None:
        """Write an (H, W, 3) uint8 picture to TensorBoard."""
        self.writer.add_image(name, pixels, step, dataformats="HWC")

    def close(self) -> None:
        """Flush and close."""
        self.writer.close()


def _step(line: str) -> float:
    try:
        return float(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError):
        return float("inf")  # a line cut off by a kill
