from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import torch
from torch import Tensor

from students.charset import CHARSETS
from students.decoding import decode_probabilities
from students.errors import UserError
from students.permuted import permuted_orders
from teachers import load_teacher
from teachers.backbones import ClipSizes, build_backbone, load_backbone, resize_input
from teachers.clip import ClipTeacher, fit_positions
from teachers.clip4str import Clip4Str, Clip4StrConfig, CrossMemory, CrossTraining
from teachers.reading import Clip4StrTeacher
from teachers.registry import load_reader
from teachers.small import SmallTeacher, SmallTeacherConfig
from teachers.weights import OPENAI_INTEGERS

WORDS = SmallTeacherConfig(
    stem=(4, 4, 8), image_width=24, image_layers=4, image_heads=2, text_width=16, text_layers=4, text_heads=2,
    joint_width=12, characters="abcdefgh123", max_length=10,
)  # fmt: skip
CONFIG = Clip4StrConfig(
    charset="abcdefgh123", caption_charset="abcdefgh123", max_length=8, clip=WORDS, decoder_heads=2, dropout=0.0,
    context=8,
)  # fmt: skip
PATCHES = ClipSizes(
    embed_dim=16,
    vision_cfg={"width": 24, "layers": 4, "head_width": 12, "patch_size": 8, "image_size": 32},
    text_cfg={"width": 20, "layers": 4, "heads": 2, "context_length": 12, "vocab_size": 49408},
)


def build(**changed: Any) -> Clip4Str:
    torch.manual_seed(0)
    return Clip4Str(dataclasses.replace(CONFIG, **changed)).eval()


@pytest.fixture(scope="module")
def reader() -> Clip4Str:
    return build()


@pytest.fixture(scope="module")
def images() -> Tensor:
    return torch.rand(3, 3, 32, 128, generator=torch.Generator().manual_seed(1)) * 2 - 1


@pytest.mark.parametrize(
    ("name", "millions", "decoder_millions"),
    [("ViT-B-16", 158, 4.3), ("ViT-B-32", 159, 4.3), ("ViT-L-14", 446, None), ("ViT-H-14", 1020, None)],
)
def test_every_published_shape_builds(name: str, millions: int, decoder_millions: float | None) -> None:
    # The published program prints these counts for both base sizes.
    with torch.device("meta"):
        model = Clip4Str(Clip4StrConfig(clip=ClipSizes.of_zoo(name)))
    assert int(model.parameters_count / 1e6) == millions
    if decoder_millions is not None:
        count = sum(weight.numel() for weight in model.visual_decoder.parameters())
        assert round(count / 1e6, 1) == decoder_millions


def test_each_picture_and_each_different_caption_is_encoded_once(reader: Clip4Str, images: Tensor) -> None:
    twice = torch.cat([images, images[:1]])
    visual, texts = reader.clip_model.visual, []
    encode = reader.encode_captions

    def counting(ids: Tensor) -> Tensor:
        texts.append(len(ids))
        return encode(ids)

    with (
        mock.patch.object(visual.conv1, "forward", wraps=visual.conv1.forward) as seen,
        mock.patch.object(reader, "encode_captions", counting),
        torch.no_grad(),
    ):
        passes = list(reader.passes(twice, refine_iters=2))
        assert seen.call_count == 1
    assert texts == [len(set(each.captions)) for each in passes]
    assert max(texts) <= 3


def test_joined_memory_is_that_of_the_joined_tokens(reader: Clip4Str, images: Tensor) -> None:
    captions = ["ab", "", "ab"]
    decoder = reader.cross_decoder
    assert decoder is not None
    with torch.no_grad():
        features = reader.encode(images)
        texts = reader.encode_captions(reader.tokens(captions))
        expected = decoder.memory_keys(torch.cat([features, texts], dim=1))
        actual = CrossMemory(reader, decoder, features).memory(captions)
    for (keys, values), (expected_keys, expected_values) in zip(actual, expected, strict=True):
        torch.testing.assert_close(keys, expected_keys)
        torch.testing.assert_close(values, expected_values)


def test_a_picture_reads_the_same_alone(reader: Clip4Str, images: Tensor) -> None:
    with torch.no_grad():
        together = reader(images, 8)
        alone = torch.cat([reader(image[None], 8) for image in images])
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-5)


