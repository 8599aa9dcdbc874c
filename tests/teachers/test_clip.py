from __future__ import annotations

import json
import logging
from pathlib import Path

import numpy as np
import pytest
import torch
from open_clip import CLIP, CLIPTextCfg, CLIPVisionCfg
from safetensors.torch import save_file
from torch import Tensor

from students.errors import UserError
from teachers import ClipTeacher, load_teacher, zoo
from teachers.clip import fit_positions

OPENAI_FILE = "clipocr_tiny_clip_openai.pt"
INTEGERS = {"input_resolution": 64, "context_length": 30, "vocab_size": 49408}


@pytest.fixture(scope="module")
def small_clip() -> CLIP:
    torch.manual_seed(1)
    vision = CLIPVisionCfg(layers=4, width=32, head_width=32, patch_size=16, image_size=64)
    return CLIP(8, vision, CLIPTextCfg(context_length=30, width=8, heads=1, layers=5), quick_gelu=True).eval()


@pytest.fixture(scope="module")
def teacher(reference: Path) -> ClipTeacher:
    return load_teacher("ViT-B-16", str(reference / OPENAI_FILE))


@pytest.fixture(scope="module")
def numbers(reference: Path) -> dict[str, Tensor]:
    with np.load(reference / "clipocr_tiny.npz") as arrays:
        wanted = [name for name in arrays.files if name.startswith("clip_") or name == "images"]
        return {name: torch.from_numpy(arrays[name]) for name in wanted}


@pytest.fixture(scope="module")
def labels(reference: Path) -> list[str]:
    return list(json.loads((reference / "clipocr_tiny.json").read_text())["labels"])


def test_taps_and_bridge_of_the_published_program(
    teacher: ClipTeacher, numbers: dict[str, Tensor], labels: list[str]
) -> None:
    guidance = teacher(numbers["images"], labels)
    for k in range(3):
        close(guidance.image[k], numbers[f"clip_image_tap{k}"])
        close(guidance.text[2 - k], numbers[f"clip_text_tap{k}"][:, 1:])
    close(guidance.word, numbers["clip_text_embedding"])
    close(teacher.normalize(numbers["images"]), numbers["clip_images"])
    assert guidance.rows.sum(dim=1).tolist() == [len(label) + 1 for label in labels]
    assert guidance.rows.shape == guidance.text[0].shape[:2]


def test_embeddings_of_the_published_program(
    teacher: ClipTeacher, numbers: dict[str, Tensor], labels: list[str]
) -> None:
    normalize = torch.nn.functional.normalize
    close(teacher.embed_images(numbers["images"]), normalize(numbers["clip_image_embedding"], dim=-1))
    close(teacher.embed_words(labels), normalize(numbers["clip_text_embedding"], dim=-1))


def close(found: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5 * max(1.0, expected.abs().max().item()))


def test_it_is_frozen_and_stays_in_eval_mode(teacher: ClipTeacher, numbers: dict[str, Tensor]) -> None:
    images = numbers["images"].clone().requires_grad_()
    guidance = teacher.train()(images, ["a", "bc", "d", "e"])
    assert not any(module.training for module in teacher.modules())
    assert not any(parameter.requires_grad for parameter in teacher.parameters())
    assert not any(tap.requires_grad for tap in (*guidance.image, *guidance.text, guidance.word))


def test_padding_and_neighbours_change_nothing_before_the_end(teacher: ClipTeacher) -> None:
    images = torch.randn(2, 3, 32, 128)
    together = teacher(images, ["ab", "abcdefgh"])
    alone = teacher(images[:1], ["AB"])
    for k in range(3):
        close(together.text[k][:1, :3], alone.text[k])
        close(together.image[k][:1], alone.image[k])
    close(together.word[:1], alone.word)


