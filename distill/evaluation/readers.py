"""Readers: whatever reads pictures of words, behind one protocol, so that all are scored alike."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal, Protocol, runtime_checkable

import torch
from torch import Tensor

from distill.deployment.reader import OnnxReader
from students.charset import Reading
from students.errors import UserError
from students.pretrained import name_of
from students.projections import DecoderDtype
from students.reading import Decoding, Reader
from teachers.registry import load_reader

Role = Literal["student", "baseline", "teacher"]
ReadingKind = Literal["open", "closed-lexicon"]


@runtime_checkable
class WordReader(Protocol):
    """Reads words from pictures."""

    name: str
    """What tables call it."""
    role: Role
    """A student, the same student trained without guidance, or a teacher."""
    reading: ReadingKind
    """`open` reads any word; `closed-lexicon` chooses among given ones, which is far easier."""
    params: int
    """Its weights."""
    charset: str
    """Characters it can give."""
    image_size: tuple[int, int]
    """Height and width of its input."""

    def read_batch(self, images: Tensor) -> list[Reading]:
        """Read normalised pictures (N, 3, H, W): one reading each."""
        ...


class StudentReader:
    """A student, or another reader, in memory.

    Args:
        student: put into eval mode when it reads, and back.
        name: what tables call it.
        role: what it is in the comparison.
    """

    reading: ReadingKind = "open"

    def __init__(self, student: Reader, name: str, role: Role = "student") -> None:
        self.student, self.name, self.role = student, name, role
        self.params, self.charset = student.parameters_count, student.charset.characters
        self.image_size = student.image_size

    def read_batch(self, images: Tensor) -> list[Reading]:
        """See `WordReader`."""
        was_training = self.student.training
        self.student.eval()
        readings = self.student.read_batch(images.to(self.student.device))
        self.student.train(was_training)
        return readings

    def place(self, device: str, threads: int | None) -> StudentReader:
        """Move to a device; threads are torch's own."""
        self.student.to(device)
        return self


class OnnxStudent:
    """A student as one ONNX file, on the CPU.

    Raises:
        UserError: when the file is missing or not a student's.
    """

    reading: ReadingKind = "open"

    def __init__(self, path: Path, name: str | None = None, role: Role = "student", threads: int | None = None) -> None:
        self.path, self.role, self.threads = path, role, threads
        self.reader = OnnxReader(path, threads)
        self.name = name or self.reader.name
        self.params, self.charset, self.image_size = self.reader.params, self.reader.charset, self.reader.image_size

    def read_batch(self, images: Tensor) -> list[Reading]:
        """See `WordReader`."""
        return self.reader.read_batch(images)

    def place(self, device: str, threads: int | None) -> OnnxStudent:
        """Give the same reader with another number of threads, which a session takes when it is opened."""
        return self if threads == self.threads else OnnxStudent(self.path, self.name, self.role, threads)


def open_reader(name_or_path: str, role: Role = "student", threads: int | None = None) -> WordReader:
    """Open a shipped student by name, the folder of a reader of any kind, or an ONNX file.

    Args:
        name_or_path: what commands call `--student`.
        role: what it is in the comparison.
        threads: CPU threads of an ONNX file; None leaves the choice to onnxruntime.

    Raises:
        UserError: when there is no such reader, or its files are broken.
    """
    path = Path(name_or_path)
    if path.suffix.lower() == ".onnx" or path.is_file():
        return OnnxStudent(path, role=role, threads=threads)
    return StudentReader(load_reader(name_or_path), name_of(name_or_path), role)


def choose_decoding(readers: Sequence[WordReader], decoding: Decoding | None, refine_iters: int | None) -> None:
    """Let those readers that have a choice read otherwise than configured; None keeps what is.

    Raises:
        UserError: when something is chosen and none of them has a choice.
    """
    if decoding is None and refine_iters is None:
        return
    able = [reader for reader in readers if isinstance(reader, StudentReader) and reader.student.chooses_decoding]
    if not able:
        raise UserError(
            "none of these chooses how to read, as folders of PARSeq and CLIP4STR do, and of students that refine; "
            "leave --nar and --refine_iters out (an ONNX file reads as it was exported)"
        )
    for reader in able:
        reader.student.choose_decoding(decoding, refine_iters)


def choose_decoder_dtype(readers: Sequence[WordReader], dtype: DecoderDtype) -> None:
    """Let those readers that are in memory decode with weights of another type.

    Raises:
        UserError: when that is chosen and none of them can.
    """
    able = [reader for reader in readers if isinstance(reader, StudentReader)]
    if dtype != "float32" and not able:
        raise UserError("none of these decodes in PyTorch; leave --decoder-dtype out")
    for reader in able:
        reader.student.choose_decoder_dtype(dtype)


def place(reader: WordReader, device: str, threads: int | None) -> WordReader:
    """Put a reader on a device with a number of CPU threads, where it has a choice."""
    placed = getattr(reader, "place", None)
    return reader if placed is None else placed(device, threads)


def choose_device(wanted: Literal["auto", "cpu", "cuda"]) -> str:
    """Take the GPU when there is one, unless told otherwise; raises `UserError` for a GPU that isn't there."""
    if wanted == "cuda" and not torch.cuda.is_available():
        raise UserError("no GPU that torch can use is here; take --device cpu")
    return ("cuda" if torch.cuda.is_available() else "cpu") if wanted == "auto" else wanted
