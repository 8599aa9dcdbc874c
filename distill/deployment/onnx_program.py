"""The program on a card: it reads with student.onnx, and needs onnxruntime, numpy and Pillow alone."""

from __future__ import annotations

from students.decoding import LogitsKind
from students.pictures import COLUMN, NARROWEST
from students.reading import Reader
from students.turning import TALL

PROGRAM = """\
import json

import numpy as np
import onnxruntime
from PIL import Image, ImageOps

session = onnxruntime.InferenceSession("student.onnx")
stored = session.get_modelmeta().custom_metadata_map
charset, (height, width) = json.loads(stored["charset"]), json.loads(stored["image_size"])


{decode}

def load(path):
    picture = ImageOps.exif_transpose(Image.open(path))  # upright
    if picture.mode[0] in "IF":  # more than 8 bits
        values = np.asarray(picture, float)
        low, high = values.min(), values.max()
        if low >= 0 and picture.mode == "F" and high <= 2:  # 0 to 1, or sharpened
            low, high = 0, 1
        elif low >= 0 and high <= 65535:
            low, high = 0, min(white for white in (255, 1023, 4095, 16383, 65535) if white >= high)
        scaled = np.rint((values - low) * (255 / max(high - low, 1e-300)))
        picture = Image.fromarray(np.clip(scaled, 0, 255).astype(np.uint8))
    if picture.has_transparency_data:  # goes on white, or on black where what is visible is light
        picture = picture.convert("RGBA")
        alpha, color = picture.getchannel("A"), picture.convert("RGB")
        weights, grey = np.asarray(alpha, float), np.asarray(picture.convert("L"))
        picture = color
        if weights.min() < weights.max():
            light = (grey * weights).sum() > 127.5 * weights.sum()
            picture = Image.new("RGB", color.size, "black" if light else "white")
            picture.paste(color, mask=alpha)
    return picture.convert("RGB")


def read_picture(picture):
    {size}
    pixels = np.asarray(picture.resize(size, Image.Resampling.BICUBIC), np.float32)
    images = ((pixels / 255 - 0.5) / 0.5).transpose(2, 0, 1)[None]
    logits = session.run(["logits"], {{"images": images}})[0][0]
    probabilities = np.exp(logits - logits.max(axis=1, keepdims=True))
    return decode(probabilities / probabilities.sum(axis=1, keepdims=True))


def read(path):
    {read}
"""
STRETCHED = "size = (width, height)"
KEPT_ASPECT = f"""\
columns = round(picture.width * height / picture.height / {COLUMN})
    size = (min(max({COLUMN} * columns, {NARROWEST} * height), width), height)"""
"""How large a picture is read, by whether it keeps its aspect; as `fitted_size` says."""
UPRIGHT = "return read_picture(load(path))"
TURNED = f"""\
picture = load(path)
    word = read_picture(picture)
    if picture.height >= {TALL} * picture.width:  # its word may run downwards or upwards
        for turn in (Image.Transpose.ROTATE_90, Image.Transpose.ROTATE_270):
            text, confidence = read_picture(picture.transpose(turn))
            if len(text) > 1 and confidence > word[1]:
                word = text, confidence
    return word"""
"""Reading as the picture stands, or turned too where it is tall; as `read_turned` does."""
DECODE: dict[LogitsKind, str] = {
    "attention": """\
def decode(probabilities):
    ids = probabilities.argmax(axis=1)
    length = int(ids.argmin()) if 0 in ids else len(ids)  # 0 is the end token
    return "".join(charset[i - 1] for i in ids[:length]), float(probabilities.max(axis=1)[: length + 1].prod())
""",
    "ctc": """\
def decode(probabilities):
    ids = probabilities.argmax(axis=1)
    ids = ids[(ids != 0) & (ids != np.append(0, ids[:-1]))]  # 0 is the blank; repetitions are one character
    path = np.zeros(2 * len(ids) + 1, int)  # blanks may stand around characters, and must between equal ones
    path[1::2] = ids
    jumps = (path != 0) & (path != np.append([0, 0], path)[:-2])
    ways = probabilities[0, path] * (np.arange(len(path)) < 2)
    for column in probabilities[1:]:  # sums the probabilities of all alignments of the word
        ways = column[path] * (ways + np.append(0, ways)[:-1] + jumps * np.append([0, 0], ways)[:-2])
    return "".join(charset[i - 1] for i in ids), float(ways[-2:].sum())
""",
}
"""The function from (steps, C + 1) probabilities to a word and its confidence, by how words are decoded."""


def onnx_program(student: Reader) -> str:
    """Return the program for a student; a test runs it as it stands on a card."""
    size = KEPT_ASPECT if student.keep_aspect else STRETCHED
    return PROGRAM.format(decode=DECODE[student.LOGITS], size=size, read=TURNED if student.turn_tall else UPRIGHT)
