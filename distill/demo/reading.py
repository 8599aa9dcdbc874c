"""Read the pictures that somebody gives a page, one by one, with one reader or several; no mistake stops the rest."""

from __future__ import annotations

import importlib.util
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from distill.deployment.readers import ModelReader, open_model
from students.allow import allowed_classes
from students.decoding import Reading
from students.errors import UserError
from students.pictures import decode_picture, denormalize, to_array
from students.pretrained import shipped
from teachers.peers import Peer

MAX_PICTURES = 50
"""Pictures that are read at once; the rest is left out, and counted."""


@dataclass(frozen=True)
class ReadBy:
    """What one reader says of a picture."""

    reader: str
    """Its name."""
    reading: Reading
    milliseconds: float
    """From the decoded picture to the text."""
    seen: Image.Image
    """The picture as the reader sees it: turned and resized; as it is for readers that resize in a way of their own."""


@dataclass(frozen=True)
class Entry:
    """One picture, and what is said of it."""

    name: str
    """Of its file."""
    picture: Image.Image | None
    """The picture, upright; None when it can't be decoded."""
    problem: str = ""
    """Why it can't be read."""
    read: tuple[ReadBy, ...] = ()
    """What each reader says, in their order."""


class Readers:
    """Readers by name, opened and warm.

    Args:
        names: of readers, as for `symdistill read --student`.

    Raises:
        UserError: when one can't be opened, or a name comes twice.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self.opened: dict[str, ModelReader] = {}
        blank = Image.new("RGB", (96, 32), "white")
        for name in names:
            if name in self.opened:
                raise UserError(f"{name} is given twice; give each reader once")
            self.opened[name] = open_model(name)
            self.opened[name].model.read(blank)  # the first picture takes longer than all others

    def read(self, files: Sequence[str | Path], names: Sequence[str], allow: str = "") -> list[Entry]:
        """Read picture files with some of the readers.

        Args:
            files: as they were given; those beyond `MAX_PICTURES` are not looked at.
            names: of the readers.
            allow: characters that may be read, see `students.allow`; empty for all.

        Raises:
            UserError: for a reader that there isn't, or an allow-list that a reader can't follow.
        """
        if unknown := [name for name in names if name not in self.opened]:
            raise UserError(f"no reader {unknown[0]!r}; there are {', '.join(self.opened)}")
        masks = {name: self._mask(name, allow) for name in names}
        return [self._read_file(Path(file), masks) for file in files[:MAX_PICTURES]]

    def _mask(self, name: str, allow: str) -> np.ndarray | None:
        if not allow:
            return None
        try:
            return allowed_classes(self.opened[name].model.charset, allow)
        except UserError as error:
            raise UserError(f"{name}: {error}") from None

    def _read_file(self, file: Path, masks: dict[str, np.ndarray | None]) -> Entry:
        try:
            picture = decode_picture(file.read_bytes())
        except OSError as error:
            return Entry(file.name, None, error.strerror or "can't be read")
        except UserError as error:
            return Entry(file.name, None, str(error))
        read = []
        for name, allowed in masks.items():
            model = self.opened[name].model
            start = time.perf_counter()
            (reading,) = model.read_pictures([picture], allowed)
            milliseconds = 1e3 * (time.perf_counter() - start)
            read.append(ReadBy(name, reading, milliseconds, self._seen(name, picture, reading)))
        return Entry(file.name, picture, read=tuple(read))

    def _seen(self, name: str, picture: Image.Image, reading: Reading) -> Image.Image:
        """Return the picture as a reader sees it."""
        model = self.opened[name].model
        turned = picture.rotate(reading.turned, expand=True) if reading.turned else picture
        if isinstance(model, Peer):
            return turned
        return denormalize(to_array([turned], model.image_size, model.keep_aspect))[0]


def default_names() -> list[str]:
    """List the readers that need no choice: those that are shipped, and RapidOCR's where it is installed."""
    return [*shipped(), *(["rapidocr"] if importlib.util.find_spec("rapidocr") else [])]
