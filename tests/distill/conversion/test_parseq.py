"""PARSeq's checkpoints: as released, as trained, and what they can't say."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from distill.commands.convert import main
from distill.conversion.checkpoints import read_checkpoint
from distill.conversion.layout import ConversionOptions, Converted
from distill.conversion.parseq import convert
from students.errors import UserError
from students.parseq import Parseq, ParseqConfig
from teachers.registry import load_reader

CONFIG = ParseqConfig(
    charset="abcdefghijklm", max_length=7, image_size=(16, 64), patch=(8, 16), width=64, depth=3, heads=4,
    mlp_ratio=2.0, decoder_depth=2, decoder_heads=8, decoder_mlp_ratio=3.0, dropout=0.2, decoding="nar",
    refine_iters=2,
)  # fmt: skip
SETTINGS: dict[str, Any] = {
    "charset_train": CONFIG.charset, "img_size": [16, 64], "enc_num_heads": 4, "dec_num_heads": 8, "dropout": 0.2,
    "decode_ar": False, "refine_iters": 2, "lr": 7e-4, "name": "parseq",
}  # fmt: skip


@pytest.fixture(scope="module")
def parseq() -> Parseq:
    torch.manual_seed(2)
    return Parseq(CONFIG).eval()


def run(file: Path, **options: Any) -> Converted:
    return convert(read_checkpoint(file), ConversionOptions(**options))


def save(file: Path, tensors: dict[str, Tensor], **settings: Any) -> Path:
    """Write a bare state dict, or a Lightning checkpoint when there are settings."""
    wrapped = {f"model.{name}": value for name, value in tensors.items()}
    torch.save({"state_dict": wrapped, "hyper_parameters": settings, "global_step": 5} if settings else tensors, file)
    return file


def test_a_training_checkpoint_says_all(parseq: Parseq, tmp_path: Path) -> None:
    converted = run(save(tmp_path / "last.ckpt", parseq.state_dict(), **SETTINGS))
    assert converted.reader.config == CONFIG
    assert not converted.assumed
    assert not converted.missing
    assert not any(converted.unused.values())
    images = torch.rand(3, 3, 16, 64) * 2 - 1
    assert torch.equal(converted.reader(images), parseq(images))


def test_a_released_file_needs_to_be_told(parseq: Parseq, tmp_path: Path) -> None:
    (tmp_path / "alphabet.txt").write_text(CONFIG.charset, encoding="utf-8")
    file = save(tmp_path / "parseq.pt", parseq.state_dict())
    converted = run(file, charset=str(tmp_path / "alphabet.txt"), heads=(4, 8), image=(16, 64))
    assumed = {"decoding": "ar", "refine_iters": 1, "dropout": 0.1}  # the published ones
    assert vars(converted.reader.config) == vars(CONFIG) | assumed
    with pytest.raises(UserError, match="which 13 characters it reads; give them with --charset"):
        run(file)
    with pytest.raises(UserError, match="picture size as --image"):
        run(file, charset=str(tmp_path / "alphabet.txt"))


def test_published_heads_and_alphabet_are_assumed_and_said(tmp_path: Path) -> None:
    built = Parseq(ParseqConfig(width=64, depth=1, heads=1, decoder_heads=2))
    converted = run(save(tmp_path / "released.pt", built.state_dict()))
    assert (converted.reader.config.heads, converted.reader.config.decoder_heads) == (1, 2)
    assert len(converted.reader.config.charset) == 94
    assert [what.partition(":")[0] for what in converted.assumed] == [
        "alphabet", "picture size", "encoder heads", "decoder heads",
    ]  # fmt: skip
    narrow = Parseq(ParseqConfig(width=48, depth=1, heads=4, decoder_heads=4))
    with pytest.raises(UserError, match="give those of encoder and decoder as --heads E,D"):
        run(save(tmp_path / "narrow.pt", narrow.state_dict()))


def test_what_is_too_much_is_named_and_what_lacks_refused(parseq: Parseq, tmp_path: Path) -> None:
    more = parseq.state_dict() | {"encoder.extra": torch.zeros(2)}
    assert run(save(tmp_path / "more.ckpt", more, **SETTINGS)).unused == {"unknown": ["encoder.extra"]}
    less = {name: value for name, value in parseq.state_dict().items() if name != "encoder.norm.bias"}
    with pytest.raises(UserError, match=r"lacks encoder\.norm\.bias"):
        run(save(tmp_path / "less.ckpt", less, **SETTINGS))
    other = parseq.state_dict() | {"encoder.cls_token": torch.zeros(1, 1, 64)}
    with pytest.raises(UserError, match="convert it as clipocr"):
        run(save(tmp_path / "clipocr.ckpt", other, **SETTINGS))


def test_the_command_writes_a_folder_that_reads(
    parseq: Parseq, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, out = save(tmp_path / "last.ckpt", parseq.state_dict(), **SETTINGS), tmp_path / "out"
    assert main(["parseq", str(file), "--out", str(out)]) == 0
    printed = capsys.readouterr().out
    assert "Parseq: " in printed
    assert "13 characters, words of up to 7, pictures of 16x64" in printed
    reader = load_reader(out)
    assert isinstance(reader, Parseq)
    assert reader.config == CONFIG
    card = (out / "README.md").read_text(encoding="utf-8")
    assert "nar, refine_iters: 2" in card
    assert 'symdistill.load("THIS_FOLDER")' in card
    assert main(["parseq", str(file), "--out", str(out), "--heads", "4"]) == 2
    assert "--heads 4: give encoder and decoder with a comma" in capsys.readouterr().err
