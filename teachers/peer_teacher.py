"""PeerTeacher: a CTC recogniser of another program as a frozen teacher."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from students.decoding import Reading
from students.errors import UserError
from students.pictures import denormalize
from teachers.columns import CtcTeacher, Frames
from teachers.guidance import TeacherShape
from teachers.onnx_ctc import OnnxCtcReader
from teachers.peers import open_peer


class PeerTeacher(CtcTeacher):
    """A recogniser that another program made guides by what its columns say of each character.

    It is computed on the CPU, on pictures in the student's size brought to its own height. A student that squeezes its
    pictures takes their aspect from the teacher too, who then reads less well than by itself: labels and distributions
    that `symdistill label` stores come from the pictures as they are, and cost nothing in training.

    Args:
        name: used in messages, names of terms, and tables.
        reader: the recogniser.
    """

    reader: OnnxCtcReader  # type: ignore[assignment]

    def __init__(self, name: str, reader: OnnxCtcReader) -> None:
        super().__init__(name, reader, TeacherShape(), reader.description)  # type: ignore[arg-type]

    @classmethod
    def from_peer(cls, name: str) -> PeerTeacher:
        """Open a reader as a teacher, see `teachers.peers.open_peer`; raises `UserError` for one that can't teach."""
        peer = open_peer(name, torch.get_num_threads())
        if not isinstance(peer, OnnxCtcReader):
            raise UserError(
                f"{name} tells words without probabilities of characters; label with it (symdistill label), and learn "
                "from the labels"
            )
        return cls(peer.name, peer)

    @property
    def parameters_count(self) -> int:
        """Number of its weights, which aren't torch's."""
        return self.reader.parameters_count

    def frames(self, images: Tensor) -> Frames:
        """Run for columns over its alphabet; classes that stand for several characters at once are left out."""
        found: dict[int, np.ndarray] = {}
        for indices, probabilities, _ in self.reader.columns(list(own_pictures(images))):
            found.update(zip(indices, self.reader.fold(probabilities), strict=True))
        lengths = torch.tensor([len(found[index]) for index in range(len(images))])
        # A column behind a picture's own is a blank.
        columns = np.zeros((len(images), int(lengths.max()), len(self.reader.charset.characters) + 1), np.float32)
        columns[:, :, 0] = 1
        for index, own in found.items():
            columns[index, : len(own)] = own
        log_probs = torch.from_numpy(columns).log_().to(images.device)
        return Frames(log_probs, lengths.to(images.device))

    def read_batch(self, images: Tensor) -> list[Reading]:
        """Read a student's pictures (N, 3, H, W): one reading each."""
        return self.reader.read_pictures(list(own_pictures(images)))

    def fit(self, images: Tensor) -> Tensor:
        """Leave pictures as they are: the reader brings them to its own height."""
        return images


def own_pictures(images: Tensor) -> Iterator[Image.Image]:
    """Yield normalised pictures (N, 3, H, W) as RGB pictures, without the padding of exactly 0 on their right."""
    arrays = images.float().cpu().numpy()
    for array in arrays:
        (used,) = np.nonzero((array != 0).any(axis=(0, 1)))
        yield denormalize(array[None, :, :, : int(used[-1]) + 1 if len(used) else array.shape[2]])[0]