def test_teacher_forced_on_its_own_reading_is_greedy(reader: Clip4Str, images: Tensor) -> None:
    with torch.no_grad():
        read = next(reader.passes(images, 8)).visual
        words = [reading.text for reading in decode_probabilities(reader.charset, read.softmax(dim=-1))]
        ids = reader.charset.encode(words)
        left_to_right = torch.arange(ids.shape[1])[None]
        orders = list(permuted_orders(ids, left_to_right, reader.charset))
        forced = reader.permuted(reader.encode(images), ids, orders)[0].visual
    for row, word in enumerate(words):
        count = min(len(word) + 1, read.shape[1])
        torch.testing.assert_close(forced[row, :count], read[row, :count], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "changed",
    [
        {"decoder_depth": 2},
        {"share_dim": False},
        {"decoding": "nar"},
        {"language": False},
        {"pooled": True},
        {"clip": PATCHES, "caption_charset": CHARSETS["36"]},
        {"clip": PATCHES, "share_dim": False, "decoder_depth": 2},
    ],
    ids=lambda changed: ",".join(changed),
)
def test_every_switch_reads_refines_and_comes_back_from_its_folder(changed: dict[str, Any], tmp_path: Path) -> None:
    reader = build(**changed)
    height, width = reader.image_size
    images = torch.rand(2, 3, height, width) * 2 - 1
    with torch.no_grad():
        first = reader(images, refine_iters=0)
        refined = reader(images, refine_iters=2)
    assert first.shape[1] <= refined.shape[1] == 9
    assert torch.isfinite(refined).all()
    reader.save_pretrained(tmp_path)
    back = load_reader(tmp_path)
    assert isinstance(back, Clip4Str)
    assert back.config == reader.config
    with torch.no_grad():
        assert torch.equal(back(images, refine_iters=2), refined)


def test_a_refinement_after_an_early_stop_works_with_two_layers() -> None:
    reader, images = build(decoder_depth=2), torch.zeros(2, 3, 32, 128)
    with torch.no_grad():
        reader.visual_decoder.head.bias[0] += 50  # every word ends at once
        passes = list(reader.passes(images, refine_iters=1))
    assert passes[0].visual.shape[1] == 1
    assert passes[1].logits.shape[1] == 9


def test_the_cross_branch_sends_gradient_into_the_picture_only_when_told(images: Tensor) -> None:
    for detach in (True, False):
        reader = build(image_detach=detach).train()
        ids = reader.charset.encode(["ab", "c", "h1"])
        orders = list(permuted_orders(ids, torch.arange(4)[None], reader.charset))
        cross = reader.permuted(reader.encode(images), ids, orders)[0].cross
        assert cross is not None
        cross.sum().backward()
        assert (reader.clip_model.visual.class_embedding.grad is None) == detach


