"""Pictures become a student's input as in the published programs, bit for bit before the normalisation."""

from __future__ import annotations

import io
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from students.errors import UserError
from students.preprocess import load_image, normalize, resize


def test_normalised_is_minus_one_to_one() -> None:
    ends = normalize(np.array([[[[0, 255, 51]]]], np.uint8))
    torch.testing.assert_close(ends, torch.tensor([-1.0, 1.0, -0.6]).view(1, 3, 1, 1))
    assert ends.is_contiguous()


def test_aspect_is_not_kept() -> None:
    assert resize(Image.new("RGB", (7, 90)), (32, 128)).shape == (32, 128, 3)


def test_a_missing_file_is_the_users_mistake(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such file"):
        load_image(tmp_path / "word.png")


@pytest.mark.parametrize("form", ["PNG", "JPEG"])
@pytest.mark.parametrize("kept", [0.0, 0.1, 0.5, 0.9])
def test_a_truncated_file_is_the_users_mistake(form: str, kept: float, tmp_path: Path) -> None:
    stored = io.BytesIO()
    pixels = np.random.default_rng(0).integers(0, 255, (40, 90, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(stored, format=form)
    data = stored.getvalue()
    path = tmp_path / f"word.{form.lower()}"
    path.write_bytes(data[: math.floor(kept * len(data))])
    with pytest.raises(UserError, match="can't be read as a picture") as refused:
        load_image(path)
    assert str(path) in str(refused.value)


def test_a_file_of_another_kind_and_a_folder_are_the_users_mistake(tmp_path: Path) -> None:
    (tmp_path / "word.png").write_text("no picture", encoding="utf-8")
    for path in (tmp_path / "word.png", tmp_path):
        with pytest.raises(UserError, match="can't be read as a picture") as refused:
            load_image(path)
        assert " object at 0x" not in str(refused.value)
