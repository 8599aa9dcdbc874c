"""Delivery: what a finished distillation hands out: comparison, report, student folder, ONNX."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from distill.config import Config, as_dict
from distill.deployment.card import Card, scores_from_report
from distill.deployment.folder import save_folder
from distill.evaluation.benchmarks import open_benchmarks
from distill.evaluation.compare import compare
from distill.evaluation.overlap_check import check_overlap
from distill.evaluation.readers import StudentReader, WordReader
from distill.evaluation.report import build_report, write_report
from distill.evaluation.tables import print_report
from distill.evaluation.teachers import teacher_reader
from distill.training.guides import distinct
from students.charset import Charset
from students.reading import Reader
from teachers.registry import load_reader
from teachers.teacher import Teacher


class Delivery:
    """Compare, report and export the best student of a run.

    Args:
        config: the run's configuration.
        command: the command line, for the report.
        training: how the student was trained, for its card.
        seconds: wall time by part so far.
    """

    def __init__(self, config: Config, command: Sequence[str], training: str, seconds: dict[str, float]) -> None:
        self.config, self.command, self.training = config, list(command), training
        self.seconds, self.out = seconds, Path(config.out)

    def deliver(self, teachers: Sequence[Teacher], test: Path, against: Path | None, console: Console) -> None:
        """Do it.

        Args:
            teachers: scored too when asked for: those that read openly, a CLIP by closed lexicon.
            test: a folder of benchmarks, or one set.
            against: training words that the overlap check searches for test words; None leaves it out.
            console: where the table goes.
        """
        started, config, out = time.monotonic(), self.config, self.out
        student = load_reader(out / "student")
        charset = student.charset if config.eval.charset is None else Charset.load(config.eval.charset)
        benchmarks = open_benchmarks(test, config.eval.benchmarks, charset)
        comparison = compare(self._readers(student, teachers, charset), benchmarks, charset)
        self.seconds["compare"] = time.monotonic() - started
        overlaps = check_overlap(benchmarks, against) if against is not None else None
        report = build_report(comparison, self.command, as_dict(config), self.seconds, overlaps)
        write_report(out, report)
        card = Card(config.name, self.training, scores=scores_from_report(out / "report.json", config.name))
        exported = save_folder(student, out / "student", card, onnx=config.eval.onnx, overwrite=True)
        print_report(report, console)
        files = ", ".join(f"{name} ({size / 2**20:.1f} MiB)" for name, size in exported.files.items())
        console.print(f"{exported.folder}: {files}\nreport: {out / 'report.json'}", highlight=False, soft_wrap=True)

    def _readers(self, student: Reader, teachers: Sequence[Teacher], charset: Charset) -> list[WordReader]:
        config = self.config
        readers: list[WordReader] = [StudentReader(student, config.name)]
        if config.eval.baseline:
            baseline = self.out / "baseline"
            readers.append(StudentReader(load_reader(baseline / "student"), f"{config.name}-baseline", "baseline"))
            stored = json.loads((baseline / "report.json").read_text(encoding="utf-8"))
            self.seconds["train baseline"] = stored["seconds"]["train"]
        if config.eval.teacher:
            readers += [teacher_reader(teacher, charset) for teacher in teachers]
        for reader, name in zip(readers, distinct([reader.name for reader in readers]), strict=True):
            reader.name = name
        return readers
