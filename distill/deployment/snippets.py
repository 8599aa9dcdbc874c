"""The files that are exported for other programs, and a few lines of Python that read with each of them there."""

from __future__ import annotations

import json
from typing import Literal

TargetName = Literal["onnx", "rapidocr", "opencv"]
FILES: dict[TargetName, str] = {"onnx": "student.onnx", "rapidocr": "rapidocr.onnx", "opencv": "opencv.onnx"}
"""The file of each target in a reader's folder."""
SNIPPETS: dict[TargetName, str] = {
    "rapidocr": """\
from rapidocr import RapidOCR

engine = RapidOCR(params={"Rec.model_path": "THIS_FOLDER/rapidocr.onnx"})
result = engine("word.png", use_det=False, use_cls=False, use_rec=True)
print(result.txts, result.scores)
""",
    "opencv": """\
import cv2

model = cv2.dnn.TextRecognitionModel("THIS_FOLDER/opencv.onnx")
model.setVocabulary(list("CHARACTERS"))
model.setDecodeType("CTC-greedy")
model.setInputParams(scale=1 / 127.5, size=(256, 64), mean=(127.5, 127.5, 127.5), swapRB=True)
print(model.recognize(cv2.imread("word.png")))
""",
}
"""A program for each; `CHARACTERS` stands for the reader's alphabet."""


def snippet(target: TargetName, folder: str, characters: str) -> str:
    """Return the program that reads with the file of a reader with this alphabet, in this folder."""
    text = SNIPPETS[target].replace("THIS_FOLDER", folder)
    return text.replace('"CHARACTERS"', json.dumps(characters, ensure_ascii=False))
