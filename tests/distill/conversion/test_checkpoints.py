"""Published checkpoints are read without running what is in them, whatever stands beside their weights."""

from __future__ import annotations

import argparse
import os
import pathlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import OmegaConf
from safetensors.torch import save_file

from distill.conversion.checkpoints import read_checkpoint
from students.errors import UserError

WEIGHTS = {"head.weight": torch.ones(2, 3), "head.bias": torch.zeros(2)}


class AttributeDict(dict):  # type: ignore[type-arg]
    """Stands in for Lightning's dictionary of settings."""


class Trap:
    """What a hostile file may hold: an object that runs something when it is built."""

    def __init__(self, run: Callable[[str], Any], text: str) -> None:
        self.run, self.text = run, text

    def __reduce__(self) -> Any:
        return self.run, (self.text,)


def lightning(file: Path, **entries: Any) -> Path:
    torch.save({"state_dict": WEIGHTS, "global_step": 5, **entries}, file)
    return file


def test_lightning_files_state_dicts_and_safetensors(tmp_path: Path) -> None:
    torch.save(WEIGHTS, tmp_path / "bare.pt")
    save_file(WEIGHTS, tmp_path / "bare.safetensors")
    settings = {"img_size": (32, 128), "lr": 1e-3, "charset_train": "ab"}
    whole = read_checkpoint(lightning(tmp_path / "whole.ckpt", hyper_parameters=settings))
    assert (whole.settings, whole.steps) == (settings, 5)
    for checkpoint in (whole, *(read_checkpoint(tmp_path / f"bare.{ending}") for ending in ("pt", "safetensors"))):
        assert {name: value.tolist() for name, value in checkpoint.tensors.items()} == {
            name: value.tolist() for name, value in WEIGHTS.items()
        }


@pytest.mark.parametrize("key", ["state_dict", "model_state_dict", "model", "net", "module"])
def test_weights_are_found_under_the_keys_of_training_programs(key: str, tmp_path: Path) -> None:
    torch.save({"epoch": 3, "optimizer": {"state": {}}, key: WEIGHTS}, tmp_path / "a.pt")
    torch.save({"model": {"name": "vit"}, key: {"state_dict": WEIGHTS}}, tmp_path / "b.pt")
    for name in ("a.pt", "b.pt"):
        assert sorted(read_checkpoint(tmp_path / name).tensors) == sorted(WEIGHTS)


def test_marks_of_compilers_are_removed_wherever_they_stand(tmp_path: Path) -> None:
    names = {"encoder._orig_mod.weight": torch.ones(1), "_forward_module.head._orig_mod.bias": torch.ones(1)}
    torch.save(names, tmp_path / "a.pt")
    assert sorted(read_checkpoint(tmp_path / "a.pt").tensors) == ["encoder.weight", "head.bias"]


@pytest.mark.parametrize(
    "wrapper",
    [
        "model.",
        "module.",
        "module.model.",
        "_orig_mod.",
        "_forward_module.",
        "net.",
        "_forward_module.model._orig_mod.",
    ],
)
def test_names_of_wrappers_are_cut_off(wrapper: str, tmp_path: Path) -> None:
    torch.save({f"{wrapper}{name}": value for name, value in WEIGHTS.items()}, tmp_path / "a.pt")
    assert sorted(read_checkpoint(tmp_path / "a.pt").tensors) == sorted(WEIGHTS)
    torch.save({f"{wrapper}head.bias": WEIGHTS["head.bias"], "other": torch.ones(1)}, tmp_path / "b.pt")
    remaining = wrapper.replace("_orig_mod.", "").replace("_forward_module.", "")
    assert f"{remaining}head.bias" in read_checkpoint(tmp_path / "b.pt").tensors, "not before every name"


def test_foreign_objects_become_stand_ins(tmp_path: Path) -> None:
    optimizer = torch.optim.AdamW([torch.nn.Parameter(torch.ones(1))])
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.1, total_steps=9)
    settings = AttributeDict(img_size=(32, 128), hydra=OmegaConf.create({"a": [1, 2]}), folder=pathlib.Path("data"))
    file = lightning(
        tmp_path / "old.ckpt", hyper_parameters=settings, lr_schedulers=[schedule.state_dict()], callbacks={
            "curve": torch.optim.lr_scheduler.OneCycleLR._annealing_cos, "given": argparse.Namespace(a=1), "kind": Path,
        }, optimizer_states=[optimizer.state_dict()],
    )  # fmt: skip
    checkpoint = read_checkpoint(file)
    assert sorted(checkpoint.tensors) == sorted(WEIGHTS)
    assert checkpoint.settings == {"img_size": (32, 128)}, "what is no plain value is left out"


@pytest.mark.parametrize("run", [exec, eval, os.system, os.mkdir], ids=lambda run: run.__name__)
def test_nothing_in_a_file_runs(run: Callable[[str], Any], tmp_path: Path) -> None:
    mark = tmp_path / "ran"
    text = {os.system: f"touch {mark}", os.mkdir: str(mark)}.get(run, f"__import__('os').mkdir({str(mark)!r})")
    file = lightning(tmp_path / "hostile.ckpt", callbacks=Trap(run, text))
    if run in (exec, eval):  # a stand-in takes their place
        assert sorted(read_checkpoint(file).tensors) == sorted(WEIGHTS)
    else:  # torch refuses some modules whatever takes their place
        with pytest.raises(UserError, match=r"can't be read as a checkpoint \(.* is blocked"):
            read_checkpoint(file)
    assert not mark.exists()


def test_what_is_no_checkpoint_is_told_in_a_line(tmp_path: Path) -> None:
    (tmp_path / "text.ckpt").write_text("no weights")
    (tmp_path / "empty.ckpt").write_bytes(b"")
    whole = lightning(tmp_path / "whole.ckpt").read_bytes()
    (tmp_path / "cut.ckpt").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "cut.safetensors").write_bytes(b"\x01")
    torch.save([1, 2], tmp_path / "list.pt")
    torch.save({"state_dict": {}}, tmp_path / "none.pt")
    torch.save({"state_dict": 3}, tmp_path / "number.pt")
    for name, message in {
        "absent.ckpt": "no such file", "text.ckpt": "can't be read", "empty.ckpt": "can't be read",
        "cut.ckpt": "can't be read", "cut.safetensors": "can't be read", "list.pt": "no checkpoint",
        "none.pt": "holds no weights", "number.pt": "holds no weights", "": "no such file",
    }.items():  # fmt: skip
        with pytest.raises(UserError) as refused:
            read_checkpoint(tmp_path / name)
        assert message in str(refused.value)
        assert "\n" not in str(refused.value)
