"""Run exported files in the programs they were exported for, and prepare pictures as these do.

What each program does to a picture is written down here a second time, from its code, so that a file can be checked
where the program isn't installed, and so that what the program reads can be expected to the letter where it is.
"""

from __future__ import annotations

import importlib
import importlib.util
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image

from distill.deployment.snippets import TargetName
from distill.deployment.targets import OPENCV_SIZE
from students.charset import Charset

Pictures = Sequence[Image.Image]


@dataclass(frozen=True)
class Program:
    """A program that reads words with an ONNX file."""

    module: str
    """Its Python module."""
    packages: tuple[str, ...]
    """Names of the packages that may hold it."""
    prepare: Callable[[Image.Image], np.ndarray]
    """Makes its input (3, H, W) of one picture."""
    padding: float
    """What it fills up narrower pictures of a batch with."""
    read: Callable[[Path, Charset, Pictures], list[str]]
    """Reads words with the program itself, as it is set up in docs/howto/export.md."""

    def version(self) -> str | None:
        """Look up the version that is installed; None when it isn't."""
        if importlib.util.find_spec(self.module) is None:
            return None
        for package in self.packages:
            try:
                return metadata.version(package)
            except metadata.PackageNotFoundError:
                continue
        return str(getattr(importlib.import_module(self.module), "__version__", "of unknown version"))

    def batch(self, pictures: Pictures) -> np.ndarray:
        """Prepare pictures (N, 3, H, W), all as wide as the widest."""
        prepared = [self.prepare(picture) for picture in pictures]
        width = max(array.shape[2] for array in prepared)
        batch = np.full((len(prepared), *prepared[0].shape[:2], width), self.padding, np.float32)
        for row, array in zip(batch, prepared, strict=True):
            row[:, :, : array.shape[2]] = array
        return batch


def to_bgr(picture: Image.Image) -> np.ndarray:
    """Return the pixels (H, W, 3) as OpenCV orders them."""
    return np.ascontiguousarray(np.asarray(picture)[:, :, ::-1])


def prepare_padded(pixels: np.ndarray, height: int = 48, width: int = 320, widest: int | None = None) -> np.ndarray:
    """Resize to `height` with the ratio kept, normalise, and pad with 0 to at least `width`: (3, H, W)."""
    ratio = pixels.shape[1] / pixels.shape[0]
    padded = int(height * max(width / height, ratio))
    if widest is not None and padded > widest:
        resized = padded = widest
    else:
        resized = min(padded, math.ceil(height * ratio))
    batch = np.zeros((3, height, padded), np.float32)
    normalised = (cv2.resize(pixels, (resized, height)).astype(np.float32).transpose(2, 0, 1) / 255 - 0.5) / 0.5
    batch[:, :, :resized] = normalised
    return batch


def prepare_rapidocr(picture: Image.Image) -> np.ndarray:
    """Prepare as RapidOCR 3 does: sides of 30 to 2000 pixels in multiples of 32, then 48 high, at least 320 wide."""
    pixels = to_bgr(picture)
    for side, limit, exceeds in ((max, 2000, int.__gt__), (min, 30, int.__lt__)):
        height, width = pixels.shape[:2]
        if exceeds(side(height, width), limit):
            scale = limit / side(height, width)
            height, width = (round(int(length * scale) / 32) * 32 for length in (height, width))
            pixels = cv2.resize(pixels, (width, height))
    return prepare_padded(pixels)


def read_rapidocr(file: Path, charset: Charset, pictures: Pictures) -> list[str]:
    """Read with RapidOCR."""
    from rapidocr import RapidOCR

    engine = RapidOCR(params={"Rec.model_path": str(file), "Global.log_level": "error"})
    found: list[Any] = [engine(to_bgr(picture), use_det=False, use_cls=False, use_rec=True) for picture in pictures]
    return ["".join(result.txts or ()) for result in found]


def prepare_opencv(picture: Image.Image) -> np.ndarray:
    """Prepare as OpenCV does: stretched to the size that is set, in the order that is set."""
    height, width = OPENCV_SIZE
    blob = cv2.dnn.blobFromImage(to_bgr(picture), 1 / 127.5, (width, height), (127.5, 127.5, 127.5), swapRB=True)
    return np.asarray(blob[0])


def read_opencv(file: Path, charset: Charset, pictures: Pictures) -> list[str]:
    """Read with OpenCV's TextRecognitionModel."""
    height, width = OPENCV_SIZE
    model: Any = cv2.dnn.TextRecognitionModel(str(file))
    model.setVocabulary(list(charset.characters))
    model.setDecodeType("CTC-greedy")
    model.setInputParams(scale=1 / 127.5, size=(width, height), mean=(127.5, 127.5, 127.5), swapRB=True)
    return [model.recognize(to_bgr(picture)) for picture in pictures]


PROGRAMS: dict[TargetName, Program] = {
    "rapidocr": Program("rapidocr", ("rapidocr",), prepare_rapidocr, 0.0, read_rapidocr),
    "opencv": Program(
        "cv2", ("opencv-python-headless", "opencv-python", "opencv-contrib-python"), prepare_opencv, 0.0, read_opencv
    ),
}
"""Programs by the name of their target."""
