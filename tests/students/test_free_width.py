"""Students of free width: padding, whatever its amount and content, never reaches a real column."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

from students.ctc import CtcLearner, CtcReader
from students.encoders import StemLevel
from students.errors import UserError
from students.free_width import POOLED_COLUMNS, FreeWidthEncoder
from students.padding import keep_real, normalize_real, real_widths, stretch
from students.pictures import fitted_size, group_by_width, to_array, to_tensor
from students.student import Student, StudentConfig

WIDTHS = (32, 36, 61, 90, 101, 128, 160)


@pytest.fixture
def learner(small_config: StudentConfig) -> CtcLearner:
    """Random weights and statistics some way from their start, so that zeros do not stay zeros."""
    config = dataclasses.replace(
        small_config, decoding="ctc", keep_aspect=True, image_size=(32, 160), stem_blocks=(2, 2)
    )
    model = CtcLearner(config)
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(torch.randn_like(weight) * 0.1)
        for part in model.modules():
            if isinstance(part, nn.BatchNorm2d):
                part.running_mean.normal_(0, 0.5)  # type: ignore[union-attr]
                part.running_var.uniform_(0.5, 2)  # type: ignore[union-attr]
    return model.eval()


def picture(width: int, seed: int = 0) -> Tensor:
    """A normalised picture (1, 3, 32, width) of random pixels of 8 bits."""
    pixels = torch.randint(0, 256, (1, 3, 32, width), generator=torch.Generator().manual_seed(seed))
    return (pixels / 255 - 0.5) / 0.5


def test_padding_changes_no_logits(learner: CtcLearner) -> None:
    reader = learner.exported_model()
    with torch.no_grad():
        for width in WIDTHS:
            alone = reader(picture(width))
            assert alone.shape[1] == -(-width // 4)
            for amount in (1, 3, 4, 17, 200):
                padded = reader(F.pad(picture(width), (0, amount)))
                torch.testing.assert_close(padded[:, : alone.shape[1]], alone, atol=1e-5, rtol=0)
                assert not padded[:, alone.shape[1] :].argmax(dim=-1).any(), "padding reads as blanks"


def test_the_content_of_padding_changes_no_logits(learner: CtcLearner, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the widths given, noise may stand where 0 stood."""
    reader = learner.exported_model()
    with torch.no_grad():
        alone = reader(picture(90))
        monkeypatch.setattr("students.free_width.real_widths", lambda images: torch.full((len(images),), 90))
        noisy = torch.cat([picture(90), picture(70, seed=1)], dim=3)
        encoder = reader.encoder
        # The mean of the picture is that of its real pixels: what stands beside them is taken out before.
        monkeypatch.setattr(
            "students.free_width.normalize_real",
            lambda images, widths: normalize_real(keep_real(images, widths), widths),
        )
        assert isinstance(encoder, FreeWidthEncoder)
        torch.testing.assert_close(reader(noisy)[:, : alone.shape[1]], alone, atol=1e-5, rtol=0)


def test_words_of_a_batch_read_as_alone(learner: CtcLearner) -> None:
    reader = learner.exported_model()
    rng = np.random.default_rng(0)
    pictures = [
        Image.fromarray(rng.integers(0, 256, (height, width, 3), np.uint8))
        for height, width in ((20, 15), (32, 200), (40, 100), (16, 31), (30, 400), (50, 90))
    ]
    batch = to_tensor(pictures, reader.image_size, keep_aspect=True)
    assert batch.shape[-1] == 160, "wider ones are squeezed"
    together = reader.read_batch(batch)
    for one, reading in zip(pictures, together, strict=True):
        alone = reader.read_batch(to_tensor([one], reader.image_size, keep_aspect=True))[0]
        assert reading.text == alone.text
        assert reading.confidence == pytest.approx(alone.confidence, abs=1e-5)
        assert [(char.start, char.end) for char in reading.characters] == [
            (char.start, char.end) for char in alone.characters
        ], "places are parts of the picture, not of the batch"
    assert [reading.text for reading in reader.read(pictures)] == [reading.text for reading in together]


