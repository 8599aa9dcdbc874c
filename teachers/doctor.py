"""The teacher doctor: what a teacher can't tell a student about the words of an alphabet (METHOD 4).

A CLIP sees a label through its tokenizer: characters with the same token get the same guidance, a character of
several tokens gets none. How far its text embeddings tell similar words apart needs its weights too. A teacher that
reads is bound by its own alphabet instead; a CLIP4STR by both, and by what it writes into its captions.
"""

from __future__ import annotations

import dataclasses
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from open_clip import SimpleTokenizer, list_models
from torch import Tensor
from torch.nn import functional as F

from students.charset import Charset
from students.errors import UserError
from teachers.backbones import spelling
from teachers.caption_facts import CaptionFacts, examine_captions
from teachers.clip import ClipTeacher
from teachers.clip4str import Clip4Str
from teachers.probes import probes
from teachers.registry import load_teacher
from teachers.tokens import TokenizerLike, WordPieceTokens
from teachers.towers import run_words
from teachers.zoo import zoo_config, zoo_tags

WEAK = 0.1
"""Words closer than this share of the distance between unrelated words are called hardly told apart."""
LONGEST = 25
"""Longest word that the label rules leave."""


@dataclass(frozen=True)
class TokenFacts:
    """How a tokenizer writes the characters of an alphabet."""

    counts: dict[int, int]
    """Tokens of a character -> characters with so many; 0 for a character it has no token for."""
    broken: dict[str, str]
    """Characters that aren't one token each -> why."""
    same: tuple[str, ...]
    """Characters that share one token, a group each; a group may be the two cases of a letter."""
    letters: int
    """Letters of which the alphabet has both cases."""
    letters_collapsed: int
    """Those of them whose two cases share one token."""
    longest: int
    """Longest label in characters."""


@dataclass(frozen=True)
class Contrast:
    """Cosine of the text embeddings of words that differ a little."""

    kind: str
    """In what they differ."""
    example: tuple[str, str]
    pairs: int
    identical: int
    """Pairs that are the same tokens, so that no training could tell them apart."""
    low: float
    median: float
    high: float


@dataclass(frozen=True)
class ReadingFacts:
    """What a teacher that reads can read."""

    characters: str
    """Its alphabet."""
    outside: str
    """Characters of the student's alphabet that it has in neither case."""
    other_case: str
    """Those that it has in the other case only."""
    longest: int
    """Its longest word in characters."""


@dataclass(frozen=True)
class Checkup:
    """What was found out about one teacher."""

    teacher: str
    description: str
    alphabet: str
    """The student's."""
    tokens: TokenFacts | None = None
    contrasts: tuple[Contrast, ...] = ()
    reading: ReadingFacts | None = None
    captions: CaptionFacts | None = None
    unknown: tuple[str, ...] = ()
    """What could not be examined, and why."""

    @property
    def untaught(self) -> tuple[str, ...]:
        """What a student of this alphabet will not be taught, a sentence each."""
        if self.reading is not None:  # what it reads apart it teaches apart, whatever its text tower makes of it
            return (*_refused(self.tokens), *_untaught_reading(self.reading))
        return (*_untaught_tokens(self.tokens), *_refused(self.tokens), *_untaught_words(self.contrasts))


def examine_clip(name: str, charset: Charset) -> Checkup:
    """Examine a CLIP; one of open_clip's zoo whose weights can't be had by its tokenizer alone.

    Args:
        name: as for `load_teacher`; a model of the zoo may come without a tag, which examines its tokenizer only.
        charset: the student's alphabet.

    Raises:
        UserError: when there is no such teacher.
    """
    architecture, _, tag = name.partition("/")
    in_zoo = architecture in list_models() and (not tag or tag in zoo_tags(architecture))
    try:
        if in_zoo and not tag:
            raise UserError(f"no weights are named; give {name}/TAG with TAG of {', '.join(zoo_tags(name))}")
        teacher = load_teacher(name)
    except UserError as error:
        if not in_zoo:
            raise
        facts, _ = examine_tokens(zoo_tokens(architecture), charset.characters)
        unknown = (f"text embeddings: {error}",)
        return Checkup(name, "open_clip's tokenizer, without weights", charset.characters, facts, unknown=unknown)
    if not isinstance(teacher, ClipTeacher):
        return Checkup(teacher.name, teacher.description, charset.characters, unknown=("it is no CLIP and no reader",))
    facts, single = examine_tokens(teacher.tokens, charset.characters)
    contrasts = examine_words(teacher.embed_words, teacher.tokens, single)
    return Checkup(teacher.name, teacher.description, charset.characters, facts, contrasts)


def examine_reader(name: str, description: str, own: Charset, longest: int, charset: Charset) -> Checkup:
    """Examine a teacher that reads words of up to `longest` characters of the alphabet `own`."""
    baselines = {char: own.counterpart(char) for char in charset.characters}
    outside = "".join(char for char, baseline in baselines.items() if baseline is None)
    other = "".join(char for char, baseline in baselines.items() if baseline not in (None, char))
    reading = ReadingFacts(own.characters, outside, other, longest)
    return Checkup(name, description, charset.characters, reading=reading)