def test_the_cross_branch_may_see_what_the_visual_one_read(reader: Clip4Str, images: Tensor) -> None:
    ids = reader.charset.encode(["ab", "c", "h1"])
    orders = list(permuted_orders(ids, torch.arange(4)[None], reader.charset))
    with torch.no_grad():
        features = reader.encode(images)
        actual = [
            reader.permuted(features, ids, orders, training)[0]
            for training in (CrossTraining(), CrossTraining(context="visual"), CrossTraining(mask="cloze"))
        ]
    assert all(torch.equal(order.visual, actual[0].visual) for order in actual)
    assert not any(torch.allclose(order.cross, actual[0].cross) for order in actual[1:])  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"context": 13}, "text tower's 12 positions"),
        ({"decoder_heads": 5}, "take another width"),
        ({"text_features": "embedding", "clip": PATCHES, "context": 8}, "text_features=tower"),
        ({"text_features": "none"}, "is unknown"),
        ({"dropout": 1.0}, "0 to below 1"),
        ({"refine_iters": -1}, "0 or more refine_iters"),
    ],
)
def test_sizes_that_no_reader_can_have(changed: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        dataclasses.replace(CONFIG, **changed)


def test_a_folder_whose_clip_is_not_described(reader: Clip4Str, tmp_path: Path) -> None:
    reader.save_pretrained(tmp_path)
    stored = json.loads((tmp_path / "config.json").read_text(encoding="utf-8"))
    for wrong in (None, {"kind": "resnet"}, {"kind": "words", "depth": 3}):
        (tmp_path / "config.json").write_text(json.dumps({**stored, "clip": wrong}), encoding="utf-8")
        with pytest.raises(UserError, match=r"config\.json describes no CLIP"):
            Clip4Str.from_pretrained(tmp_path)


def test_a_small_teacher_becomes_a_reader_with_its_weights(tmp_path: Path) -> None:
    torch.manual_seed(0)
    SmallTeacher(WORDS).save(tmp_path / "teacher", "")
    backbone, clip = load_backbone(str(tmp_path / "teacher"))
    assert backbone == WORDS
    assert isinstance(clip, SmallTeacher)
    with pytest.raises(UserError, match=r"leave clip4str\.image_size out"):
        load_backbone(str(tmp_path / "teacher"), image_size=(32, 64))


def test_a_clip_of_a_file_reads_at_another_size(tmp_path: Path) -> None:
    torch.manual_seed(0)
    clip = build_backbone(PATCHES)
    own = clip.state_dict()
    torch.save(own | dict.fromkeys(OPENAI_INTEGERS, torch.tensor(0)), tmp_path / "clip.pt")
    backbone, built = load_backbone(str(tmp_path / "clip.pt"), image_size=(16, 64))
    assert backbone.image_size == (16, 64)
    positions = built.visual.positional_embedding.detach()
    rounded = own["visual.positional_embedding"]
    torch.testing.assert_close(positions, fit_positions(rounded, (4, 4), (2, 8), "interpolate"))
    reader = Clip4Str(dataclasses.replace(CONFIG, clip=backbone, caption_charset=CHARSETS["36"]), built)
    assert reader.encode(torch.zeros(1, 3, 16, 64)).shape == (1, 1 + 2 * 8, 16)
    with pytest.raises(UserError, match="patches of 8 x 8"):
        load_backbone(str(tmp_path / "clip.pt"), image_size=(20, 64))


def test_another_picture_size_resizes_the_positions() -> None:
    torch.manual_seed(0)
    reader = Clip4Str(dataclasses.replace(CONFIG, clip=PATCHES, caption_charset=CHARSETS["36"]))
    resize_input(reader.clip_model, (16, 64))
    assert reader.encode(torch.zeros(1, 3, 16, 64)).shape == (1, 1 + 2 * 8, 16)
    with pytest.raises(UserError, match="patches of 8 x 8"):
        resize_input(reader.clip_model, (20, 64))


def test_as_a_teacher_it_shows_a_clip_and_reads(reader: Clip4Str, images: Tensor, tmp_path: Path) -> None:
    reader.save_pretrained(tmp_path)
    teacher = load_teacher(str(tmp_path))
    assert isinstance(teacher, Clip4StrTeacher)
    labels = ["abc", "H", "123abcdefg"]
    guidance = teacher(images, labels)
    assert guidance.image is not None
    assert guidance.text is not None
    assert guidance.characters is not None
    shape = teacher.shape
    assert {tuple(tap.shape) for tap in guidance.image} == {(3, shape.image_tokens, shape.image_width)}
    assert {tuple(tap.shape) for tap in guidance.text} == {(3, 11, shape.text_width)}
    # The third label is longer than the reader's longest word: it can speak for its first eight characters.
    assert guidance.mask.sum(dim=1).tolist() == [4, 2, 8]
    assert shape.charset == reader.charset
    sums = guidance.characters.exp().sum(dim=-1)[guidance.mask]
    torch.testing.assert_close(sums, torch.ones_like(sums))
    clip = ClipTeacher.from_model("clip", reader.clip_model)  # type: ignore[arg-type]
    expected = clip(images, labels)
    torch.testing.assert_close((*guidance.image, *guidance.text), (*expected.image, *expected.text))
    torch.testing.assert_close(guidance.word, expected.word)
    assert not any(weight.requires_grad for weight in teacher.parameters())


def test_its_characters_are_the_answer_after_true_ones(reader: Clip4Str, images: Tensor) -> None:
    teacher = Clip4StrTeacher("t", build())
    labels = ["abc", "h", "12"]
    ids = reader.charset.encode(labels)
    orders = list(permuted_orders(ids, torch.arange(ids.shape[1])[None], reader.charset))
    with torch.no_grad():
        expected = reader.permuted(reader.encode(images), ids, orders)[0].cross
    assert expected is not None
    actual = teacher(images, labels).characters
    torch.testing.assert_close(actual, expected.log_softmax(dim=-1))


def test_pictures_of_another_size_are_resized_for_it(images: Tensor) -> None:
    torch.manual_seed(0)
    reader = Clip4Str(dataclasses.replace(CONFIG, clip=PATCHES, caption_charset=CHARSETS["36"]))
    teacher = Clip4StrTeacher("t", reader)
    guidance = teacher(images, ["ab", "c", "123"])
    assert guidance.image is not None
    assert guidance.image[0].shape == (3, 17, 24)
    assert len(teacher.read_batch(images)) == 3


def test_a_tower_without_three_stages_is_refused() -> None:
    shallow = build(clip=dataclasses.replace(WORDS, image_layers=3))
    with pytest.raises(UserError, match="image tower of depth 3 can't carry three guided stages"):
        Clip4StrTeacher("t", shallow)
