"""Precision; and FSDP: split weights train as whole ones, are validated and exported whole, and resume."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable
from contextlib import redirect_stdout
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from accelerate import Accelerator
from accelerate.utils import DistributedType
from safetensors.torch import load_file
from torch import nn

from distill.training.accelerator import GatheredModel, check_splitting, choose_precision, splits_weights
from students.errors import UserError
from tests.launch import launch, wait
from tests.runs import rows

pytestmark = pytest.mark.usefixtures("fresh_accelerator")


def test_without_fsdp_the_module_itself_serves() -> None:
    accelerator, module = Accelerator(cpu=True), nn.Linear(2, 2)
    check_splitting(accelerator)
    assert not splits_weights(accelerator)
    assert GatheredModel(module, split=False).gather() is module


def test_a_copy_follows_the_weights_and_buffers() -> None:
    module = nn.BatchNorm1d(3)
    whole = GatheredModel(module, split=True)
    module(torch.randn(5, 3) + 4)
    nn.init.constant_(module.weight, 7.0)
    copied = whole.gather()
    assert copied is not module
    torch.testing.assert_close(copied.state_dict(), module.state_dict(), rtol=0, atol=0)
    assert float(copied.state_dict()["running_mean"].mean()) > 0.1


@pytest.mark.parametrize("version", [1, 2])
def test_the_first_version_is_refused(version: int) -> None:
    plugin = SimpleNamespace(fsdp_version=version, cpu_ram_efficient_loading=True)
    accelerator: Any = SimpleNamespace(distributed_type=DistributedType.FSDP, state=SimpleNamespace(fsdp_plugin=plugin))
    assert splits_weights(accelerator)
    if version == 1:
        with pytest.raises(UserError, match="--fsdp_version 2"):
            check_splitting(accelerator)
    else:
        check_splitting(accelerator)
        assert not plugin.cpu_ram_efficient_loading, "it would empty the frozen teacher"


def train(arguments: list[str], split: bool, output: Path) -> None:
    """Train in this process; what the first one says goes to a file."""
    if split:
        from accelerate.state import PartialState

        os.environ.update(ACCELERATE_USE_FSDP="true", FSDP_VERSION="2")
        # Accelerate splits weights on GPUs only, torch on processors too: it is made to believe in several GPUs.
        PartialState(cpu=True).distributed_type = DistributedType.MULTI_GPU
    from distill.commands.distill import main

    with output.with_suffix(f".{os.environ['RANK']}").open("w", encoding="utf-8") as file, redirect_stdout(file):
        sys.exit(main(arguments))


@pytest.mark.slow
@pytest.mark.parametrize(("ema", "optimizer"), [(0.0, "adamw"), (0.9, "adamw"), (0.9, "muon")])
def test_split_weights_train_as_whole_ones(
    ema: float, optimizer: str, write_config: Callable[[Path], Path], tmp_path: Path
) -> None:
    def run(out: str, split: bool, *more: str) -> Path:
        arguments = [
            "--config", str(write_config(tmp_path)), "train.steps=4", "train.checkpoint_every=2", "guidance.interval=2",
            "train.validate_every=2", "train.grad_accum=2", f"optim.ema={ema}", f"optim.name={optimizer}",
            f"out={tmp_path / out}", *more,
        ]  # fmt: skip
        assert wait(launch(2, train, arguments, split, tmp_path / "output")) == {0}
        assert ("split over them (FSDP)" in (tmp_path / "output.0").read_text(encoding="utf-8")) == split
        return tmp_path / out

    whole, split = run("whole", False), run("split", True)
    logged = [row for row in rows(whole) if row["group"] != "gradient_share"]  # not measured of weights that are split
    assert len(logged) == 6
    for one, other in zip(logged, rows(split), strict=True):
        assert one.pop("group") == other.pop("group")
        assert one == pytest.approx(other, rel=1e-4)
    weights = [load_file(folder / "student" / "model.safetensors") for folder in (whole, split)]
    for name in weights[0]:
        torch.testing.assert_close(weights[0][name], weights[1][name], rtol=1e-3, atol=1e-5)

    before = rows(split)
    shutil.rmtree(split / "checkpoints" / "step-00000004")
    run("split", True, "--resume", "auto")
    assert rows(split) == before


@pytest.mark.parametrize(
    ("capabilities", "chosen"),
    [({"avx512_bf16": True}, "bf16"), ({"amx_bf16": True}, "bf16"), ({"avx512_bf16": False, "amx_bf16": False}, "no")],
)
def test_auto_takes_bf16_where_the_processor_has_it(
    capabilities: dict[str, bool], chosen: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities, raising=False)
    assert choose_precision("auto") == chosen


@pytest.mark.parametrize("precision", ["no", "bf16", "fp16"])
def test_a_precision_asked_for_is_taken(precision: str) -> None:
    assert choose_precision(precision) == precision  # type: ignore[arg-type]
