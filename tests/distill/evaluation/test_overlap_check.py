from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from distill.data.writing import LmdbWriter
from distill.evaluation.benchmarks import open_benchmarks
from distill.evaluation.overlap_check import check_overlap, find_training
from students.charset import Charset
from students.errors import UserError


def noise(seed: int) -> bytes:
    stored = io.BytesIO()
    pixels = np.random.default_rng(seed).integers(0, 256, (24, 64, 3), np.uint8)
    Image.fromarray(pixels).save(stored, format="PNG")
    return stored.getvalue()


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Three test words, the second of which was trained on."""
    for folder, seeds in {"test/SVT": (0, 1, 2), "train/mine": (3, 1, 4)}.items():
        with LmdbWriter(tmp_path / "data" / folder) as writer:
            for seed in seeds:
                writer.add(noise(seed), f"word{seed}")
    return tmp_path / "data"


def test_a_test_word_among_training_words_is_named(data: Path, tmp_path: Path, charset: Charset) -> None:
    found = check_overlap(open_benchmarks(data, "all", charset), data / "train", tmp_path / "cache")
    assert found.against == str(data / "train")
    (line,) = found.found
    assert "record 2 of SVT (word1) is record 2 of mine too: equal bytes" in line


def test_training_words_are_found_beside_the_tests(data: Path) -> None:
    assert find_training(data, None) == data / "train"
    assert find_training(data / "test" / "SVT", None) is None
    assert find_training(data, data / "test") == data / "test"
    with pytest.raises(UserError, match="no such folder"):
        find_training(data, data / "absent")
