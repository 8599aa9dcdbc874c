"""A training that takes seconds: drawn words, a small teacher with random weights, a student of a few thousand."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw, ImageFont

from distill.data.writing import LmdbWriter
from distill.training.accelerator import own_process_state
from students.charset import Charset
from students.student import Student, StudentConfig
from teachers import load_teacher
from teachers.clip import ClipTeacher
from teachers.small import SmallTeacher, SmallTeacherConfig

WORDS = [
    "street", "Hotel", "open", "7eleven", "exit", "CAFE", "a1", "42", "x", "parking", "police", "Bakery", "sale",
    "taxi", "no", "entry", "Books", "river", "2024", "market", "b0c", "bank", "Ost", "fire", "school", "zone",
]  # fmt: skip

SMALLEST_TEACHER = SmallTeacherConfig(
    stem=(8, 8, 16), image_width=32, image_layers=4, image_heads=2, text_width=32, text_layers=4, text_heads=2,
    joint_width=16,
)  # fmt: skip

CONFIG = """# python tools/distill.py --config run.yaml
name: mini
out: {out}
seed: 3
student: {{size: tiny, width: 32, depth: 4, decoder_depth: 3, dropout: 0.1}}
teacher: {{name: {folder}/teacher}}
guidance: {{max_rows: 64}}
data:
  train: [{{path: {folder}/train, augmentation: light}}]
  validation: {folder}/validation
optim: {{lr: 1e-3, scale_lr: false, grad_clip: 5.0, ema: 0.9}}
train: {{steps: 4, batch_size: 6, threads: 1, validate_every: 100, checkpoint_every: 100, log_every: 1}}
eval: {{teacher: false, onnx: false}}
"""


def draw(word: str) -> bytes:
    """A picture of the word as PNG."""
    font = ImageFont.load_default(20)
    left, top, right, bottom = font.getbbox(word)
    picture = Image.new("RGB", (int(right - left) + 8, int(bottom - top) + 8), "white")
    ImageDraw.Draw(picture).text((4 - left, 4 - top), word, "black", font)
    stored = io.BytesIO()
    picture.save(stored, format="PNG")
    return stored.getvalue()


def columns_of(word: str) -> bytes:
    """The characters under 32 columns, evenly spread."""
    return bytes(ord(word[position]) for position in np.arange(32) * len(word) // 32)


def write_words(folder: Path, words: list[str]) -> Path:
    """Write drawn words to an LMDB."""
    with LmdbWriter(folder) as writer:
        for word in words:
            writer.add(draw(word), word, columns_of(word))
    return folder


@pytest.fixture
def fresh_accelerator() -> Iterator[None]:
    """Let a test that makes an accelerator by itself start without the state of another; runs see to that themselves.

    Not for tests of runs: it would hide what a run leaves behind.
    """
    with own_process_state():
        yield


@pytest.fixture(scope="session")
def material(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with train/, validation/ (7 words, an odd number) and teacher/, which no test may change."""
    folder = tmp_path_factory.mktemp("material")
    write_words(folder / "train", WORDS)
    write_words(folder / "validation", ["shop", "Bus", "stop", "25", "lane", "gate", "mill"])
    torch.manual_seed(5)
    SmallTeacher(SMALLEST_TEACHER).save(folder / "teacher", "# A teacher with random weights\n")
    return folder


@pytest.fixture(scope="session")
def write_config(material: Path) -> Callable[[Path], Path]:
    """Write `FOLDER/run.yaml`, which trains into FOLDER/run."""

    def write(folder: Path) -> Path:
        path = folder / "run.yaml"
        path.write_text(CONFIG.format(folder=material, out=folder / "run"), encoding="utf-8")
        return path

    return write


@pytest.fixture
def config(write_config: Callable[[Path], Path], tmp_path: Path) -> Path:
    """The configuration of a run into `tmp_path / "run"`."""
    return write_config(tmp_path)


@pytest.fixture(scope="session")
def make_words() -> Callable[[Path, list[str]], Path]:
    return write_words


@pytest.fixture
def teacher(material: Path) -> ClipTeacher:
    return load_teacher(str(material / "teacher"))


@pytest.fixture
def student() -> Student:
    return Student(
        StudentConfig(
            charset=Charset.load("36").characters, encoder="conv", stem=(8, 8, 16), width=32, depth=4, heads=2,
            mlp_ratio=2.0, decoder_depth=3, decoder_heads=2, decoder_mlp_ratio=2.0, dropout=0.0, column_head=True,
            taps="even",
        )
    )  # fmt: skip
