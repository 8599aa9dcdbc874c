"""The files that are exported for other programs, and a few lines of Python that read with each of them there."""

from __future__ import annotations

import json
from typing import Literal

from students.pictures import COLUMN, NARROWEST

TargetName = Literal["onnx", "rapidocr", "paddleocr", "onnxtr", "opencv", "web"]
FILES: dict[TargetName, str] = {
    "onnx": "student.onnx", "rapidocr": "rapidocr.onnx", "paddleocr": "paddleocr/inference.onnx",
    "onnxtr": "onnxtr.onnx", "opencv": "opencv.onnx", "web": "web/reader.onnx",
}  # fmt: skip
"""The file of each target in a reader's folder; that of `web`, a page, is the one of `onnx`, of 8 bits if any."""
FLOAT_ONLY: tuple[TargetName, ...] = ("opencv",)
"""Programs that run no 8-bit graphs."""
SNIPPETS: dict[TargetName, str] = {
    "rapidocr": """\
from rapidocr import RapidOCR

engine = RapidOCR(params={"Rec.model_path": "THIS_FOLDER/rapidocr.onnx"})
result = engine("word.png", use_det=False, use_cls=False, use_rec=True)
print(result.txts, result.scores)
""",
    "paddleocr": """\
from paddleocr import TextRecognition

model = TextRecognition(model_name="PP-OCRv6_tiny_rec", model_dir="THIS_FOLDER/paddleocr", engine="onnxruntime")
for result in model.predict(["word.png"], batch_size=8):
    print(result["rec_text"], result["rec_score"])
""",
    "onnxtr": """\
import cv2
from onnxtr.models import recognition_predictor
from onnxtr.models.recognition import crnn_mobilenet_v3_small

characters = "CHARACTERS"
model = crnn_mobilenet_v3_small("THIS_FOLDER/onnxtr.onnx", vocab=characters, input_shape=(3, 64, 256))
predictor = recognition_predictor(model)
print(predictor([cv2.cvtColor(cv2.imread("word.png"), cv2.COLOR_BGR2RGB)]))
""",
    "opencv": """\
import cv2

model = cv2.dnn.TextRecognitionModel("THIS_FOLDER/opencv.onnx")
model.setVocabulary(list("CHARACTERS"))
model.setDecodeType("CTC-greedy")
model.setInputParams(scale=1 / 127.5, size=(256, 64), mean=(127.5, 127.5, 127.5), swapRB=True)
picture = cv2.imread("word.png")
print(model.recognize(picture))
""",
}
"""A program for each; `CHARACTERS` stands for the reader's alphabet."""
OPENCV_WIDTH = """\
columns = round(UNIT * picture.shape[1] / picture.shape[0])
model.setInputSize(8 * min(max(columns, LEAST), MOST), HEIGHT)
"""
"""What keeps the aspect in OpenCV, which else stretches, at twice the reader's size; see `fitted_size`."""


def snippet(target: TargetName, folder: str, characters: str, kept_aspect: tuple[int, int] | None = None) -> str:
    """Return the program that reads with the file of a reader.

    Args:
        target: one of `SNIPPETS`.
        folder: the reader's folder.
        characters: its alphabet.
        kept_aspect: height and largest width of its pictures, when they keep their aspect.
    """
    text = SNIPPETS[target]
    if target == "opencv" and kept_aspect is not None:
        height, width = kept_aspect
        numbers = {"UNIT": height, "LEAST": NARROWEST * height, "MOST": width}
        lines = OPENCV_WIDTH.replace("HEIGHT", str(2 * height))
        for word, number in numbers.items():
            lines = lines.replace(word, str(number // COLUMN))
        text = text.replace("print(", lines + "print(")
    text = text.replace("THIS_FOLDER", folder)
    return text.replace('"CHARACTERS"', json.dumps(characters, ensure_ascii=False))


def int8_file(target: TargetName) -> str:
    """Return the file with 8-bit weights for a target, in a reader's folder."""
    folder, _, name = FILES[target].rpartition("/")
    return f"{folder}-int8/{name}" if folder else name.replace(".onnx", ".int8.onnx")
