"""OnnxCtcReader: a CTC recogniser of another program, as an ONNX file, read as that program reads it.

What can't be told from the file is asked for, see `teachers.onnx_options`. The module imports no torch.
"""

from __future__ import annotations

import dataclasses
import json
import math
import unicodedata
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
from PIL import Image

from students.charset import Charset
from students.decoding import Reading, decode_columns
from students.errors import UserError
from students.onnx_files import check_tensors, count_weights, open_session, read_file
from students.picture_reader import PictureReader
from students.pictures import denormalize
from teachers.onnx_options import PADDLE_FILE, PRESETS, Options, make_options, read_dictionary, read_paddle_file

CHARACTERS = "character"
"""Key of an ONNX file's metadata under which PaddleOCR's and RapidOCR's files have their dictionary."""
OWN = "charset"
"""The key of this program's own files."""
MAX_WIDTH = 3200
"""Widest input where the graph leaves the width open, as in PaddleOCR; wider pictures are squeezed into it."""
MAX_BATCH = 16
"""Pictures that are read at once: probabilities of 18,000 characters fill memory fast."""
TINY = 1e-30
"""Probability that no column lacks for the blank."""
SURE = 0.9
"""Share of an empty picture's columns that tells where the blank stands."""


class OnnxCtcReader(PictureReader):
    """Read words with a CTC recogniser that another program made.

    Every picture has the width that it would have if it were read alone, so that no reading depends on its batch.

    Args:
        path: the ONNX file.
        given: options, see `teachers.onnx_options.Options`; what is not given is found, or asked for.
        threads: CPU threads of a call; None leaves the choice to onnxruntime.
        name: its name in tables; None takes that of the file.

    Attributes:
        path: the file.
        given: as given.
        threads: as given.
        name: its name.
        charset: the single characters of its dictionary.
        texts: what each class stands for, "" for the blank.
        max_length: columns of the widest picture: no reading is longer.
        parameters_count: number of weights.

    Raises:
        UserError: for what is no such file, or can't be read for want of an option, which the message names.
    """

    description = "an ONNX file of another program"
    logits_kind = "ctc"

    def __init__(
        self, path: str | Path, given: Mapping[str, str] | None = None, threads: int | None = None,
        name: str | None = None,
    ) -> None:  # fmt: skip
        self.path, self.given, self.threads = Path(path), dict(given or {}), threads
        self.name = name or self.path.name.removesuffix(self.path.suffix)
        data = read_file(self.path)
        check_tensors(data, self.path)
        self.parameters_count = count_weights(data)
        self.session = open_session(data, self.path, threads)
        metadata = self.session.get_modelmeta().custom_metadata_map
        found, dictionary, source = self._found(metadata)
        self._removes_padding = OWN in metadata or "program" in metadata  # all that are exported here do
        options = make_options({**found, **self.given}, str(self.path))
        self.options, self._batch, channels = self._sizes(options)
        if options.dict is not None:
            dictionary, source = read_dictionary(Path(options.dict)), f"dict={options.dict}"
        if dictionary is None:
            raise UserError(
                f"{self.path} has no dictionary in its metadata ({CHARACTERS!r}), nor in {PADDLE_FILE} beside it; give "
                f"its characters, one a line, as {self.path}:dict=FILE"
            )
        if channels == 1:
            self.options = dataclasses.replace(self.options, colour="gray")
        self._check_options()
        self._input, self._output = self.session.get_inputs()[0].name, self.session.get_outputs()[0].name
        empty = self._probe(channels)
        classes = empty.shape[2]
        spaces = classes - len(dictionary) - 1
        if spaces not in (0, 1):
            raise UserError(
                f"{self.path} has {classes} classes, and {source} has {len(dictionary)} characters: with the blank of "
                f"CTC it needs {classes - 1}, or {classes - 2} and the space; give the dictionary that it was trained "
                "with (dict=FILE)"
            )
        self.probabilities = bool((empty >= 0).all() and np.allclose(empty.sum(axis=2), 1, atol=1e-2))
        blank = self._find_blank(empty)
        characters = [*dictionary, *[" "] * spaces]
        self.texts: tuple[str, ...] = ("", *characters) if blank == "first" else (*characters, "")
        self.blank_id = 0 if blank == "first" else classes - 1
        composed = (unicodedata.normalize("NFC", text) for text in characters)
        self.charset = Charset("".join(dict.fromkeys(text for text in composed if len(text) == 1)))
        self.max_length = math.ceil(empty.shape[1] * max(MAX_WIDTH / self.image_size[1], 1))

    def __reduce__(self) -> tuple[type[OnnxCtcReader], tuple[Any, ...], dict[str, Any]]:
        """Pickle it by its file, which another process opens again: sessions of onnxruntime can't be sent to one."""
        arguments = (self.path.resolve(), self.given, self.threads, self.name)
        return type(self), arguments, {"_language_model": self.language_model}

    def place(self, device: str, threads: int | None) -> OnnxCtcReader:
        """Return the same reader with another number of threads, which a session takes when it is opened."""
        if threads == self.threads:
            return self
        again = OnnxCtcReader(self.path, self.given, threads, self.name)
        again.language_model = self.language_model
        return again

    @property
    def image_size(self) -> tuple[int, int]:
        """Height and width of the input in pixels; the least width where it varies."""
        return cast("int", self.options.height), self.options.width or self.options.min_width or 1

    def read_arrays(self, images: np.ndarray, allowed: np.ndarray | None = None) -> list[Reading]:
        """Read normalised pictures of a student (N, 3, H, W): one reading each."""
        return self.read_pictures(denormalize(images), allowed)

    def read_pictures(self, pictures: Sequence[Image.Image], allowed: np.ndarray | None = None) -> list[Reading]:
        """Read RGB pictures: one reading each.

        Raises:
            UserError: when the file computes NaN instead of probabilities.
        """
        readings: dict[int, Reading] = {}
        mask = None if allowed is None else (self.ids >= 0) & allowed[self.ids]
        for indices, probabilities, columns in self.columns(pictures):
            if mask is not None:
                probabilities = np.where(mask, probabilities, 0)
                probabilities[:, :, self.blank_id] += TINY  # where nothing that is allowed has any chance
                probabilities /= probabilities.sum(axis=2, keepdims=True)
            decoded = decode_columns(self.texts, probabilities, self.blank_id, columns, self.language_model)
            readings.update(zip(indices, decoded, strict=True))
        return [readings[index] for index in range(len(pictures))]

    @cached_property
    def ids(self) -> np.ndarray:
        """(classes,) the id of each class in its alphabet: 0 for the blank, -1 for several characters at once."""
        ids = [self.charset.ids.get(unicodedata.normalize("NFC", text), -1) for text in self.texts]
        ids[self.blank_id] = 0
        return np.array(ids)

    def fold(self, probabilities: np.ndarray) -> np.ndarray:
        """Bring probabilities (n, T, classes) to its alphabet (n, T, C + 1), the blank first."""
        numbers, firsts = np.unique(self.ids, return_index=True)
        firsts = firsts[numbers >= 0]
        folded: np.ndarray = probabilities[:, :, firsts]
        for again in set(np.flatnonzero(self.ids >= 0)) - set(firsts):
            folded[:, :, self.ids[again]] += probabilities[:, :, again]
        return folded

    def columns(self, pictures: Sequence[Image.Image]) -> Iterator[tuple[list[int], np.ndarray, list[float]]]:
        """Yield the columns of pictures of one width at a time.

        Yields:
            The indices of n pictures, the probabilities (n, T, classes) of their columns, and how many of these, and
            what part of the next, are of the picture itself, with padding behind.
        """
        widths = defaultdict(list)
        for index, picture in enumerate(pictures):
            widths[self._width(picture)].append(index)
        for width, indices in sorted(widths.items()):
            for start in range(0, len(indices), self._batch or MAX_BATCH):
                chosen = indices[start : start + (self._batch or MAX_BATCH)]
                probabilities = self._run(np.stack([self._prepare(pictures[index], width) for index in chosen]))
                inner = [self._inner_size(pictures[index], width)[1] / width for index in chosen]
                parts = [1.0] * len(chosen) if self._removes_padding else inner
                yield chosen, probabilities, [probabilities.shape[1] * part for part in parts]

    def _width(self, picture: Image.Image) -> int:
        """Return the width of a picture's input."""
        if self.options.width is not None:
            return self.options.width
        height, least = self.image_size
        return max(least, min(int(height * (picture.width / picture.height)), MAX_WIDTH))

    def _inner_size(self, picture: Image.Image, width: int) -> tuple[int, int]:
        """Return height and width of a picture without the padding beside it."""
        height, ratio = self.image_size[0], picture.height / picture.width
        if self.options.fit == "pad":
            return height, min(math.ceil(height * (picture.width / picture.height)), width)
        if self.options.fit == "inside":
            tall = ratio > height / width
            return (height, max(int(height / ratio), 1)) if tall else (max(int(width * ratio), 1), width)
        return height, width

    def _prepare(self, picture: Image.Image, width: int) -> np.ndarray:
        """Resize, pad and normalise one RGB picture: (channels, H, W) float32."""
        options, height = self.options, self.image_size[0]
        inner_height, inner_width = self._inner_size(picture, width)
        resized = resize(picture, inner_height, inner_width, options.resize)
        if options.colour == "gray":
            pixels = np.asarray(Image.fromarray(resized).convert("L"))[:, :, None]
        else:
            pixels = resized[:, :, ::-1] if options.colour == "bgr" else resized
        mean, std = (np.asarray(value, dtype=np.float32) for value in (options.mean, options.std))
        if options.padding == "black":
            canvas = np.zeros((height, width, pixels.shape[2]), dtype=np.uint8)
            canvas[:inner_height, :inner_width] = pixels
            return ((canvas.astype(np.float32) / 255 - mean) / std).transpose(2, 0, 1)
        filled = np.zeros((pixels.shape[2], height, width), dtype=np.float32)
        filled[:, :inner_height, :inner_width] = ((pixels.astype(np.float32) / 255 - mean) / std).transpose(2, 0, 1)
        return filled

    def _run(self, inputs: np.ndarray) -> np.ndarray:
        """Compute the probabilities (n, T, classes) of pictures (n, channels, H, W)."""
        count = len(inputs)
        if self._batch is not None and count < self._batch:
            inputs = np.concatenate([inputs, np.zeros((self._batch - count, *inputs.shape[1:]), dtype=np.float32)])
        output = self.session.run([self._output], {self._input: np.ascontiguousarray(inputs)})[0]
        values: np.ndarray = (output if self.time_axis == 1 else output.transpose(1, 0, 2))[:count]
        if np.isnan(values).any():
            raise UserError(f"{self.path} gives NaN instead of probabilities: its weights are damaged")
        if self.probabilities:
            return values
        exponents = np.exp(values - values.max(axis=2, keepdims=True))
        return np.asarray(exponents / exponents.sum(axis=2, keepdims=True))

    def _found(self, metadata: Mapping[str, str]) -> tuple[dict[str, str], list[str] | None, str]:
        """Find options, dictionary and its name in messages, in the file's metadata or beside it."""
        if metadata.get("program") == "OpenCV":
            raise UserError(f"{self.path} is made for OpenCV alone; give student.onnx, or the folder beside it")
        if CHARACTERS in metadata:
            return {"preset": "ppocr"}, metadata[CHARACTERS].splitlines(), f"its metadata {CHARACTERS!r}"
        if OWN in metadata:
            if metadata.get("logits") != '"ctc"':
                raise UserError(
                    f"{self.path} decodes character by character, and its columns can't teach; give the folder that it "
                    "was exported from"
                )
            return {"preset": "symdistill"}, list(json.loads(metadata[OWN])), f"its metadata {OWN!r}"
        beside = self.path.with_name(PADDLE_FILE)
        return (*read_paddle_file(beside), str(beside)) if beside.is_file() else ({}, None, "")

    def _sizes(self, options: Options) -> tuple[Options, int | None, int]:
        """Read sizes from the graph: options with them, a fixed batch, and channels; raises `UserError`."""
        inputs, outputs = self.session.get_inputs(), self.session.get_outputs()
        shape: list[Any] = inputs[0].shape
        if len(inputs) != 1 or len(shape) != 4 or inputs[0].type != "tensor(float)" or len(outputs[0].shape) != 3:
            raise UserError(
                f"{self.path} is no CTC recogniser: it takes {len(inputs)} inputs, the first of {inputs[0].type} and "
                f"{len(shape)} dimensions, and gives {len(outputs[0].shape)} dimensions; give one that takes pictures "
                "(N, channels, H, W) in float32 and gives (N, columns, classes)"
            )
        batch, channels, height, width = (size if isinstance(size, int) else None for size in shape)
        if channels not in (None, 1, 3):
            raise UserError(f"{self.path} takes {channels} channels, not 1 or 3; give one of shape (N, channels, H, W)")
        for name, fixed in (("height", height), ("width", width)):
            if fixed is not None and name in self.given and getattr(options, name) != fixed:
                raise UserError(f"{self.path} reads at a {name} of {fixed}; leave {name}={self.given[name]} out")
        fixed_width = options.width if width is None else width
        sizes = dataclasses.replace(options, height=height or options.height, width=fixed_width)
        return sizes, batch, channels or (1 if options.colour == "gray" else 3)

    def _check_options(self) -> None:
        """Ask for what neither options nor the graph tell; raises `UserError`."""
        options, needed = self.options, ("height", "colour", "mean", "std", "fit")
        missing = [name for name in needed if getattr(options, name) is None]
        if missing:
            raise UserError(
                f"{self.path} doesn't tell its {', '.join(missing)}; give the program whose conventions it follows, as "
                f"{self.path}:preset={'|'.join(PRESETS)}, or each as {missing[0]}=..."
            )
        if options.width is None and options.fit != "pad":
            raise UserError(f"{self.path} takes any width, and fit={options.fit} needs one; give width=...")

    def _probe(self, channels: int) -> np.ndarray:
        """Read empty pictures, to see the form of the output: (N, T, classes); sets `time_axis`."""
        height, width = self.image_size
        count = self._batch or 2
        inputs = np.zeros((count, channels, height, self.options.width or max(width, 4 * height)), dtype=np.float32)
        try:
            output = self.session.run([self._output], {self._input: inputs})[0]
        except Exception as error:  # onnxruntime has a class of its own for every failure
            reason = " ".join(str(error).split())[:200]
            size = f"{height} x {inputs.shape[3]}"
            raise UserError(f"{self.path} can't read {size} pixels ({reason}); give height=... and width=...") from None
        self.time_axis: Literal[0, 1] = 1 if output.shape[0] == count else 0
        if output.ndim != 3 or output.shape[1 - self.time_axis] != count or output.shape[2] < 2:
            raise UserError(
                f"{self.path} is no CTC recogniser: of {count} pictures it gives {' x '.join(map(str, output.shape))} "
                "numbers; give one that gives (N, columns, classes)"
            )
        return np.asarray(output if self.time_axis == 1 else output.transpose(1, 0, 2))

    def _find_blank(self, empty: np.ndarray) -> Literal["first", "last"]:
        """Find where the blank stands, by what is seen in an empty picture; raises `UserError`."""
        best, last = empty.argmax(axis=2), empty.shape[2] - 1
        found: Literal["first", "last"] | None = (
            "first" if (best == 0).mean() >= SURE else "last" if (best == last).mean() >= SURE else None
        )
        said = self.options.blank
        if "blank" in self.given or found is None or said == found:
            if said is None:
                raise UserError(f"{self.path} doesn't tell where CTC's blank stands; give blank=first or blank=last")
            return said
        if said is None:
            return found
        raise UserError(
            f"{self.path} sees class {0 if found == 'first' else last} in an empty picture, and preset="
            f"{self.options.preset} has the blank {said}; give blank=first or blank=last"
        )


def resize(picture: Image.Image, height: int, width: int, how: str) -> np.ndarray:
    """Resize an RGB picture as the program does that a file was made for: (H, W, 3) uint8."""
    if how == "linear":
        import cv2

        return cast("np.ndarray", cv2.resize(np.asarray(picture), (width, height)))
    method = Image.Resampling.BILINEAR if how == "bilinear" else Image.Resampling.BICUBIC
    return np.asarray(picture.resize((width, height), method))
