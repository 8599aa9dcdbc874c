"""Time training steps by their parts, in float32 and under bf16, and the consistency loss in blocks and by its rows."""

from __future__ import annotations

import dataclasses
import random
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal

import open_clip
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from distill.benchmarking.decoding import build
from distill.benchmarking.measuring import (
    MIN_ROUNDS,
    Row,
    Setup,
    in_new_process,
    interleaved,
    peak_bytes,
    ratios,
    reset_peak,
    row,
)
from distill.data.batch import Batch
from distill.data.columns import COLUMNS
from distill.training.accelerator import choose_precision
from distill.training.distillation import DistillationTask
from distill.training.optim import build_optimizer
from distill.training.sections import AuxSection, GuidanceSection
from losses.lcl import lcl
from students.charset import Charset
from students.ctc import new_learner
from students.student import tiny
from teachers import load_teacher
from teachers.clip import ClipTeacher
from teachers.teacher import Teacher
from teachers.zoo import CLIP_VOCABULARY, LoadedClip, zoo_config

GUIDANCE = {"paper": GuidanceSection(), "tiny": GuidanceSection(max_rows=512)}
"""Guidance of each size: as in the paper, and within the rows that a CPU can bear."""
PEAK_SIDE = 1536
"""Rows and columns of the matrices whose product measures the machine's peak."""
LCL_WIDTH = 768
"""Channels of the widest rows of the consistency loss: those of the image tower."""
Part = Literal["student", "student + teacher", "all"]
PARTS: tuple[Part, ...] = ("student", "student + teacher", "all")
ENDS: tuple[Part, ...] = ("student", "all")
CACHES = {"warm": (2**30, 2**30), "labels": (2**30, 0), "none": (0, 0)}
"""Bytes of a teacher's caches for features of labels and of pictures; the round that warms up fills them."""


def training_step(setup: Setup) -> Iterator[Row]:
    """Measure words a second of a step by its parts, and its ratio of the machine's matmul peak."""
    for size, batch, steps in _cases(setup):
        sides: list[Side] = [({"size": size, "batch": batch, "step": part}, steps, part) for part in PARTS]
        with setup.autocast():
            yield from _words_and_shares("training_step", sides, setup)


def distil_over_plain_step(setup: Setup) -> Iterator[Row]:
    """Measure the time of a guided step over that of the same student's step without a teacher.

    With `warm` caches the teacher has seen labels and pictures before, with `labels` only the labels, with `none` it
    caches nothing.
    """
    for size, batch, steps in _cases(setup):
        for cache, (texts, images) in CACHES.items():
            for teacher in steps.task.teachers:
                teacher.cache_features(texts, images)
            with setup.autocast():
                seconds = interleaved({part: partial(steps.run, part) for part in ENDS}, setup)
            case = {"size": size, "batch": batch, "cache": cache}
            yield row("distil_over_plain_step", case, ratios(seconds["all"], seconds["student"]), "x")


def bf16_over_float32_step(setup: Setup) -> Iterator[Row]:
    """Measure the time of a step under bf16 over that in float32: below 1 where the processor computes in bf16."""
    for size, batch, steps in _cases(setup):
        for part in ENDS:
            sides = {"bf16": partial(steps.under_bf16, part, True), "float32": partial(steps.under_bf16, part, False)}
            seconds = interleaved(sides, setup)
            case = {"size": size, "batch": batch, "step": part, "threads": torch.get_num_threads()}
            yield row("bf16_over_float32_step", case, ratios(seconds["bf16"], seconds["float32"]), "x")


