"""Probes: pairs of words that differ a little, to ask a teacher whether it can tell them apart."""

from __future__ import annotations

import random
from collections.abc import Sequence

PROBES = 24
"""Pairs of words of each kind."""
WORDS = (
    "street", "hotel", "coffee", "market", "station", "exit", "open", "closed", "school", "police", "bakery", "river",
    "garden", "museum", "library", "bridge", "parking", "entrance", "office", "window", "summer", "north", "fresh",
    "house",
)  # fmt: skip
"""Words that probes are made of, as far as an alphabet can write them."""


def probes(characters: str, longest: int = 25) -> dict[str, list[tuple[str, str]]]:
    """Make pairs of words by what they differ in, as far as the characters allow; the same ones every time.

    Args:
        characters: what words are made of.
        longest: longest word in characters; longer ones are left out.
    """
    chance = random.Random(0)
    letters = [char for char in characters if char.isalpha()]
    digits = [char for char in characters if char.isdigit()]
    signs = [char for char in characters if not char.isalnum()]
    words = base_words(characters, letters, chance)
    numbers = ["".join(chance.choices(digits, k=chance.randint(1, 5))) for _ in range(PROBES)] if digits else []
    marked = [insert(word, chance.choice(signs), chance) for word in words] if signs else []
    made = {
        "case only": [(word, other) for word in words if (other := other_case(word, characters)) != word],
        "one letter": [exchange(word, letters, chance) for word in words],
        "one digit": [exchange(number, digits, chance) for number in numbers],
        "one sign": [exchange(word, signs, chance) for word in marked],
        "order of two": [(word, swap(word, chance)) for word in words],
        "everything": list(zip(words, words[1:] + words[:1], strict=True)),
    }
    kept = {
        kind: [(a, b) for a, b in pairs if a != b and max(len(a), len(b)) <= longest] for kind, pairs in made.items()
    }
    return {kind: pairs for kind, pairs in kept.items() if pairs}


def base_words(characters: str, letters: Sequence[str], chance: random.Random) -> list[str]:
    """Take those of `WORDS` that the characters can write, in the case they have; else make words up."""
    known = set(characters)
    words = [word for known_word in WORDS for word in (known_word, known_word.upper()) if set(word) <= known]
    words = list({word.lower(): word for word in reversed(words)}.values())[::-1]
    source = letters or characters
    while len(words) < PROBES and source:
        words.append("".join(chance.choices(source, k=chance.randint(3, 8))))
    return words


def exchange(word: str, among: Sequence[str], chance: random.Random) -> tuple[str, str]:
    """Exchange one character of `word` that is in `among` for another one, which isn't just its other case."""
    places = [place for place, char in enumerate(word) if char in among]
    if not places:
        return word, word
    place = chance.choice(places)
    others = [char for char in among if char.lower() != word[place].lower()]
    # A word of capitals gets a capital, where there is one.
    alike = [char for char in others if char.isupper() == word[place].isupper()] or others or [word[place]]
    return word, word[:place] + chance.choice(alike) + word[place + 1 :]


def insert(word: str, sign: str, chance: random.Random) -> str:
    """Put a sign somewhere into a word."""
    place = chance.randint(0, len(word))
    return word[:place] + sign + word[place:]


def swap(word: str, chance: random.Random) -> str:
    """Swap two neighbours that differ; the same word where there are none."""
    places = [place for place in range(len(word) - 1) if word[place] != word[place + 1]]
    if not places:
        return word
    place = chance.choice(places)
    return word[:place] + word[place + 1] + word[place] + word[place + 2 :]


def other_case(word: str, characters: str) -> str:
    """Write a word in the other case where the characters have it."""
    return "".join(char.swapcase() if char.swapcase() in set(characters) else char for char in word)
