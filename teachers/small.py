"""The small teacher: a CLIP for words, with a vocabulary of single characters, that needs no download.

It is open_clip's `CLIP` with two changes: the patch convolution is replaced by a normalisation of each picture and a
convolution stem that ends in one row of columns, and the attention by a quicker one (see `teachers.attention`).
"""

from __future__ import annotations

import json
import string
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, ClassVar

import torch
from open_clip import CLIP, CLIPTextCfg, CLIPVisionCfg
from safetensors import SafetensorError
from safetensors.torch import load_file
from safetensors.torch import save as serialize
from torch import Tensor, nn
from torch.nn import functional as F

from students.errors import UserError
from students.files import write_file
from students.pretrained import read_stored
from teachers.attention import use_plain_attention
from teachers.tokens import CharacterTokens
from teachers.towers import embed_words

LOWER_CASE_94 = string.digits + string.ascii_lowercase + string.punctuation
"""The charset of 94 characters without its capitals: the vocabulary of the small teacher."""

CONFIG_FILE, WEIGHTS_FILE, CARD_FILE = "config.json", "weights.safetensors", "README.md"
FORMAT = "symdistill small teacher"


@dataclass(frozen=True)
class SmallTeacherConfig:
    """Everything that is needed to build a small teacher before its weights are read."""

    characters: str = LOWER_CASE_94
    """The vocabulary; without capitals labels are lower-cased."""
    max_length: int = 25
    """Longest word in characters."""
    image_size: tuple[int, int] = (32, 128)
    """Height and width of the input; the stem needs a height of 32."""
    stem: tuple[int, int, int] = (24, 48, 96)
    """Channels of the stem's three convolutions."""
    image_width: int = 192
    image_layers: int = 4
    image_heads: int = 6
    text_width: int = 128
    text_layers: int = 4
    text_heads: int = 4
    joint_width: int = 128
    """Channels of the joint space of pictures and words."""

    mean: ClassVar[tuple[float, ...]] = (0.5, 0.5, 0.5)
    """Input mean of the image tower, by channel: it takes pictures as students do."""
    std: ClassVar[tuple[float, ...]] = (0.5, 0.5, 0.5)
    """Input deviation of the image tower, by channel."""

    @property
    def longest_context(self) -> int:
        """Positions of the text tower."""
        return self.max_length + 2

    @property
    def grid(self) -> tuple[int, int]:
        """Return rows and columns of image tokens: one row, a column for every four pixels."""
        return 1, self.image_size[1] // 4


class ColumnStem(nn.Module):
    """Normalise each picture, then convolve (N, 3, 32, W) to one row of columns (N, width, 1, W / 4)."""

    def __init__(self, channels: tuple[int, int, int], width: int) -> None:
        """Build three convolutions with BatchNorm and SiLU and a last one over the whole height."""
        super().__init__()
        first, second, third = channels
        self.convolutions = nn.Sequential(
            *convolution(3, first, (2, 2)),
            *convolution(first, second, (2, 2)),
            *convolution(second, third, (2, 1)),
            nn.Conv2d(third, width, (4, 1)),
        )
        self.to(memory_format=torch.channels_last)

    def forward(self, images: Tensor) -> Tensor:
        """Turn pictures (N, 3, 32, W) into columns (N, width, 1, W / 4).

        The normalisation has no parameters: each channel's mean goes, and one deviation for all three divides, so
        the colours keep their proportions and any affine input normalisation is undone.
        """
        centred = images.float() - images.float().mean(dim=(2, 3), keepdim=True)
        deviation = centred.square().mean(dim=(1, 2, 3), keepdim=True).sqrt()
        return self.convolutions((centred / (deviation + 0.01)).contiguous(memory_format=torch.channels_last))


def convolution(inputs: int, outputs: int, stride: tuple[int, int]) -> tuple[nn.Module, ...]:
    """Return a 3x3 convolution with BatchNorm and SiLU."""
    return nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.SiLU()


