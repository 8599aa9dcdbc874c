"""What a CLIP4STR's captions lose of a reading on its way to the text tower: characters, case, ends of words."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

from students.charset import Charset
from teachers.backbones import spelling
from teachers.clip4str import Clip4Str


@dataclass(frozen=True)
class CaptionFacts:
    """How captions write what a reader reads of an alphabet."""

    characters: str
    """The alphabet of captions."""
    tokens: int
    """Tokens that a caption has room for, between start and end."""
    dropped: str
    """Characters that captions leave out."""
    same: tuple[str, ...]
    """Characters that captions write alike, a group each; a group may be the two cases of a letter."""
    broken: dict[str, int]
    """Characters that aren't one token each -> how many; 0 for those that the text tower doesn't know."""
    fits: int
    """Characters of a word whose caption is never cut."""
    longest: int
    """The reader's longest word in characters."""

    @property
    def lost(self) -> tuple[str, ...]:
        """What the text tower is not shown of a reading, a sentence each."""
        told = []
        if self.dropped:
            told.append(f"{' '.join(self.dropped)}: the alphabet of captions lacks them")
        if unknown := [char for char, count in self.broken.items() if count == 0]:
            told.append(f"{' '.join(unknown)}: the text tower has no token for them")
        if split := [char for char, count in self.broken.items() if count > 1]:
            told.append(f"{' '.join(split)} as one: each becomes several tokens")
        cases = [group for group in self.same if len({char.lower() for char in group}) == 1]
        if cases:
            told.append(f"the case of {len(cases)} letters: both cases are written alike")
        told += [f"{' '.join(group)} apart: they are written alike" for group in self.same if group not in cases]
        if self.fits < self.longest:
            told.append(
                f"the end of words of more than {self.fits} characters, when their captions exceed {self.tokens} tokens"
            )
        return tuple(told)


def examine_captions(reader: Clip4Str, charset: Charset) -> CaptionFacts | None:
    """Find out what captions make of the characters of an alphabet that a reader has; None without captions."""
    if reader.cross_decoder is None:
        return None
    adapted, pieces = reader.captioner.adapted, spelling(reader.config.clip).pieces
    own = dict.fromkeys(filter(None, map(reader.charset.counterpart, charset.characters)))
    captions = {char: adapted.adapt(char) for char in own}
    written = {char: tuple(pieces(caption)) for char, caption in captions.items() if caption}
    groups: dict[tuple[int, ...], str] = defaultdict(str)
    for char, ids in written.items():
        groups[ids] += char
    tokens = reader.tokens.context - 2
    return CaptionFacts(
        characters=adapted.characters,
        tokens=tokens,
        dropped="".join(char for char, caption in captions.items() if not caption),
        same=tuple(group for ids, group in groups.items() if ids and len(group) > 1),
        broken={char: len(ids) for char, ids in written.items() if len(ids) != 1},
        fits=tokens // max([1, *map(len, written.values())]),
        longest=reader.max_length,
    )
