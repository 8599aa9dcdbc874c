"""How a recogniser of another program wants its pictures, and what its classes mean: presets, options, dictionaries.

The module imports no torch.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from students.errors import UserError

Colour = Literal["rgb", "bgr", "gray"]
Fit = Literal["pad", "inside", "squeeze"]
Resizing = Literal["linear", "bilinear", "bicubic"]
Blank = Literal["first", "last"]

ONNX_NAME = re.compile(r"(?P<path>.*\.onnx)(?::(?P<options>.*))?", re.IGNORECASE | re.DOTALL)
"""`FILE.onnx`, or `FILE.onnx:option=value,option=value`."""
PADDLE_FILE = "inference.yml"
"""What a model folder of PaddleOCR has beside the ONNX file."""
PRESETS: dict[str, dict[str, str]] = {
    "ppocr": {
        "height": "48", "min_width": "320", "colour": "bgr", "mean": "0.5", "std": "0.5", "fit": "pad",
        "padding": "grey", "resize": "linear", "blank": "first",
    },
    "onnxtr": {
        "height": "32", "width": "128", "colour": "rgb", "mean": "0.694/0.695/0.693", "std": "0.299/0.296/0.301",
        "fit": "inside", "padding": "black", "resize": "bilinear", "blank": "last",
    },
    "symdistill": {
        "height": "32", "width": "128", "colour": "rgb", "mean": "0.5", "std": "0.5", "fit": "squeeze",
        "resize": "bicubic", "blank": "first",
    },
}  # fmt: skip
"""Options by the program whose conventions a file follows: PaddleOCR and RapidOCR, docTR and OnnxTR, this one."""


@dataclass(frozen=True)
class Options:
    """What is known about a file beside its graph; None where it has to be found in the graph, or asked for."""

    preset: str | None = None
    """One of `PRESETS`, whose values stand for all that is not given."""
    dict: str | None = None
    """Text file of its characters in the order of its classes: one a line, or all in one line."""
    height: int | None = None
    """Height that it reads at, where the graph leaves it open."""
    width: int | None = None
    """Width that it reads at, where the graph leaves it open; None for the width that comes with the height."""
    min_width: int | None = None
    """Width that narrower pictures are padded to on the right, where there is no fixed one."""
    colour: Colour | None = None
    """Order of its channels."""
    mean: tuple[float, ...] | None = None
    """Subtracted from pixels in 0 to 1: one number, or one a channel."""
    std: tuple[float, ...] | None = None
    """Divides what is left: one number, or one a channel."""
    fit: Fit | None = None
    """`pad`: at full height, padded on the right, squeezed when wider than the limit. `inside`: as large as it goes in
    its own aspect, padded on the right or below. `squeeze`: to the fixed size."""
    padding: Literal["grey", "black"] = "grey"
    """`grey`: 0 after normalisation. `black`: pixels of 0, normalised."""
    resize: Resizing = "linear"
    """OpenCV's `linear` (no antialiasing), or Pillow's `bilinear` or `bicubic`."""
    blank: Blank | None = None
    """Where the class of CTC's blank stands."""


def parse_options(text: str, source: str) -> dict[str, str]:
    """Split `option=value,option=value`; raises `UserError` for options that there are not."""
    options: dict[str, str] = {}
    for part in filter(None, text.split(",")):
        name, equals, value = part.partition("=")
        name = {"color": "colour", "pad": "padding"}.get(name.strip(), name.strip())
        if name not in PARSERS or not equals:
            near = difflib.get_close_matches(name, PARSERS, n=1)
            hint = f"did you mean {near[0]}=?" if near else f"options are {', '.join(f'{key}=' for key in PARSERS)}"
            raise UserError(f"{source} has no option {part!r}; {hint}")
        options[name] = value.strip()
    return options


