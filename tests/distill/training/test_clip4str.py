from __future__ import annotations

import dataclasses
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import MagicMock

import pytest
import torch

from distill.commands.train_teacher import main
from distill.data.batch import Batch
from distill.evaluation.validation import Validation
from distill.schema import TeacherConfig
from distill.training.clip4str import Clip4StrTask, build_clip4str, freeze
from distill.training.run import TrainingRun
from distill.training.teacher_sections import Clip4StrSection
from distill.training.trainer import TrainState, check_gradients
from students.errors import UserError
from students.permuted import PermutationOptions
from teachers.backbones import ClipSizes
from teachers.clip import fit_positions
from teachers.clip4str import Clip4Str, Clip4StrConfig
from teachers.small import SmallTeacherConfig

WORDS = SmallTeacherConfig(
    stem=(8, 8, 16), image_width=32, image_layers=4, image_heads=2, text_width=32, text_layers=4, text_heads=2,
    joint_width=32,
)  # fmt: skip
CONFIG = Clip4StrConfig(charset="abcdefghijklmnop0123456789", clip=WORDS, decoder_heads=2, dropout=0.0, context=12)
LABELS = ["cafe", "0123456", "a", "nook", "depo", "lamp"]


def build(
    section: Clip4StrSection | None = None, orders: PermutationOptions | None = None, **changed: Any
) -> Clip4StrTask:
    torch.manual_seed(0)
    reader = Clip4Str(dataclasses.replace(CONFIG, **changed))
    return Clip4StrTask(reader, section or Clip4StrSection(text_freeze=2), orders)


@pytest.fixture
def batch() -> Batch:
    count = len(LABELS)
    images = torch.rand(count, 3, 32, 128, generator=torch.Generator().manual_seed(2)) * 2 - 1
    return Batch(images, LABELS, torch.full((count, 32), -1), torch.arange(count))


@pytest.mark.parametrize(
    ("section", "changed"),
    [
        (Clip4StrSection(text_freeze=2), {}),
        (Clip4StrSection(text_freeze=-1), {}),
        (Clip4StrSection(text_freeze=12, image_freeze=0), {}),
        (Clip4StrSection(text_freeze=-1), {"text_features": "embedding", "share_dim": False}),
        (Clip4StrSection(text_freeze=-1), {"language": False, "share_dim": False}),
        (Clip4StrSection(text_freeze=6), {"language": False}),
        (Clip4StrSection(cross_context="visual", cross_mask="cloze", cross_weight=0.5), {"image_detach": False}),
        (Clip4StrSection(), {"pooled": True, "decoder_depth": 2}),
    ],
)
def test_every_weight_that_learns_gets_a_gradient(
    section: Clip4StrSection, changed: dict[str, Any], batch: Batch
) -> None:
    task = build(section, **changed).train()
    task.total(task(task.prepare(batch, 0, 0.0))).backward()
    check_gradients(task)  # raises for weights that rest without being named
    unused = [name for name, weight in task.named_parameters() if weight.requires_grad and weight.grad is None]
    assert task.find_unused_parameters() == bool(unused)


def test_it_learns_a_few_words_and_reads_them(batch: Batch) -> None:
    few = dataclasses.replace(batch, images=batch.images[:3], labels=["ca", "0", "b1"])
    task = build(Clip4StrSection(text_freeze=2), PermutationOptions(count=2)).train()
    optimizer = torch.optim.AdamW(task.parameters(), lr=5e-3)
    for step in range(30):
        terms = task(task.prepare(few, step, 0.0))
        optimizer.zero_grad()
        task.total(terms).backward()
        optimizer.step()
    assert set(terms) == {"visual", "cross"}
    assert [reading.text for reading in task.exported_model().eval().read_batch(few.images)] == few.labels


