"""Readers that label: what each reads of a picture, and its distributions over the characters of a label."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from PIL import Image

from distill.data.distributions import LEFT_OUT, RAREST, fold_classes
from distill.deployment.onnx_reader import OnnxReader
from distill.deployment.readers import ModelReader, OnnxWordReader, WordReader, open_model
from students.alignment import occupancy, pool_columns
from students.charset import Charset
from students.decoding import DECODERS, LogitsKind, Reading
from students.errors import UserError
from students.pictures import to_array


@dataclass(frozen=True)
class Read:
    """One picture as one reader reads it."""

    reading: Reading
    """What it reads."""
    log_probs: np.ndarray
    """(T, C + 1) float32 log-probabilities of its columns or positions, blank or end first."""


def open_readers(names: Sequence[str]) -> list[ModelReader | OnnxWordReader]:
    """Open readers by name, on one thread each; raises `UserError` when there is none of a name."""
    return [open_model(name, threads=1) for name in names]


def labels_charset(name: str | None, reader: WordReader) -> Charset:
    """Load the alphabet of the labels: by default that of the reader, but none larger than 94.

    Raises:
        UserError: when there is no such alphabet.
    """
    if name is not None:
        return Charset.load(name)
    common = Charset.load("94")
    return Charset(reader.charset) if set(reader.charset) <= set(common.characters) else common


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

    def __init__(self, reader: ModelReader | OnnxWordReader, charset: Charset) -> None:
        self.model, self.labels = reader.model, charset

    @property
    def kind(self) -> LogitsKind:
        """What its logits stand for."""
        return self.model.logits_kind if isinstance(self.model, OnnxReader) else self.model.LOGITS

    def read(self, pictures: Sequence[Image.Image]) -> list[Read]:
        """Read pictures, in batches that the caller determines."""
        images = to_array(pictures, self.model.image_size)
        if isinstance(self.model, OnnxReader):
            logits = torch.from_numpy(self.model.logits(images))
        else:
            with torch.inference_mode():
                logits = self.model.eval()(torch.from_numpy(images))
        readings = DECODERS[self.kind](self.model.charset, logits)
        log_probs = logits.float().log_softmax(dim=-1).numpy()
        return [Read(reading, rows) for reading, rows in zip(readings, log_probs, strict=True)]

    def distributions(self, read: Read, label: str) -> np.ndarray | None:
        """Compute its distribution over the alphabet of the labels for each character of a label.

        A CTC reader's columns are pooled over their alignments with the label, without the blank. An attention reader
        has distributions after its own characters, so it has those of the label where it reads the label.

        Args:
            read: what it read.
            label: in the alphabet of the labels.

        Returns:
            (T, C + 1) probabilities, the end first: one row a character, and one of the end where the reader has one;
            None when it can't spell the label, or has no distributions for it.
        """
        spelling = self._spell(read.reading.text, label)
        if spelling is None:
            return None
        ids, rows = spelling
        log_probs = torch.from_numpy(read.log_probs)
        if self.kind == "ctc":
            targets, lengths = torch.tensor([ids]), torch.tensor([len(ids)])
            weights = occupancy(log_probs[None], targets, torch.tensor([len(log_probs)]), lengths)
            if not bool(weights.any()):
                return None
            pooled = pool_columns(log_probs[None], weights)[0]
            probabilities = torch.nn.functional.pad(pooled.exp(), (1, 0)).numpy()[rows]
        elif len(read.log_probs) > len(ids) and read.reading.text == self._write(ids):
            probabilities = np.exp(read.log_probs[[*rows, len(ids)]])
        else:
            return None
        return self._fold(probabilities)

    @cached_property
    def classes(self) -> np.ndarray:
        """(C + 1,) the class of the labels' alphabet that each of its own becomes; `LEFT_OUT` for none."""
        return fold_classes(self.model.charset, self.labels)

    def _spell(self, text: str, label: str) -> tuple[list[int], list[int]] | None:
        """Spell a label in the reader's own classes: as it read it where that is the same word.

        Returns:
            Its class ids, and the places of the characters of the label among them; None when it can't be spelt.
        """
        own = self.model.charset
        ids = [own.ids[char] for char in text]
        rows = [place for place, number in enumerate(ids) if self.classes[number] != LEFT_OUT]
        if "".join(self.labels.characters[self.classes[ids[place]] - 1] for place in rows) == label:
            return ids, rows
        written = [own.counterpart(char) for char in label]
        if None in written:
            return None
        return [own.ids[char] for char in written if char is not None], list(range(len(label)))

    def _write(self, ids: Sequence[int]) -> str:
        return "".join(self.model.charset.characters[number - 1] for number in ids)

    def _fold(self, probabilities: np.ndarray) -> np.ndarray:
        """Bring (T, C + 1) probabilities to the alphabet of the labels; what that lacks is left out."""
        taken = np.flatnonzero(self.classes != LEFT_OUT)
        folded = np.zeros((len(self.labels.characters) + 1, len(probabilities)))
        np.add.at(folded, self.classes[taken], probabilities[:, taken].T)
        return (folded / np.maximum(folded.sum(axis=0), RAREST)).T
