"""Mixed weights lie on the line between two readers of one shape; other pairs are refused."""

from __future__ import annotations

import copy
import dataclasses

import pytest
import torch

from students.ctc import CtcReader
from students.errors import UserError
from students.mixing import mix_weights
from students.student import StudentConfig


@pytest.fixture
def config(small_config: StudentConfig) -> StudentConfig:
    return dataclasses.replace(small_config, decoding="ctc")


def make(config: StudentConfig, seed: int) -> CtcReader:
    torch.manual_seed(seed)
    reader = CtcReader(config).eval()
    for part in reader.modules():
        if isinstance(part, torch.nn.BatchNorm2d):
            part.running_var.uniform_(0.5, 2)  # type: ignore[union-attr]
            part.num_batches_tracked.fill_(seed)  # type: ignore[union-attr]
    return reader


@pytest.mark.parametrize("share", [0.0, 0.25, 1.0])
def test_weights_and_statistics_are_weighted_means(config: StudentConfig, share: float) -> None:
    one, other = make(config, 1), make(config, 2)
    before = {name: weight.clone() for name, weight in one.state_dict().items()}
    mix_weights(one, other, share)
    for name, weight in one.state_dict().items():
        if weight.is_floating_point():
            expected = (1 - share) * before[name] + share * other.state_dict()[name]
            torch.testing.assert_close(weight, expected, atol=1e-6, rtol=0)
        else:
            assert torch.equal(weight, before[name]), "counts are no weights"


def test_readers_that_do_not_fit_are_refused(config: StudentConfig) -> None:
    one = make(config, 1)
    with pytest.raises(UserError, match=r"differ in \d+ weights, the first .*; only a reader and the one"):
        mix_weights(one, make(dataclasses.replace(config, depth=config.depth + 1), 2), 0.5)
    turned = config.charset[::-1]
    with pytest.raises(UserError, match="differ in their alphabets"):
        mix_weights(one, make(dataclasses.replace(config, charset=turned), 2), 0.5)
    with pytest.raises(UserError, match=r"a share of 1\.5"):
        mix_weights(one, make(config, 2), 1.5)
    with pytest.raises(UserError, match=r"a share of 0\.25 to mix in"):
        mix_weights(one, make(config, 2), "0.25")  # type: ignore[arg-type]


def test_unrelated_readers_are_told(config: StudentConfig, caplog: pytest.LogCaptureFixture) -> None:
    one, other = make(config, 1), make(config, 2)
    mix_weights(one, copy.deepcopy(one), 0.5)
    assert not caplog.text
    mix_weights(one, other, 0.5)
    assert "as far apart as those of unrelated readers" in caplog.text
