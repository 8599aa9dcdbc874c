"""Draw the labels of the style `street`: shorter, more in capitals, of more languages, with marks inside words."""

from __future__ import annotations

import string
from bisect import bisect
from collections.abc import Callable
from random import Random

from distill.data.rendering.labels import (
    WordSampler,
    change_case,
    draw_code,
    draw_date_or_time,
    draw_initials,
    draw_number,
    draw_phone,
    draw_plate,
    draw_price,
    punctuate,
)
from distill.data.rendering.vocabulary import load_vocabulary

FOREIGN = ("fr", "de", "it", "es", "nl", "pt", "id")
"""Languages beside English; words that the alphabet can't write are left out."""
FOREIGN_SHARE = 0.25
"""How many of the words are of these languages."""
CASES = (0.53, 0.79, 0.97)
"""Shares of capitals, of these and titles, of these and small letters; 2,700 real words have 0.57, 0.83 and 0.98."""
LONG, VERY_LONG = 8, 12
"""Lengths above which a quarter, and above which half of the words are drawn anew."""


class StreetSampler(WordSampler):
    """Draw labels about as often as they stand in the street; see `WordSampler`."""

    def _kinds_of_ascii(self) -> list[tuple[float, Callable[[Random], str]]]:
        # Languages that were asked for, or that the alphabet asks for, stay alone.
        self._foreign = load_vocabulary(FOREIGN, self.charset, "small") if self.languages == ("en",) else None
        return [
            (68.0, self._word),
            (4.0, self._blended),
            (4.0, self._joined),
            (8.0, draw_number),
            (4.5, draw_code),
            (2.5, draw_initials),
            (1.5, draw_plate),
            (2.0, self._name),
            (1.2, self._address),
            (1.5, draw_price),
            (1.2, draw_date_or_time),
            (0.8, draw_phone),
        ]

    def _plain(self, random: Random) -> str:
        words, sums = self.words, self.cumulative
        if self._foreign is not None and random.random() < FOREIGN_SHARE:
            words, sums = self._foreign
        word = ""
        for _ in range(3):
            word = words[bisect(sums, random.random() * sums[-1])]
            if len(word) <= LONG or random.random() < (0.75 if len(word) <= VERY_LONG else 0.5):
                break
        return word

    def _word(self, random: Random) -> str:
        word = change_case(self._plain(random), random, CASES)
        dice = random.random()
        if dice < 0.06:
            return punctuate(word, random)
        if dice < 0.075:
            return word + random.choice("-&/.'+") + change_case(self._plain(random), random, CASES)
        if dice < 0.085:
            return word + str(random.randrange(10 ** random.randint(1, 3)))
        return word

    def _joined(self, random: Random) -> str:
        """Join short parts by a mark: `B&H`, `L1/L2/L3`, `75%`, `#108`, `Top-up`, `DVD+R`."""
        dice = random.random()
        if dice < 0.3:
            one, other = random.choices(string.ascii_uppercase, k=2)
            joint = random.choice("&&&&/-+")
            more = random.choice(string.ascii_uppercase) if random.random() < 0.3 else ""
            return one + joint + other + more
        if dice < 0.5:
            letter = random.choice((*string.ascii_uppercase, ""))
            numbers = random.choices(range(1, 10 if random.random() < 0.7 else 30), k=random.randint(2, 5))
            again = letter if random.random() < 0.6 else ""
            joint = random.choice("///-,&")
            return letter + f"{joint}{again}".join(map(str, numbers))
        if dice < 0.65:
            return str(random.randrange(1, 101)) + random.choice(("%", "%", "%", "%!", "+", "c"))
        if dice < 0.75:
            number = str(random.randrange(1, 10 ** random.randint(1, 4)))
            return random.choice(("#", "#", "No.", "No", "@", "*")) + number
        one, other = self._plain(random)[:6], self._plain(random)[:8]
        text = f"{one}{random.choice('-&/-')}{other}"
        return text.upper() if random.random() < 0.6 else text.title() if random.random() < 0.6 else text
