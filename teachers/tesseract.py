"""TesseractReader: the Tesseract that is installed on the machine, through the C interface of its library.

The module imports no torch.
"""

from __future__ import annotations

import ctypes
import ctypes.util
import os
import sys
import threading
import weakref
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from typing import Any

import numpy as np
from PIL import Image

from students.charset import CHARSETS, Charset
from students.decoding import Reading
from students.errors import UserError
from students.picture_reader import PictureReader
from students.pictures import denormalize

SINGLE_WORD = 8
"""Page segmentation mode for pictures of one word."""
STDERR = 2
"""File descriptor of standard error, whatever `sys.stderr` has become."""
INSTALL = "install Tesseract 4 or later (Debian: apt install tesseract-ocr; macOS: brew install tesseract)"


class TesseractReader(PictureReader):
    """Read words with Tesseract, each picture as one word, on one thread.

    Args:
        language: of its traineddata files, several with `+`.

    Attributes:
        name: its name in tables.
        charset: the 94 printable ASCII characters, which its languages have in common.
        max_length: no word is cut.
        parameters_count: None: the files don't tell.

    Raises:
        UserError: when it isn't installed, or has no such language.
    """

    max_length = 1000
    parameters_count = None
    description = "Tesseract"

    def __init__(self, language: str = "eng") -> None:
        self.language = language
        self.name = "tesseract" if language == "eng" else f"tesseract:{language}"
        self.charset = Charset(CHARSETS["94"])
        self._lock = threading.Lock()  # a handle reads one picture at a time, and calls into C let other threads run
        self._library = load_library()
        self._handle = ctypes.c_void_p(self._library.TessBaseAPICreate())
        weakref.finalize(self, _delete, self._library, self._handle)
        with quiet():
            failed = self._library.TessBaseAPIInit3(self._handle, None, language.encode()) != 0
        if failed:
            raise UserError(
                f"Tesseract has no data for {language!r}; install it (Debian: apt install tesseract-ocr-{language}), "
                "or set TESSDATA_PREFIX to the folder of its traineddata files"
            )
        self._library.TessBaseAPISetPageSegMode(self._handle, SINGLE_WORD)
        self._library.TessBaseAPISetVariable(self._handle, b"debug_file", os.devnull.encode())

    @property
    def image_size(self) -> tuple[int, int]:
        """The height of the lines it was trained on; pictures are taken as they are."""
        return 36, 1

    def read_arrays(self, images: np.ndarray, allowed: np.ndarray | None = None) -> list[Reading]:
        """Read normalised pictures of a student (N, 3, H, W): one reading each."""
        return self.read_pictures(denormalize(images), allowed)

    def read_pictures(self, pictures: Sequence[Image.Image], allowed: np.ndarray | None = None) -> list[Reading]:
        """Read RGB pictures: one reading each; the confidence is Tesseract's own."""
        may = [] if allowed is None else allowed[1:].tolist()
        chosen = "".join(char for char, allow in zip(self.charset.characters, may, strict=False) if allow)
        with self._lock:
            self._library.TessBaseAPISetVariable(self._handle, b"tessedit_char_whitelist", chosen.encode())
            return [self._read(picture) for picture in pictures]

    def _read(self, picture: Image.Image) -> Reading:
        width, height = picture.size
        self._library.TessBaseAPISetImage(self._handle, picture.tobytes(), width, height, 3, 3 * width)
        with without_threads():
            address = self._library.TessBaseAPIGetUTF8Text(self._handle)
        if not address:
            return Reading("", 0.0, ())
        text = " ".join(ctypes.string_at(address).decode("utf-8", "replace").split())
        self._library.TessDeleteText(address)
        confidence = max(self._library.TessBaseAPIMeanTextConf(self._handle), 0) / 100 if text else 0.0
        return Reading(text, confidence, (confidence,))


@cache
def load_library() -> Any:
    """Load Tesseract's library and declare the functions that are called; raises `UserError`."""
    path = ctypes.util.find_library("tesseract")
    try:
        library = None if path is None else ctypes.CDLL(path)
    except OSError:
        library = None
    if library is None:
        raise UserError(f"the reader tesseract needs Tesseract's library, which isn't here; {INSTALL}")
    handle, number, text = ctypes.c_void_p, ctypes.c_int, ctypes.c_char_p
    for name, result, arguments in (
        ("TessBaseAPICreate", handle, ()),
        ("TessBaseAPIDelete", None, (handle,)),
        ("TessBaseAPIEnd", None, (handle,)),
        ("TessBaseAPIInit3", number, (handle, text, text)),
        ("TessBaseAPISetVariable", number, (handle, text, text)),
        ("TessBaseAPISetPageSegMode", None, (handle, number)),
        ("TessBaseAPISetImage", None, (handle, text, number, number, number, number)),
        ("TessBaseAPIGetUTF8Text", handle, (handle,)),
        ("TessDeleteText", None, (handle,)),
        ("TessBaseAPIMeanTextConf", number, (handle,)),
    ):
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments
    return library


@cache
def load_openmp() -> Any:
    """Load the OpenMP that Tesseract uses, which may be torch's; None where there is no GNU one."""
    try:
        return ctypes.CDLL("libgomp.so.1")
    except OSError:
        return None


@contextmanager
def without_threads() -> Iterator[None]:
    """Let no parallel region start threads: Tesseract asks for four, which cost more than they save on one word."""
    openmp = load_openmp()
    if openmp is None:
        yield
        return
    before = openmp.omp_get_max_active_levels()
    openmp.omp_set_max_active_levels(0)
    try:
        yield
    finally:
        openmp.omp_set_max_active_levels(before)


@contextmanager
def quiet() -> Iterator[None]:
    """Keep what a C library says about its files off standard error: what is wrong is said in one line of our own."""
    sys.stderr.flush()
    kept, nowhere = os.dup(STDERR), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, STDERR)
        yield
    finally:
        os.dup2(kept, STDERR)
        os.close(kept)
        os.close(nowhere)


def _delete(library: Any, handle: ctypes.c_void_p) -> None:
    library.TessBaseAPIEnd(handle)
    library.TessBaseAPIDelete(handle)
