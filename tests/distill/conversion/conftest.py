"""A small checkpoint in CLIP-OCR's layout, made from our own student, heads and a CLIP with random weights."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from open_clip import CLIP, CLIPTextCfg, CLIPVisionCfg
from torch import Tensor

from losses.heads import GuidanceHeads, published_name
from students.student import Student, StudentConfig
from teachers.clip import fit_positions
from teachers.guidance import TeacherShape

CONFIG = StudentConfig(
    charset="0123456789abc", max_length=9, width=32, depth=4, heads=2, mlp_ratio=2.0, decoder_depth=4, decoder_heads=4,
    decoder_mlp_ratio=3.0, dropout=0.0,
)  # fmt: skip
SETTINGS: dict[str, Any] = {
    "charset_train": CONFIG.charset, "charset_test": "0123456789", "max_label_length": 9, "img_size": [32, 128],
    "patch_size": [4, 8], "embed_dim": 32, "enc_num_heads": 2, "enc_depth": 4, "dec_num_heads": 4, "dec_depth": 4,
    "dropout": 0.0, "lr": 0.0014, "name": "clipocr",
}  # fmt: skip


@dataclass(frozen=True)
class Published:
    """What a checkpoint is made of."""

    student: Student
    heads: GuidanceHeads
    clip: CLIP
    tensors: dict[str, Tensor]
    """Everything that the published program saves, by its names."""

    def save(self, file: Path, tensors: dict[str, Tensor] | None = None, **entries: Any) -> Path:
        """Write a Lightning checkpoint; `entries` join or replace what stands in it."""
        stored = self.tensors if tensors is None else tensors
        torch.save({"state_dict": stored, "hyper_parameters": SETTINGS, "global_step": 7, **entries}, file)
        return file

    def save_clip(self, file: Path) -> Path:
        """Write the CLIP as OpenAI's state dict."""
        integers = {"input_resolution": 224, "context_length": 77, "vocab_size": 49408}
        torch.save(self.clip.state_dict() | {name: torch.tensor(value) for name, value in integers.items()}, file)
        return file

    def without(self, *starts: str) -> dict[str, Tensor]:
        """Return the weights whose names don't begin so."""
        return {name: value for name, value in self.tensors.items() if not name.startswith(starts)}


@pytest.fixture(scope="session")
def published() -> Published:
    torch.manual_seed(3)
    student = Student(CONFIG)
    vision = CLIPVisionCfg(layers=4, width=16, head_width=16, patch_size=16, image_size=224)
    clip = CLIP(6, vision, CLIPTextCfg(width=8, heads=1, layers=4), quick_gelu=True).eval()
    for weight in (*student.parameters(), *clip.parameters()):
        weight.data = (weight.data + 0.02 * torch.randn_like(weight)).half().float()
    heads = GuidanceHeads(student.shape, TeacherShape(image_tokens=17, image_width=16, text_width=8, joint_width=6))
    tensors = {name.replace("encoder.model.", "encoder."): value for name, value in student.state_dict().items()}
    tensors |= {published_name(name): value for name, value in heads.state_dict().items()}
    cut = fit_positions(clip.visual.positional_embedding.detach(), (14, 14), (2, 8), "crop")
    own = clip.state_dict() | {"visual.positional_embedding": cut}
    tensors |= {f"clip.{name}": value for name, value in own.items()}
    for name, values in (("clip_mean", (0.48, 0.46, 0.41)), ("clip_std", (0.27, 0.26, 0.28))):
        tensors[name] = torch.tensor(values).view(1, 3, 1, 1)
    return Published(student.eval(), heads, clip, tensors)
