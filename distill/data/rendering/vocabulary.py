"""Choose the languages that an alphabet asks for, load their words by frequency, and hold some out for testing."""

from __future__ import annotations

import hashlib
import re
import string
import unicodedata
from collections import defaultdict
from collections.abc import Collection, Mapping
from functools import lru_cache
from itertools import accumulate
from typing import Literal, NamedTuple

from students.errors import UserError
from students.extras import import_extra

ASCII = frozenset(string.digits + string.ascii_letters + string.punctuation)
"""Printable ASCII without the space."""
VOCABULARY_SIZE = 90_000
"""Words of a language that are used at most, the most frequent ones."""
MAX_WORD = 20
"""Longest word that is used."""
TEMPER = 0.6  # exponent on the frequency: the 1,000 commonest words are a sixth of all draws instead of three quarters
HELD_OUT_TENTH = 10
_NEEDED_TEXT, _NEEDED_SHARE = 1e-4, 0.01
"""A language needs a letter that stands in this much of its text, or in this share of what the keenest one has."""
# wordfreq's lists are casefolded: `ß` stands there as `ss`, and the sigma at the end of a word as any other.
_SHARP_S = re.compile(r"(ei|ie|au(?=ssen|sser)|gr[oöuü]|stra|(?<!l)f[uü]|sü|spa|st[oö]|blo)ss")
_LAST_SIGMA = re.compile("\N{GREEK SMALL LETTER SIGMA}$")


class Vocabulary(NamedTuple):
    """Words of some languages."""

    words: tuple[str, ...]
    cumulative: tuple[float, ...]
    """Running sums of their tempered frequencies; each language weighs the same."""


def word_key(text: str) -> str:
    """Reduce a label to what hold-out and repetition compare: lower-cased letters and digits, or the text itself."""
    return "".join(c for c in text.lower() if c.isalnum()) or text


def is_test_word(text: str) -> bool:
    """Tell whether a word belongs to the tenth that is reserved for testing, by a hash of its lower-cased form."""
    digest = hashlib.blake2b(word_key(text).encode(), digest_size=8, person=b"heldout-word").digest()
    return int.from_bytes(digest, "big") % HELD_OUT_TENTH == 0


def needs_shaping(character: str) -> bool:
    """Whether a character is joined to or stacked on others, or runs from right to left: it isn't rendered."""
    category, direction = unicodedata.category(character), unicodedata.bidirectional(character)
    return category[0] == "M" or direction in ("R", "AL") or character.isspace()


@lru_cache(maxsize=8)
def choose_languages(alphabet: frozenset[str]) -> tuple[str, ...]:
    """Choose the languages whose words need the letters of an alphabet beyond ASCII; English joins where it can.

    Language after language, the one is taken that needs most of the letters that are left, counted by how much of its
    text the alphabet can write; of equals the one that uses them most.
    """
    left = {char.lower() for char in alphabet - ASCII if len(char.lower()) == 1}
    english = ("en",) if alphabet >= set(string.ascii_lowercase) or alphabet >= set(string.ascii_uppercase) else ()
    uses = {language: _letter_use(language, frozenset(left), alphabet) for language in _languages()} if left else {}
    most = {letter: max(use.letters.get(letter, 0.0) for use in uses.values()) for letter in left}
    needed = {
        language: {
            letter: frequency / most[letter] for letter, frequency in use.letters.items()
            if frequency > min(_NEEDED_TEXT, _NEEDED_SHARE * most[letter])
        }
        for language, use in uses.items()
    }  # fmt: skip

    def need(language: str) -> float:
        shares = [needed[language][letter] for letter in left.intersection(needed[language])]
        return uses[language].writable * (len(shares) + 0.1 * sum(shares))

    chosen: list[str] = []
    while any(most[letter] > 0 for letter in left):
        chosen.append(max(sorted(uses), key=need))
        left -= set(needed[chosen[-1]])
    return (*chosen, *(language for language in english if language not in chosen))


