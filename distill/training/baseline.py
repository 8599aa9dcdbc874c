"""The baseline: the same student without a teacher, trained beside it in a process of its own."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
import time
from pathlib import Path

from distill.config import save_config
from distill.data.sections import SourceSection
from distill.processes import without_launcher
from distill.schema import Config
from distill.training.run_folder import find_changes
from distill.training.sections import TeacherSection
from distill.training.stopping import STOPPED, StopRequest
from losses.registry import find_loss

POLL_SECONDS = 0.2
"""Seconds between polls of the baseline's process."""


def baseline_config(config: Config, processes: int, peak: float) -> Config:
    """Return the configuration of a run's baseline.

    Args:
        config: the run's configuration.
        processes: how many processes train the student; the baseline is one, with as many words a step as all of them.
        peak: the student's learning rate; with several processes the baseline takes it as it is.
    """
    data = dataclasses.replace(
        config.data,
        train=[_without_teacher(source) for source in config.data.train],
    )
    losses = {name: section for name, section in config.losses.items() if not find_loss(name).needs}
    optim, train = config.optim, config.train
    if processes > 1:
        train = dataclasses.replace(train, batch_size=train.batch_size * processes)
        optim = dataclasses.replace(optim, lr=peak, scale_lr=False)
    return dataclasses.replace(
        config, name=f"{config.name}-baseline", out=str(Path(config.out) / "baseline"),
        teacher=TeacherSection(name=None), teachers=[], losses=losses, data=data,
        guidance=dataclasses.replace(config.guidance, kd=0.0, dkd=0.0), optim=optim, train=train,
        eval=dataclasses.replace(config.eval, baseline=False, teacher=False, onnx=False),
    )  # fmt: skip


def _without_teacher(source: SourceSection) -> SourceSection:
    """Remove from a source what only a teacher provides.

    Nobody labels the words of `pseudo` for it, so that other sources fill its batches; of stored distributions it gets
    the labels alone.
    """
    if source.labels == "pseudo":
        return dataclasses.replace(source, ratio=0.0)
    return dataclasses.replace(source, labels="own")


class Baseline:
    """The baseline of a run: its own folder, its own checkpoints, from which it goes on when the run is resumed.

    One that was never started has not failed, and need not be waited for.

    Args:
        config, processes, peak: as for `baseline_config`.
    """

    def __init__(self, config: Config, processes: int, peak: float) -> None:
        self.config = baseline_config(config, processes, peak)
        self.folder = Path(self.config.out)
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def finished(self) -> bool:
        """Whether it has been trained to its end, as it is configured now."""
        return (self.folder / "report.json").exists() and find_changes(self.folder, self.config) == {}

    @property
    def console_file(self) -> Path:
        """Where its output goes."""
        return self.folder / "console.txt"

    def start(self) -> None:
        """Start its process, which goes on from its latest checkpoint."""
        self.folder.mkdir(parents=True, exist_ok=True)
        save_config(self.config, self.folder / "config.yaml")
        command = [
            sys.executable, "-m", "distill", "distill", "--config", str(self.folder / "config.yaml"),
            "--resume", "auto", "--parent", str(os.getpid()),
        ]  # fmt: skip
        with self.console_file.open("ab") as log:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=without_launcher(dict(os.environ)),
            )  # fmt: skip

    @property
    def failed(self) -> bool:
        """Whether its process has ended in an error."""
        return self._process is not None and self._process.poll() not in (None, 0, STOPPED)

    def terminate(self) -> None:
        """Ask it to save and leave, without waiting for it."""
        if self._process is not None:
            self._process.terminate()

    def stop(self) -> None:
        """Let it save and leave. A second stop, which a launcher sends soon, does not disturb that."""
        with StopRequest():
            self.terminate()
            if self._process is not None:
                self._process.wait()

    def wait(self) -> bool:
        """Wait until it has ended; False when it or this process is asked to stop before, and it has saved.

        Raises:
            RuntimeError: when it failed.
        """
        if self._process is None:
            return True
        with StopRequest() as stop:
            while self._process.poll() is None and stop.signalled is None:
                time.sleep(POLL_SECONDS)
        if self._process.returncode is None:
            self.stop()
            return False
        if self._process.returncode not in (0, STOPPED):
            raise RuntimeError(
                f"the baseline's run ended with code {self._process.returncode}; see {self.console_file}"
            )
        return self._process.returncode == 0
