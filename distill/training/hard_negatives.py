"""Near misses: words one or two edits away, the hard negatives of contrastive training."""

from __future__ import annotations

import random
import string

CLASSES = (string.digits, string.ascii_lowercase, string.ascii_uppercase, string.punctuation)
"""A changed character mostly stays in its class, as misreadings do."""

SAME_CLASS_SHARE = 0.85


def hard_negatives(
    word: str, count: int, characters: str, random_source: random.Random, max_edits: int = 2, max_length: int = 25
) -> list[str]:
    """Draw `count` different words one to `max_edits` edits away from `word`, none of them the word itself.

    Args:
        word: the word, of characters in `characters`.
        count: how many to draw.
        characters: the alphabet that substitutions and insertions draw from.
        random_source: the generator; equal generators draw equal hard negatives.
        max_edits: most edits; two of them happen in three of ten draws.
        max_length: longest hard negative.

    Returns:
        The hard negatives in the order they were drawn.
    """
    found: dict[str, None] = {}
    while len(found) < count:
        edits = 1 if max_edits == 1 or random_source.random() < 0.7 else random_source.randint(2, max_edits)
        candidate = word
        for _ in range(edits):
            candidate = edit(candidate, characters, random_source)
        if candidate and candidate != word and len(candidate) <= max_length:
            found[candidate] = None
    return list(found)


def edit(word: str, characters: str, random_source: random.Random) -> str:
    """Change one character: substitute (half of the draws), delete, insert or swap two neighbours."""
    place = random_source.randrange(len(word)) if word else 0
    kind = random_source.random()
    if not word or 0.5 <= kind < 0.7:
        drawn = draw(word[place] if word else characters[0], characters, random_source)
        place += random_source.randrange(2)
        return word[:place] + drawn + word[place:]
    if kind < 0.5:
        return word[:place] + draw(word[place], characters, random_source) + word[place + 1 :]
    if kind < 0.9:
        return word[:place] + word[place + 1 :]
    return word[:place] + word[place : place + 2][::-1] + word[place + 2 :]


def draw(like: str, characters: str, random_source: random.Random) -> str:
    """Draw a character, mostly of the same class as `like`."""
    if random_source.random() < SAME_CLASS_SHARE:
        for members in CLASSES:
            if like in members:
                pool = [c for c in members if c in characters]
                return random_source.choice(pool)
    return random_source.choice(characters)
