"""Column labels: the character under each 32nd of a picture's width, which rendered words know of themselves."""

from __future__ import annotations

import numpy as np

from students.charset import Charset

COLUMNS = 32
"""Columns that a picture has labels for."""


def pack_columns(columns: np.ndarray) -> bytes:
    """Encode code points (32,), 0 for none, as they are stored: a byte each where all are ASCII, else 4 (UTF-32-LE)."""
    return columns.astype(np.uint8 if columns.max() < 128 else "<u4").tobytes()


def unpack_columns(stored: bytes | None) -> np.ndarray | None:
    """Decode what `pack_columns` has stored to code points (32,); None for anything else."""
    if stored is None or len(stored) not in (COLUMNS, 4 * COLUMNS):
        return None
    return np.frombuffer(stored, np.uint8 if len(stored) == COLUMNS else "<u4")


def column_ids(charset: Charset) -> np.ndarray:
    """Map code points to token ids: 0 for none and for characters that the alphabet has not, in any case.

    As long as the largest code point of the alphabet asks for; what lies beyond has no id.
    """
    characters = {form for char in charset.characters for form in (char, char.lower(), char.upper()) if len(form) == 1}
    ids = np.zeros(max(256, *(ord(char) + 1 for char in characters)), np.int64)
    for char in characters:
        adapted = charset.adapt(char)
        ids[ord(char)] = charset.ids[adapted] if len(adapted) == 1 else 0
    return ids