def check_languages(languages: Collection[str]) -> None:
    """Refuse languages that wordfreq has no words of.

    Raises:
        UserError: naming those that there are.
    """
    wrong = sorted(set(languages) - set(_languages())) if languages else []
    if wrong:
        known = ", ".join(_languages())
        apart = " (each by itself, no commas)" if any("," in language for language in wrong) else ""
        raise UserError(f"languages: there are no words of {', '.join(wrong)}; give some of {known}{apart}")


def written_share(language: str, alphabet: frozenset[str]) -> float:
    """Return how much of a language's text an alphabet can write, 0 to 1."""
    letters = frozenset(char.lower() for char in alphabet - ASCII)
    return _letter_use(language, letters, alphabet).writable


@lru_cache(maxsize=8)
def load_vocabulary(
    languages: tuple[str, ...], alphabet: frozenset[str], size: Literal["best", "small"] = "best"
) -> Vocabulary:
    """Load the words of some languages that an alphabet can write, for the letters beyond ASCII in either case.

    Args:
        languages: wordfreq's codes.
        alphabet: the characters that may occur.
        size: `small` leaves out what occurs less than once in a million words, and loads several times faster.

    Raises:
        UserError: for a language that wordfreq has no words of.
    """
    check_languages(languages)
    words: list[str] = []
    weights: list[float] = []
    for language in languages:
        # The apostrophe belongs to words; where the alphabet has none, it is left out of them as other marks are.
        letters = frozenset(string.ascii_lowercase + "'")
        if language != "en":
            letters |= {char.lower() for char in alphabet - ASCII}
        frequent = _frequent_words(language, letters, size)
        total = sum(frequent.values()) if len(languages) > 1 else 1.0
        words += frequent
        weights += [weight / total for weight in frequent.values()]
    return Vocabulary(tuple(words), tuple(accumulate(weights)))


@lru_cache(maxsize=8)
def _frequent_words(language: str, letters: frozenset[str], size: str) -> Mapping[str, float]:
    """Return the most frequent words that are made of some letters, with their tempered frequencies."""
    usable: dict[str, float] = {}
    for word, frequency in frequencies(language, size).items():
        spelled = _respell(word, language, letters)
        if len(spelled) <= MAX_WORD and letters.issuperset(spelled) and spelled[0] != "'":
            usable[spelled] = frequency
    ranked = sorted(((frequency, word) for word, frequency in usable.items()), key=lambda pair: (-pair[0], pair[1]))
    return {word: frequency**TEMPER for frequency, word in ranked[:VOCABULARY_SIZE]}


class _LetterUse(NamedTuple):
    letters: Mapping[str, float]
    """Frequency of the words that have a letter."""
    writable: float
    """Frequency of all words that the alphabet can write."""


@lru_cache(maxsize=64)
def _letter_use(language: str, letters: frozenset[str], alphabet: frozenset[str]) -> _LetterUse:
    """Sum the frequencies of a language's words that the alphabet can write, by the letters beyond ASCII in them."""
    lowered = frozenset(char.lower() for char in alphabet) | {"'"}
    uses: dict[str, float] = defaultdict(float)
    writable = 0.0
    for word, frequency in frequencies(language, "small").items():
        spelled = _respell(word, language, letters)
        if lowered.issuperset(spelled):
            writable += frequency
            for letter in letters.intersection(spelled):
                uses[letter] += frequency
    return _LetterUse(uses, writable)


def _respell(word: str, language: str, letters: Collection[str]) -> str:
    if language == "de" and "ss" in word and "ß" in letters:
        return _SHARP_S.sub(r"\1ß", word)
    return _LAST_SIGMA.sub("ς", word) if language == "el" and "ς" in letters else word


def _languages() -> tuple[str, ...]:
    return tuple(sorted(import_extra("wordfreq", "rendering words").available_languages("small")))


def frequencies(language: str, size: str) -> Mapping[str, float]:
    """Return the words of wordfreq's list of a language, `small` or `large`, with their share of its text."""
    found: Mapping[str, float] = import_extra("wordfreq", "rendering words").get_frequency_dict(language, size)
    return found
