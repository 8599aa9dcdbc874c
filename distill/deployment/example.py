"""The program on a card that reads with student.onnx, without PyTorch; the tests run it as it stands there."""

from __future__ import annotations

from students.charset import LogitsKind

READ = """\
import json

import numpy as np
import onnxruntime
from PIL import Image, ImageOps

session = onnxruntime.InferenceSession("student.onnx")
facts = session.get_modelmeta().custom_metadata_map
charset, (height, width) = json.loads(facts["charset"]), json.loads(facts["image_size"])


{spell}

def load(path):
    picture = ImageOps.exif_transpose(Image.open(path))  # upright
    if picture.mode[0] in "IF":  # more than 8 bits
        values = np.asarray(picture, float)
        low, high = values.min(), values.max()
        whites = (1,) * (picture.mode == "F") + (255, 1023, 4095, 16383, 65535)
        if low >= 0 and high <= 65535:
            low, high = 0, min(white for white in whites if white >= high)
        picture = Image.fromarray(np.rint((values - low) * (255 / max(high - low, 1e-300))).astype(np.uint8))
    if picture.has_transparency_data:  # goes on white, or on black where what is visible is light
        picture = picture.convert("RGBA")
        alpha, color = picture.getchannel("A"), picture.convert("RGB")
        weights, grey = np.asarray(alpha, float), np.asarray(picture.convert("L"))
        picture = color
        if weights.min() < weights.max():
            light = (grey * weights).sum() > 127.5 * weights.sum()
            picture = Image.new("RGB", color.size, "black" if light else "white")
            picture.paste(color, mask=alpha)
    return np.asarray(picture.convert("RGB").resize((width, height), Image.Resampling.BICUBIC), np.float32)


def read(paths):
    images = np.stack([load(path) for path in paths]).transpose(0, 3, 1, 2)
    logits = session.run(["logits"], {{"images": (images / 255 - 0.5) / 0.5}})[0]
    chances = np.exp(logits - logits.max(axis=2, keepdims=True))
    chances /= chances.sum(axis=2, keepdims=True)
    return [spell(word) for word in chances]
"""
SPELL: dict[LogitsKind, str] = {
    "attention": """\
def spell(chances):
    ids = chances.argmax(axis=1)
    length = int(ids.argmin()) if 0 in ids else len(ids)  # 0 is the end token
    return "".join(charset[i - 1] for i in ids[:length]), float(chances.max(axis=1)[: length + 1].prod())
""",
    "ctc": """\
def spell(chances):
    ids = chances.argmax(axis=1)
    ids = ids[(ids != 0) & (ids != np.append(0, ids[:-1]))]  # 0 is the blank; repetitions are one character
    path = np.zeros(2 * len(ids) + 1, int)  # blanks may stand around characters, and must between equal ones
    path[1::2] = ids
    jumps = (path != 0) & (path != np.append([0, 0], path)[:-2])
    ways = chances[0, path] * (np.arange(len(path)) < 2)
    for column in chances[1:]:  # sums the probabilities of all alignments of the word
        ways = column[path] * (ways + np.append(0, ways)[:-1] + jumps * np.append([0, 0], ways)[:-2])
    return "".join(charset[i - 1] for i in ids), float(ways[-2:].sum())
""",
}
"""How a word is spelt from (steps, C + 1) probabilities, and how sure that is: see `students.charset`."""


def onnx_example(logits: LogitsKind) -> str:
    """Write the program for a reader with this kind of logits."""
    return READ.format(spell=SPELL[logits])
