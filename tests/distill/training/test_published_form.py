"""configs/clipocr.yaml is the published form down to the optimizer; its models have no memory here (meta device)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import open_clip
import pytest
import torch
from open_clip import CLIP

from distill.config import load_config
from distill.schema import Config
from distill.training import building
from distill.training.distillation import DistillationTask
from distill.training.optim import build_optimizer, build_schedule, set_position
from distill.training.sections import GuidanceSection
from losses.symmetric import SymmetricOptions
from students.student import StudentConfig
from teachers.clip import ClipTeacher
from teachers.tokens import WordPieceTokens

PROCESSES = 2
"""Of the command that the file opens with, as published."""


@pytest.fixture(scope="module")
def config() -> Config:
    return load_config(Config, "configs/clipocr.yaml")


@pytest.fixture(scope="module")
def task(config: Config) -> Iterator[DistillationTask]:
    """The task of that configuration, with the sizes of its teacher instead of its weights."""

    def load(name: str, weights: str, position: Any, image_size: tuple[int, int], kind: str) -> ClipTeacher:
        assert (name, weights, kind) == ("ViT-B-16-quickgelu", "openai", "clip")
        clip = CLIP(**open_clip.get_model_config(name))
        tokens = WordPieceTokens(open_clip.SimpleTokenizer(), clip.context_length)
        return ClipTeacher(name, clip, tokens, (0.5,) * 3, (0.5,) * 3, position, image_size)

    with pytest.MonkeyPatch.context() as patch, torch.device("meta"):
        patch.setattr(building, "load_teacher", load)
        yield building.build_task(config)


def test_student_and_heads_have_the_published_sizes(task: DistillationTask) -> None:
    assert task.student.config == StudentConfig(), "the defaults are the published ones"
    assert round(task.student.parameters_count / 1e6, 2) == 30.89
    assert round(sum(weight.numel() for weight in task.parameters()) / 1e6, 2) == 32.74
    shape = task.teachers[0].shape
    assert (shape.image_tokens, shape.image_width, shape.text_width, shape.joint_width) == (17, 768, 512, 512)
    assert task.heads is not None
    assert task.branches[0].heads.align_proj[0].shape == (1, 17, 129)


def test_guidance_is_the_published_one(config: Config, task: DistillationTask) -> None:
    assert config.guidance == GuidanceSection(), "the defaults are the published form"
    given = config.guidance
    assert (
        SymmetricOptions(given.include_padding, given.gather_second_order, given.max_rows, given.norm)
        == SymmetricOptions()
    )
    assert task.unused_parameters() == (), "every step is guided"


def test_optimizer_and_schedule_are_the_published_ones(config: Config, task: DistillationTask) -> None:
    expected, steps = config.optim, config.train.steps
    # 15.9 M words, 5 epochs, 160 words on each of two GPUs.
    assert steps == int(5 * 15.9e6 / (config.train.batch_size * PROCESSES))
    peak = task.learning_rate(expected.lr, config.train.grad_accum, PROCESSES, config.train.batch_size)
    assert peak == pytest.approx(1.4e-3 * 2**0.5 * 160 / 256)
    optimizer = build_optimizer(
        task.parameter_groups(peak, expected.weight_decay),
        lr=peak,
        betas=(expected.beta1, expected.beta2),
        eps=expected.eps,
    )
    (group,) = optimizer.param_groups
    assert (group["weight_decay"], group["betas"], group["eps"]) == (0.0, (0.9, 0.999), 1e-8)
    assert len(group["params"]) == len(list(task.parameters())), "everything trainable, in one group"
    schedule: Any = build_schedule(optimizer, steps, expected.warmup, expected.schedule)
    assert (expected.schedule, expected.grad_clip, expected.ema) == ("onecycle", 20.0, 0.0)
    assert schedule.get_last_lr() == pytest.approx([peak / 25])
    set_position(schedule, round(0.075 * steps - 1))
    assert schedule.get_last_lr() == pytest.approx([peak], rel=1e-6)


def test_weight_decay_would_spare_what_the_published_one_spares(task: DistillationTask) -> None:
    spared, decayed = task.parameter_groups(1e-3, 0.05)
    names = {id(weight): name for name, weight in task.named_parameters()}
    matrices = {names[id(weight)] for weight in spared["params"] if weight.ndim > 1}
    assert matrices == {
        "student.encoder.model.cls_token", "student.encoder.model.pos_embed", "student.pos_queries",
        "student.text_embed.embedding.weight",
    }  # fmt: skip
    assert {f"heads.0.align_proj.{k}" for k in range(3)} <= {names[id(weight)] for weight in decayed["params"]}
