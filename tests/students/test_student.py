"""The student: sizes, taps, greedy decoding, and encoders by name."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

import students
from losses.heads import GuidanceHeads
from students.charset import Charset
from students.encoders import tap_depths
from students.errors import UserError
from students.student import SIZES, Student, StudentConfig, paper, small, tiny
from teachers.guidance import TeacherShape


def end_bias(student: Student, value: float) -> None:
    """Make the end token likely (large) or impossible (very negative) at every position."""
    with torch.no_grad():
        student.head.bias[student.charset.end_id] = value


def test_the_package_shows_its_public_names() -> None:
    assert students.Student is Student
    assert students.StudentConfig is StudentConfig
    assert students.Charset is Charset
    with pytest.raises(AttributeError, match="Teacher"):
        _ = students.Teacher


def test_paper_has_the_size_of_the_paper(charset: Charset) -> None:
    student = Student(paper(charset))
    heads = GuidanceHeads(
        student.shape, TeacherShape(image_tokens=17, image_width=768, text_width=512, joint_width=512)
    )
    assert dataclasses.astuple(student.shape) == (129, 384, 384)
    assert round(student.parameters_count / 1e6, 2) == 30.89
    assert round((student.parameters_count + sum(part.numel() for part in heads.parameters())) / 1e6, 2) == 32.74
    assert (student.encoder.taps, student.decoder_taps) == ((3, 6, 9), (1, 2, 3))


def test_deployment_sizes(charset: Charset) -> None:
    students = {name: Student(size(charset)) for name, size in (("tiny", tiny), ("small", small))}
    assert students["tiny"].parameters_count <= 6e6
    assert students["tiny"].parameters_count < students["small"].parameters_count < 30.89e6
    for student in students.values():
        assert student.shape.tokens == 33, "class token and 32 columns"
        assert student.column_head is not None
    assert set(SIZES) == {"paper", "small", "tiny"}


@pytest.mark.parametrize(
    ("depth", "spacing", "taps"),
    [(4, "published", (1, 2, 3)), (6, "published", (1, 2, 3)), (12, "published", (3, 6, 9)), (3, "even", (1, 2, 3)),
     (4, "even", (1, 2, 3)), (5, "even", (1, 2, 3)), (6, "even", (1, 3, 4)), (8, "even", (2, 4, 6))],
)  # fmt: skip
def test_taps_are_spaced_evenly(depth: int, spacing: str, taps: tuple[int, int, int]) -> None:
    assert tap_depths(depth, spacing, "an encoder") == taps  # type: ignore[arg-type]


@pytest.mark.parametrize("spacing", ["published", "even"])
def test_any_depth_gives_three_stages_or_an_error(spacing: str) -> None:
    smallest = 4 if spacing == "published" else 3
    for depth in range(smallest):
        with pytest.raises(UserError, match=f"depth {smallest} or more"):
            tap_depths(depth, spacing, "an encoder")  # type: ignore[arg-type]
    for depth in range(smallest, 40):
        first, second, third = tap_depths(depth, spacing, "an encoder")  # type: ignore[arg-type]
        assert 1 <= first < second < third <= depth


@pytest.mark.parametrize("encoder", ["conv", "vit"])
def test_encoder_taps_are_the_raw_residual_stream(encoder: str, small_config: StudentConfig, images: Tensor) -> None:
    config = dataclasses.replace(small_config, encoder=encoder, depth=6, column_head=False)
    student = Student(config).eval()
    blocks = student.encoder.blocks if encoder == "conv" else student.encoder.model.blocks
    norm = student.encoder.norm if encoder == "conv" else student.encoder.model.norm
    after: list[Tensor] = []
    for block in blocks:
        block.register_forward_hook(lambda _, __, output: after.append(output))
    stages = student.stages(images, student.charset.encode(["ab"] * 6))
    assert len(after) == 6, "every block runs once"
    for tap, depth in zip(stages.encoder, student.encoder.taps, strict=True):
        assert torch.equal(tap, after[depth - 1])
        assert tap.shape == (6, student.shape.tokens, student.shape.width)
    torch.testing.assert_close(stages.word, norm(after[-1])[:, 0])


@pytest.mark.parametrize("depth", [3, 4, 5])
def test_decoder_taps_pass_the_one_final_norm(depth: int, small_config: StudentConfig, images: Tensor) -> None:
    student = Student(dataclasses.replace(small_config, decoder_depth=depth)).eval()
    after: list[Tensor] = []
    for layer in student.decoder.layers:
        layer.register_forward_hook(lambda _, __, output: after.append(output))
    stages = student.stages(images, student.charset.encode(["ab", "abc"] * 3))
    for tap, position in zip(stages.decoder, student.decoder_taps, strict=True):
        assert torch.equal(tap, student.decoder.norm(after[position - 1]))
        assert tap.shape == (6, 4, 32)
    torch.testing.assert_close(stages.logits, student.head(student.decoder.norm(after[-1])))
    assert stages.logits.shape == (6, 4, 37)
    assert stages.columns is not None
    assert stages.columns.shape == (6, 32, 37)


@pytest.mark.parametrize("change", [{"depth": 2}, {"decoder_depth": 2}, {"decoder_depth": 3, "taps": "published"}])
def test_too_shallow_is_an_error(change: dict[str, object], small_config: StudentConfig) -> None:
    with pytest.raises(UserError, match="can't carry three guided stages"):
        Student(dataclasses.replace(small_config, **change))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "change",
    [{"width": 33}, {"heads": 5}, {"decoder_heads": 5}, {"dropout": 1.0}, {"max_length": 0}, {"taps": "odd"},
     {"encoder": "vit", "column_head": True}, {"charset": "aa"}, {"charset": ""}],
)  # fmt: skip
def test_sizes_that_no_student_can_have(change: dict[str, object], small_config: StudentConfig) -> None:
    with pytest.raises(UserError):
        Student(dataclasses.replace(small_config, **change))  # type: ignore[arg-type]


def test_greedy_decoding_equals_teacher_forcing_on_its_prediction(student: Student, images: Tensor) -> None:
    logits = student(images)
    words = [reading.text[:8] for reading in student.read_batch(images)]
    assert len({len(word) for word in words}) > 2, "words of different lengths"
    forced = student.stages(images, student.charset.encode(words)).logits
    for row, word in enumerate(words):
        steps = len(word) + 1
        torch.testing.assert_close(logits[row, :steps], forced[row, :steps], rtol=1e-4, atol=1e-4)


def test_a_longer_neighbour_changes_nothing(student: Student, images: Tensor) -> None:
    words = ["ab", "abcdefgh"]
    pair = student.stages(images[:2], student.charset.encode(words)).logits
    alone = student.stages(images[:1], student.charset.encode(words[:1])).logits
    torch.testing.assert_close(pair[:1, :3], alone)


def test_it_stops_when_every_word_has_ended(student: Student, images: Tensor) -> None:
    end_bias(student, 1e4)
    assert student(images).shape[1] == 1
    assert [reading.text for reading in student.read_batch(images)] == [""] * 6
    end_bias(student, -1e4)
    assert student(images).shape[1] == 9, "longest word and end"
    assert all(len(reading.text) == 9 for reading in student.read_batch(images)), "without an end nothing is cut"


@pytest.mark.parametrize(("asked", "steps"), [(0, 1), (3, 4), (8, 9), (50, 9)])
def test_a_given_length_is_decoded_exactly(student: Student, images: Tensor, asked: int, steps: int) -> None:
    end_bias(student, -1e4)
    whole = student(images)
    assert student(images, asked).shape == (6, steps, 37)
    torch.testing.assert_close(student(images, asked), whole[:, :steps])
    end_bias(student, 1e4)
    assert student(images, asked).shape[1] == steps, "no early stop"


def test_padded_rows_of_a_batch_read_as_alone(student: Student, images: Tensor) -> None:
    together = student.read_batch(images)
    for row, reading in enumerate(together):
        assert student.read_batch(images[row : row + 1])[0].text == reading.text


def test_it_reads_files_and_pictures_in_any_mode(student: Student, tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (5, 20, 70, 3), dtype=np.uint8)
    pictures = [Image.fromarray(each) for each in pixels]
    for number, picture in enumerate(pictures):
        picture.save(tmp_path / f"{number}.png")
    student.train()
    from_files = student.read([tmp_path / f"{number}.png" for number in range(5)], batch_size=2)
    assert student.training, "its mode is given back"
    actual = student.read(pictures)
    assert [each.text for each in actual] == [each.text for each in from_files]
    assert [each.confidence for each in actual] == pytest.approx([each.confidence for each in from_files], rel=1e-4)
    assert len(student.read([pictures[0].convert("L"), pictures[0].convert("RGBA"), tmp_path / "0.png"])) == 3
    assert student.read([]) == []
    with pytest.raises(UserError, match="no such file"):
        student.read([tmp_path / "none.png"])


def test_positions_and_embeddings_are_never_decayed(student: Student) -> None:
    assert student.no_weight_decay() == {
        "pos_queries", "text_embed.embedding.weight", "encoder.cls_token", "encoder.pos_embed",
    }  # fmt: skip


@pytest.mark.parametrize("name", ["test_vit", "test_vit2", "test_vit3", "deit_tiny_distilled_patch16_224"])
def test_a_timm_vit_by_name(name: str, small_config: StudentConfig, images: Tensor) -> None:
    student = Student(dataclasses.replace(small_config, encoder=name, column_head=False))
    stages = student.stages(images, student.charset.encode(["ab"] * 6))
    assert student.shape.tokens == 18 if "distilled" in name else 17, "special tokens and 2 x 8 patches"
    assert all(tap.shape == (6, student.shape.tokens, student.shape.width) for tap in stages.encoder)
    sum(tap.mean() for tap in (*stages.encoder, *stages.decoder, stages.logits, stages.word)).backward()  # type: ignore[union-attr]
    assert [key for key, weight in student.named_parameters() if weight.grad is None] == []


@pytest.mark.parametrize(
    ("name", "message"),
    [("vit_tinny_patch16_224", "vit_tiny_patch16_224"), ("nonsense", "vit"), ("resnet18", "picture size"),
     ("mixer_s16_224", "class token"), ("xcit_nano_12_p8_224", "class token")],
)  # fmt: skip
def test_an_encoder_that_does_not_work(name: str, message: str, small_config: StudentConfig) -> None:
    with pytest.raises(UserError, match=message):
        Student(dataclasses.replace(small_config, encoder=name, column_head=False))


def test_weights_are_stored_as_two_types_only(student: Student, tmp_path: Path) -> None:
    student.save_pretrained(tmp_path / "there")
    before = (tmp_path / "there" / "model.safetensors").read_bytes()
    for dtype in ("int8", "float8", torch.float16):
        for folder in ("there", "new"):
            with pytest.raises(UserError, match="stored as float32 or float16"):
                student.save_pretrained(tmp_path / folder, dtype=dtype)
    assert (tmp_path / "there" / "model.safetensors").read_bytes() == before
    assert not (tmp_path / "new").exists()


def test_damaged_weights_read_nothing(student: Student) -> None:
    with torch.no_grad():
        student.head.bias.fill_(float("nan"))
    with pytest.raises(UserError, match="NaN instead of probabilities"):
        student.eval().read(Image.new("RGB", (60, 20)))
