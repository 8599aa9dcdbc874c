from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest
import torch
from open_clip import CLIP, CLIPTextCfg, CLIPVisionCfg
from safetensors.torch import load_file as load_safetensors
from safetensors.torch import save_file
from torch import Tensor

from students.errors import UserError
from teachers import load_teacher, zoo
from teachers.clip import ClipTeacher, fit_positions
from teachers.weights import ClipWeights
from teachers.zoo import save_clip

INTEGERS = {"input_resolution": 64, "context_length": 30, "vocab_size": 49408}


@pytest.fixture(scope="module")
def small_clip() -> CLIP:
    torch.manual_seed(1)
    vision = CLIPVisionCfg(layers=4, width=32, head_width=32, patch_size=16, image_size=64)
    return CLIP(8, vision, CLIPTextCfg(context_length=30, width=8, heads=1, layers=5), quick_gelu=True).eval()


@pytest.fixture(scope="module")
def teacher(small_clip: CLIP, tmp_path_factory: pytest.TempPathFactory) -> ClipTeacher:
    """A teacher from an OpenAI state dict."""
    file = tmp_path_factory.mktemp("openai") / "clip.pt"
    torch.save(small_clip.state_dict() | {name: torch.tensor(value) for name, value in INTEGERS.items()}, file)
    return load_teacher(str(file), position="interpolate")


def close(actual: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(actual, expected, rtol=0, atol=1e-5 * max(1.0, expected.abs().max().item()))


def test_it_is_frozen_and_stays_in_eval_mode(teacher: ClipTeacher) -> None:
    images = torch.randn(4, 3, 32, 128, requires_grad=True)
    guidance = teacher.train()(images, ["a", "bc", "d", "e"])
    assert not any(module.training for module in teacher.modules())
    assert not any(parameter.requires_grad for parameter in teacher.parameters())
    assert not any(tap.requires_grad for tap in (*guidance.image, *guidance.text, guidance.word))
    assert guidance.mask.sum(dim=1).tolist() == [2, 3, 2, 2]
    assert guidance.mask.shape == guidance.text[0].shape[:2]


def test_openais_weights_pass_through_float16(small_clip: CLIP, teacher: ClipTeacher) -> None:
    # As in OpenAI's loader: matrices are rounded, embeddings and norms stay as they are stored.
    stored = small_clip.state_dict()
    for name, value in teacher.clip.state_dict().items():
        if name in stored and name != "visual.positional_embedding":
            rounded = not any(part in name for part in ("embedding", "ln_", "logit_scale"))
            assert torch.equal(value, stored[name].half().float() if rounded else stored[name]), name


@pytest.mark.parametrize("image_size", [(32, 128), (32, 64)])
def test_a_folder_keeps_weights_activation_and_pictures(
    small_clip: CLIP, image_size: tuple[int, int], tmp_path: Path
) -> None:
    tensors = {name: value.clone() for name, value in small_clip.state_dict().items() if name != "attn_mask"}
    patches = image_size[0] * image_size[1] // 16**2
    tensors["visual.positional_embedding"] = torch.randn(1 + patches, 32)  # positions of these pictures, cut already
    tensors["visual.proj"] = tensors["visual.proj"].half().float()
    mean, std = (0.1, 0.2, 0.3), (0.4, 0.5, 0.6)
    save_clip(ClipWeights(tensors, "quick-gelu", "", mean, std, image_size), tmp_path / "clip")
    file = load_safetensors(tmp_path / "clip" / "open_clip_model.safetensors")
    assert (file["visual.proj"].dtype, file["visual.conv1.weight"].dtype) == (torch.float16, torch.float32)
    actual = load_teacher(str(tmp_path / "clip"), image_size=image_size)
    assert actual.name == "clip"
    assert "quick-gelu" in actual.description
    assert (actual.mean.flatten().tolist(), actual.std.flatten().tolist()) == (
        pytest.approx(mean), pytest.approx(std),
    )  # fmt: skip
    for name, value in actual.clip.state_dict().items():
        if name in tensors:
            assert torch.equal(value, tensors[name]), name
    assert actual(torch.randn(1, 3, *image_size), ["ab"]).image[0].shape == (1, 1 + patches, 32)


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
        actual = load_teacher(str(file), position="interpolate")
    assert "quick-gelu" in actual.description
    assert "quick-gelu" in caplog.text
    assert actual.image_taps == (1, 2, 3)
    assert actual.text_taps == (1, 2, 3)
    assert (actual.shape.image_tokens, actual.shape.image_width, actual.shape.text_width) == (17, 32, 8)
    actual.tokens(["x" * 28])
    with pytest.raises(UserError, match="1 to 28"):
        actual.tokens(["x" * 29])


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
    actual = load_teacher("ViT-B-16-quickgelu", str(tmp_path / "m.safetensors"), "interpolate")
    close(actual.embed_words(["ab"]), torch.nn.functional.normalize(
        small_clip.encode_text(torch.nn.functional.pad(actual.tokens(["ab"]), (0, 26))), dim=-1
    ).detach())  # fmt: skip


@pytest.mark.parametrize(
    "wrapped", [("model_state_dict", "_orig_mod.module."), ("net", "_forward_module."), (None, "")]
)
def test_weights_are_found_inside_of_a_checkpoint(
    small_clip: CLIP, tmp_path: Path, wrapped: tuple[str | None, str]
) -> None:
    key, prefix = wrapped
    tensors = {prefix + name: value for name, value in small_clip.state_dict().items()}
    torch.save(tensors if key is None else {"epoch": 3, key: tensors}, tmp_path / "m.pt")
    actual = load_teacher("ViT-B-16-quickgelu", str(tmp_path / "m.pt"), "interpolate")
    assert isinstance(actual, ClipTeacher)
    close(actual.clip.text_projection, small_clip.text_projection.detach())


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
    actual = load_teacher(str(tmp_path / "archive.pt"), position="interpolate")
    assert "with quick-gelu: the code in the TorchScript archive" in actual.description


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


def test_mistakes_are_refused_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unreachable(*_: object, **__: object) -> str:
        raise OSError("no route")

    monkeypatch.setattr(zoo, "fetch", unreachable)
    monkeypatch.setattr("huggingface_hub.snapshot_download", unreachable)
    broken = tmp_path / "broken.pt"
    broken.write_bytes(b"nothing")
    other = tmp_path / "other.pt"
    torch.save({"weight": torch.zeros(1)}, other)
    cases = {
        ("words-smal", None): "did you mean words-small",
        ("runs/absent", None): "unknown teacher or reader 'runs/absent' (no folder",
        (str(tmp_path / "absent"), None): "path of a folder or weights file",
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
    with pytest.raises(UserError, match="image tower of depth 3 can't carry three guided stages"):
        load_teacher("ViT-B-16-quickgelu", str(tmp_path / "m.pt"), "interpolate")
