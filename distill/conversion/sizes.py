"""Sizes of a published recogniser: from its weights, then from its settings, and only then assumed, which is told."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from distill.conversion.checkpoints import Checkpoint
from distill.conversion.converted import ConversionOptions
from students.charset import CHARSETS, Charset
from students.errors import UserError

PUBLISHED_IMAGE = (32, 128)
"""Picture height and width of CLIP-OCR and PARSeq."""
PUBLISHED_DROPOUT = 0.1
HEAD_WIDTHS = {"encoder": 64, "decoder": 32}
"""Channels of one attention head in every published size of CLIP-OCR and PARSeq."""


class Sizes:
    """Ask a checkpoint for its sizes.

    Args:
        checkpoint: the file.
        options: what the user says beside it.

    Attributes:
        assumed: what neither weights nor settings told, in words.
    """

    def __init__(self, checkpoint: Checkpoint, options: ConversionOptions) -> None:
        self.checkpoint, self.options = checkpoint, options
        self.assumed: list[str] = []

    def charset(self, classes: int) -> str:
        """Give the alphabet of a head with `classes` outputs, the end among them.

        Raises:
            UserError: when file and user contradict each other or the head, or nobody says.
        """
        path, count = self.checkpoint.path, classes - 1
        said = self.checkpoint.settings.get("charset_train")
        given = None if self.options.charset is None else Charset.load(self.options.charset).characters
        if isinstance(said, str) and given not in (None, said):
            raise UserError(f"{path}: was trained with the alphabet {said!r}; leave --charset out")
        characters = said if isinstance(said, str) else given
        if characters is None:
            characters = next((known for known in CHARSETS.values() if len(known) == count), None)
            if characters is None:
                raise UserError(f"{path}: doesn't say which {count} characters it reads; give them with --charset FILE")
            self.assumed.append(f"alphabet: the usual {count} characters")
        if len(characters) != count:
            raise UserError(
                f"{path}: reads {count} characters, the alphabet has {len(characters)}; give the one it was trained "
                "with as --charset FILE, in the order of its ids"
            )
        return characters

    def heads(self, part: str, width: int) -> int:
        """Give the attention heads of `encoder` or `decoder`, which no shape tells.

        Raises:
            UserError: when nobody says and the width is none of the published sizes, or they don't divide it.
        """
        said = self.checkpoint.settings.get({"encoder": "enc_num_heads", "decoder": "dec_num_heads"}[part])
        if self.options.heads is not None:
            heads = self.options.heads[0 if part == "encoder" else 1]
        elif isinstance(said, int):
            heads = said
        elif width % HEAD_WIDTHS[part] == 0:
            heads = width // HEAD_WIDTHS[part]
            self.assumed.append(f"{part} heads: {heads}, the published ones at {width} channels")
        else:
            raise UserError(
                f"{self.checkpoint.path}: doesn't say how many attention heads its {part} of {width} channels has; "
                "give those of encoder and decoder as --heads E,D"
            )
        if heads < 1 or width % heads:
            raise UserError(f"{self.checkpoint.path}: {heads} heads don't divide {width} channels; mend --heads")
        return heads

    def image(self, patch: tuple[int, int], patches: int) -> tuple[int, int]:
        """Give the picture's height and width from the number of its patches.

        Raises:
            UserError: when it doesn't fit, or nobody says and it isn't the published size.
        """
        said = self.checkpoint.settings.get("img_size")
        if isinstance(said, list | tuple) and len(said) == 2 and all(type(side) is int for side in said):
            size = (said[0], said[1])
        elif self.options.image is not None:
            size = self.options.image
        else:
            size = PUBLISHED_IMAGE
            self.assumed.append(f"picture size: {size[0]}x{size[1]}, the published one")
        if (size[0] // patch[0]) * (size[1] // patch[1]) != patches:
            raise UserError(
                f"{self.checkpoint.path}: has {patches} positions, {size[0]}x{size[1]} pixels give other ones with "
                f"patches of {patch[0]}x{patch[1]}; give its picture size as --image H,W"
            )
        return size

    def dropout(self) -> float:
        """Give the decoder's dropout, for training on: the file's or the published one."""
        said: Any = self.checkpoint.settings.get("dropout")
        return float(said) if type(said) in (int, float) else PUBLISHED_DROPOUT


def depth(tensors: Mapping[str, Tensor], prefix: str) -> int:
    """Count the blocks whose names start with `prefix`."""
    return len({name[len(prefix) :].partition(".")[0] for name in tensors if name.startswith(prefix)})


def need(checkpoint: Checkpoint, *names: str) -> list[Tensor]:
    """Give the weights that sizes are read from.

    Raises:
        UserError: when one isn't there, so that this is no checkpoint of the kind.
    """
    missing = [name for name in names if name not in checkpoint.tensors]
    if missing:
        raise UserError(f"{checkpoint.path}: has no {missing[0]}; it is a checkpoint of another program")
    return [checkpoint.tensors[name] for name in names]
