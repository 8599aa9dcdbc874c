"""CLIP-OCR's checkpoints: what becomes the student, what is kept for training, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from open_clip.constants import OPENAI_DATASET_MEAN

from distill.conversion.checkpoints import read_checkpoint
from distill.conversion.clipocr import convert
from distill.conversion.layout import ConversionOptions, Converted
from losses.heads import GuidanceHeads, load_heads
from students.errors import UserError
from students.student import Student
from teachers import load_teacher
from teachers.clip import ClipTeacher
from tests.distill.conversion.conftest import CONFIG, SETTINGS, Published


def done(file: Path, **options: Any) -> Converted:
    return convert(read_checkpoint(file), ConversionOptions(**options))


def refused(file: Path, **options: Any) -> str:
    with pytest.raises(UserError) as message:
        done(file, **options)
    assert "\n" not in str(message.value)
    return str(message.value)


def same(first: torch.nn.Module, second: torch.nn.Module) -> bool:
    own, other = first.state_dict(), second.state_dict()
    return own.keys() == other.keys() and all(torch.equal(own[name], other[name]) for name in own)


def test_the_student_comes_out_as_it_was(published: Published, tmp_path: Path) -> None:
    converted = done(published.save(tmp_path / "a.ckpt"))
    assert isinstance(converted.reader, Student)
    assert converted.reader.config == CONFIG
    assert same(converted.reader, published.student)
    assert not converted.reader.training
    assert (converted.missing, converted.assumed, dict(converted.parts)) == ([], [], {})
    message = {what: len(names) for what, names in converted.unused.items()}
    heads, clip = len(published.heads.state_dict()), len(published.clip.state_dict())
    assert message == {"guidance heads": heads, "teacher": clip + 2, "unknown": 0}


def test_every_other_key_is_told(published: Published, tmp_path: Path) -> None:
    odd = published.without("clip", "norm_head0") | {"ema.weight": torch.ones(1)}
    converted = done(published.save(tmp_path / "a.ckpt", odd))
    assert converted.unused["unknown"] == ["ema.weight"]
    assert converted.missing == ["norm_head0.weight", "norm_head0.bias", "clip.*"]


def test_sizes_that_a_bare_file_does_not_tell(published: Published, tmp_path: Path) -> None:
    bare = published.without("clip", "align", "norm_head", "word_embed")
    torch.save({f"model.{name}": value for name, value in bare.items()}, tmp_path / "bare.pt")
    alphabet = tmp_path / "alphabet.txt"
    alphabet.write_text(CONFIG.charset)
    assert "which 13 characters" in refused(tmp_path / "bare.pt", heads=(2, 4))
    assert "--heads E,D" in refused(tmp_path / "bare.pt", charset=str(alphabet))
    assert "don't divide" in refused(tmp_path / "bare.pt", charset=str(alphabet), heads=(5, 4))
    assert "reads 13 characters, the alphabet has 36" in refused(tmp_path / "bare.pt", charset="36", heads=(2, 4))
    converted = done(tmp_path / "bare.pt", charset=str(alphabet), heads=(2, 4))
    assert same(converted.reader, published.student)
    assert converted.reader.config.dropout == 0.1, "published"
    assert converted.assumed == ["picture size: 32x128, that of the released weights"]


def test_what_contradicts_the_file_is_refused(published: Published, tmp_path: Path) -> None:
    file = published.save(tmp_path / "a.ckpt")
    assert "leave --charset out" in refused(file, charset="36")
    assert "has encoder heads 2, not 4; leave --heads out" in refused(file, heads=(4, 4))
    assert "not (64, 256); leave --image out" in refused(file, image=(64, 256))
    wide = published.save(tmp_path / "b.ckpt", hyper_parameters={**SETTINGS, "img_size": [32, 100]})
    assert "--image H,W" in refused(wide)
    torn = published.save(tmp_path / "c.ckpt", published.without("decoder.norm", "head.bias"))
    assert "lacks head.bias, decoder.norm.weight, decoder.norm.bias" in refused(torn) or "lacks decoder" in refused(
        torn
    )
    tensors = {**published.tensors, "head.bias": torch.zeros(9)}
    assert "head.bias (9,) for (14,)" in refused(published.save(tmp_path / "d.ckpt", tensors))
    torch.save({"some.weight": torch.ones(1)}, tmp_path / "e.pt")
    assert "has no pos_queries" in refused(tmp_path / "e.pt")


@pytest.mark.parametrize("source", ["checkpoint", "file", "both", "other checkpoint", "folder"])
def test_heads_and_teacher_are_kept_to_go_on(source: str, published: Published, tmp_path: Path) -> None:
    whole = published.save(tmp_path / "whole.ckpt")
    without = published.save(tmp_path / "without.ckpt", published.without("clip."))
    clip = published.save_clip(tmp_path / "clip.pt")
    if source == "checkpoint":
        converted = done(whole, guidance=True)
    elif source == "folder":
        done(whole, clip=clip).parts["guidance"](tmp_path / "first")
        converted = done(without, clip=tmp_path / "first" / "clip")
    else:
        given = whole if source == "other checkpoint" else clip
        converted = done(whole if source == "both" else without, clip=given)
    assert converted.unused == {"unknown": []}
    converted.parts["guidance"](tmp_path / "kept")
    heads = GuidanceHeads(published.student.shape, load_teacher(str(tmp_path / "kept" / "clip")).shape)
    load_heads(heads, tmp_path / "kept")
    assert same(heads, published.heads)
    teacher = load_teacher(str(tmp_path / "kept" / "clip"))
    expected = load_teacher(str(clip))
    assert isinstance(teacher, ClipTeacher)
    own = source in ("checkpoint", "other checkpoint")
    assert teacher.mean.flatten().tolist() == pytest.approx((0.48, 0.46, 0.41) if own else OPENAI_DATASET_MEAN)
    assert "quick-gelu" in teacher.description
    assert same(teacher.clip, expected.clip)


def test_guidance_that_is_not_there_is_refused(published: Published, tmp_path: Path) -> None:
    without = published.save(tmp_path / "without.ckpt", published.without("clip."))
    assert "give its weights as --clip FILE" in refused(without, guidance=True)
    bare = published.save(tmp_path / "bare.ckpt", published.without("clip", "align", "norm_head", "word_embed"))
    assert "has no align_proj0" in refused(bare, clip=published.save_clip(tmp_path / "clip.pt"))
    torn = published.save(tmp_path / "torn.ckpt", published.without("norm_head1"))
    assert "lacks norm_head1.weight, norm_head1.bias" in refused(torn, guidance=True)


def test_another_clip_is_refused(published: Published, tmp_path: Path) -> None:
    file = published.save(tmp_path / "a.ckpt")
    other = {name: value.clone() for name, value in published.clip.state_dict().items()}
    other["visual.proj"] += 0.1
    torch.save(other | {name: torch.tensor(1) for name in ("input_resolution", "context_length", "vocab_size")},
               tmp_path / "other.pt")  # fmt: skip
    assert "differs from the CLIP in the checkpoint in visual.proj;" in refused(file, clip=tmp_path / "other.pt")
    other["text_projection"] = torch.zeros(8, 5)
    torch.save(other, tmp_path / "narrow.pt")
    assert "5 joint channels, the heads 6" in refused(file, clip=tmp_path / "narrow.pt")


def test_heads_of_another_student_are_refused(published: Published, tmp_path: Path) -> None:
    done(published.save(tmp_path / "a.ckpt"), guidance=True).parts["guidance"](tmp_path / "kept")
    teacher = load_teacher(str(tmp_path / "kept" / "clip"))
    for student, message in ((Student(CONFIG), "kept"),):
        heads = GuidanceHeads(student.shape, teacher.shape)
        load_heads(heads, tmp_path / message)
    with pytest.raises(UserError, match="no such file"):
        load_heads(heads, tmp_path / "absent")
    narrow = GuidanceHeads(published.student.shape, load_teacher("words-small").shape)
    with pytest.raises(UserError, match="not the heads of this student and teacher"):
        load_heads(narrow, tmp_path / "kept")
