"""Share between converters: options, model sizes from a checkpoint, loading its weights, and the result."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from distill.conversion.checkpoints import Checkpoint
from students.charset import CHARSETS, Charset
from students.errors import UserError
from students.pretrained import check_finite
from teachers.weights import count_blocks

MAX_NAMES = 12
"""Names that an error message lists; the rest is counted."""
DEFAULT_IMAGE = (32, 128)
"""Picture height and width of CLIP-OCR and PARSeq."""
DEFAULT_DROPOUT = 0.1
HEAD_WIDTHS = {"encoder": 64, "decoder": 32}
"""Channels of one attention head in every released size of CLIP-OCR and PARSeq."""


@dataclass(frozen=True)
class ConversionOptions:
    """What the user says beside the checkpoint."""

    charset: str | None = None
    """Alphabet, for a file that doesn't say: 36, 62, 94, 95 or a text file."""
    heads: tuple[int, int] | None = None
    """Attention heads of encoder and decoder, for a file that doesn't say."""
    image: tuple[int, int] | None = None
    """Height and width of the pictures in pixels, for a file that doesn't say."""
    clip: Path | None = None
    """Weights of the frozen CLIP that a CLIP-OCR was trained with."""
    guidance: bool = False
    """Convert what only training needs too, when the checkpoint has it."""


@dataclass(frozen=True)
class Converted:
    """A converted reader and an account of the file's weights."""

    reader: Any
    """The reader, with its weights: a module with `save_pretrained`."""
    unused: Mapping[str, list[str]] = field(default_factory=dict)
    """Names in the file that are no part of the reader, by what they are."""
    missing: list[str] = field(default_factory=list)
    """Names that belong to such a checkpoint and aren't in the file, though reading doesn't need them."""
    assumed: list[str] = field(default_factory=list)
    """Sizes that the file doesn't tell, and the values assumed for them."""
    parts: Mapping[str, Callable[[Path], None]] = field(default_factory=dict)
    """Further folders inside the reader's: name, and what writes each."""


def fill(module: nn.Module, checkpoint: Checkpoint, stored_name: Callable[[str], str] = str) -> set[str]:
    """Load every weight of a module from a checkpoint, in the module's own precision.

    Args:
        module: is filled.
        checkpoint: holds the weights.
        stored_name: maps a weight's name to that in the file.

    Returns:
        The names in the file that were used.

    Raises:
        UserError: when a weight is missing, has another shape, or is NaN or infinite.
    """
    own = module.state_dict()
    stored, names = checkpoint.tensors, {name: stored_name(name) for name in own}
    if missing := [name for name in names.values() if name not in stored]:
        raise UserError(f"{checkpoint.path}: lacks {list_names(missing)}; give the whole checkpoint")
    misfits = [
        f"{other} {(*stored[other].shape,)} for {(*own[name].shape,)}"
        for name, other in names.items() if stored[other].shape != own[name].shape
    ]  # fmt: skip
    if misfits:
        raise UserError(
            f"{checkpoint.path}: {list_names(misfits)}: shapes of another program; its sizes can't be inferred"
        )
    check_finite({name: stored[name] for name in names.values()}, str(checkpoint.path))
    module.load_state_dict({name: stored[other].to(own[name].dtype) for name, other in names.items()})
    return set(names.values())


def list_names(names: list[str]) -> str:
    """List names in a message, counting those beyond `MAX_NAMES`."""
    more = f" and {len(names) - MAX_NAMES} more" if len(names) > MAX_NAMES else ""
    return ", ".join(names[:MAX_NAMES]) + more


