"""Readers that label: what each reads of a picture, and its distributions over the characters of a label."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from PIL import Image

from distill.data.distributions import LEFT_OUT, fold_text, fold_texts
from distill.deployment.onnx_reader import OnnxReader
from distill.deployment.readers import (
    ModelReader,
    WordReader,
    choose_language_model,
    open_model,
)
from students.alignment import occupancy, pool_columns
from students.charset import Charset
from students.decoding import DECODERS, Reading, decode_columns
from students.errors import UserError
from students.picture_reader import read_by_width
from students.pictures import pixel_widths, to_array
from students.reading import Reader
from students.turning import read_turned
from teachers.onnx_ctc import OnnxCtcReader


@dataclass(frozen=True)
class Read:
    """One picture as one reader reads it."""

    reading: Reading
    """What it reads."""
    log_probs: np.ndarray | None
    """(T, C + 1) float32 log-probabilities of its columns or positions in the alphabet of the labels, blank or end
    first; what that alphabet lacks is left out. None for a reader that tells the word alone."""


def open_readers(names: Sequence[str], language_model: str | None = None) -> list[ModelReader]:
    """Open readers by name, on one thread each.

    Args:
        names: of the readers.
        language_model: what those that read by CTC weigh words by, see `open_language_model`; None leaves what they
            have.

    Raises:
        UserError: when there is no reader, or no language model, of a name.
    """
    readers = [open_model(name, threads=1) for name in names]
    choose_language_model(readers, language_model)
    return readers


def labels_charset(name: str | None, reader: WordReader) -> Charset:
    """Load the alphabet of the labels: by default that of the reader, or 94 when it is not of ASCII alone.

    Raises:
        UserError: when there is no such alphabet.
    """
    if name is not None:
        return Charset.load(name)
    return Charset(reader.charset) if reader.charset.isascii() else Charset.load("94")


def check_charset(readers: Sequence[WordReader], charset: Charset) -> None:
    """Refuse readers of one case for labels of both; raises `UserError`."""
    for reader in readers:
        case = Charset(reader.charset).case
        if case is not None and charset.case is None:
            raise UserError(
                f"{reader.name} reads {case} case alone, and the labels' alphabet has both; give --charset 36, or "
                "another reader"
            )


class LabelReader:
    """A reader, with its distributions in the alphabet of the labels.

    Args:
        reader: opened.
        charset: the alphabet of the labels.
    """

    def __init__(self, reader: ModelReader, charset: Charset) -> None:
        self.model, self.labels = reader.model, charset
        texts = list(self.model.charset.characters)
        if isinstance(self.model, OnnxCtcReader):
            texts = [text for number, text in enumerate(self.model.texts) if number != self.model.blank_id]
        classes = fold_texts(texts, charset)
        self._taken = np.flatnonzero(classes != LEFT_OUT)
        self._sums = np.eye(len(charset.characters) + 1, dtype=np.float32)[classes[self._taken]]
        self._known = set(classes.tolist())

    def read(self, pictures: Sequence[Image.Image]) -> list[Read]:
        """Read pictures, in batches that the caller determines."""
        if isinstance(self.model, OnnxCtcReader):
            return self._read_columns(self.model, pictures)
        if not isinstance(self.model, OnnxReader | Reader):
            return [Read(reading, None) for reading in self.model.read_pictures(pictures)]
        read = partial(self._read_upright, self.model)
        if self.model.turn_tall:
            return [found for found, _ in read_turned(read, pictures, lambda found: found.reading)]
        return read(pictures)

    def _read_upright(self, model: OnnxReader | Reader, pictures: Sequence[Image.Image]) -> list[Read]:
        images = to_array(pictures, model.image_size, model.keep_aspect)
        if not model.keep_aspect:
            return self._read_images(model, images)
        return read_by_width(partial(self._read_images, model), images, pixel_widths(images).tolist())

    def distributions(self, read: Read, label: str) -> np.ndarray | None:
        """Compute its distribution over the alphabet of the labels for each character of a label.

        A CTC reader's columns are pooled over their alignments with the label, without the blank. An attention reader
        has distributions after its own characters, so it has those of the label where it reads the label.

        Args:
            read: what it read.
            label: in the alphabet of the labels.

        Returns:
            (T, C + 1) probabilities, the end first: one row a character, and one of the end where the reader has one;
            None when it hasn't got the characters of the label, or has no distributions for it.
        """
        ids = [self.labels.ids[char] for char in label]
        if read.log_probs is None or not self._known.issuperset(ids):
            return None
        if self.model.logits_kind == "ctc":
            log_probs = torch.from_numpy(read.log_probs)[None]
            weights = occupancy(
                log_probs, torch.tensor([ids]), torch.tensor([log_probs.shape[1]]), torch.tensor([len(ids)])
            )
            if not bool(weights.any()):
                return None
            pooled: np.ndarray = pool_columns(log_probs, weights)[0].exp().numpy()
            return np.pad(pooled, ((0, 0), (1, 0)))
        text = read.reading.text
        written = [fold_text(char, self.labels) for char in text]
        if "".join(written) != label or len(read.log_probs) <= len(text):
            return None
        rows = np.exp(read.log_probs[[*(place for place, char in enumerate(written) if char), len(text)]])
        return np.asarray(rows / rows.sum(axis=1, keepdims=True)) if len(rows) == len(label) + 1 else None

    def _read_images(
        self, model: OnnxReader | Reader, images: np.ndarray, columns: Sequence[int] | None = None
    ) -> list[Read]:
        """Read normalised pictures (N, 3, H, W) with one of our readers; `columns` are those without padding."""
        if isinstance(model, OnnxReader):
            logits = torch.from_numpy(model.logits(images))
        else:
            with torch.inference_mode():
                logits = model.eval()(torch.from_numpy(np.ascontiguousarray(images)))
        readings = DECODERS[model.logits_kind](model.charset, logits, None, columns, model.language_model)
        probabilities = logits.float().softmax(dim=-1).numpy()
        return [Read(reading, self._fold(rows)) for reading, rows in zip(readings, probabilities, strict=True)]

    def _read_columns(self, model: OnnxCtcReader, pictures: Sequence[Image.Image]) -> list[Read]:
        """Read with a CTC reader of another program, which takes pictures of one width at a time."""
        reads: dict[int, Read] = {}
        for indices, probabilities, columns in model.columns(pictures):
            readings = decode_columns(model.texts, probabilities, model.blank_id, columns, model.language_model)
            if model.blank_id:
                probabilities = np.roll(probabilities, 1, axis=2)
            folded = map(self._fold, probabilities)
            reads.update(zip(indices, map(Read, readings, folded), strict=True))
        return [reads[index] for index in range(len(pictures))]

    def _fold(self, probabilities: np.ndarray) -> np.ndarray:
        """Bring (T, classes) probabilities to log-probabilities in the alphabet of the labels."""
        with np.errstate(divide="ignore"):
            return np.asarray(np.log(probabilities[:, self._taken].astype(np.float32) @ self._sums))
