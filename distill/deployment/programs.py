"""Run exported files in the programs they were exported for, and prepare pictures as these do.

The preparation follows each program's code, so that a file can be checked where the program isn't installed, and its
reading be expected to the letter where it is.
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

from distill.deployment.fitting import Form
from distill.deployment.snippets import TargetName
from distill.deployment.targets import ONNXTR_MEAN, ONNXTR_STD, OPENCV_SIZE, PADDLE_MODEL
from students.charset import Charset
from students.errors import UserError
from students.pictures import fitted_size

Pictures = Sequence[Image.Image]
ONNXTR_SIZE = (64, 256)
"""Height and width that OnnxTR is told to pad to, twice the usual reader's; by itself it takes 32 x 128."""


@dataclass(frozen=True)
class Program:
    """A program that reads words with an ONNX file."""

    module: str
    """Its Python module."""
    package: str | None
    """The package that holds it; None where it is one of several."""
    prepare: Callable[[Image.Image, Form], np.ndarray]
    """Makes its input (3, H, W) of one picture, for a reader of some form."""
    read: Callable[[Path, Charset, Form, Pictures], list[str]]
    """Reads words with the program itself, as it is set up in docs/howto/programs.md."""

    def version(self) -> str | None:
        """Look up the version that is installed; None when it isn't."""
        if importlib.util.find_spec(self.module) is None:
            return None
        if self.package is not None:
            return metadata.version(self.package)
        return str(importlib.import_module(self.module).__version__)

    def batch(self, pictures: Pictures, form: Form) -> np.ndarray:
        """Prepare pictures (N, 3, H, W) for a reader of some form, padded with 0 to the widest."""
        prepared = [self.prepare(picture, form) for picture in pictures]
        width = max(array.shape[2] for array in prepared)
        batch = np.zeros((len(prepared), *prepared[0].shape[:2], width), np.float32)
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


def prepare_paddleocr(picture: Image.Image, form: Form) -> np.ndarray:
    """Prepare as PaddleOCR 3 does: 48 high, 320 to 3,200 wide."""
    return prepare_padded(to_bgr(picture), widest=3200)


def prepare_rapidocr(picture: Image.Image, form: Form) -> np.ndarray:
    """Prepare as RapidOCR 3 does: sides of 30 to 2000 pixels in multiples of 32, then 48 high, at least 320 wide."""
    pixels = to_bgr(picture)
    for side, limit, exceeds in ((max, 2000, int.__gt__), (min, 30, int.__lt__)):
        height, width = pixels.shape[:2]
        if exceeds(side(height, width), limit):
            scale = limit / side(height, width)
            height, width = (round(int(length * scale) / 32) * 32 for length in (height, width))
            pixels = cv2.resize(pixels, (width, height))
    return prepare_padded(pixels)


def read_rapidocr(file: Path, charset: Charset, form: Form, pictures: Pictures) -> list[str]:
    """Read with RapidOCR."""
    from rapidocr import RapidOCR

    engine = RapidOCR(params={"Rec.model_path": str(file), "Global.log_level": "error"})
    found: list[Any] = [engine(to_bgr(picture), use_det=False, use_cls=False, use_rec=True) for picture in pictures]
    return ["".join(result.txts or ()) for result in found]


def read_paddleocr(file: Path, charset: Charset, form: Form, pictures: Pictures) -> list[str]:
    """Read with PaddleOCR, by onnxruntime and so without PaddlePaddle."""
    from paddleocr import TextRecognition

    model = TextRecognition(model_name=PADDLE_MODEL, model_dir=str(file.parent), engine="onnxruntime")
    return [result["rec_text"] for result in model.predict([to_bgr(picture) for picture in pictures], batch_size=8)]


def prepare_onnxtr(picture: Image.Image, form: Form) -> np.ndarray:
    """Prepare as OnnxTR does: resized with the ratio kept, black on the right or below, normalised."""
    height, width = ONNXTR_SIZE
    ratio = picture.height / picture.width
    high = ratio > height / width
    size = (max(int(height / ratio), 1), height) if high else (width, max(int(width * ratio), 1))
    ground = Image.new("RGB", (width, height))
    ground.paste(picture.resize(size, Image.Resampling.BILINEAR))
    pixels = (np.asarray(ground, np.float32) / 255 - np.array(ONNXTR_MEAN, np.float32)) / np.array(
        ONNXTR_STD, np.float32
    )
    return pixels.transpose(2, 0, 1)


def read_onnxtr(file: Path, charset: Charset, form: Form, pictures: Pictures) -> list[str]:
    """Read with OnnxTR, whose cutting up of very wide pictures is switched off."""
    from onnxtr.models import recognition_predictor
    from onnxtr.models.recognition import crnn_mobilenet_v3_small

    model = crnn_mobilenet_v3_small(str(file), vocab=charset.characters, input_shape=(3, *ONNXTR_SIZE))
    predictor = recognition_predictor(model)
    predictor.split_wide_crops = False
    return [text for text, _ in predictor([np.asarray(picture) for picture in pictures])]


def opencv_input(picture: Image.Image, form: Form) -> tuple[int, int]:
    """Return width and height to which OpenCV is told to stretch a picture."""
    if not form.keep_aspect:
        return OPENCV_SIZE[1], OPENCV_SIZE[0]
    height, width = fitted_size(*picture.size, (form.height, form.width))
    return 2 * width, 2 * height


def prepare_opencv(picture: Image.Image, form: Form) -> np.ndarray:
    """Prepare as OpenCV does: stretched to the size that is set, in the order that is set."""
    size = opencv_input(picture, form)
    return np.asarray(cv2.dnn.blobFromImage(to_bgr(picture), 1 / 127.5, size, (127.5,) * 3, swapRB=True)[0])


def read_opencv(file: Path, charset: Charset, form: Form, pictures: Pictures) -> list[str]:
    """Read with OpenCV's TextRecognitionModel; raises `UserError` where it is too old for pictures of any width."""
    if form.keep_aspect and int(cv2.__version__.partition(".")[0]) < 5:
        raise UserError(
            f"OpenCV {cv2.__version__} runs readers of one size only, and this one keeps the aspect; install "
            "opencv-python-headless 5 or later to check its file, or leave the target opencv out"
        )
    model: Any = cv2.dnn.TextRecognitionModel(str(file))
    model.setVocabulary(list(charset.characters))
    model.setDecodeType("CTC-greedy")
    model.setInputParams(scale=1 / 127.5, size=OPENCV_SIZE[::-1], mean=(127.5, 127.5, 127.5), swapRB=True)
    texts = []
    for picture in pictures:
        model.setInputSize(*opencv_input(picture, form))
        texts.append(model.recognize(to_bgr(picture)))
    return texts


PROGRAMS: dict[TargetName, Program] = {
    "rapidocr": Program("rapidocr", "rapidocr", prepare_rapidocr, read_rapidocr),
    "paddleocr": Program("paddleocr", "paddleocr", prepare_paddleocr, read_paddleocr),
    "onnxtr": Program("onnxtr", "onnxtr", prepare_onnxtr, read_onnxtr),
    "opencv": Program("cv2", None, prepare_opencv, read_opencv),
}
"""Programs by the name of their target."""
