"""The baseline: the same student without a teacher, trained beside it in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

from distill.config import Config
from distill.processes import alone
from distill.training.stopping import STOPPED, StopRequest

LOOK_S = 0.2
"""Between two looks whether the baseline has ended."""


class Baseline:
    """The baseline of a run: its own folder, its own checkpoints, from which it goes on when the run is resumed.

    Args:
        config: the run's configuration.
        processes: how many processes train the student; the baseline is one, with as many words a step as all of them.
        peak: the student's learning rate; with several processes the baseline takes it as it is.
    """

    def __init__(self, config: Config, processes: int, peak: float) -> None:
        self.out, self.folder = Path(config.out), Path(config.out) / "baseline"
        self.overrides = [
            f"out={self.folder}", f"name={config.name}-baseline", "teacher.name=null", "teachers=[]",
            "eval.baseline=false", "eval.teacher=false", "eval.onnx=false",
        ]  # fmt: skip
        for number, source in enumerate(config.data.train):
            if source.labels == "pseudo":  # nobody reads them to the baseline; the other sources fill its batches
                self.overrides.append(f"data.train[{number}].ratio=0")
        if processes > 1:
            self.overrides += [f"train.batch_size={config.train.batch_size * processes}", f"optim.lr={peak}",
                               "optim.scale_lr=false"]  # fmt: skip
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def finished(self) -> bool:
        """Whether it has been trained to its end."""
        return (self.folder / "report.json").exists()

    @property
    def said(self) -> Path:
        """Where what it says goes."""
        return self.folder / "console.txt"

    def start(self) -> None:
        """Start it, or let it go on from its latest checkpoint; the run's config.yaml must have been written."""
        self.folder.mkdir(parents=True, exist_ok=True)
        command = [
            sys.executable, "-m", "distill", "distill", "--config", str(self.out / "config.yaml"), *self.overrides,
            "--resume", "auto", "--parent", str(os.getpid()),
        ]  # fmt: skip
        with self.said.open("ab") as log:
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, env=alone(dict(os.environ))
            )

    def terminate(self) -> None:
        """Tell it to save and leave, without waiting for it."""
        if self._process is not None:
            self._process.terminate()

    def stop(self) -> None:
        """Let it save and leave. A second stop, which a launcher sends soon, does not disturb that."""
        with StopRequest():
            self.terminate()
            if self._process is not None:
                self._process.wait()

    def wait(self) -> bool:
        """Wait for its end; False when it or this process is told to stop before, and it has saved.

        Raises:
            RuntimeError: when it failed.
        """
        if self._process is None:
            return True
        with StopRequest() as stop:
            while self._process.poll() is None and stop.signalled is None:
                time.sleep(LOOK_S)
        if self._process.returncode is None:
            self.stop()
            return False
        if self._process.returncode not in (0, STOPPED):
            raise RuntimeError(f"the baseline's run ended with code {self._process.returncode}; see {self.said}")
        return self._process.returncode == 0
