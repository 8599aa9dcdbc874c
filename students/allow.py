"""Allow-lists: which characters of an alphabet may be read, as ranges such as `0-9A-Z` or a file.

The module imports no torch.
"""

from __future__ import annotations

import re
import unicodedata
from pathlib import Path

import numpy as np

from students.charset import Charset
from students.errors import UserError

SHOWN = 20
"""Characters that an error lists."""


def expand_allowed(allow: str | Path) -> str:
    """List the characters of an allow-list, each once.

    Args:
        allow: characters and ranges of code points, `0-9A-Z.,`; a hyphen at either end stands for itself. A `Path` is
            a UTF-8 text file of characters, where a hyphen always stands for itself and line ends are none.

    Raises:
        UserError: when it is empty, a range runs backwards, or the file can't be read.
    """
    if isinstance(allow, Path):
        try:
            characters = "".join(re.split(r"\r\n|\n|\r", allow.read_bytes().decode("utf-8-sig")))
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "no UTF-8 text"
            raise UserError(f"{allow}: can't be read as an allow-list ({reason}); give a text file") from None
    elif not isinstance(allow, str):
        raise UserError(f"an allow-list is a text such as 0-9A-Z, or the Path of a file, not {type(allow).__name__}")
    elif allow.lower().endswith(".txt"):  # a name, rather than the characters that it is spelt with
        raise UserError(f"{allow}: no such file of allowed characters (in Python, give a file as a Path)")
    else:
        characters = re.sub("(?s)(.)-(.)", lambda ends: _expand_range(*ends.groups()), allow)
    if not characters:
        raise UserError(f"the allow-list {str(allow)!r} is empty; give characters such as 0-9A-Z")
    return "".join(dict.fromkeys(unicodedata.normalize("NFC", characters)))


def allowed_classes(charset: Charset, allow: str | Path) -> np.ndarray:
    """Return which classes may be read: (C + 1,) bool, the end token or CTC's blank always.

    Letters of the case that the alphabet lacks stand for those that it has: `A-Z` allows `a-z` of alphabet `36`.

    Args:
        charset: the reader's alphabet.
        allow: see `expand_allowed`.

    Raises:
        UserError: see `expand_allowed`; and naming the characters that are not in the alphabet.
    """
    characters = {char: charset.apply_case(char) for char in expand_allowed(allow)}
    outside = [char for char, cased in characters.items() if cased not in charset.ids]
    if outside:
        named = "".join(outside[:SHOWN]) + ("..." if len(outside) > SHOWN else "")
        raise UserError(
            f"the allow-list has {named!r}, outside the reader's alphabet of {len(charset.characters)} characters; "
            f"leave {'it' if len(outside) == 1 else 'them'} out, or take a reader that has "
            f"{'it' if len(outside) == 1 else 'them'}"
        )
    allowed = np.zeros(len(charset.characters) + 1, bool)
    allowed[[charset.end_id, *(charset.ids[cased] for cased in characters.values())]] = True
    return allowed


def _expand_range(first: str, last: str) -> str:
    """List the characters from `first` to `last`."""
    if last < first:
        raise UserError(f"the range {first}-{last} of the allow-list runs backwards; give {last}-{first}")
    return "".join(map(chr, range(ord(first), ord(last) + 1)))