def test_stages_are_pooled_to_what_guidance_compares(learner: CtcLearner) -> None:
    ids = learner.charset.encode(["ab", "c"])
    images = torch.cat([picture(128), F.pad(picture(60), (0, 68))])
    with torch.no_grad():
        stages = learner.stages(images, ids)
        alone = learner.stages(picture(60), learner.charset.encode(["c"]))
    assert stages.columns is not None
    assert stages.column_lengths is not None
    assert stages.columns.shape[1] == 32
    assert stages.column_lengths.tolist() == [32, 15]
    for tap, other in zip(stages.encoder, alone.encoder, strict=True):
        assert tap.shape[1] == learner.shape.tokens == 1 + POOLED_COLUMNS
        torch.testing.assert_close(tap[1:], other, atol=1e-5, rtol=0)


def test_pooling_keeps_as_many_columns_and_doubles_half_of_them(learner: CtcLearner) -> None:
    encoder = learner.encoder
    tokens = torch.arange(33.0)[None, :, None].expand(1, 33, 4)
    assert torch.equal(encoder.pool(tokens, torch.tensor([32])), tokens)
    pooled = encoder.pool(tokens[:, :17], torch.tensor([16]))[0, :, 0]
    assert pooled[:5].tolist() == [0, 1, 1.25, 1.75, 2.25]
    assert pooled[-1] == 16


def test_a_level_computes_its_steps() -> None:
    level, grid = StemLevel(4, 6, (2, 1), blocks=3).eval(), torch.randn(2, 4, 8, 12)
    stepped = grid
    for step in level.steps():
        stepped = step(stepped)
    assert torch.equal(level(grid), stepped)
    assert stepped.shape == (2, 6, 4, 12)


def test_real_widths_are_found() -> None:
    images = torch.cat([F.pad(picture(width), (0, 160 - width)) for width in WIDTHS])
    assert real_widths(images).tolist() == list(WIDTHS)
    assert real_widths(torch.zeros(1, 3, 32, 40)).tolist() == [1]


def test_stretching_leaves_padding_out() -> None:
    images = torch.cat([picture(128), F.pad(picture(64), (0, 64))])
    expected = F.interpolate(picture(64), (32, 128), mode="bicubic", antialias=True, align_corners=False)
    assert torch.allclose(stretch(images, (32, 128))[1:], expected, atol=1e-6)


@pytest.mark.parametrize(
    ("width", "height", "size"),
    [
        (100, 32, (32, 100)),
        (101, 32, (32, 100)),
        (50, 16, (32, 100)),
        (60, 32, (32, 64)),
        (10, 32, (32, 64)),
        (999, 32, (32, 320)),
    ],
)
def test_the_size_of_a_picture(width: int, height: int, size: tuple[int, int]) -> None:
    assert fitted_size(width, height, (32, 320)) == size


def test_groups_hold_pictures_of_like_width() -> None:
    widths = [100, 32, 96, 40, 320, 81]
    assert group_by_width(widths) == [[4], [0, 2, 5], [3, 1]]


def test_narrower_pictures_are_padded_with_zeros() -> None:
    pictures = [Image.new("RGB", (64, 32), (127, 128, 0)), Image.new("RGB", (128, 64), "black")]
    array = to_array([*pictures, Image.new("RGB", (320, 32))], (32, 320), keep_aspect=True)
    assert array.shape == (3, 3, 32, 320)
    assert (array[0, :, :, :64] != 0).all(), "no pixel becomes 0"
    assert not array[:2, :, :, 64:].any()


def test_it_is_stored_and_loaded(learner: CtcLearner, tmp_path: Path) -> None:
    learner.save_pretrained(tmp_path)
    loaded = CtcReader.from_pretrained(tmp_path)
    assert loaded.keep_aspect
    assert loaded.config == learner.config
    with torch.no_grad():
        assert torch.equal(loaded(picture(90)), learner.exported_model()(picture(90)))


def test_attention_decoders_keep_no_aspect(small_config: StudentConfig) -> None:
    with pytest.raises(UserError, match="read by CTC, not ar"):
        Student(dataclasses.replace(small_config, keep_aspect=True))
