"""Heads between student and teacher: projections, norms and row mixing, which exist in training only.

Source: CLIP-OCR, arXiv 2310.04999; docs/method.md, section 1.3.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal, get_args

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from students.errors import UserError
from students.stages import Stages, StudentShape
from teachers.guidance import Guidance, TeacherShape

Kind = Literal["bridge", "linguistic", "visual"]
KINDS: tuple[Kind, ...] = get_args(Kind)
"""The kinds of comparisons, in the order in which they are computed."""
TERMS: dict[str, Kind] = {
    "bridge": "bridge", "linguistic1": "linguistic", "linguistic2": "linguistic", "linguistic3": "linguistic",
    "visual1": "visual", "visual2": "visual", "visual3": "visual",
}  # fmt: skip
"""The kind of each of the seven comparisons, by the comparison's name."""
HEADS: dict[Kind, tuple[str, ...]] = {
    "bridge": ("word_embed",),
    "linguistic": ("align_head", "norm_head"),
    "visual": ("align_proj", "align_head_vis", "norm_head_vis"),
}
"""The modules of `GuidanceHeads` that each kind uses."""
HEADS_FILE = "heads.safetensors"
"""The file of guidance heads in a folder; its names are those of `GuidanceHeads.state_dict`."""


class GuidanceHeads(nn.Module):
    """Bring a student's stages and a teacher's guidance to rows that can be compared.

    There are none for stages that the teacher or the student hasn't got. Parameters have the names of the reference
    implementation with a dot before the number, see `published_name`.

    Args:
        student: sizes of the student's stages.
        teacher: sizes of the teacher's guidance.
    """

    def __init__(self, student: StudentShape, teacher: TeacherShape) -> None:
        super().__init__()
        texts = range(3 if teacher.text_width and student.decoder_width else 0)
        images = range(3 if teacher.image_width else 0)
        self.align_head = nn.ModuleList(_projection(student.decoder_width, teacher.text_width) for _ in texts)
        self.norm_head = nn.ModuleList(nn.LayerNorm(teacher.text_width) for _ in texts)
        self.align_proj = nn.ParameterList(
            torch.full((1, teacher.image_tokens, student.tokens), 1 / student.tokens) for _ in images
        )
        self.align_head_vis = nn.ModuleList(_projection(student.width, teacher.image_width) for _ in images)
        self.norm_head_vis = nn.ModuleList(nn.LayerNorm(teacher.image_width) for _ in images)
        self.word_embed = _word_projection(student.width, teacher.joint_width) if teacher.joint_width else None
        for part in self.modules():
            if isinstance(part, nn.Linear):
                nn.init.trunc_normal_(part.weight, std=0.02)
                nn.init.zeros_(part.bias)

    def forward(
        self,
        stages: Stages,
        guidance: Guidance,
        rows: Mapping[str, Tensor] | None = None,
        kinds: Sequence[Kind] = KINDS,
    ) -> dict[str, tuple[Tensor, Tensor]]:
        """Pair the rows of both sides for each of the `TERMS` that both have a stage for.

        Rows are (word, position) pairs, word by word: N * T of the linguistic terms, N * teacher tokens of the visual
        ones, N of the bridge.

        Args:
            stages: the student's side.
            guidance: the teacher's side.
            rows: for a term's name, the indices (R,) of the rows to take on both sides; a term not named takes all.
            kinds: those that are computed.

        Returns:
            For each term the student's and the teacher's rows, each (R, C).

        Raises:
            ValueError: when student and teacher differ in words or positions.
        """
        taps, expected = stages.decoder, guidance.mask.shape
        positions = expected[1:] if taps is None else taps[0].shape[1:2]
        if (len(stages.word), *positions) != expected:
            raise ValueError(
                f"{(len(stages.word), *positions)} words and positions of the student don't line up with {(*expected,)}"
            )
        chosen = rows or {}
        pairs = {}
        # Features under autocast, or of a teacher in half precision, may have another type than the heads.
        dtype = next((weight.dtype for weight in self.parameters()), torch.float32)
        if "bridge" in kinds and self.word_embed is not None and guidance.word is not None:
            picked = chosen.get("bridge")
            pairs["bridge"] = self.word_embed(_take(stages.word.to(dtype), picked)), _take(guidance.word, picked)
        decoded = zip(taps or (), guidance.text or (), strict=False) if "linguistic" in kinds else ()
        for k, (own, tap) in enumerate(decoded):
            picked = chosen.get(f"linguistic{k + 1}")
            pairs[f"linguistic{k + 1}"] = (
                self.align_head[k](_take(own.to(dtype), picked)),
                self.norm_head[k](_take(tap.to(dtype), picked)),
            )
        for k, tap in enumerate((guidance.image or ()) if "visual" in kinds else ()):
            picked = chosen.get(f"visual{k + 1}")
            mixed = self.align_proj[k] @ stages.encoder[k].to(dtype)
            pairs[f"visual{k + 1}"] = (
                self.align_head_vis[k](_take(mixed, picked)),
                self.norm_head_vis[k](_take(tap.to(dtype), picked)),
            )
        return pairs


def published_name(name: str) -> str:
    """Return the name of a parameter of `GuidanceHeads` in the reference implementation, as `align_head0.1.bias`.

    Names of other parameters come back as they are.
    """
    return re.sub(r"^(align_head|norm_head|align_proj|align_head_vis|norm_head_vis)\.(\d)", r"\1\2", name)


def save_heads(heads: nn.Module, folder: Path) -> None:
    """Write the weights of `heads` into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    save_file(
        {name: value.detach().cpu().contiguous() for name, value in heads.state_dict().items()}, folder / HEADS_FILE
    )
    (folder / HEADS_FILE).chmod(0o644)  # safetensors makes files that only their owner can read


def load_heads(heads: nn.Module, folder: str | Path) -> None:
    """Fill `heads` from a folder that `save_heads` wrote to.

    Raises:
        UserError: when there are none, or they belong to another student or teacher.
    """
    file = Path(folder) / HEADS_FILE
    try:
        heads.load_state_dict(load_file(file))
    except FileNotFoundError:
        raise UserError(f"{file}: no such file; give the folder guidance/ of a student that convert wrote") from None
    except (SafetensorError, OSError, RuntimeError) as error:
        reason = " ".join(" ".join(str(error).splitlines()[:2]).split())
        raise UserError(
            f"{file}: not the heads of this student and teacher ({reason[:200]}); take the student and the CLIP that "
            "lie beside it, or leave the heads out"
        ) from None


def _projection(width: int, target_width: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(width, target_width), nn.LayerNorm(target_width))


def _word_projection(width: int, joint_width: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(width, width), nn.LayerNorm(width), nn.ReLU(), nn.Linear(width, joint_width)
    )  # fmt: skip


def _take(taps: Tensor, picked: Tensor | None) -> Tensor:
    """Flatten (N, T, C) or (N, C) taps to rows and take the picked ones."""
    rows = taps.flatten(0, -2)
    return rows if picked is None else rows.index_select(0, picked)