class Sizes:
    """The sizes of a checkpoint's model: from weights and settings, from the user, and only then assumed.

    Args:
        checkpoint: the file.
        options: what the user says beside it.

    Attributes:
        assumed: what none of them tells, and the value assumed, in words.
    """

    def __init__(self, checkpoint: Checkpoint, options: ConversionOptions) -> None:
        self.checkpoint, self.options = checkpoint, options
        self.assumed: list[str] = []

    def charset(self, classes: int) -> str:
        """Return the alphabet of a head with `classes` outputs, the end among them.

        Raises:
            UserError: when file and user contradict each other or the head, or neither says.
        """
        path, count = self.checkpoint.path, classes - 1
        stored = self.checkpoint.settings.get("charset_train")
        given = None if self.options.charset is None else Charset.load(self.options.charset).characters
        if isinstance(stored, str) and given not in (None, stored):
            raise UserError(f"{path}: was trained with the alphabet {stored!r}; leave --charset out")
        characters = stored if isinstance(stored, str) else given
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

    def refuse_contradiction(self, option: str, what: str, given: object, stored: object) -> None:
        """Refuse an option that was given and contradicts the file; raises `UserError`."""
        if given is not None and given != stored:
            raise UserError(f"{self.checkpoint.path}: has {what} {stored}, not {given}; leave {option} out")

    def heads(self, part: str, width: int) -> int:
        """Return the attention heads of `encoder` or `decoder`, which no shape tells.

        Raises:
            UserError: when neither file nor user says and no released size has this width, or they don't divide it.
        """
        stored = self.checkpoint.settings.get({"encoder": "enc_num_heads", "decoder": "dec_num_heads"}[part])
        given = None if self.options.heads is None else self.options.heads[0 if part == "encoder" else 1]
        if isinstance(stored, int):
            heads = stored
            self.refuse_contradiction("--heads", f"{part} heads", given, stored)
        elif given is not None:
            heads = given
        elif width % HEAD_WIDTHS[part] == 0:
            heads = width // HEAD_WIDTHS[part]
            self.assumed.append(f"{part} heads: {heads}, those of the released weights at {width} channels")
        else:
            raise UserError(
                f"{self.checkpoint.path}: doesn't say how many attention heads its {part} of {width} channels has; "
                "give those of encoder and decoder as --heads E,D"
            )
        if heads < 1 or width % heads:
            raise UserError(f"{self.checkpoint.path}: {heads} heads don't divide {width} channels; mend --heads")
        return heads

    def image(self, patch: tuple[int, int], patches: int) -> tuple[int, int]:
        """Return the picture's height and width for a number of patches.

        Raises:
            UserError: when they don't fit.
        """
        stored = self.checkpoint.settings.get("img_size")
        if isinstance(stored, list | tuple) and len(stored) == 2 and all(type(side) is int for side in stored):
            size = (stored[0], stored[1])
            self.refuse_contradiction("--image", "height and width", self.options.image, size)
        elif self.options.image is not None:
            size = self.options.image
        else:
            size = DEFAULT_IMAGE
            self.assumed.append(f"picture size: {size[0]}x{size[1]}, that of the released weights")
        if (size[0] // patch[0]) * (size[1] // patch[1]) != patches:
            raise UserError(
                f"{self.checkpoint.path}: has {patches} positions, {size[0]}x{size[1]} pixels give other ones with "
                f"patches of {patch[0]}x{patch[1]}; give its picture size as --image H,W"
            )
        return size

    def integer(self, name: str, default: int, what: str, given: int | None = None, option: str = "") -> int:
        """Return a whole number of the settings, else the user's, else the released one, which is noted as assumed.

        Raises:
            UserError: when the user's contradicts the file.
        """
        stored: Any = self.checkpoint.settings.get(name)
        if type(stored) is int:
            self.refuse_contradiction(option, what, given, stored)
            return stored
        if given is not None:
            return given
        self.assumed.append(f"{what}: {default}, as in the reference implementation")
        return default

    def switch(self, name: str, default: bool) -> bool:
        """Return a switch of the settings, or the reference implementation's default."""
        stored: Any = self.checkpoint.settings.get(name)
        return stored if isinstance(stored, bool) else default

    def dropout(self) -> float:
        """Return the decoder's dropout, for further training: the file's or that of the released weights."""
        stored: Any = self.checkpoint.settings.get("dropout")
        return float(stored) if type(stored) in (int, float) else DEFAULT_DROPOUT


def vit_sizes(checkpoint: Checkpoint, sizes: Sizes, prefix_tokens: int) -> dict[str, Any]:
    """Read the sizes that CLIP-OCR and PARSeq have in common: from weights, and what no shape tells from `sizes`.

    Args:
        checkpoint: the file.
        sizes: says what no weight does.
        prefix_tokens: positions of the encoder before those of the patches.

    Raises:
        UserError: when a weight is missing or of another program, or a size can't be told.
    """
    queries, patches, grid, hidden, decoder_hidden, head = need(
        checkpoint, "pos_queries", "encoder.patch_embed.proj.weight", "encoder.pos_embed",
        "encoder.blocks.0.mlp.fc1.weight", "decoder.layers.0.linear1.weight", "head.weight",
    )  # fmt: skip
    if queries.ndim != 3 or patches.ndim != 4:
        raise UserError(f"{checkpoint.path}: its weights have other shapes; it is a checkpoint of another program")
    width, patch = queries.shape[2], (patches.shape[2], patches.shape[3])
    return {
        "charset": sizes.charset(len(head)),
        "max_length": queries.shape[1] - 1,
        "image_size": sizes.image(patch, grid.shape[1] - prefix_tokens),
        "patch": patch,
        "width": width,
        "depth": count_blocks(checkpoint.tensors, "encoder.blocks."),
        "heads": sizes.heads("encoder", width),
        "mlp_ratio": len(hidden) / width,
        "decoder_depth": count_blocks(checkpoint.tensors, "decoder.layers."),
        "decoder_heads": sizes.heads("decoder", width),
        "decoder_mlp_ratio": len(decoder_hidden) / width,
        "dropout": sizes.dropout(),
    }


def need(checkpoint: Checkpoint, *names: str) -> list[Tensor]:
    """Return the weights that sizes are read from.

    Raises:
        UserError: when one isn't there, so that this is no checkpoint of the kind.
    """
    missing = [name for name in names if name not in checkpoint.tensors]
    if missing:
        raise UserError(f"{checkpoint.path}: has no {missing[0]}; it is a checkpoint of another program")
    return [checkpoint.tensors[name] for name in names]
