"""The teacher doctor: which characters and words of an alphabet a teacher can't teach, and why.

A CLIP sees a label through its tokenizer: characters with the same token get the same guidance, and words with a
character that is not exactly one token get none. A teacher that reads is bound by its own alphabet instead, a CLIP4STR
by both.
"""

from __future__ import annotations

import unicodedata
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass

from open_clip import SimpleTokenizer

from students.charset import Charset
from students.errors import UserError
from students.pretrained import name_of
from students.reading import Reader
from teachers import registry
from teachers.backbones import spelling
from teachers.clip import ClipTeacher
from teachers.clip4str import Clip4Str
from teachers.names import CLIP_ZOO, resolve
from teachers.reading import ReadingTeacher
from teachers.registry import load_model
from teachers.tokens import AlignedTokenizer, WordPieceTokens
from teachers.zoo import zoo_config, zoo_tags

LONGEST = 25
"""Longest word of the protocol; a teacher of shorter ones is reported."""


@dataclass(frozen=True)
class Checkup:
    """The findings on one teacher."""

    teacher: str
    description: str
    charset: str
    """The student's characters."""
    unguided: Mapping[str, str]
    """Characters whose words get no guidance at all, with the reason."""
    outside: str
    """Characters that a teacher which reads hasn't got: it gives no guidance from there to the end of the word."""
    same: tuple[str, ...]
    """Characters that get the same guidance, a group each; a group may be the two cases of a letter."""
    longest: int | None
    """Characters of the longest word that it guides to the end; None for no limit."""

    @property
    def untaught(self) -> list[str]:
        """What a student of this alphabet learns from labels alone, a sentence each."""
        lines = []
        if self.unguided:
            lines.append(f"words with {' '.join(self.unguided)}: it takes no label with them")
        if self.outside:
            lines.append(f"the rest of a word from {' '.join(self.outside)} on: it can't read them")
        if cases := [group for group in self.same if is_case(group)]:
            letters = " ".join(group[0] for group in cases)
            lines.append(f"the case of {letters}: both cases get the same guidance")
        lines += [f"{' '.join(group)} apart: they get the same guidance" for group in self.same if group not in cases]
        if self.longest is not None and self.longest < LONGEST:
            lines.append(f"words of more than {self.longest} characters: it takes no longer ones")
        return lines


def examine(name: str, charset: Charset) -> Checkup:
    """Examine a teacher for a student's alphabet; a model of open_clip's zoo by its tokenizer, without its weights.

    Args:
        name: as for `teachers.registry.load_teacher`; a model of the zoo may come without a tag.
        charset: the student's alphabet.

    Raises:
        UserError: when there is no such teacher.
    """
    if name not in registry.TEACHERS and (resolved := resolve(name)).format == CLIP_ZOO:
        architecture = resolved.architecture or name
        config = zoo_config(architecture)["text_cfg"]
        if resolved.tag is not None and resolved.tag not in zoo_tags(architecture):
            raise UserError(f"{architecture} has no weights called {resolved.tag!r}; it has {zoo_tags(architecture)}")
        tokenizer = SimpleTokenizer(**(config.get("tokenizer_kwargs") or {}))
        tokens = WordPieceTokens(tokenizer, config.get("context_length", 77))
        return examine_tokens(name, "a CLIP of open_clip's zoo, by its tokenizer", charset, tokens)
    model = load_model(name)
    if isinstance(model, ReadingTeacher):
        model = model.reader
    called = name_of(name)
    if isinstance(model, Reader):
        description = f"{type(model).__name__}, {model.parameters_count / 1e6:.2f} M parameters"
        caption = spelling(model.config.clip) if isinstance(model, Clip4Str) else None
        return examine_reader(called, description, charset, model.charset, model.max_length, caption)
    if isinstance(model, ClipTeacher):
        return examine_tokens(model.name, model.description, charset, model.tokens)
    refused = dict.fromkeys(model.lacking(charset.characters), "refused by it")
    return Checkup(model.name, model.description, charset.characters, refused, "", (), model.longest_label)


def examine_tokens(name: str, description: str, charset: Charset, tokens: AlignedTokenizer) -> Checkup:
    """Examine a teacher that sees labels through a tokenizer."""
    unguided = unguided_characters(charset, tokens)
    groups: dict[int, str] = defaultdict(str)
    for char in charset.characters:
        if char not in unguided:
            groups[tokens.pieces(char)[0]] += char
    same = tuple(group for group in groups.values() if len(group) > 1)
    return Checkup(name, description, charset.characters, unguided, "", same, tokens.max_length)


def examine_reader(
    name: str, description: str, charset: Charset, own: Charset, longest: int, tokens: AlignedTokenizer | None = None
) -> Checkup:
    """Examine a teacher that reads words of up to `longest` characters of the alphabet `own`.

    With `tokens` it also sees labels through a tokenizer, as a CLIP4STR does.
    """
    groups: dict[str | None, str] = defaultdict(str)
    for char in charset.characters:
        groups[own.counterpart(char)] += char
    outside = groups.pop(None, "")
    same = tuple(group for group in groups.values() if len(group) > 1)
    unguided = {} if tokens is None else unguided_characters(charset, tokens)
    if tokens is not None:
        longest = min(longest, tokens.max_length)
    outside = "".join(char for char in outside if char not in unguided)
    return Checkup(name, description, charset.characters, unguided, outside, same, longest)


def unguided_characters(charset: Charset, tokens: AlignedTokenizer) -> dict[str, str]:
    """Find the characters that are not exactly one token, with the reason."""
    reasons = {}
    for char in charset.characters:
        if tokens.accepts(char):
            continue
        pieces, compatible = tokens.pieces(char), unicodedata.normalize("NFKC", char)
        if not pieces:
            reasons[char] = "no token"
        elif len(pieces) > 1:
            reasons[char] = f"{len(pieces)} tokens"
        else:
            reasons[char] = f"stands for {compatible!r}" if compatible != char else "becomes another character"
    return reasons


def is_case(group: str) -> bool:
    """Tell whether a group of characters is the two cases of one letter."""
    return len(group) == 2 and group[0].swapcase() == group[1]
