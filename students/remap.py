"""Remap a trained reader to another alphabet or longest word: its rows move with their characters and positions.

Weights with a row for each character (heads, embeddings) or position (queries) are rearranged: a character keeps its
row whatever its new token id is; the end, start and padding keep theirs. All other weights stay as they are.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor

from students.charset import Charset, show_characters
from students.ctc import CtcReader
from students.reading import Reader
from students.two_stream import CharacterDecoder

AnyReader = TypeVar("AnyReader", bound=Reader)

CLASSES = ("head.weight", "head.bias", "column_head.weight", "column_head.bias")
"""Weights with a row for the end and each character."""
TOKENS = "text_embed.embedding.weight"
"""Weights with a row for the end, each character, start and padding."""
POSITIONS = "pos_queries"
"""Weights with a row for each position, along their second dimension."""


@dataclass(frozen=True)
class Remapping:
    """What `remap` did with a reader's rows."""

    unchanged: int
    """How many characters kept their rows."""
    new: str
    """Characters with new rows, drawn at random."""
    cased: str
    """Characters with new rows that start as copies of their other case."""
    dropped: str
    """Characters whose rows were removed."""
    longest: tuple[int, int]
    """Longest word before and now; twice the new one for a reader without positions."""

    def describe(self) -> str:
        """Describe it in one line."""
        parts = [f"{self.unchanged} characters keep their rows"]
        if self.new:
            parts.append(f"new are {show_characters(self.new)}")
        if self.cased:
            parts.append(f"new, starting as their other case, are {self.cased}")
        if self.dropped:
            parts.append(f"gone are {show_characters(self.dropped)}")
        before, now = self.longest
        if now > before:
            parts.append(f"positions {before + 2} to {now + 1} are new")  # counted from 1, the end's among them
        elif now < before:
            parts.append(f"positions {now + 2} to {before + 1} are gone")
        return "; ".join(parts)


def remap(reader: AnyReader, charset: Charset, max_length: int) -> tuple[AnyReader, Remapping]:
    """Build the same reader for another alphabet and longest word; new rows are drawn from torch's global generator.

    Args:
        reader: stays as it is.
        charset: the new alphabet.
        max_length: the new longest word, in characters.

    Raises:
        UserError: for a longest word that no reader can have.
    """
    config = dataclasses.replace(reader.config, charset=charset.characters, max_length=max_length)
    remapped = type(reader)(config)
    remapped.language_model = reader.language_model
    old, new = reader.charset, charset
    source = [_source_id(char, old) for char in new.characters]
    classes = [old.end_id, *source]
    tokens = [*classes, old.start_id, old.pad_id]
    positions = [position if position <= reader.max_length else -1 for position in range(max_length + 1)]
    fresh = remapped.state_dict()
    moved = dict(_layouts(remapped, classes, tokens))
    for name, rows in reader.state_dict().items():
        if name in moved:
            fresh[name] = _take(rows, fresh[name], moved[name])
        elif name.endswith(POSITIONS):
            fresh[name] = _take(rows[0], fresh[name][0], positions)[None]
        else:
            fresh[name] = rows
    remapped.load_state_dict(fresh)
    pairs = list(zip(new.characters, source, strict=True))
    report = Remapping(
        unchanged=sum(char in old.ids for char in new.characters),
        new="".join(char for char, row in pairs if row < 0),
        cased="".join(char for char, row in pairs if row >= 0 and char not in old.ids),
        dropped="".join(char for char, row in old.ids.items() if row not in source),
        longest=(reader.max_length if any(name.endswith(POSITIONS) for name in fresh) else max_length, max_length),
    )
    return remapped.train(reader.training), report


def _source_id(char: str, old: Charset) -> int:
    """Return the token id that a character's rows come from; -1 for none."""
    counterpart = old.counterpart(char)
    return -1 if counterpart is None else old.ids[counterpart]


def _layouts(reader: Reader, classes: list[int], tokens: list[int]) -> Iterator[tuple[str, list[int]]]:
    """Yield the names of the weights with rows for characters, and the old row of each new one."""
    for prefix, part in reader.named_modules():
        if isinstance(part, CharacterDecoder | CtcReader):
            start = f"{prefix}." if prefix else ""
            yield from ((start + name, classes) for name in CLASSES)
            yield start + TOKENS, tokens


def _take(rows: Tensor, fresh: Tensor, sources: list[int]) -> Tensor:
    """Rearrange rows (A, ...) to (B, ...), with a fresh row where there is no source."""
    indices = torch.tensor(sources, device=rows.device)
    known = (indices >= 0).view(-1, *[1] * (rows.ndim - 1))
    return torch.where(known, rows[indices.clamp(min=0)], fresh.to(rows))
