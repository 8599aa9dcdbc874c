"""Reader: the base class of all readers in PyTorch, and their folders of config.json and model.safetensors."""

from __future__ import annotations

import dataclasses
import json
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from typing_extensions import Self

from students.charset import Charset
from students.decoding import DECODERS, LogitsKind, Reading
from students.errors import UserError
from students.files import replacing, write_file
from students.language_model import NO_MODEL, OWN, OWN_FILE, LanguageModel, load_language_model
from students.padding import real_widths
from students.picture_reader import PictureReader, read_by_width
from students.pretrained import SCHEMA, config_from, load_weights, locate, read_stored

if hasattr(os, "register_at_fork"):  # a forked process has none of its parent's threads, and would wait for them
    os.register_at_fork(after_in_child=lambda: torch.set_num_threads(1))
Decoding = Literal["ar", "nar"]
"""`ar`: one character after the other (autoregressive); `nar`: all at once."""


class Reader(PictureReader, nn.Module):
    """A reader of word pictures, normalised with mean 0.5 and std 0.5 at `image_size`.

    Subclasses define `FORMAT` and `CONFIG`, set `config`, `charset` and `max_length`, and have a forward pass from
    pictures (N, 3, H, W) and an optional longest word to logits (N, steps, C + 1) of the kind `LOGITS`.
    """

    FORMAT: ClassVar[str]
    """Value of `format` in config.json."""
    CONFIG: ClassVar[type]
    """Class of `config`: a frozen dataclass whose fields all have defaults, `charset` and `max_length` among them."""
    LOGITS: ClassVar[LogitsKind] = "attention"
    """What the logits stand for."""

    config: Any
    charset: Charset
    max_length: int
    source: Path | None = None
    """Folder it was loaded from; None for a new one."""

    @property
    def image_size(self) -> tuple[int, int]:
        """Height and width of the input in pixels."""
        height, width = self.config.image_size
        return height, width

    @property
    def keep_aspect(self) -> bool:
        """Whether pictures keep their aspect, see `students.pictures.to_array`."""
        return bool(getattr(self.config, "keep_aspect", False))

    @property
    def turn_tall(self) -> bool:
        """Whether tall pictures are read turned too, see `students.turning`."""
        return bool(getattr(self.config, "turn_tall", False))

    @property
    def parameters_count(self) -> int:
        """Number of weights."""
        return sum(weight.numel() for weight in self.parameters())

    @property
    def device(self) -> torch.device:
        """Device of the weights."""
        return next(self.parameters()).device

    def no_weight_decay(self) -> set[str]:
        """Return the names of the weights of two and more dimensions that are never decayed."""
        return set()

    def encode(self, images: Tensor) -> Tensor:
        """Encode (N, 3, H, W) pictures to the tokens (N, S, D) that characters are decoded from."""
        raise NotImplementedError

    def summary(self) -> dict[str, str]:
        """Describe the model in words, for its card: a value for each of a few headings."""
        return {}

    @property
    def chooses_decoding(self) -> bool:
        """Whether `decoding` and `refine_iters` can be chosen after training."""
        return hasattr(self.config, "decoding")

    def choose_decoding(self, decoding: Decoding | None = None, refine_iters: int | None = None) -> None:
        """Change how it decodes; None keeps what is configured.

        Raises:
            UserError: when it can't be chosen, or the value is out of range.
        """
        chosen = {"decoding": decoding, "refine_iters": refine_iters}
        changed = {name: value for name, value in chosen.items() if value is not None}
        if changed and not self.chooses_decoding:
            raise UserError(f"this {type(self).__name__.lower()} reads as it was trained to, and has no choice")
        if refine_iters is not None and (type(refine_iters) is not int or refine_iters < 0):
            raise UserError(f"refine_iters is {refine_iters!r}; give a whole number, 0 or more")
        self.config = dataclasses.replace(self.config, **changed)

    @property
    def logits_kind(self) -> LogitsKind:  # type: ignore[override]
        """See `PictureReader`."""
        return self.LOGITS

    @property
    def language_model(self) -> LanguageModel | None:
        """See `PictureReader`; what is set is saved and exported too."""
        return self._language_model

    @language_model.setter
    def language_model(self, language_model: LanguageModel | None) -> None:
        PictureReader.language_model.fset(self, language_model)  # type: ignore[attr-defined]
        name = NO_MODEL if language_model is None else language_model.name
        if getattr(self.config, "language_model", name) != name:
            self.config = dataclasses.replace(self.config, language_model=name)

    def place(self, device: str, threads: int | None) -> Self:
        """Move to a device; threads are torch's own."""
        return self.to(device)

    @torch.inference_mode()
    def read_batch(self, images: Tensor, allowed: np.ndarray | None = None) -> list[Reading]:
        """Read normalised pictures (N, 3, H, W): one reading each. The reader must be in eval mode.

        Args:
            images: the pictures.
            allowed: see `PictureReader.read_arrays`.
        """
        if not self.keep_aspect:
            return self.readings(self._logits(images), allowed)
        widths = real_widths(images).tolist()
        return read_by_width(lambda group, widths: self.readings(self._logits(group), allowed, widths), images, widths)

    def _logits(self, images: Tensor) -> Tensor:
        """Run the model; raises `UserError` for one of one's own whose logits have another shape."""
        logits, classes = self(images), len(self.charset.characters) + 1
        shape = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
        if not isinstance(logits, Tensor) or len(shape) != 3 or (shape[0], shape[2]) != (len(images), classes):
            raise UserError(f"{self.FORMAT} gives {shape} for logits; give a tensor ({len(images)}, steps, {classes})")
        return logits

    def readings(
        self, logits: Tensor, allowed: np.ndarray | None = None, lengths: Sequence[int] | None = None
    ) -> list[Reading]:
        """Decode the logits of a forward pass to words, with `language_model`; arguments are those of `decode_ctc`.

        Raises:
            UserError: when they are NaN.
        """
        readings = DECODERS[self.LOGITS](self.charset, logits, allowed, lengths, self.language_model)
        if not all(math.isfinite(reading.confidence) for reading in readings):
            raise UserError("the reader gives NaN instead of probabilities: its weights are damaged")
        return readings

    def read_arrays(self, images: np.ndarray, allowed: np.ndarray | None = None) -> list[Reading]:
        """Read normalised pictures (N, 3, H, W) float32, in eval mode and the precision of the weights.

        Then every module's mode is restored.
        """
        training = [module for module in self.modules() if module.training]
        self.eval()
        try:
            return self.read_batch(torch.from_numpy(images).to(self.device, next(self.parameters()).dtype), allowed)
        finally:
            for module in training:
                module.training = True

    def save_pretrained(self, folder: str | Path, dtype: Literal["float32", "float16"] = "float32") -> None:
        """Write config.json and model.safetensors into `folder`, and the language model's own list, if it has one.

        Both are complete before either gets its name, so that a failure leaves the files of before.

        Args:
            folder: made when it isn't there.
            dtype: of the stored weights; `float16` halves the file.

        Raises:
            UserError: for another `dtype`, or when it reads with a language model that its configuration can't name.
        """
        if dtype not in ("float32", "float16"):
            raise UserError(f"dtype {dtype!r}; weights are stored as float32 or float16")
        if self.language_model is not None and not hasattr(self.config, "language_model"):
            raise UserError(
                f"{type(self).__name__}: its configuration has no field `language_model`, so that it would be stored "
                "without the one that is set; add the field, or set reader.language_model = None"
            )
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        config = {"format": self.FORMAT, "schema": SCHEMA, **self.config_to_dict()}
        stored_dtype = getattr(torch, dtype)
        weights = {
            name: (value.to(stored_dtype) if value.is_floating_point() else value).detach().cpu().contiguous()
            for name, value in self.state_dict().items()
        }
        with replacing(folder / "config.json") as config_file, replacing(folder / "model.safetensors") as weights_file:
            config_file.write_text(json.dumps(config, indent=2, ensure_ascii=True) + "\n", encoding="utf-8")
            save_file(weights, weights_file)
            weights_file.chmod(0o644)  # safetensors makes files that only their owner can read
            if self.language_model is not None and (own := self.language_model.own_text) is not None:
                write_file(folder / OWN_FILE, own)

    @classmethod
    def from_pretrained(cls, name_or_folder: str | Path, charset: Charset | None = None) -> Self:
        """Load a shipped reader by name, a folder, or a Hugging Face hub repository, in eval mode.

        Args:
            name_or_folder: `tiny`, a folder with config.json and model.safetensors, or `owner/name` on the hub.
            charset: when given, the folder must have exactly this alphabet.

        Raises:
            UserError: when there is no such reader, its files are broken, or its alphabet is another.
        """
        folder = locate(name_or_folder)
        return cls.from_folder(folder, read_stored(folder), charset)

    @classmethod
    def from_folder(cls, folder: Path, stored: Mapping[str, Any], charset: Charset | None = None) -> Self:
        """Load a reader from a folder whose config.json has been read; see `from_pretrained`."""
        stored = dict(stored)
        if stored.pop("format") != cls.FORMAT:
            raise UserError(
                f"{folder / 'config.json'} does not describe a {cls.__name__.lower()}; give a folder that says "
                f"{cls.FORMAT!r} as its format there"
            )
        config = cls.config_from_dict(stored, folder / "config.json")
        if charset is not None and charset != Charset(config.charset):
            raise UserError(
                f"{folder}: has an alphabet of {len(config.charset)} characters ({config.charset[:40]}), not "
                f"the {len(charset.characters)} asked for; set student.charset to its own, or student.remap=true"
            )
        with torch.random.fork_rng(devices=[]):  # the weights that are drawn are replaced
            reader = cls(config).float()
        load_weights(reader, folder)
        reader.source = folder.resolve()
        name = str(getattr(config, "language_model", NO_MODEL))
        if name != NO_MODEL and (OWN in name.split("+") or reader.language_model is None):
            reader.language_model = load_language_model(name, folder / OWN_FILE)
        return reader.eval()

    def config_to_dict(self) -> dict[str, Any]:
        """Return the configuration as it is stored in JSON."""
        return dataclasses.asdict(self.config)

    @classmethod
    def config_from_dict(cls, stored: Mapping[str, Any], path: Path) -> Any:
        """Build the configuration from stored JSON; raises `UserError` when it is of another kind of reader."""
        return config_from(cls.CONFIG, stored, path)