@torch.no_grad()
def examine_clip4str(name: str, description: str, reader: Clip4Str, charset: Charset) -> Checkup:
    """Examine a CLIP4STR: what it reads, what its text tower sees of labels, and what its captions lose."""
    found = examine_reader(name, description, reader.charset, reader.max_length, charset)
    tokens = spelling(reader.config.clip)
    facts, single = examine_tokens(tokens, charset.characters)

    def embed(words: Sequence[str]) -> Tensor:
        return F.normalize(run_words(reader.clip_model, tokens(words).to(reader.device)), dim=-1)

    contrasts = examine_words(embed, tokens, single)
    captions = examine_captions(reader, charset)
    return dataclasses.replace(found, tokens=facts, contrasts=contrasts, captions=captions)


def zoo_tokens(name: str) -> WordPieceTokens:
    """Give the tokenizer of a model of open_clip's zoo; raises `UserError` for one that can't be a teacher."""
    text = zoo_config(name)["text_cfg"]
    return WordPieceTokens(SimpleTokenizer(**(text.get("tokenizer_kwargs") or {})), text.get("context_length", 77))


def examine_tokens(tokens: TokenizerLike, characters: str) -> tuple[TokenFacts, str]:
    """Find out how characters become tokens; gives the facts, and the characters that are one token each."""
    ids = {char: tokens.pieces(char) for char in characters}
    broken = {char: why for char in characters if (why := why_broken(tokens, char, ids[char])) is not None}
    groups: dict[int, str] = defaultdict(str)
    for char in characters:
        if char not in broken:
            groups[ids[char][0]] += char
    same = tuple(group for group in groups.values() if len(group) > 1)
    pairs = [char + char.upper() for char in characters if char.islower() and char.upper() in set(characters)]
    collapsed = sum(any(set(pair) <= set(group) for group in same) for pair in pairs)
    facts = TokenFacts(
        dict(sorted(Counter(map(len, ids.values())).items())), broken, same, len(pairs), collapsed, tokens.max_length
    )
    return facts, "".join(char for char in characters if char not in broken)


def why_broken(tokens: TokenizerLike, char: str, ids: Sequence[int]) -> str | None:
    """Say why labels with a character are refused; None when they aren't."""
    try:
        tokens.check([char])
    except UserError:
        meant = unicodedata.normalize("NFKC", char)
        if not ids:
            return "no token"
        if len(ids) > 1:
            return f"{len(ids)} tokens"
        return f"stands for {meant!r}" if meant != char else "becomes another character"
    return None


def examine_words(
    embed: Callable[[Sequence[str]], Tensor], tokens: TokenizerLike, characters: str
) -> tuple[Contrast, ...]:
    """Compare the text embeddings of words that differ a little, and of unrelated words.

    Args:
        embed: gives (M, J) normalised embeddings of M words.
        tokens: the tokenizer before it.
        characters: what the words are made of; each is one token.
    """
    found = []
    for kind, pairs in probes(characters, tokens.max_length).items():
        first, second = (embed([pair[side] for pair in pairs]) for side in (0, 1))
        cosines = (first * second).sum(dim=1).float().cpu().sort().values
        identical = sum(bool((row[0] == row[1]).all()) for row in (tokens(pair) for pair in pairs))
        low, middle, high = cosines[0].item(), cosines.median().item(), cosines[-1].item()
        found.append(Contrast(kind, pairs[0], len(pairs), identical, low, middle, high))
    return tuple(found)


def _untaught_tokens(facts: TokenFacts | None) -> list[str]:
    if facts is None:
        return []
    told = []
    if facts.letters_collapsed:
        told.append(
            f"the case of {facts.letters_collapsed} of {facts.letters} letters: both cases are one token, so "
            "upper-case and lower-case words get the same guidance"
        )
    for group in facts.same:
        if len({char.lower() for char in group}) > 1:
            told.append(f"{' '.join(group)} apart from each other: they are one token")
    return told


def _refused(facts: TokenFacts | None) -> list[str]:
    if facts is None:
        return []
    told = []
    if facts.broken:
        shown = " ".join(facts.broken)
        told.append(f"words with {shown}: labels with such a character are refused; leave it out of the alphabet")
    if facts.longest < LONGEST:
        told.append(f"words of more than {facts.longest} characters: such labels are refused")
    return told


def _untaught_words(contrasts: Sequence[Contrast]) -> list[str]:
    usual = next((contrast.median for contrast in contrasts if contrast.kind == "everything"), 1.0)
    weak = [
        contrast
        for contrast in contrasts
        if contrast.identical < contrast.pairs and 1 - contrast.median < WEAK * (1 - usual)
    ]
    return [
        f"little about words that differ in {contrast.kind}: the median cosine of their embeddings is "
        f"{contrast.median:.3f}, that of unrelated words {usual:.3f}"
        for contrast in weak
    ]


def _untaught_reading(facts: ReadingFacts | None) -> list[str]:
    if facts is None:
        return []
    told = []
    if facts.outside:
        told.append(f"words from {' '.join(facts.outside)} on: it can't read such a character")
    if facts.other_case:
        told.append(f"the case of {' '.join(facts.other_case)}: it has the other case only")
    if facts.longest < LONGEST:
        told.append(f"what comes after {facts.longest} characters of a word: it reads no longer ones")
    return told