def test_sizes_are_read_from_the_weights(small_clip: CLIP, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    file = tmp_path / "any.pt"
    integers = {name: torch.tensor(value) for name, value in INTEGERS.items()}
    torch.save({k: v.half() for k, v in small_clip.state_dict().items()} | integers, file)
    with caplog.at_level(logging.INFO):
        found = load_teacher(str(file), position="interpolate")
    assert "quick-gelu" in found.description
    assert "quick-gelu" in caplog.text
    assert found.image_taps == (1, 2, 3)
    assert found.text_taps == (1, 2, 3)
    assert (found.shape.image_tokens, found.shape.image_width, found.shape.text_width) == (17, 32, 8)
    found.tokens.check(["x" * 28])
    with pytest.raises(UserError, match="1 to 28"):
        found.tokens.check(["x" * 29])


def test_the_file_decides_the_activation_or_nothing_does(small_clip: CLIP, tmp_path: Path) -> None:
    file = tmp_path / "open_clip_pytorch_model.bin"
    torch.save({"epoch": 1, "state_dict": {f"module.{k}": v for k, v in small_clip.state_dict().items()}}, file)
    for name in ("ViT-B-16", str(file)):
        with pytest.raises(UserError, match="can't tell whether its activation"):
            load_teacher(name, None if name == str(file) else str(file), "interpolate")
    quick = load_teacher("ViT-B-16-quickgelu", str(file), "interpolate")
    exact = load_teacher("ViT-B-16/laion2b_s34b_b88k", str(file), "interpolate")
    assert ("with quick-gelu" in quick.description, "with gelu" in exact.description) == (True, True)
    images = torch.randn(1, 3, 32, 128)
    assert not torch.allclose(quick(images, ["a"]).image[0], exact(images, ["a"]).image[0], atol=1e-4)
    (tmp_path / "open_clip_config.json").write_text(json.dumps({"model_cfg": {"quick_gelu": False}}))
    assert "with gelu" in load_teacher("ViT-B-16-quickgelu", str(file), "interpolate").description


def test_safetensors_and_texts_in_a_tower_of_their_own(small_clip: CLIP, tmp_path: Path) -> None:
    image = {k: v for k, v in small_clip.state_dict().items() if k.startswith(("visual.", "logit"))}
    texts = {f"text.{k}": v for k, v in small_clip.state_dict().items() if k not in image}
    save_file(image | texts, tmp_path / "m.safetensors")
    found = load_teacher("ViT-B-16-quickgelu", str(tmp_path / "m.safetensors"), "interpolate")
    close(found.embed_words(["ab"]), torch.nn.functional.normalize(
        small_clip.encode_text(torch.nn.functional.pad(found.tokens(["ab"]), (0, 26))), dim=-1
    ).detach())  # fmt: skip


class QuickGate(torch.nn.Module):
    """A stand-in for OpenAI's archives: the parameters of a CLIP, and code with a sigmoid gate."""

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.sigmoid(1.702 * x)


def test_a_torchscript_archive_tells_its_activation(small_clip: CLIP, tmp_path: Path) -> None:
    module = QuickGate()
    for name, value in small_clip.state_dict().items():
        *path, last = name.split(".")
        parent: torch.nn.Module = module
        for part in path:
            if not hasattr(parent, part):
                parent.add_module(part, torch.nn.Module())
            parent = getattr(parent, part)
        parent.register_buffer(last, value)
    torch.jit.script(module).save(str(tmp_path / "archive.pt"))
    found = load_teacher(str(tmp_path / "archive.pt"), position="interpolate")
    assert "with quick-gelu: the code in the TorchScript archive" in found.description


def test_crop_is_the_corner_and_interpolation_keeps_means() -> None:
    table = torch.arange(1 + 14 * 14).float()[:, None]
    cropped = fit_positions(table, (14, 14), (2, 8), "crop")[:, 0]
    assert cropped.tolist() == [0, *range(1, 9), *range(15, 23)]
    resized = fit_positions(table, (14, 14), (2, 8), "interpolate")[:, 0]
    assert resized[0] == 0
    assert resized[1:].mean().item() == pytest.approx(table[1:].mean().item(), rel=1e-3)
    assert torch.equal(fit_positions(table, (14, 14), (14, 14), "crop"), table)
    with pytest.raises(UserError, match="use position=interpolate"):
        fit_positions(table, (14, 14), (2, 16), "crop")


def test_mistakes_are_told_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unreachable(*_: object) -> str:
        raise OSError("no route")

    monkeypatch.setattr(zoo, "fetch", unreachable)
    broken = tmp_path / "broken.pt"
    broken.write_bytes(b"nothing")
    other = tmp_path / "other.pt"
    torch.save({"weight": torch.zeros(1)}, other)
    cases = {
        ("words-smal", None): "did you mean words-small",
        ("runs/absent", None): "unknown teacher 'runs/absent'",
        (str(tmp_path / "absent"), None): "path of a teacher folder",
        ("ViT-B-16", None): "ViT-B-16/TAG",
        ("ViT-B-16/nope", None): "no weights called 'nope'",
        ("ViT-B-16/openai", None): "weights=PATH",
        ("RN50/openai", None): "only CLIPs with open_clip's own ViT",
        ("ViT-B-16-SigLIP/webli", None): "only CLIPs with open_clip's own ViT",
        ("ViT-B-16", str(tmp_path / "absent.pt")): "no such file",
        ("ViT-B-16", str(broken)): "can't be read as weights",
        ("ViT-B-16", str(other)): "holds no CLIP",
    }
    for (name, weights), message in cases.items():
        with pytest.raises(UserError) as caught:
            load_teacher(name, weights)
        assert message in str(caught.value)
        assert "\n" not in str(caught.value)


def test_a_shallow_tower_is_refused(tmp_path: Path) -> None:
    vision = CLIPVisionCfg(layers=3, width=32, head_width=32, patch_size=16, image_size=64)
    shallow = CLIP(8, vision, CLIPTextCfg(context_length=30, width=8, heads=1, layers=4))
    torch.save(shallow.state_dict(), tmp_path / "m.pt")
    with pytest.raises(UserError, match="image tower has 3 blocks"):
        load_teacher("ViT-B-16-quickgelu", str(tmp_path / "m.pt"), "interpolate")
