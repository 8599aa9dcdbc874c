"""StageStore: a file in which processes and runs share what a frozen teacher showed."""

from __future__ import annotations

import hashlib
import weakref
from collections.abc import Hashable, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import lmdb
import torch
from safetensors.torch import load, save
from torch import Tensor

from students.errors import UserError

BATCH = 256
"""Entries that are written together."""


class Store(NamedTuple):
    """Where stages are to be shared."""

    folder: Path
    bytes: int
    """Most bytes of the file."""


class StageStore:
    """Tuples of tensors by key, in an LMDB environment that any number of processes of a machine read and write.

    Entries are exact. They lie under the weights that made them and the version of torch, so one file serves several
    teachers. A file that is full takes nothing more. What waits to be written is written when the process ends, unless
    it is killed; then it is computed again some day.

    Args:
        folder: where the file is, or is to be.
        bytes_: most bytes of the file.
        source: names what makes the entries, see `fingerprint`.

    Raises:
        UserError: when the folder can't be used for it.
    """

    def __init__(self, folder: str | Path, bytes_: int, source: bytes) -> None:
        self.folder, self.bytes, self.source = Path(folder).resolve(), bytes_, source
        self.full = False
        self._waiting: dict[bytes, bytes] = {}
        weakref.finalize(self, write, self._environment(), self._waiting)

    def __reduce__(self) -> tuple[type[StageStore], tuple[Path, int, bytes]]:
        return StageStore, (self.folder, self.bytes, self.source)

    def __len__(self) -> int:
        return int(self._environment().stat()["entries"])

    def find(self, key: Hashable) -> tuple[Tensor, ...] | None:
        """Give an entry, on the CPU; None when there is none."""
        name = self._name(key)
        stored = self._waiting.get(name)
        if stored is None:
            with self._environment().begin() as transaction:
                stored = transaction.get(name)
        if stored is None:
            return None
        tensors = load(stored)
        return tuple(tensors[str(number)] for number in range(len(tensors)))

    def put(self, key: Hashable, entry: Sequence[Tensor]) -> None:
        """Keep an entry."""
        if self.full:
            return
        tensors = {str(number): tensor.detach().cpu().contiguous() for number, tensor in enumerate(entry)}
        self._waiting[self._name(key)] = save(tensors)
        if len(self._waiting) >= BATCH:
            self.write()

    def write(self) -> None:
        """Write what waits to be written."""
        self.full = not write(self._environment(), self._waiting)

    def _environment(self) -> lmdb.Environment:
        return opened(self.folder, self.bytes)

    def _name(self, key: Hashable) -> bytes:
        return hashlib.blake2b(self.source + repr(key).encode(), digest_size=24).digest()


def write(environment: lmdb.Environment, waiting: dict[bytes, bytes]) -> bool:
    """Write what waits, and empty it; say whether there was room."""
    try:
        with environment.begin(write=True) as transaction:
            for name, stored in waiting.items():
                transaction.put(name, stored, overwrite=False)
    except lmdb.MapFullError:
        return False
    finally:
        waiting.clear()
    return True


_ENVIRONMENTS: dict[Path, lmdb.Environment] = {}


def opened(folder: Path, bytes_: int) -> lmdb.Environment:
    """Open an environment, which a process can do once only: whoever comes first says how large it may get."""
    if folder not in _ENVIRONMENTS:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            _ENVIRONMENTS[folder] = lmdb.open(str(folder), map_size=bytes_, metasync=False)
        except (OSError, lmdb.Error) as error:
            raise UserError(
                f"{folder}: no place to keep a teacher's stages in ({error}); give teacher.text_store a folder of its "
                "own that can be written"
            ) from error
    return _ENVIRONMENTS[folder]


def fingerprint(weights: Iterable[tuple[str, Tensor]]) -> bytes:
    """Tell named weights, and the version of torch that computes with them, from others."""
    made = hashlib.blake2b(torch.__version__.encode())
    for name, weight in weights:
        made.update(f"{name} {tuple(weight.shape)} {weight.dtype}".encode())
        made.update(weight.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return made.digest()


def computer(device: torch.device) -> str:
    """Name what computes on a device, as far as it may give other bits than another one."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{device.type} {torch.backends.cpu.get_cpu_capability()} {torch.get_num_threads()}"