def make_options(given: Mapping[str, str], source: str) -> Options:
    """Bring options to their types, with the values of their preset for those that are not given.

    Args:
        given: options as they are typed.
        source: begins the messages.

    Raises:
        UserError: for a value that an option can't have.
    """
    preset = given.get("preset")
    values: dict[str, Any] = {} if preset is None else {"preset": _choice(*PRESETS)(preset, "preset", source)}
    for name, text in {**PRESETS.get(preset or "", {}), **given}.items():
        values[name] = PARSERS[name](text, name, source)
    return Options(**values)


def read_dictionary(path: Path) -> list[str]:
    """Read the characters of a dictionary file: one a line, or all in one line.

    Raises:
        UserError: when it is missing, no UTF-8, or empty.
    """
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise UserError(f"dict={path}: {error.strerror or error}; give a text file, one character a line") from None
    except UnicodeDecodeError:
        raise UserError(f"dict={path} is no UTF-8 text; give a text file, one character a line") from None
    lines = [line.rstrip("\r") for line in text.split("\n")]
    if lines[-1] == "":
        lines.pop()
    if not lines:
        raise UserError(f"dict={path} is empty; give a text file, one character a line")
    return lines if len(lines) > 1 else list(lines[0])


def read_paddle_file(path: Path) -> tuple[dict[str, str], list[str]]:
    """Read options and characters from the inference.yml in a model folder of PaddleOCR; raises `UserError`."""
    import yaml

    try:
        content = yaml.load(path.read_bytes(), getattr(yaml, "CSafeLoader", yaml.SafeLoader))
        characters = [str(character) for character in content["PostProcess"]["character_dict"]]
        steps = {name: step or {} for each in content["PreProcess"]["transform_ops"] for name, step in each.items()}
        _, height, width = steps["RecResizeImg"]["image_shape"]
    except (OSError, UnicodeDecodeError, yaml.YAMLError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise UserError(
            f"{path} doesn't tell how a recogniser of PaddleOCR reads ({' '.join(str(error).split())[:100]}); give "
            "preset=ppocr,dict=FILE behind the name of the ONNX file"
        ) from None
    colour = str(steps.get("DecodeImage", {}).get("img_mode", "bgr")).lower()
    return {"preset": "ppocr", "height": str(height), "min_width": str(width), "colour": colour}, characters


def _number(least: int) -> Callable[[str, str, str], int]:
    def parse(text: str, name: str, source: str) -> int:
        if text.isascii() and text.isdigit() and int(text) >= least:
            return int(text)
        raise UserError(f"{source}: {name}={text} is no number of pixels; give {least} or more")

    return parse


def _numbers(text: str, name: str, source: str) -> tuple[float, ...]:
    try:
        values = tuple(float(part) for part in text.split("/"))
    except ValueError:
        values = ()
    if len(values) not in (1, 3) or not all(abs(value) < 1e4 for value in values) or (name == "std" and 0 in values):
        raise UserError(f"{source}: {name}={text} can't be used; give a number, or three such as 0.694/0.695/0.693")
    return values


def _choice(*choices: str) -> Callable[[str, str, str], str]:
    def parse(text: str, name: str, source: str) -> str:
        if text in choices:
            return text
        raise UserError(f"{source}: {name}={text} is unknown; choose {' or '.join(choices)}")

    return parse


def _text(text: str, name: str, source: str) -> str:
    return text


PARSERS: dict[str, Callable[[str, str, str], Any]] = {
    "preset": _choice(*PRESETS), "dict": _text, "height": _number(8), "width": _number(8), "min_width": _number(8),
    "colour": _choice("rgb", "bgr", "gray"), "mean": _numbers, "std": _numbers,
    "fit": _choice("pad", "inside", "squeeze"), "padding": _choice("grey", "black"),
    "resize": _choice("linear", "bilinear", "bicubic"), "blank": _choice("first", "last"),
}  # fmt: skip
"""How the value of each option is read: from its text, its name and the file's name in messages."""