def test_orders_depend_on_seed_and_step_alone(batch: Batch) -> None:
    task = build()
    torch.manual_seed(7)
    first = task.prepare(batch, 3, 0.0).permutations
    assert torch.equal(task.prepare(batch, 3, 0.5).permutations, first)
    assert not torch.equal(task.prepare(batch, 4, 0.0).permutations, first)
    assert first.shape == (6, 9)
    few = build(orders=PermutationOptions(count=2))
    assert few.prepare(batch, 3, 0.0).permutations.shape == (2, 9)


@pytest.mark.parametrize(
    ("text", "image", "unused_parameters", "learning"),
    [
        (
            2,
            -1,
            {"token_embedding.weight", "positional_embedding", "logit_scale"},
            {"ln_final.weight", "text_projection"},
        ),
        (0, 0, {"visual.class_embedding", "visual.positional_embedding"}, {"visual.proj", "visual.ln_post.weight"}),
        (12, 12, {"ln_final.weight", "text_projection", "visual.proj", "visual.ln_pre.bias"}, set()),
        (-1, -1, set(), {"token_embedding.weight", "logit_scale", "visual.class_embedding"}),
    ],
)
def test_frozen_layers(text: int, image: int, unused_parameters: set[str], learning: set[str]) -> None:
    reader = build(Clip4StrSection(text_freeze=-1)).reader
    freeze(reader, text, image)
    learns = {name: weight.requires_grad for name, weight in reader.clip_model.named_parameters()}
    assert not any(learns[name] for name in unused_parameters)
    assert all(learns[name] for name in learning)
    for tower, blocks in (("transformer.", text), ("visual.transformer.", image)):
        for block in range(4):
            assert learns[f"{tower}resblocks.{block}.ln_1.weight"] == (block >= blocks)
    assert all(weight.requires_grad for weight in reader.visual_decoder.parameters())


def test_the_base_size_trains_what_the_published_program_says() -> None:
    with torch.device("meta"):
        task = Clip4StrTask(Clip4Str(Clip4StrConfig()))
    counts = {True: 0, False: 0}
    for weight in task.parameters():
        counts[weight.requires_grad] += weight.numel()
    assert (int(counts[True] / 1e6), round(counts[False] / 1e6, 1)) == (114, 44.3)


def test_statistics_of_a_resting_image_tower_rest(batch: Batch) -> None:
    task = build(Clip4StrSection(image_freeze=12)).train()
    before = {name: value.clone() for name, value in task.reader.clip_model.visual.named_buffers()}
    task(task.prepare(batch, 0, 0.0))
    after = dict(task.reader.clip_model.visual.named_buffers())
    assert all(torch.equal(after[name], value) for name, value in before.items())


def test_a_validation_leaves_a_resting_image_tower_at_rest() -> None:
    task = build(Clip4StrSection(image_freeze=12)).train()
    run = SimpleNamespace(
        task=task, current_model=task.exported_model, validate=lambda model, step: Validation(1.0, 1), tracker=None,
        accelerator=SimpleNamespace(num_processes=1, is_main_process=False), progress=MagicMock(), data=MagicMock(),
    )  # fmt: skip
    before = {name: module.training for name, module in task.named_modules()}
    TrainingRun._validate_now(run, TrainState(step=1))  # type: ignore[arg-type]
    assert {name: module.training for name, module in task.named_modules()} == before


def test_groups_without_weights_are_left_out() -> None:
    groups = build(Clip4StrSection(text_freeze=12, image_freeze=12)).parameter_groups(1.0, 0.1)
    assert [(group["lr"], group["weight_decay"]) for group in groups] == [(19.0, 0.0), (19.0, 0.1)]
    with pytest.raises(UserError, match="negative"):
        build().parameter_groups(1.0, -0.1)