class SmallTeacher(CLIP):
    """A trainable CLIP of word pictures and words; a frozen one is a `teachers.clip.ClipTeacher`."""

    def __init__(self, config: SmallTeacherConfig | None = None) -> None:
        """Build the model with fresh weights from torch's global generator."""
        config = config or SmallTeacherConfig()
        tokens = CharacterTokens(config.characters, config.max_length)
        height, width = config.image_size
        rows, columns = config.grid
        super().__init__(
            config.joint_width,
            CLIPVisionCfg(
                layers=config.image_layers,
                width=config.image_width,
                head_width=config.image_width // config.image_heads,
                image_size=config.image_size,
                patch_size=(height // rows, width // columns),  # type: ignore[arg-type]
            ),
            CLIPTextCfg(
                context_length=config.longest_context,
                vocab_size=tokens.vocabulary_size,
                width=config.text_width,
                heads=config.text_heads,
                layers=config.text_layers,
            ),
        )
        self.config = config
        self.tokens = tokens
        self.visual.conv1 = ColumnStem(config.stem, config.image_width)
        use_plain_attention(self)

    def fold(self, label: str) -> str:
        """Bring a label to the vocabulary's case: labels that fold alike are the same word to this teacher."""
        return label.lower() if self.config.characters == self.config.characters.lower() else label

    def encode_columns(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Embed pictures, with their column tokens.

        Args:
            images: (N, 3, 32, 128), any affine normalisation.

        Returns:
            The image embeddings (N, joint width), not normalised, and the final column tokens (N, W, image width).
        """
        outputs = self.visual.forward_intermediates(images, indices=1, normalize_intermediates=True, output_fmt="NLC")
        return outputs["image_features"], outputs["image_intermediates"][0]

    @torch.no_grad()
    def embed_words(self, words: Sequence[str]) -> Tensor:
        """Embed the words of a lexicon: (M, joint width), normalised."""
        return embed_words(self, self.tokens, words)

    @torch.no_grad()
    def embed_images(self, images: Tensor) -> Tensor:
        """Embed pictures (N, 3, 32, 128) for reading from a lexicon: (N, joint width), normalised."""
        return F.normalize(self.visual(images).float(), dim=-1)

    def save(self, folder: str | Path, card: str) -> None:
        """Write `config.json`, `weights.safetensors` (matrices in half precision) and `README.md`, each atomically."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        weights = {
            name: (value.half() if value.is_floating_point() and value.ndim > 1 else value).detach().cpu().contiguous()
            for name, value in self.state_dict().items()
        }
        write_file(folder / WEIGHTS_FILE, serialize(weights))
        config = json.dumps({"format": FORMAT} | asdict(self.config), indent=1)
        write_file(folder / CONFIG_FILE, f"{config}\n")
        write_file(folder / CARD_FILE, card)

    @classmethod
    def load(cls, folder: str | Path, stored: Mapping[str, Any] | None = None) -> SmallTeacher:
        """Read a teacher folder; weights come back in float32, in eval mode.

        Args:
            folder: holds config.json and weights.safetensors.
            stored: the content of config.json, where it has been read.

        Raises:
            UserError: the folder holds no small teacher, has no weights yet, or they don't fit its configuration.
        """
        folder = Path(folder)
        model = cls(config_from(read_stored(folder) if stored is None else stored, folder / CONFIG_FILE))
        file = folder / WEIGHTS_FILE
        if not file.is_file():
            raise UserError(
                f"{file}: the teacher's weights are missing; train them with "
                "`symdistill train-teacher --config configs/teacher_words.yaml`, or give the folder of a trained one"
            )
        try:
            model.load_state_dict(load_file(file))
        except (SafetensorError, RuntimeError) as error:
            reason = str(error).splitlines()[0]
            raise UserError(f"{file}: no weights of the teacher in {CONFIG_FILE} beside it ({reason})") from None
        return model.eval()


def config_from(stored: Mapping[str, Any], file: Path) -> SmallTeacherConfig:
    """Build a small teacher's sizes from its `config.json`; raises `UserError` when it describes another thing."""
    known = {field.name for field in fields(SmallTeacherConfig)}
    if stored.get("format") != FORMAT or set(stored) - known - {"format"}:
        raise UserError(f"{file}: no configuration of a small teacher; it must say {FORMAT!r} under `format`")
    values: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in stored.items() if k != "format"}
    return SmallTeacherConfig(**values)
