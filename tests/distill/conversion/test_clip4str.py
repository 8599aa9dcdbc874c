"""CLIP4STR's checkpoints: every size from the weights, switches from the settings, and what they can't say."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from distill.commands.convert import main
from distill.conversion.checkpoints import read_checkpoint
from distill.conversion.clip4str import convert, stored_name
from distill.conversion.layout import ConversionOptions, Converted
from students.charset import CHARSETS
from students.errors import UserError
from teachers.backbones import ClipSizes
from teachers.clip4str import Clip4Str, Clip4StrConfig
from teachers.registry import load_reader

# Joint, text and image width are all different, so that nothing can be mistaken for anything else.
CLIP = ClipSizes(
    embed_dim=40,
    vision_cfg={"layers": 2, "width": 128, "head_width": 64, "patch_size": 8, "image_size": 24},
    text_cfg={"context_length": 20, "vocab_size": 49408, "width": 16, "heads": 1, "layers": 3},
)
CONFIG = Clip4StrConfig(
    charset=CHARSETS["62"], max_length=7, clip=CLIP, decoder_depth=2, decoder_heads=4, decoder_mlp_ratio=2.0,
    dropout=0.2, context=9, image_detach=False, refine_iters=2,
)  # fmt: skip
SETTINGS: dict[str, Any] = {
    "charset_train": CONFIG.charset, "charset_test": CHARSETS["36"], "dec_num_heads": 4, "dropout": 0.2,
    "context_length": 9, "image_detach": False, "refine_iters": 2, "use_share_dim": True, "decode_ar": True,
    "cross_token_embeding": False, "clip_cls_eot_feature": False, "use_language_model": True, "text_freeze_nlayer": 6,
}  # fmt: skip


def joint(width: int) -> ClipSizes:
    return dataclasses.replace(CLIP, embed_dim=width)


def wide(height: int, width: int) -> ClipSizes:
    return dataclasses.replace(CLIP, vision_cfg={**CLIP.vision_cfg, "image_size": (height, width)})


def build(**changed: Any) -> Clip4Str:
    torch.manual_seed(2)
    return Clip4Str(dataclasses.replace(CONFIG, **changed)).eval()


@pytest.fixture(scope="module")
def reader() -> Clip4Str:
    return build()


def published(reader: Clip4Str) -> dict[str, Tensor]:
    return {stored_name(name): value for name, value in reader.state_dict().items()}


def save(file: Path, tensors: dict[str, Tensor], settings: dict[str, Any]) -> Path:
    torch.save({"state_dict": tensors, "hyper_parameters": settings, "global_step": 5}, file)
    return file


def run(file: Path, **options: Any) -> Converted:
    return convert(read_checkpoint(file), ConversionOptions(**options))


def test_names_are_the_published_ones(reader: Clip4Str) -> None:
    names = set(published(reader))
    assert {
        "clip_model.visual.transformer.resblocks.1.attn.in_proj_weight", "clip_model.token_embedding.weight",
        "visual_decoder.layers.1.norm_c.bias", "visual_decoder.norm.weight", "cross_decoder.pos_queries",
        "cross_decoder.text_embed.embedding.weight", "cross_decoder.head.bias",
    } <= names  # fmt: skip


@pytest.mark.parametrize(
    ("changed", "settings"),
    [
        ({}, {}),
        ({"share_dim": False}, {"use_share_dim": False}),
        ({"pooled": True, "decoding": "nar"}, {"clip_cls_eot_feature": True, "decode_ar": False}),
        ({"language": False}, {"use_language_model": False}),
        ({"clip": joint(16), "text_features": "embedding"}, {"cross_token_embeding": True}),
        ({"clip": joint(128), "share_dim": False}, {"use_share_dim": False}),
        ({"clip": wide(16, 40)}, {"img_size": [16, 40]}),
        ({"clip": wide(16, 64)}, {"img_size": [16, 64]}),  # as many patches as a square has
    ],
)
def test_sizes_come_from_weights_and_switches_from_settings(
    changed: dict[str, Any], settings: dict[str, Any], tmp_path: Path
) -> None:
    built = build(**changed)
    converted = run(save(tmp_path / "last.ckpt", published(built), SETTINGS | settings))
    assert converted.reader.config == built.config
    assert not converted.assumed
    assert not any(converted.unused.values())
    assert converted.missing == ([] if built.config.language else ["cross_decoder.*"])
    images = torch.rand(2, 3, *built.image_size) * 2 - 1
    with torch.no_grad():
        assert torch.equal(converted.reader(images), built(images))


def test_what_a_bare_file_does_not_say_is_the_published_and_told(reader: Clip4Str, tmp_path: Path) -> None:
    narrow = build(decoder_heads=8, context=16, charset=CHARSETS["94"], image_detach=True, refine_iters=1, dropout=0.1)
    torch.save({f"model.{name}": value for name, value in published(narrow).items()}, tmp_path / "bare.pt")
    converted = run(tmp_path / "bare.pt")
    assert converted.reader.config == narrow.config
    assert len(converted.assumed) == 5
    assert {printed.partition(":")[0] for printed in converted.assumed} == {
        "alphabet", "alphabet of captions", "decoder heads", "tokens of a caption", "refine_iters",
    }  # fmt: skip
    assert run(tmp_path / "bare.pt", heads=(2, 4)).reader.config.decoder_heads == 4
    with pytest.raises(UserError, match="has encoder heads 2, not 99; leave --heads out"):
        run(tmp_path / "bare.pt", heads=(99, 8))


def test_other_weights_in_the_file_are_told(reader: Clip4Str, tmp_path: Path) -> None:
    odd = published(reader) | {"ema.weight": torch.ones(1), "cross_decoder.fusion.weight": torch.ones(2)}
    converted = run(save(tmp_path / "a.ckpt", odd, SETTINGS))
    assert [name for names in converted.unused.values() for name in names] == [
        "ema.weight",
        "cross_decoder.fusion.weight",
    ]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda tensors: {k: v for k, v in tensors.items() if "text_projection" not in k}, "text_projection"),
        (lambda tensors: {k: v for k, v in tensors.items() if "clip_model" not in k}, "give the whole checkpoint"),
        (lambda tensors: {k: v for k, v in tensors.items() if k != "cross_decoder.norm.bias"}, "cross_decoder.norm"),
        (
            lambda tensors: tensors | {"clip_model.token_embedding.weight": torch.zeros(100, 16)},
            "vocabulary has 100 entries",
        ),
        (lambda tensors: tensors | {"visual_decoder.pos_queries": torch.zeros(1, 8, 24)}, "don't belong together"),
        (lambda tensors: tensors | {"cross_decoder.head.bias": torch.zeros(3)}, "shapes of another program"),
    ],
)
def test_what_is_no_clip4str_is_refused(reader: Clip4Str, change: Any, message: str, tmp_path: Path) -> None:
    file = save(tmp_path / "a.ckpt", change(published(reader)), SETTINGS)
    with pytest.raises(UserError, match=message):
        run(file)


def test_a_clip_of_its_own_file_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["clip4str", "last.ckpt", "--clip", "ViT-B-16.pt", "--out", str(tmp_path / "reader")]
    assert main(arguments) == 2
    printed = capsys.readouterr().err
    assert "leave --clip out" in printed
    assert len(printed.splitlines()) == 1


def test_the_command_writes_a_folder_that_reads(
    reader: Clip4Str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = save(tmp_path / "last.ckpt", published(reader), SETTINGS)
    assert main(["clip4str", str(file), "--out", str(tmp_path / "reader")]) == 0, capsys.readouterr().err
    actual = load_reader(tmp_path / "reader")
    assert isinstance(actual, Clip4Str)
    assert actual.config == reader.config
    images = torch.rand(2, 3, 24, 24) * 2 - 1
    assert actual.read_batch(images) == reader.read_batch(images)