def test_the_command_trains_a_reader_that_can_go_on(
    material: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "reader.yaml"
    config.write_text(
        f"""# python tools/train_teacher.py --config reader.yaml
kind: clip4str
name: mini
out: {tmp_path / "run"}
clip4str: {{clip: {material / "teacher"}, charset: "36", decoder_heads: 2, text_freeze: 2}}
data: {{train: [{{path: {material / "train"}}}], validation: {material / "validation"}, workers: 0}}
optim: {{lr: 1e-3, scale_lr: false, weight_decay: 0.2, ema: 0.9}}
train: {{steps: 2, batch_size: 5, threads: 1, validate_every: 2, log_every: 1}}
""",
        encoding="utf-8",
    )
    assert main(["--config", str(config)]) == 0, capsys.readouterr().err
    folder = tmp_path / "run" / "teacher"
    assert "on 7 validation words" in (folder / "README.md").read_text(encoding="utf-8")
    reader = Clip4Str.from_pretrained(folder)
    assert reader.config.clip.joint_width == 16
    again = build_clip4str(TeacherConfig(kind="clip4str", init=str(folder)))
    assert again.reader.config == reader.config


def patches(height: int, width: int) -> ClipSizes:
    vision = {"width": 24, "layers": 1, "head_width": 12, "patch_size": 8, "image_size": [height, width]}
    text = {"width": 16, "layers": 1, "heads": 2, "context_length": 12, "vocab_size": 49408}
    return ClipSizes(embed_dim=16, vision_cfg=vision, text_cfg=text)


@pytest.mark.parametrize("remap", [False, True])
def test_a_reader_to_start_from_reads_at_another_size(remap: bool, tmp_path: Path) -> None:
    torch.manual_seed(0)
    loaded = Clip4Str(dataclasses.replace(CONFIG, clip=patches(16, 32)))
    loaded.save_pretrained(tmp_path / "loaded")
    lines: list[str] = []

    def start(size: list[int] | None) -> Clip4Str:
        section = Clip4StrSection(image_size=size, charset="36" if remap else "94")
        config = TeacherConfig(kind="clip4str", init=str(tmp_path / "loaded"), remap=remap, clip4str=section)
        return build_clip4str(config, lines.append).reader

    for size in (None, [16, 32]):
        assert torch.equal(
            start(size).clip_model.visual.positional_embedding, loaded.clip_model.visual.positional_embedding
        )
    assert len(lines) == 2
    assert all(("for clip4str.charset=94 set remap=true" in line) != remap for line in lines)
    # As many patches, another grid: nothing but the configuration could tell.
    resized = start([32, 16]).eval()
    assert "positions are resized" in lines[-1]
    own, positions = (reader.clip_model.visual.positional_embedding for reader in (loaded, resized))
    assert torch.equal(positions, fit_positions(own, (2, 4), (4, 2), "interpolate"))
    assert not torch.allclose(positions, own)
    resized.save_pretrained(tmp_path / "resized")
    back = Clip4Str.from_pretrained(tmp_path / "resized")
    assert (back.config, back.image_size) == (resized.config, (32, 16))
    images = torch.rand(2, 3, 32, 16) * 2 - 1
    with torch.no_grad():
        assert torch.equal(back(images), resized(images))
    for size, message in (([20, 16], "patches of 8 x 8"), ([16], "give height and width")):
        with pytest.raises(UserError, match=message):
            start(size)


def test_the_small_teachers_reader_keeps_its_size(tmp_path: Path) -> None:
    build().reader.save_pretrained(tmp_path)
    section = Clip4StrSection(image_size=[32, 64])
    with pytest.raises(UserError, match=r"leave clip4str\.image_size out"):
        build_clip4str(TeacherConfig(kind="clip4str", init=str(tmp_path), clip4str=section))


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"clip": "no-such-clip"}, "unknown teacher"),
        ({"clip": "words-small", "charset": "none"}, "no alphabet"),
        ({"clip": "words-small", "image_size": [32]}, "height and width"),
        ({"clip": "words-small", "image_size": [32, 64]}, r"leave clip4str\.image_size out"),
        ({"clip": "words-small", "decoder_heads": 7}, "take another width"),
        ({"clip": "words-small", "context": 40}, "text tower's 27 positions"),
    ],
)
def test_mistakes_are_told_before_training(changed: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        build_clip4str(TeacherConfig(kind="clip4str", clip4str=Clip4StrSection(**changed)))
