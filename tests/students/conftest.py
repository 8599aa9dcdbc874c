from __future__ import annotations

import pytest
import torch

from students.charset import Charset
from students.student import Student, StudentConfig


@pytest.fixture
def charset() -> Charset:
    return Charset.load("36")


@pytest.fixture
def small_config(charset: Charset) -> StudentConfig:
    return StudentConfig(
        charset=charset.characters, max_length=8, encoder="conv", stem=(8, 8, 16), width=32, depth=4, heads=2,
        mlp_ratio=2.0, decoder_depth=3, decoder_heads=2, decoder_mlp_ratio=2.0, column_head=True, taps="even",
    )  # fmt: skip


@pytest.fixture
def student(small_config: StudentConfig) -> Student:
    """A student with random weights, some way from their start, so that it reads words of different lengths."""
    model = Student(small_config)
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(torch.randn_like(weight) * 0.3)
        model.head.bias[model.charset.end_id] += 4
    return model.eval()


@pytest.fixture
def images() -> torch.Tensor:
    return torch.nn.functional.interpolate(torch.rand(6, 3, 4, 16) * 2 - 1, (32, 128))
