"""The program on a card that reads with student.onnx, without PyTorch; the tests run it as it stands there."""

from __future__ import annotations

from students.charset import LogitsKind

READ = """\
import json

import numpy as np
import onnxruntime
from PIL import Image

session = onnxruntime.InferenceSession("student.onnx")
facts = session.get_modelmeta().custom_metadata_map
charset, (height, width) = json.loads(facts["charset"]), json.loads(facts["image_size"])


{spell}

def read(paths):
    pictures = [Image.open(path).convert("RGB").resize((width, height), Image.Resampling.BICUBIC) for path in paths]
    images = np.stack([np.asarray(picture, np.float32) for picture in pictures]).transpose(0, 3, 1, 2)
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
