"""The file in which processes and runs share what a teacher showed of labels."""

from __future__ import annotations

import copy
import multiprocessing
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from torch import Tensor

from students.errors import UserError
from teachers.stage_cache import StageCache
from teachers.stage_store import StageStore, Store, fingerprint
from teachers.teacher import Teacher

CPU = torch.device("cpu")


def entry(key: int) -> tuple[Tensor, Tensor]:
    return torch.full((2, 3), float(key)), torch.full((1,), key, dtype=torch.bfloat16)


def leave(folder: Path, first: int) -> None:
    """What another process does: leave ten entries, five of which the others leave too."""
    store = StageStore(folder, 2**24, b"weights")
    for key in range(first, first + 10):
        store.put(key, entry(key))  # written when the process ends


def test_processes_read_what_others_wrote(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    others = [context.Process(target=leave, args=(tmp_path, first)) for first in (0, 5)]
    for other in others:
        other.start()
    for other in others:
        other.join(60)
    store = StageStore(tmp_path, 2**24, b"weights")
    assert len(store) == 15
    for key in range(15):
        found = store.find(key)
        assert found is not None
        assert all(torch.equal(a, b) and a.dtype == b.dtype for a, b in zip(found, entry(key), strict=True))
    assert store.find(15) is None
    assert StageStore(tmp_path / "more", 2**24, b"weights").find(1) is None


def test_other_weights_have_entries_of_their_own(tmp_path: Path) -> None:
    first, second = (StageStore(tmp_path / name, 2**24, name.encode()) for name in ("a", "b"))
    first.put("key", entry(1))
    assert first.find("key") is not None, "before it is written"
    assert second.find("key") is None
    weights = {"one": torch.ones(3), "two": torch.zeros(2)}
    changed = [
        {**weights, "one": torch.full((3,), 1.5)},
        {"one": weights["one"]},
        {**weights, "two": torch.zeros(2, 1)},
    ]
    assert fingerprint(weights.items()) == fingerprint({name: w.clone() for name, w in weights.items()}.items())
    assert len({fingerprint(w.items()) for w in (weights, *changed)}) == 4


def test_a_full_file_takes_nothing_more_and_keeps_what_it_has(tmp_path: Path) -> None:
    store = StageStore(tmp_path, 2**17, b"")
    store.put(0, entry(0))
    store.write()
    store.put(1, (torch.zeros(2**16),))
    store.write()
    assert store.full
    store.put(2, entry(2))
    assert len(store) == 1
    assert store.find(0) is not None
    assert store.find(1) is None


def test_a_copy_shares_the_file(tmp_path: Path) -> None:
    store = StageStore(tmp_path, 2**24, b"")
    copied = copy.deepcopy(store)
    copied.put(0, entry(0))
    copied.write()
    assert store.find(0) is not None


def test_a_place_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "data.mdb").write_bytes(b"no environment" * 1000)
    for name in ("file", "other"):
        with pytest.raises(UserError, match=f"{name}: no place to keep"):
            StageStore(tmp_path / name, 2**20, b"")


def test_a_cache_asks_the_file_before_it_computes(tmp_path: Path) -> None:
    made: list[int] = []

    def ask(cache: StageCache, *keys: int) -> Sequence[Tensor]:
        def make(places: list[int]) -> Sequence[Tensor]:
            made.extend(keys[place] for place in dict.fromkeys(places))
            return [torch.stack(rows) for rows in zip(*(entry(keys[place]) for place in places), strict=True)]

        return cache.gather(keys, make, CPU)

    store = StageStore(tmp_path, 2**24, b"")
    ask(StageCache(2**20, store=store), 1, 2, 3)
    fresh = StageCache(0, store=store)
    found = ask(fresh, 3, 4, 1)
    assert made == [1, 2, 3, 4]
    assert torch.equal(found[0][:, 0, 0], torch.tensor([3.0, 4.0, 1.0]))
    assert fresh.take_rate() == pytest.approx(200 / 3)
    assert len(fresh) == 0


def test_a_teacher_without_a_text_side_refuses() -> None:
    class Plain(Teacher):
        def forward(self, images: Tensor, labels: Sequence[str]) -> None:  # type: ignore[override]
            raise NotImplementedError

    with pytest.raises(UserError, match="plain has no text side"):
        Plain("plain").keep(2**20, 0, store=Store(Path("nowhere"), 2**20))
