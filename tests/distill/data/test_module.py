"""The words of a run: rendered live, they are new in every epoch and the same on every process."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
import torch
from accelerate import Accelerator
from rich.console import Console

from distill.data.module import DataModule
from distill.data.sections import DataSection, SourceSection, SyntheticSection
from students.charset import Charset
from students.errors import UserError


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> DataModule:
    folder = tmp_path_factory.mktemp("rendered")
    render = SyntheticSection(words=12, live=True, test_words=6, folder=str(folder), difficulty=0.3, workers=1)
    words = DataModule(DataSection(synthetic=render, workers=0), Charset.load("36"), 25, (32, 128), seed=0)
    words.check()
    words.prepare(Console(file=io.StringIO()))
    return words


def test_live_words_are_new_in_every_epoch(live: DataModule) -> None:
    words = live.sources[0].words
    first, second = words.sample(3, 0), words.sample(3, 1)
    assert len(words) == 12
    assert not torch.equal(first.image, second.image)
    assert torch.equal(words.sample(3, 1).image, second.image)
    assert first.columns is not None
    assert first.columns.max() > 0


def test_nothing_but_validation_words_is_kept(live: DataModule) -> None:
    train, test = live.synthetic_folders
    assert not train.exists()
    assert (test / "data.mdb").is_file()
    assert len(live.validation) == 6


def test_batches_follow_from_their_number(live: DataModule) -> None:
    batches = live.batches(4, Accelerator())
    from_start = batches(0)
    for _ in range(4):
        next(from_start)
    resumed = next(batches(4))
    expected = next(from_start)
    assert resumed.labels == expected.labels
    assert torch.equal(resumed.images, expected.images)


def test_other_words_have_another_name(tmp_path: Path) -> None:
    def named(**changes: object) -> tuple[Path, Path]:
        render = SyntheticSection(words=12, test_words=6, folder=str(tmp_path), **changes)  # type: ignore[arg-type]
        return DataModule(DataSection(synthetic=render), Charset.load("36"), 25, (32, 128), seed=0).synthetic_folders

    assert named() == (tmp_path / "train-12-0", tmp_path / "test-6-1")
    assert named(seed=3, difficulty=0.5)[0] == tmp_path / "train-12-3-difficulty0.5"
    mine, both = named(fonts=["mine"]), named(fonts=["mine", "yours"])
    assert all(path.name.startswith(("train-12-0-fonts", "test-6-1-fonts")) for path in (*mine, *both))
    assert len({named(), mine, both}) == 3, "words of other fonts would be taken for them"
    assert mine == named(fonts=["mine"]), "and the same are found again"


def test_nothing_to_learn_from_is_refused() -> None:
    section = DataSection(synthetic=SyntheticSection(words=0))
    with pytest.raises(UserError, match=r"data\.synthetic\.words"):
        DataModule(section, Charset.load("36"), 25, (32, 128), seed=0).check()


def test_missing_source_is_named(tmp_path: Path) -> None:
    section = DataSection(root=str(tmp_path), train=[SourceSection(path="train/real")])
    with pytest.raises(UserError, match="train/real: no such folder"):
        DataModule(section, Charset.load("36"), 25, (32, 128), seed=0).check()