def ctc_step(setup: Setup) -> Iterator[Row]:
    """Measure words a second of a `tiny` CTC student's step beside a decoder and without one, as training would run it.

    That is in bf16 where the machine computes in it; the ratio is of the peak of a matrix product in that precision.
    """
    bf16 = choose_precision("auto") == "bf16"
    config = dataclasses.replace(tiny(Charset.load("36")), decoding="ctc")
    for batch in (8,) if setup.quick else setup.batches(32, 64, 128):
        drawn, sides = draw_batch(batch, config.charset).to(setup.device), list[Side]()
        for decoder in ("beside", "none"):
            student = new_learner(config, decoder=decoder == "beside")
            task = DistillationTask(student, None, GuidanceSection(), AuxSection()).train().to(setup.device)
            case: dict[str, object] = {"batch": batch, "precision": "bf16" if bf16 else "float32", "decoder": decoder}
            sides.append((case, Steps(task, drawn, setup.device), "student"))
        with torch.autocast(setup.device, dtype=torch.bfloat16, enabled=bf16):
            yield from _words_and_shares("ctc_step", sides, setup)


@dataclass
class Steps:
    """Optimizer steps of one task on one batch."""

    task: DistillationTask
    batch: Batch
    device: str

    def __post_init__(self) -> None:
        self.optimizer = build_optimizer(self.task.parameter_groups(1e-4, 0.0), lr=1e-4)

    def run(self, part: Part) -> None:
        """Take a step with labels alone, with a teacher whose features are not used, or with guidance."""
        with torch.no_grad():
            inputs = self.task.prepare(self.batch, 0 if part != "student" else 1, 0.0)
        if part == "student + teacher":
            inputs = dataclasses.replace(inputs, guidance=(None,) * len(inputs.guidance))
        loss = self.task.total(self.task(inputs))
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.task.parameters(), 20.0)
        self.optimizer.step()
        self.optimizer.zero_grad()

    def under_bf16(self, part: Part, enabled: bool) -> None:
        """Take a step in one of the two precisions."""
        with torch.autocast(self.device, dtype=torch.bfloat16, enabled=enabled):
            self.run(part)

    def count_operations(self, part: Part) -> int:
        """Count the floating-point operations of a step's matrix products and convolutions."""
        with FlopCounterMode(display=False) as counter:
            self.run(part)
        return int(counter.get_total_flops())


Side = tuple[dict[str, object], Steps, Part]
"""A step in a table: its case, and what is run."""


def _words_and_shares(table: str, sides: Sequence[Side], setup: Setup) -> Iterator[Row]:
    """Measure words a second of steps, and their ratio of the peak of a matrix product beside them."""
    operations = [steps.count_operations(part) for _, steps, part in sides]
    matrix = torch.randn(PEAK_SIDE, PEAK_SIDE, device=setup.device)
    runs: dict[int, Callable[[], object]] = {
        number: partial(steps.run, part) for number, (_, steps, part) in enumerate(sides)
    }
    seconds = interleaved({**runs, -1: partial(torch.mm, matrix, matrix)}, setup)
    peaks = [2 * PEAK_SIDE**3 / value for value in seconds[-1]]
    yield row(table, {"of": "matmul peak"}, [peak / 1e9 for peak in peaks], "GFLOP/s")
    for number, (case, steps, _) in enumerate(sides):
        words = [len(steps.batch.labels) / value for value in seconds[number]]
        yield row(table, {**case, "of": "words"}, words, "words/s")
        shares = [100 * operations[number] / value / peak for value, peak in zip(seconds[number], peaks, strict=True)]
        yield row(table, {**case, "of": "share of peak"}, shares, "%")


def _cases(setup: Setup) -> Iterator[tuple[str, int, Steps]]:
    cases = {"tiny": (8,)} if setup.quick else {"paper": setup.batches(16, 64), "tiny": setup.batches(32)}
    for size, batches in cases.items():
        student, teacher = build(size).train(), build_teacher(size)
        # With an interval of two, batch 0 is a guided one and batch 1 one without.
        guidance = dataclasses.replace(GUIDANCE[size], interval=2)
        task = DistillationTask(student, teacher, guidance, AuxSection()).train().to(setup.device)
        for batch in batches:
            drawn = draw_batch(batch, student.charset.characters).to(setup.device)
            yield size, batch, Steps(task, drawn, setup.device)


