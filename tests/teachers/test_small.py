from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import nn

from students.errors import UserError
from teachers import load_teacher
from teachers.attention import PlainAttention
from teachers.clip import ClipTeacher
from teachers.small import SmallTeacher, SmallTeacherConfig
from teachers.towers import run_text, run_words

TINY = SmallTeacherConfig(
    stem=(4, 4, 8), image_width=16, image_layers=4, image_heads=2, text_width=16, text_layers=4, text_heads=2,
    joint_width=8,
)  # fmt: skip


@pytest.fixture
def tiny() -> SmallTeacher:
    torch.manual_seed(0)
    return SmallTeacher(TINY).eval()


def test_the_default_fits_its_package() -> None:
    model = SmallTeacher()
    assert sum(p.numel() for p in model.parameters()) <= 5_500_000
    columns = model.visual.conv1(torch.randn(2, 3, 32, 128))
    assert columns.shape == (2, 192, 1, 32)


def test_saved_and_loaded_it_embeds_the_same(tiny: SmallTeacher, tmp_path: Path) -> None:
    for parameter in tiny.parameters():
        parameter.data = parameter.data.half().float()
    tiny.save(tmp_path / "t", "# card\n")
    loaded = SmallTeacher.load(tmp_path / "t")
    images = torch.randn(3, 3, 32, 128)
    assert loaded.config == tiny.config
    torch.testing.assert_close(loaded.embed_images(images), tiny.embed_images(images), rtol=0, atol=0)
    torch.testing.assert_close(loaded.embed_words(["a", "Cat"]), tiny.embed_words(["a", "cat"]), rtol=0, atol=0)
    assert sorted(p.name for p in (tmp_path / "t").iterdir()) == ["README.md", "config.json", "weights.safetensors"]
    assert load_teacher(str(tmp_path / "t")).name == "t"


def test_pictures_are_normalised_one_by_one(tiny: SmallTeacher) -> None:
    images = torch.rand(2, 3, 32, 128)
    changed = images * 3.0 + torch.tensor([0.5, -1.0, 2.0]).view(3, 1, 1)
    torch.testing.assert_close(tiny.embed_images(changed), tiny.embed_images(images), rtol=0, atol=0.02)
    alone = torch.cat([tiny.embed_images(image[None]) for image in images])
    torch.testing.assert_close(tiny.embed_images(images), alone, rtol=1e-4, atol=1e-5)
    assert torch.isfinite(tiny.embed_images(torch.zeros(1, 3, 32, 128))).all()


def test_texts_in_groups_of_their_own_length_give_the_same(tiny: SmallTeacher) -> None:
    ids = tiny.tokens(["a", "abcdefgh", "ab", "zz9", "b!", "abcdefghijklmnopqrstuvwxy"[:25]])
    torch.testing.assert_close(run_words(tiny, ids), run_text(tiny, ids)[1], rtol=1e-5, atol=1e-5)
    full = nn.functional.pad(ids, (0, 27 - ids.shape[1]))
    torch.testing.assert_close(run_words(tiny, ids), tiny.encode_text(full), rtol=1e-5, atol=1e-5)


def test_columns_and_embeddings_come_from_one_pass(tiny: SmallTeacher) -> None:
    images = torch.randn(2, 3, 32, 128)
    embedding, columns = tiny.encode_columns(images)
    assert columns.shape == (2, 32, 16)
    torch.testing.assert_close(embedding, tiny.encode_image(images), rtol=1e-5, atol=1e-6)


def test_plain_attention_is_multihead_attention() -> None:
    torch.manual_seed(0)
    reference = nn.MultiheadAttention(24, 3, batch_first=True).eval()
    nn.init.normal_(reference.in_proj_bias)
    plain = PlainAttention.replacing(reference)
    x, mask = torch.randn(2, 7, 24), torch.full((7, 7), float("-inf")).triu(1)
    for chosen in (None, mask):
        expected = reference(x, x, x, need_weights=False, attn_mask=chosen)[0]
        torch.testing.assert_close(plain(x, x, x, attn_mask=chosen)[0], expected, rtol=1e-5, atol=1e-6)
    with torch.autocast("cpu", torch.bfloat16):
        coarse = plain(x, x, x, attn_mask=mask)[0].float()
    torch.testing.assert_close(coarse, reference(x, x, x, attn_mask=mask)[0], rtol=0, atol=0.03)
    with pytest.raises(NotImplementedError):
        plain(x, x + 1, x)


def test_guidance_of_a_small_teacher(tiny: SmallTeacher) -> None:
    teacher = ClipTeacher.from_model("t", tiny)
    guidance = teacher(torch.randn(2, 3, 32, 128), ["cat", "A"])
    assert [tuple(tap.shape) for tap in guidance.image] == [(2, 33, 16)] * 3
    assert [tuple(tap.shape) for tap in guidance.text] == [(2, 4, 16)] * 3
    assert guidance.mask.tolist() == [[True] * 4, [True, True, False, False]]
    assert (teacher.shape.image_tokens, teacher.shape.joint_width) == (33, 8)


def test_missing_and_foreign_folders_are_refused(tiny: SmallTeacher, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no config\.json"):
        SmallTeacher.load(tmp_path)
    tiny.save(tmp_path, "")
    (tmp_path / "weights.safetensors").unlink()
    with pytest.raises(UserError, match="weights are missing"):
        SmallTeacher.load(tmp_path)
    (tmp_path / "weights.safetensors").write_bytes(b"not weights")
    with pytest.raises(UserError, match="no weights of the teacher"):
        SmallTeacher.load(tmp_path)
    SmallTeacher(SmallTeacherConfig(text_layers=5)).save(tmp_path / "other", "")
    (tmp_path / "weights.safetensors").write_bytes((tmp_path / "other" / "weights.safetensors").read_bytes())
    with pytest.raises(UserError, match="no weights of the teacher"):
        SmallTeacher.load(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"format": "another"}))
    with pytest.raises(UserError, match="no configuration of a small teacher"):
        SmallTeacher.load(tmp_path)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(UserError, match="is no JSON"):
        SmallTeacher.load(tmp_path)


def test_pictures_of_another_size_are_refused() -> None:
    with pytest.raises(UserError, match="small takes pictures of 32 x 128, the student those of 32 x 256"):
        ClipTeacher.from_model("small", SmallTeacher(), image_size=(32, 256))
