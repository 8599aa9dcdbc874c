"""Loaders: the same batches with any number of workers, positions, and every test word once."""

from __future__ import annotations

import io
import subprocess
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader

from distill.data.batch import Batch
from distill.data.datasets import load_words
from distill.data.loading import Context, Source, build_loader, build_test_loader
from distill.data.samples import WordOptions
from distill.data.sections import SourceSection
from distill.data.writing import LmdbWriter
from students.charset import Charset

CHARSET = Charset.load("36")


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("words")
    for name, count in (("rendered", 23), ("real", 9)):
        with LmdbWriter(target / name) as writer:
            for number in range(count):
                noise = np.random.default_rng(number).integers(0, 255, (16, 40, 3), dtype=np.uint8)
                file = io.BytesIO()
                Image.fromarray(noise).save(file, "JPEG")
                writer.add(file.getvalue(), f"{name[2:]}{number}", b"a" * 32 if name == "rendered" else None)
    return target


def loader(root: Path, workers: int, context: Context | None = None, start_batch: int = 0) -> DataLoader[Batch]:
    sources = [
        Source(load_words(root / "rendered", CHARSET, SourceSection(augmentation="light", cache="memory")), 0.7),
        Source(load_words(root / "real", CHARSET, SourceSection(augmentation="strong")), 0.3),
    ]
    built = build_loader(sources, 8, workers, seed=5, start_batch=start_batch, context=context)
    assert isinstance(built, DataLoader)
    return built


def same(one: Batch, other: Batch) -> bool:
    tensors = ((one.images, other.images), (one.columns, other.columns), (one.indices, other.indices))
    return one.labels == other.labels and all(torch.equal(a, b) for a, b in tensors)


def test_sources_are_mixed(root: Path) -> None:
    batches = list(islice(loader(root, 0), 10))
    share = np.mean([source == "rendered" for batch in batches for source in batch.sources])
    assert share == pytest.approx(0.7, abs=0.01)
    assert {int(index) for batch in batches for index in batch.indices} == set(range(32)), "indices count over sources"
    known = [(row >= 0).all().item() for batch in batches for row in batch.columns]
    assert sum(known) == sum(source == "rendered" for batch in batches for source in batch.sources)


@pytest.mark.parametrize(
    ("workers", "context"), [(1, "fork"), (2, "fork"), pytest.param(1, "spawn", marks=pytest.mark.slow)]
)
def test_workers_change_nothing(root: Path, workers: int, context: Context) -> None:
    expected = list(islice(loader(root, 0), 8))
    actual = list(islice(loader(root, workers, context), 8))
    assert all(map(same, expected, actual))


@pytest.mark.parametrize("workers", [0, 1])
def test_loading_goes_on_from_a_batch(root: Path, workers: int) -> None:
    expected = list(islice(loader(root, 0), 9))
    assert all(map(same, expected[4:], islice(loader(root, workers, start_batch=4), 5)))


def test_loading_leaves_the_global_generator_alone(root: Path) -> None:
    before = torch.random.get_rng_state()
    list(islice(loader(root, 1), 2))
    assert torch.equal(torch.random.get_rng_state(), before)


def test_every_test_word_comes_once(root: Path) -> None:
    words = load_words(root, CHARSET)
    parts = [list(build_test_loader(words, 4, rank=rank, world=3)) for rank in range(3)]
    seen = [int(index) for batches in parts for batch in batches for index in batch.indices]
    assert sorted(seen) == list(range(32))
    assert [len(batches) for batches in parts] == [3, 3, 3]
    assert [label for batch in build_test_loader(words, 5) for label in batch.labels][:3] == ["al0", "al1", "al2"]


def test_a_stop_for_all_processes_leaves_the_workers_to_the_trainer(root: Path) -> None:
    running = loader(root, 1, "fork")
    batches = iter(running)
    next(batches)
    inner = running._iterator
    worker = inner._workers[0]  # type: ignore[union-attr]
    for name in ("TERM", "INT"):
        subprocess.run(["kill", f"-{name}", str(worker.pid)], check=True)
    assert len(list(islice(batches, 20))) == 20
    assert worker.is_alive()
    worker.terminate()
    worker.join(5)
    assert not worker.is_alive(), "the trainer's own word counts"


@pytest.fixture(scope="module")
def widths_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("widths") / "words"
    with LmdbWriter(target) as writer:
        for number in range(90):
            rng = np.random.default_rng(number)
            noise = rng.integers(0, 255, (16, int(rng.integers(10, 150)), 3), dtype=np.uint8)
            file = io.BytesIO()
            Image.fromarray(noise).save(file, "PNG")
            writer.add(file.getvalue(), f"w{number}", None)
    return target


def width_batches(
    root: Path, count: int, workers: int = 0, start: int = 0, rank: int = 0, world: int = 1
) -> list[Batch]:
    options = WordOptions(image_size=(32, 320), keep_aspect=True)
    words = load_words(root, CHARSET, SourceSection(augmentation="light"), options)
    loader = build_loader([Source(words)], 4, workers, 3, rank, world, start, by_width=True)
    return list(islice(loader, count))


def test_words_of_like_width_share_a_batch(widths_root: Path) -> None:
    batches = width_batches(widths_root, 16)
    assert all(len(batch) == 4 for batch in batches)
    seen = [int(index) for batch in batches for index in batch.indices]
    assert len(set(seen)) == 64, "every word once before any comes again"
    real = sum(int((batch.images != 0).any(dim=(1, 2)).sum()) for batch in batches)
    padded = sum(len(batch) * batch.images.shape[-1] for batch in batches)
    assert real / padded > 0.85
    assert [batch.images.shape[-1] for batch in batches] != sorted(batch.images.shape[-1] for batch in batches)


def test_batches_by_width_are_the_same_wherever_a_run_is_taken_up(widths_root: Path) -> None:
    whole = width_batches(widths_root, 22)
    for start in (1, 7, 8, 13):
        assert all(map(same, width_batches(widths_root, 4, start=start), whole[start : start + 4]))
    assert all(map(same, width_batches(widths_root, 10, workers=2), whole[:10]))


def test_processes_of_batches_by_width_start_with_the_iterator(widths_root: Path) -> None:
    """They started with the first batch, outside of what guards their start, and a script that they ran hung."""
    options = WordOptions(image_size=(32, 320), keep_aspect=True)
    words = load_words(widths_root, CHARSET, SourceSection(augmentation="light"), options)
    loader = build_loader([Source(words)], 4, 1, 3, by_width=True)
    batches = iter(loader)
    assert loader.loader._iterator is not None
    assert len(next(batches)) == 4


def test_processes_share_the_words_of_a_group(widths_root: Path) -> None:
    parts = [width_batches(widths_root, 8, rank=rank, world=2) for rank in range(2)]
    seen = [int(index) for part in parts for batch in part for index in batch.indices]
    assert len(set(seen)) == 64