def build_teacher(size: str) -> Teacher:
    """Build a ViT-B/16 with random weights for the paper's student; load the shipped teacher for others."""
    if size != "paper":
        return load_teacher("words-small")
    config = zoo_config("ViT-B-16-quickgelu")
    sizes = {key: config[key] for key in ("embed_dim", "vision_cfg", "text_cfg")}
    clip = open_clip.CLIP(**sizes, quick_gelu=True).eval()
    mean, std = open_clip.OPENAI_DATASET_MEAN, open_clip.OPENAI_DATASET_STD
    tokenizer = open_clip.SimpleTokenizer()
    if tokenizer.vocab_size != CLIP_VOCABULARY:
        raise RuntimeError(f"a vocabulary of {tokenizer.vocab_size} is not CLIP's")
    loaded = LoadedClip(clip, tokenizer, mean, std, "quick-gelu", "published", sizes)
    return ClipTeacher.from_model("at random", loaded, "crop")


def draw_batch(words: int, characters: str) -> Batch:
    """Draw pictures of noise with labels of 2 to 12 characters."""
    source = random.Random(words)
    labels = ["".join(source.choices(characters, k=source.randint(2, 12))) for _ in range(words)]
    images: Tensor = torch.rand(words, 3, 32, 128, generator=torch.Generator().manual_seed(words)) * 2 - 1
    columns = torch.full((words, COLUMNS), -1)
    return Batch(images, labels, columns, torch.arange(words), versions=(0,) * words)


def chunked_over_dense_lcl(setup: Setup) -> Iterator[Row]:
    """Measure the time of value and gradients of the consistency loss in blocks over that in one dense block."""
    for rows in (1000,) if setup.quick else (1000, 2000, 4000, 8000):
        student, teacher = (side.to(setup.device) for side in draw_rows(rows))
        block = max(1, rows // 8)  # the loss's own choice may be one block
        blocks = {"8": block, "dense": rows, "chosen": None}
        sides = {name: partial(differentiate, student, teacher, size) for name, size in blocks.items()}
        seconds = interleaved(sides, setup)
        for name in ("chosen", "8"):
            case = {"rows": rows, "width": LCL_WIDTH, "blocks": name}
            yield row("chunked_over_dense_lcl", case, ratios(seconds[name], seconds["dense"]), "x")


def lcl_by_rows(setup: Setup) -> Iterator[Row]:
    """Measure milliseconds, nanoseconds a pair of rows, and extra memory at the peak; each in a process of its own."""
    for rows in (1000,) if setup.quick else (1000, 2000, 5000, 10000, 20000):
        seconds, extra = in_new_process(measure_lcl, rows, 1 if rows > 5000 else MIN_ROUNDS, setup.device)
        case = {"rows": rows, "width": LCL_WIDTH}
        yield row("lcl_by_rows", {**case, "of": "time"}, [1e3 * value for value in seconds], "ms")
        yield row("lcl_by_rows", {**case, "of": "time a pair"}, [1e9 * value / rows**2 for value in seconds], "ns")
        yield row("lcl_by_rows", {**case, "of": "extra memory"}, [extra / 2**20], "MiB")


def measure_lcl(rows: int, rounds: int, device: str) -> tuple[list[float], int]:
    """Measure seconds of value and gradients, and the bytes by which the peak exceeds the two inputs themselves."""
    torch.set_num_threads(1)
    for count in (64, rows):  # kernels load their own memory on first use
        student, teacher = (side.to(device) for side in draw_rows(count))
        differentiate(student[:64], teacher[:64], None)
    before, seconds = reset_peak(device), []
    for _ in range(rounds):
        started = time.process_time()
        differentiate(student, teacher, None)
        seconds.append(time.process_time() - started)
    return seconds, peak_bytes(device) - before


def draw_rows(rows: int) -> tuple[Tensor, Tensor]:
    """Draw student's and teacher's rows, each (rows, LCL_WIDTH)."""
    source = torch.Generator().manual_seed(rows)
    student, teacher = (torch.randn(rows, LCL_WIDTH, generator=source) for _ in range(2))
    return student, teacher


def differentiate(student: Tensor, teacher: Tensor, block: int | None) -> None:
    """Compute the loss and its gradients for both sides."""
    sides = student.requires_grad_(), teacher.requires_grad_()
    torch.autograd.grad(lcl(*sides, block=block), sides)
