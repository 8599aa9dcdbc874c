"""Whatever reads pictures of words, behind one protocol, and the function that opens a model by name or path.

Nothing here imports torch before a reader needs it: an ONNX file is opened and read without.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol, runtime_checkable

from distill.deployment.onnx_reader import OnnxReader
from students.decoding import Reading
from students.errors import UserError
from students.onnx_files import read_file, read_properties
from students.pretrained import name_of, shipped
from teachers.onnx_options import ONNX_NAME
from teachers.peers import Peer, is_peer, open_peer

if TYPE_CHECKING:
    from PIL import Image

    from students.reading import Decoding, Reader

Role = Literal["student", "baseline", "teacher", "peer"]
ReadingKind = Literal["open", "closed-lexicon"]


@runtime_checkable
class WordReader(Protocol):
    """Reads words from pictures."""

    name: str
    """Its name in tables."""
    role: Role
    """A student, the same student trained without a teacher, a teacher, or a reader of another program."""
    reading: ReadingKind
    """`open` reads any word; `closed-lexicon` chooses among given ones, which is far easier."""
    charset: str
    """Characters it can read."""

    @property
    def params(self) -> int | None:
        """Number of its weights; None when it doesn't tell."""
        ...

    def read_pictures(self, pictures: Sequence[Image.Image]) -> list[Reading]:
        """Read RGB pictures of any size: one reading each."""
        ...

    def place(self, device: str, threads: int | None) -> WordReader:
        """Return the reader on a device with a number of CPU threads, where it has a choice."""
        ...


class ModelReader:
    """A reader that reads any word: in memory, in an ONNX file, or of another program.

    Args:
        model: the reader.
        name: its name in tables; None takes that of the file, of the folder it came from, or its kind.
        role: its role in a comparison.
    """

    reading: ReadingKind = "open"

    def __init__(self, model: Reader | OnnxReader | Peer, name: str | None = None, role: Role = "student") -> None:
        self.model, self.name, self.role = model, name or name_of_model(model), role
        self.params, self.charset = model.parameters_count, model.charset.characters

    @property
    def language_model(self) -> str | None:
        """Name of the language model that weighs its words; None without one."""
        return None if self.model.language_model is None else self.model.language_model.name

    def read_pictures(self, pictures: Sequence[Image.Image]) -> list[Reading]:
        """See `WordReader`."""
        return self.model.read_pictures(pictures)

    def place(self, device: str, threads: int | None) -> ModelReader:
        """See `WordReader`."""
        model = self.model.place(device, threads)
        return self if model is self.model else ModelReader(model, self.name, self.role)


def name_of_model(model: Reader | OnnxReader | Peer) -> str:
    """Return the name of a reader: its file's, its folder's, or its kind's where it has been in neither."""
    if isinstance(model, OnnxReader | Peer):
        return model.name
    return type(model).__name__.lower() if model.source is None else name_of(model.source)


def open_without_torch(name_or_path: str, threads: int | None = None) -> OnnxReader | Peer | None:
    """Open what reads without torch: an ONNX file, ours or another program's, or a peer by name; None for the rest.

    Raises:
        UserError: when it isn't there, or can't be read.
    """
    path = Path(name_or_path)
    if path.name in ("config.json", "model.safetensors") and path.is_file():
        raise UserError(f"{path} is a part of a reader; give its folder, {path.parent}")
    match = ONNX_NAME.fullmatch(name_or_path)
    if match is None and name_or_path not in shipped() and os.path.isfile(name_or_path):
        return OnnxReader(name_or_path, threads)
    if match is not None and match["options"] is None:
        path = Path(match["path"])
        if "format" in read_properties(read_file(path), path):
            return OnnxReader(path, threads)
    return open_peer(name_or_path, threads) if is_peer(name_or_path) else None


def open_model(name_or_path: str, role: Role = "student", threads: int | None = None) -> ModelReader:
    """Open a model that reads any word: a shipped name, a folder, a hub repository, an ONNX file or a peer.

    Raises:
        UserError: when there is no such reader, or its files are broken.
    """
    if (opened := open_without_torch(name_or_path, threads)) is not None:
        return ModelReader(opened, role=role)
    from teachers.registry import load_reader

    return ModelReader(load_reader(name_or_path), name_of(name_or_path), role)


def choose_decoding(readers: Sequence[WordReader], decoding: Decoding | None, refine_iters: int | None) -> None:
    """Change how those readers decode that have a choice; None leaves what is configured.

    Raises:
        UserError: when something is chosen and none of them has a choice.
    """
    if decoding is None and refine_iters is None:
        return
    models = [reader.model for reader in readers if isinstance(reader, ModelReader)]
    able = [model for model in models if not isinstance(model, OnnxReader | Peer) and model.chooses_decoding]
    if not able:
        raise UserError(
            "none of these can decode in another way, as PARSeq, CLIP4STR and students that refine do; leave --nar and "
            "--refine-iters out (an ONNX file reads as it was exported)"
        )
    for model in able:
        model.choose_decoding(decoding, refine_iters)


def choose_language_model(readers: Sequence[WordReader], given: str | None) -> None:
    """Change the language model of those readers that read by CTC; None leaves what they have.

    Args:
        readers: opened.
        given: see `open_language_model`.

    Raises:
        UserError: when there is no such language model, or none of them reads by CTC.
    """
    if given is None:
        return
    from distill.data.language_models import open_language_model

    chosen = open_language_model(given)
    able = [reader for reader in readers if isinstance(reader, ModelReader) and reader.model.logits_kind == "ctc"]
    if not able:
        raise UserError("none of these reads by CTC, which a language model is for; leave --language-model out")
    for reader in able:
        reader.model.language_model = chosen


def choose_device(device: Literal["auto", "cpu", "cuda"]) -> str:
    """Choose the device to read on: with `auto` the GPU when there is one.

    Raises:
        UserError: when a GPU is asked for that torch can't use.
    """
    import torch

    if device not in ("auto", "cpu", "cuda"):
        raise UserError(f"device {device!r}; give auto, cpu or cuda")
    available = torch.cuda.is_available()
    if device == "cuda" and not available:
        raise UserError("no GPU that torch can use is here; take --device cpu")
    return "cuda" if available and device != "cpu" else "cpu"
