"""Distillation from a configuration to a report: train student and baseline, compare them, export."""

from __future__ import annotations

import dataclasses
import json
import math
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from distill.config import as_dict
from distill.data.language_models import open_language_model
from distill.data.module import DataModule
from distill.data.trees import open_all
from distill.deployment.card import UNKNOWN, Card, fill_card, scores_from_report
from distill.deployment.folder import save_folder
from distill.deployment.readers import ModelReader, WordReader
from distill.deployment.snippets import TargetName
from distill.evaluation.benchmarks import MAX_LENGTH, check_overlap, locate_benchmarks, open_benchmarks
from distill.evaluation.compare import compare
from distill.evaluation.curves import learning_curve, read_metrics
from distill.evaluation.lexicon import teacher_reader
from distill.evaluation.page.report_page import write_page
from distill.evaluation.report import build_report, write_report
from distill.evaluation.tables import print_report
from distill.evaluation.validation import Validation
from distill.plugins import import_plugins
from distill.schema import Config
from distill.training.accelerator import own_process_state, splits_weights
from distill.training.baseline import Baseline
from distill.training.branches import number_repeated
from distill.training.building import build_task
from distill.training.distillation import DistillationTask
from distill.training.layer_map import gradient_shares, layer_map
from distill.training.run import TrainingRun
from distill.training.run_folder import check_run_folder
from students.charset import Charset
from students.errors import UserError
from students.extras import check_extra
from students.reading import Reader
from teachers.registry import load_reader


@dataclasses.dataclass(frozen=True)
class Result:
    """The outcome of a distillation."""

    folder: Path
    """The run's folder: configuration, checkpoints, metrics, report, and the student in `student/`."""
    finished: bool
    """False when the run was asked to stop; it has saved then, and goes on with `resume="auto"`."""
    step: int
    """Optimizer steps done."""

    @cached_property
    def student(self) -> Reader:
        """The student with its best weights (of a stopped run: the best so far).

        Raises:
            UserError: when the run was stopped before its first validation.
        """
        folder = self.folder / "student"
        if not folder.is_dir():
            raise UserError(f"the run in {self.folder} was stopped before a validation; continue it with resume='auto'")
        return load_reader(folder)

    @cached_property
    def report(self) -> dict[str, Any]:
        """The report (docs/reference/report-json.md); empty for a run that was stopped."""
        file = self.folder / "report.json"
        return json.loads(file.read_text(encoding="utf-8")) if self.finished and file.is_file() else {}


def distill(
    config: Config, resume: str | None = None, overwrite: bool = False, command: Sequence[str] = (),
    console: Console | None = None,
) -> Result:  # fmt: skip
    """Train a student, compare it with baseline and teacher, and export it.

    Ctrl-C (and SIGTERM, SIGUSR1) let the running step end, save, and return a result that is not finished; a second
    Ctrl-C raises `KeyboardInterrupt` at once. Any number of runs may follow each other in one process.

    Args:
        config: the configuration, see `distill.config.load_config`.
        resume: `auto` continues the run in the folder, from its latest checkpoint; or a checkpoint folder.
        overwrite: replace an earlier run in the folder.
        command: the command line, for the report.
        console: where lines go; None for standard output.

    Raises:
        UserError: when something about the configuration, the words or the folder does not serve.
    """
    check_run_folder(config, resume, overwrite)
    import_plugins(config.plugins)
    with own_process_state():
        run = DistillRun(config, command, console)
        finished = run.execute(resume, overwrite)
        return Result(run.out, finished, run.state.step)


def rehearse(config: Config, console: Console | None = None) -> None:
    """Build everything, print layer map, parameter counts and the first step's terms, and write nothing.

    Raises:
        UserError: for what `distill` would refuse.
    """
    import_plugins(config.plugins)
    with own_process_state():
        DistillRun(config, (), console).rehearse()


