"""Backbones of CLIP4STR: the CLIP that becomes a reader, described so that its folder can build it again."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from open_clip import CLIP, SimpleTokenizer
from open_clip.constants import OPENAI_DATASET_MEAN, OPENAI_DATASET_STD
from torch import nn

from students.errors import UserError
from teachers.attention import use_plain_attention
from teachers.clip import fit_positions
from teachers.names import resolve
from teachers.small import SmallTeacher, SmallTeacherConfig
from teachers.tokens import AlignedTokenizer, CharacterTokens, WordPieceTokens
from teachers.zoo import load_clip, zoo_config


@dataclass(frozen=True)
class ClipSizes:
    """A CLIP of open_clip's own ViT and text tower."""

    embed_dim: int
    """Channels of the joint space."""
    vision_cfg: dict[str, Any]
    """Image tower, as open_clip's `vision_cfg`."""
    text_cfg: dict[str, Any]
    """Text tower, as open_clip's `text_cfg`."""
    quick_gelu: bool = True
    """Which activation its weights were trained with."""
    mean: tuple[float, ...] = OPENAI_DATASET_MEAN
    """Input mean of the image tower, by channel."""
    std: tuple[float, ...] = OPENAI_DATASET_STD
    """Input deviation of the image tower, by channel."""

    @classmethod
    def of_zoo(cls, name: str) -> ClipSizes:
        """Take the sizes of a model of open_clip's zoo; raises `UserError` for one that can't be a backbone."""
        config = zoo_config(name)
        return cls(config["embed_dim"], config["vision_cfg"], config["text_cfg"])

    @property
    def joint_width(self) -> int:
        """Channels of the joint space."""
        return self.embed_dim

    @property
    def image_width(self) -> int:
        """Channels of the image tower."""
        return int(self.vision_cfg.get("width", 768))

    @property
    def text_width(self) -> int:
        """Channels of the text tower."""
        return int(self.text_cfg.get("width", 512))

    @property
    def image_size(self) -> tuple[int, int]:
        """Height and width of the input in pixels."""
        size = self.vision_cfg.get("image_size", 224)
        height, width = (size, size) if isinstance(size, int) else size
        return height, width

    @property
    def longest_context(self) -> int:
        """Positions of the text tower."""
        return int(self.text_cfg.get("context_length", 77))


Backbone = ClipSizes | SmallTeacherConfig
"""The description from which a reader's CLIP is built."""
KINDS: dict[str, type[ClipSizes] | type[SmallTeacherConfig]] = {"open_clip": ClipSizes, "words": SmallTeacherConfig}
"""Kinds of backbones by their name in a folder's config.json."""


def build_backbone(backbone: Backbone) -> CLIP:
    """Build a CLIP with fresh weights and quick attention.

    Raises:
        UserError: for sizes that open_clip can't build.
    """
    if isinstance(backbone, SmallTeacherConfig):
        return SmallTeacher(backbone)
    try:
        clip = CLIP(backbone.embed_dim, backbone.vision_cfg, backbone.text_cfg, quick_gelu=backbone.quick_gelu)
    except (TypeError, ValueError, AssertionError) as error:
        raise UserError(f"open_clip can't build a CLIP of these sizes ({error}); take those of its zoo") from None
    use_plain_attention(clip)
    return clip


def load_backbone(
    name: str, weights: str | None = None, image_size: tuple[int, int] | None = None
) -> tuple[Backbone, CLIP]:
    """Load a CLIP with its weights, to become a reader.

    Args:
        name: see `teachers.names.resolve`.
        weights: see there.
        image_size: height and width to read at instead of the trained ones; the grid of positions is resized.

    Raises:
        UserError: no such CLIP, or one that can't read at that size.
    """
    source = load_clip(resolve(name, weights))
    if isinstance(source, SmallTeacher):
        backbone: Backbone = source.config
        clip: CLIP = source
    else:
        sizes, quick = source.sizes, source.activation == "quick-gelu"
        backbone = ClipSizes(sizes["embed_dim"], sizes["vision_cfg"], sizes["text_cfg"], quick, source.mean, source.std)
        clip = source.clip
        use_plain_attention(clip)
    return (backbone if image_size is None else read_at(backbone, clip, image_size)), clip


def read_at(backbone: Backbone, clip: CLIP, image_size: tuple[int, int]) -> Backbone:
    """Change the height and width of a CLIP's input, in place, and return its new description.

    Raises:
        UserError: the size is no multiple of the patches, or another one than a small teacher's.
    """
    if image_size == backbone.image_size:
        return backbone
    if isinstance(backbone, SmallTeacherConfig):
        height, width = backbone.image_size
        raise UserError(f"a small teacher reads pictures of {height} x {width} only; leave clip4str.image_size out")
    resize_input(clip, image_size)
    return replace(backbone, vision_cfg={**backbone.vision_cfg, "image_size": list(image_size)})


def resize_input(clip: CLIP, image_size: tuple[int, int]) -> None:
    """Resize the input of an image tower: its grid of positions is interpolated bicubically, in place.

    Raises:
        UserError: the size is no multiple of the patches.
    """
    visual = clip.visual
    patch_height, patch_width = visual.patch_size
    if image_size[0] % patch_height or image_size[1] % patch_width or min(image_size) < 1:
        raise UserError(
            f"pictures of {image_size} pixels don't fall into patches of {patch_height} x {patch_width}; give multiples"
        )
    grid = (image_size[0] // patch_height, image_size[1] // patch_width)
    positions = fit_positions(visual.positional_embedding.detach(), visual.grid_size, grid, "interpolate")
    visual.positional_embedding = nn.Parameter(positions)
    visual.grid_size, visual.image_size = grid, image_size


def spelling(backbone: Backbone) -> AlignedTokenizer:
    """Build the tokenizer of labels, with one token per character (docs/method.md, section 1.1)."""
    if isinstance(backbone, SmallTeacherConfig):
        return CharacterTokens(backbone.characters, backbone.max_length)
    return WordPieceTokens(SimpleTokenizer(), backbone.longest_context)


def backbone_to_dict(backbone: Backbone) -> dict[str, Any]:
    """Convert a backbone to what JSON can hold."""
    kind = next(name for name, cls in KINDS.items() if isinstance(backbone, cls))
    return {"kind": kind, **asdict(backbone)}


def backbone_from_dict(stored: Any, path: Path) -> Backbone:
    """Read a backbone back from JSON.

    Raises:
        UserError: when it describes none; the message names the file.
    """
    try:
        values: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in stored.items()}
        kind: str = values.pop("kind")
        return KINDS[kind](**values)
    except (AttributeError, KeyError, TypeError):
        raise UserError(f"{path} describes no CLIP ({str(stored)[:80]}); convert or train the reader again") from None
