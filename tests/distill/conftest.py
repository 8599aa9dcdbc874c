"""A very small student that reads the few pictures it has learned by heart, of every length from 1 to its longest."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from students.pictures import to_tensor
from students.student import Student, StudentConfig

WORDS = ["7", "a1", "b0c", "39ab", "c2c2c", "048a6b", "abc0123", "99b8c7a6", "a0b1c2d34", "5566778899"]


@dataclass(frozen=True)
class Learned:
    """The student, its words, and their pictures."""

    student: Student
    words: list[str]
    pictures: list[Image.Image]
    images: Tensor


def draw(word: str) -> Image.Image:
    font = ImageFont.load_default(24)
    left, top, right, bottom = font.getbbox(word)
    picture = Image.new("RGB", (int(right - left) + 8, int(bottom - top) + 8), "white")
    ImageDraw.Draw(picture).text((4 - left, 4 - top), word, "black", font)
    return picture


@pytest.fixture(scope="session")
def learned() -> Learned:
    torch.manual_seed(0)
    config = StudentConfig(
        charset="0123456789abcd", max_length=10, encoder="conv", stem=(8, 12, 16), width=32, depth=3, heads=2,
        mlp_ratio=2.0, decoder_depth=3, decoder_heads=2, decoder_mlp_ratio=2.0, dropout=0.0, taps="even",
    )  # fmt: skip
    student = Student(config)
    pictures = [draw(word) for word in WORDS]
    images = to_tensor(pictures)
    ids = student.charset.encode(WORDS)
    optimizer = torch.optim.AdamW(student.parameters(), lr=4e-3)
    for _ in range(120):
        logits = student.stages(images, ids).logits
        loss = torch.nn.functional.cross_entropy(
            logits.flatten(0, 1), ids[:, 1:].flatten(), ignore_index=student.charset.pad_id
        )
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    student.eval()
    assert [reading.text for reading in student.read_batch(images)] == WORDS
    return Learned(student, WORDS, pictures, images)


@pytest.fixture(scope="session")
def onnx_file(learned: Learned, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The student as ONNX, exported and compared once, because the exporter takes seconds."""
    from distill.deployment.card import Card
    from distill.deployment.folder import save_folder

    done = save_folder(learned.student, tmp_path_factory.mktemp("onnx") / "mini", Card("mini"), targets=["onnx"])
    return done.folder / "student.onnx"