class DistillRun(TrainingRun[Config]):
    """The run of `distill`: a student, its teachers, and the baseline beside it."""

    task: DistillationTask
    _baseline_failure_said = False

    def build_task(self, log: Callable[[str], None]) -> DistillationTask:
        """Build student, teachers and losses."""
        init = self.config.student.init
        self.start = None if init is None else fill_card(init)
        task = build_task(self.config, log)
        for warning in task.warnings():
            log(warning)
        return task

    def build_data(self) -> DataModule:
        """Describe the words of the run, and give the student its language model, whose words may be among them.

        Raises:
            UserError: for a language model that isn't there, or that the student can't read with.
        """
        data, chosen = super().build_data(), self.config.student.language_model
        if chosen is not None:
            data.check_sources()
            try:
                self.task.student.language_model = open_language_model(chosen, data.resolve_or_here, data.charset)
            except UserError as error:
                data.open_sources()  # words that can't be opened are what has to be mended
                raise UserError(f"student.language_model={chosen}: {error}") from None
        return data

    def check(self) -> None:
        """Find out now, not after hours of training, what words or the comparison at the end would refuse.

        Raises:
            UserError: for a test set, training tree or alphabet that isn't there, or a teacher that can't be scored.
        """
        self.data.check(teacher_reads=self.task.labeller is not None, distributions=True)
        section, data = self.config.eval, self.config.data
        if section.onnx:
            check_extra("onnx", "exporting to ONNX (eval.onnx)")
        own = sum(source.ratio for source in data.train if source.labels != "pseudo")
        if section.baseline and own + (data.synthetic.ratio if data.synthetic.words else 0) <= 0:
            raise UserError("a baseline can't learn from words that only the teacher reads; set eval.baseline=false")
        for name, loss in self.task.own_losses.items():
            module = loss.loss.function.__module__
            known = module.partition(".")[0] == "losses" or (self.config.plugins and module != "__main__")
            if section.baseline and not known:
                raise UserError(
                    f"losses.{name}: the baseline learns by it too, in a process of its own that does not "
                    "know it; register it in a file that `plugins` names, or set eval.baseline=false"
                )
        charset = self._test_charset(self.task.student)
        if self._test is not None and section.test is None and section.charset is None:
            locate_benchmarks(self._test, section.benchmarks)  # validation words: their loader reads their labels
        elif self._test is not None:
            longest = scored_length(self.task.student)
            benchmarks = open_benchmarks(self._test, section.benchmarks, charset, max_length=longest)
            for benchmark in benchmarks if self.accelerator.is_main_process else ():
                benchmark.check_pictures()
        for teacher in self.task.teachers if section.teacher else ():
            teacher_reader(teacher, charset)
        if self._train_root is not None:
            if not self._train_root.is_dir():
                raise UserError(f"{self._train_root}: no such folder to search for test words; mend eval.train_root")
            try:
                open_all(self._train_root)
            except UserError as error:
                raise UserError(f"eval.train_root, which is searched for test words: {error}") from None

    def training_note(self, step: int, result: Validation | None = None) -> str:
        """Describe the training, and what guided it."""
        task, data = self.task, self.config.data
        names = ", ".join(f"`{branch.teacher.name}`" for branch in task.branches if branch.guides)
        pseudo = any(source.labels == "pseudo" and source.ratio > 0 for source in data.train)
        taught = [f"guided by {names} every {self.config.guidance.interval} steps"] if names else []
        taught += ["with distributions that are stored with its words"] if task.stored is not None else []
        taught += [f"on labels that `{task.labeller.name}` gave"] if pseudo and task.labeller is not None else []
        return f"{super().training_note(step, result)} Trained {', '.join(taught) or 'without a teacher'}."

    def card(self, training: str) -> Card:
        """See `TrainingRun.card`; a student that started from another inherits its terms."""
        if self.start is None:
            return super().card(training)
        terms = self.start.terms if self.start.terms == UNKNOWN else f"Of `{self.start.name}`: {self.start.terms}"
        return Card(self.config.name, f"{training} Started from `{self.start.name}`.", terms)

    def before_backward(self, step: int, terms: dict[str, torch.Tensor]) -> None:
        """Measure each term's share of the student's gradient, about as often as words are validated.

        That is done in guided steps, by the main process alone on its own words. A baseline that has failed is said
        here, once: the student trains on, and the run fails when it waits for the baseline.
        """
        if self.baseline.failed and not self._baseline_failure_said:
            self._baseline_failure_said = True
            self.log(f"the baseline has ended in an error; see {self.baseline.console_file}. The student trains on")
        plain = [name for name, term in terms.items() if not term.requires_grad]
        if step == 0 and plain:
            self.log(f"{', '.join(plain)}: no gradient in the first step; what a loss detaches teaches nothing")
        interval = self.config.guidance.interval
        every = max(self.config.train.validate_every // interval, 1) * interval
        if self.tracker is None or step % every or len(terms) < 2 or splits_weights(self.accelerator):
            return
        shares = gradient_shares(self.task, terms)
        self.observed["gradient_share"] = {name: share for name, (_, share) in shares.items()}

    def before_training(self) -> None:
        """Train the baseline beside the student, unless it is off or has been trained before."""
        self.baseline = Baseline(self.config, self.accelerator.num_processes, self.peak)
        if self.config.eval.baseline and not self.baseline.finished and self.accelerator.is_main_process:
            console = self.baseline.console_file
            self.log(f"training the baseline beside it, without a teacher; its output goes to {console}")
            self.baseline.start()

    def after_failure(self) -> None:
        """Have the baseline save and leave; it goes on when the student's run is resumed."""
        self.baseline.terminate()

    def after_training(self, finished: bool) -> bool:
        """Wait for the baseline, then compare, report and export."""
        if not finished:
            self.baseline.stop()
        elif finished := self.baseline.wait():
            self.report()
        return finished

    def report(self) -> None:
        """Compare the best weights with baseline and teacher, write the report, and export the student."""
        started, config, out = time.monotonic(), self.config, self.out
        self.log("trained; now comparing, exporting and reporting")
        student = load_reader(out / "student")
        charset = self._test_charset(student)
        benchmarks = open_benchmarks(
            self._test or self.data.synthetic_folders[1], config.eval.benchmarks, charset,
            max_length=scored_length(student),
        )  # fmt: skip
        comparison = compare(self._readers(student, charset), benchmarks, charset)
        self.seconds["compare"] = time.monotonic() - started
        root = self._train_root
        overlaps = None if root is None else check_overlap(benchmarks, *self._learned_trees(root))
        metrics = read_metrics(out)
        curves = {comparison.readers[0].name: learning_curve(metrics)}
        if config.eval.baseline:
            curves[comparison.readers[1].name] = learning_curve(read_metrics(out / "baseline"))
        report = build_report(comparison, self.command, as_dict(config), self.seconds, overlaps, curves)
        write_report(out, report)
        scores = scores_from_report(out / "report.json", config.name)
        card = dataclasses.replace(self.card(self.training_note(self.state.best_step)), scores=scores)
        onnx: list[TargetName] = ["onnx"] if config.eval.onnx else []
        exported = save_folder(student, out / "student", card, targets=onnx, overwrite=True)
        page = write_page(out, report, comparison, metrics)
        print_report(report, self.console)
        files = ", ".join(f"{name} ({size / 2**20:.1f} MiB)" for name, size in exported.files.items())
        self.log(f"{exported.folder}: {files}\nreport: {page}")

    def rehearse(self) -> None:
        """Print layer map, parameter counts and the first step's terms with their gradient shares; write nothing."""
        with tempfile.TemporaryDirectory() as scratch:
            self.data.limit_for_dry_run(Path(scratch))
            self.prepare_words()
            batch = next(self.batches(0))
        task, student = self.task, self.task.student
        labelled = task.label(batch)
        for number in range(len(task.branches)):
            self.console.print(layer_map(task, batch if labelled is None else labelled.batch, number))
        exported = student.exported_model().parameters_count
        self.log(f"student: {exported:,} weights, {len(student.charset.characters)} characters")
        if exported < student.parameters_count:
            self.log(f"its decoder, in training only: {student.parameters_count - exported:,} weights")
        for branch in task.branches:
            name, frozen = branch.teacher.name, branch.teacher.parameters_count
            heads = sum(part.numel() for part in branch.heads.parameters())
            self.log(f"teacher {name}: {frozen:,} weights, frozen; heads, in training only: {heads:,} weights")
        task.train()
        with torch.no_grad():
            inputs = task.prepare(batch, 0, 0.0)
        for note in task.notes():
            self.log(note)
        shares = gradient_shares(task, task(inputs))
        for name, (value, share) in shares.items():
            self.log(f"{name:12} {value:9.4f}  gradient share {100 * share:5.1f}%")
        infinite = [name for name, (value, _) in shares.items() if not math.isfinite(value)]
        if infinite or not all(math.isfinite(share) for _, share in shares.values()):
            what = ", ".join(infinite) or "the gradient"
            raise UserError(f"{what}: not finite in the first step; lower its weight, or correct the loss's options")

    @property
    def _test(self) -> Path | None:
        """What is compared on; None for the rendered test words."""
        chosen = self.config.eval.test or self.config.data.validation
        return None if chosen is None else self.data.resolve(chosen)

    @property
    def _train_root(self) -> Path | None:
        """Training words that the overlap check searches; None leaves it out."""
        return None if self.config.eval.train_root is None else self.data.resolve(self.config.eval.train_root)

    def _learned_trees(self, root: Path) -> list[Path]:
        """List what the overlap check searches: `eval.train_root`, and what is learned from and lies elsewhere."""
        sources = [self.data.resolve(source.path) for source in self.config.data.train if source.ratio > 0]
        elsewhere = [path for path in sources if not path.resolve().is_relative_to(root.resolve())]
        return [root, *dict.fromkeys(elsewhere)]

    def _test_charset(self, student: Reader) -> Charset:
        """Return the alphabet that is scored."""
        return student.charset if self.config.eval.charset is None else Charset.load(self.config.eval.charset)

    def _readers(self, student: Reader, charset: Charset) -> list[WordReader]:
        """List what is scored: the student, its baseline, and teachers that read or have a closed lexicon."""
        config = self.config
        readers: list[WordReader] = [ModelReader(student, config.name)]
        if config.eval.baseline:
            baseline = self.out / "baseline"
            readers.append(ModelReader(load_reader(baseline / "student"), f"{config.name}-baseline", "baseline"))
            stored = json.loads((baseline / "report.json").read_text(encoding="utf-8"))
            self.seconds["train baseline"] = stored["seconds"]["train"]
        if config.eval.teacher:
            readers += [teacher_reader(teacher, charset) for teacher in self.task.teachers]
        for reader, name in zip(readers, number_repeated([reader.name for reader in readers]), strict=True):
            reader.name = name
        return readers


def scored_length(student: Reader) -> int:
    """Return the longest label that is scored: the protocol's, or the student's where it reads longer ones."""
    return max(MAX_LENGTH, student.max_length)
