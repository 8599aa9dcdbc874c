"""Draw labels to render: words by frequency, and what else stands on signs (numbers, codes, names, prices)."""

from __future__ import annotations

import string
import unicodedata
from abc import ABC, abstractmethod
from bisect import bisect
from collections.abc import Callable, Collection, Sequence
from itertools import accumulate
from random import Random
from typing import Literal

from distill.data.rendering.vocabulary import (
    ASCII,
    choose_languages,
    is_test_word,
    load_vocabulary,
    needs_shaping,
    word_key,
)
from students.errors import UserError

Split = Literal["train", "test", "all"]
MAX_LENGTH = 25
"""Longest label in characters."""
LETTERS, DIGITS = frozenset(string.ascii_letters), frozenset(string.digits)


class LabelSampler(ABC):
    """Draw labels of one split; the same random generator state always gives the same label.

    Args:
        split: which part of all words they come from.
        charset: the characters that may occur.
        languages: those that words are drawn from.

    Attributes:
        extra: the characters beyond ASCII among them, in order.
        max_length: longest label in characters.
    """

    max_length: int = MAX_LENGTH

    def __init__(self, split: Split, charset: frozenset[str], languages: Collection[str]) -> None:
        self.split, self.charset, self.languages = split, charset, tuple(languages)
        self.extra = "".join(sorted(charset - ASCII))

    @abstractmethod
    def draw(self, random: Random) -> str:
        """Draw one label; raises `UserError` if the charset leaves (nearly) nothing of the split."""

    def distinct(self, count: int, random: Random, accepts: Callable[[str], bool] = lambda label: True) -> list[str]:
        """Draw `count` labels, no two of which are the same word (case and punctuation aside).

        Args:
            count: how many.
            random: what they follow from.
            accepts: labels that it refuses are passed over.

        Raises:
            UserError: if the split does not hold that many words.
        """
        labels: dict[str, str] = {}
        misses = 0
        while len(labels) < count:
            text = self.draw(random)
            is_new = word_key(text) not in labels and accepts(text)
            misses = 0 if is_new else misses + 1
            if is_new:
                labels[word_key(text)] = text
            if misses > 2_000:
                raise UserError(f"found only {len(labels)} different words for split {self.split}; ask for fewer")
        return list(labels.values())


class WordSampler(LabelSampler):
    """Draw words by frequency, and what else stands on signs.

    An alphabet of printable ASCII gets English words. For one with other characters, words of the languages that use
    them join, and random strings, in which each of these characters is as frequent as any other.

    Args:
        split: `train` leaves the held-out tenth out, `test` draws from nothing else, `all` from everything.
        charset: the characters that may occur; others are removed from what was drawn.
        languages: wordfreq's codes of the languages of the words; empty: chosen by the characters.

    Raises:
        UserError: for an unknown split or language, or a charset without letters and digits.
    """

    def __init__(self, split: Split = "all", charset: str | None = None, languages: Collection[str] = ()) -> None:
        if split not in ("train", "test", "all"):
            raise UserError(f"unknown split {split!r}; one of train, test, all would work")
        characters = ASCII if charset is None else frozenset(c for c in charset if c in ASCII or _is_drawn(c))
        if not any(char.isalnum() for char in characters):
            raise UserError("the charset holds no letters and no digits; words can't be drawn from it")
        chosen = languages or (choose_languages(characters) if characters - ASCII else ("en",))
        super().__init__(split, characters, chosen)
        self.words, self.cumulative = load_vocabulary(self.languages, self.charset)
        kinds = self._kinds_of_signs() if self.extra else self._kinds_of_ascii()
        self._kinds = [kind for _, kind in kinds]
        self._kind_sums = list(accumulate(weight for weight, _ in kinds))

    def _kinds_of_ascii(self) -> list[tuple[float, Callable[[Random], str]]]:
        return [
            (64.0, self._word),
            (5.0, self._blended),
            (12.0, draw_number),
            (8.0, draw_code),
            (3.0, draw_initials),
            (2.0, draw_plate),
            (2.5, self._name),
            (2.0, self._address),
            (1.8, draw_price),
            (1.8, draw_date_or_time),
            (0.9, draw_phone),
        ]

    def _kinds_of_signs(self) -> list[tuple[float, Callable[[Random], str]]]:
        """Leave out what needs ASCII letters or digits that the alphabet hasn't, and mix in random strings."""
        letters, digits = len(LETTERS & self.charset) > 20, self.charset >= DIGITS
        needs_letters = (draw_code, draw_initials, self._name, self._address)
        needs_digits = (draw_number, draw_plate, draw_price, draw_date_or_time, draw_phone)
        kinds = [
            (weight, kind) for weight, kind in self._kinds_of_ascii()
            if (letters or kind not in needs_letters) and (digits or kind not in needs_digits)
        ]  # fmt: skip
        # Characters that no word has are drawn in random strings alone, so the more of them, the more strings.
        used = set().union(*self.words[:20_000]) if self.words else set()
        rare = sum(char.lower() not in used for char in self.extra) / len(self.extra)
        self._scripts: dict[str, list[str]] = {}
        for char in sorted(self.charset):
            self._scripts.setdefault(script_of(char), []).append(char)
        if not self.words:
            kinds = [(weight, kind) for weight, kind in kinds if kind in (*needs_digits, draw_code, draw_initials)]
        return [*kinds, (12.0 + 30.0 * rare, self._random_string)]

    def draw(self, random: Random) -> str:
        """Draw one label of this split: 1 to `max_length` characters of the charset, no white space.

        Raises:
            UserError: if the charset leaves (nearly) nothing of the split.
        """
        for _ in range(10_000):
            kind = self._kinds[bisect(self._kind_sums, random.random() * self._kind_sums[-1])]
            text = "".join(c for c in kind(random) if c in self.charset)[:MAX_LENGTH]
            if 0 < len(text) <= self.max_length and (
                self.split == "all" or is_test_word(text) == (self.split == "test")
            ):
                return text
        raise UserError(f"the charset leaves almost no words of split {self.split}; a wider one would work")

    def _random_string(self, random: Random) -> str:
        """Draw a string with one character beyond ASCII for sure, the others of its script, and sometimes a digit."""
        first = random.choice(self.extra)
        script = self._scripts[script_of(first)]
        length = random.choices((1, 2, 3, 4, 5, 6, 7, 8, 10), (2, 4, 5, 6, 6, 6, 4, 3, 1))[0]
        text = [first, *random.choices(script, k=length - 1)]
        random.shuffle(text)
        return "".join(text) + (random.choice(string.digits) if random.random() < 0.05 else "")

    def _plain(self, random: Random) -> str:
        return self.words[bisect(self.cumulative, random.random() * self.cumulative[-1])]

    def _word(self, random: Random) -> str:
        word = self._plain(random)
        dice = random.random()
        if dice < 0.05:
            return punctuate(change_case(word, random), random)
        if dice < 0.065:
            joint = random.choice("-&/.'")
            return change_case(word + joint + self._plain(random), random)
        if dice < 0.08:
            return change_case(word, random) + str(random.randrange(10 ** random.randint(1, 3)))
        return change_case(word, random)

    def _blended(self, random: Random) -> str:
        """Join the head of one word and the tail of another: looks like a brand, is in no dictionary."""
        head, tail = self._plain(random), self._plain(random)
        text = head[: random.randint(1, max(1, len(head) - 1))] + tail[random.randint(0, len(tail) // 2) :]
        return change_case(text[:14], random)

    def _name(self, random: Random) -> str:
        first, last = self._plain(random).capitalize(), self._plain(random).capitalize()
        forms = (
            f"{last}'s",
            f"{first[0]}.{last}",
            f"{first}&{last}",
            f"{first}{last}",
            f"Mc{last}",
            f"O'{last}",
            f"{last}-{first}",
        )
        text = random.choice(forms)
        return text.upper() if random.random() < 0.35 else text

    def _address(self, random: Random) -> str:
        domain = random.choice(("com", "com", "com", "co.uk", "org", "net", "de", "fr", "sg", "in", "edu", "gov"))
        name = self._plain(random).replace("'", "")
        text = random.choice(
            (f"www.{name}.{domain}", f"{name}.{domain}", f"@{name}", f"#{name}", f"{name}@{self._plain(random)}.com")
        )
        return text.upper() if random.random() < 0.2 else text


def change_case(word: str, random: Random, sums: tuple[float, float, float] = (0.42, 0.7, 0.97)) -> str:
    """Return a word in one of the cases of signs: UPPER 42%, Title 28%, lower 27%, mixed 3%.

    Args:
        word: in lower case.
        random: what the case follows from.
        sums: other shares: of UPPER, of UPPER and Title, of UPPER, Title and lower.
    """
    dice = random.random()
    upper, title, lower = sums
    if dice < upper:
        return word.upper()
    if dice < title:
        return word[:1].upper() + word[1:]
    if dice < lower:
        return word
    if dice < (1 + lower) / 2 and len(word) > 3:
        cut = random.randint(1, len(word) - 1)
        return word[:cut].capitalize() + word[cut:].capitalize()
    return "".join(c.upper() if random.random() < 0.5 else c for c in word)


def punctuate(word: str, random: Random) -> str:
    """Put the marks of running text around a word."""
    dice = random.random()
    if dice < 0.7:
        return word + random.choice(",,,...!!?:;")
    left, right = random.choice(('""', "''", "()", "()", "[]", "{}", "<>", "**", "- ", "# ", "~~", "_ ", "\\/", "|^"))
    return left + word + (right if dice < 0.9 and right != " " else "")


def draw_number(random: Random) -> str:
    """Draw a number: bare digits mostly, sometimes with separators, a unit or a sign."""
    dice = random.random()
    length = random.choices((1, 2, 3, 4, 5, 6, 8), (4, 5, 5, 6, 2, 2, 1))[0]
    digits = "".join(random.choices(string.digits, k=length))
    if dice < 0.62:
        return digits
    if dice < 0.72:
        return f"{int(digits):,}"
    if dice < 0.8:
        return f"{digits}.{random.randrange(100)}"
    if dice < 0.85:
        return f"{random.randrange(101)}%"
    if dice < 0.9:
        return digits[:2] + random.choice(("st", "nd", "rd", "th", "TH", "km", "m", "mm", "kg", "g", "L", "ml", "OZ"))
    if dice < 0.95:
        return random.choice(("No.", "#", "+", "-", "x", "A", "B", "M")) + digits
    return f"{digits[:3]}{random.choice('-/+=:x')}{random.randrange(1000)}"


def draw_code(random: Random) -> str:
    """Draw letters and digits at random: the reader must not live on its dictionary alone."""
    dice = random.random()
    pools = (string.digits + string.ascii_uppercase, string.digits + string.ascii_letters)
    pool = pools[0] if dice < 0.5 else pools[1] if dice < 0.8 else "".join(sorted(ASCII))
    return "".join(random.choices(pool, k=random.choices((1, 2, 3, 4, 5, 6, 7, 8, 10), (3, 4, 5, 6, 6, 6, 4, 3, 1))[0]))


def draw_initials(random: Random) -> str:
    """Draw one to five capitals."""
    letters = random.choices(string.ascii_uppercase, k=random.randint(1, 5))
    return (".".join(letters) + ".") if random.random() < 0.1 else "".join(letters)


def draw_plate(random: Random) -> str:
    """Draw a number plate."""

    def part(pool: str, low: int, high: int) -> str:
        return "".join(random.choices(pool, k=random.randint(low, high)))

    joint = random.choice(("", "", "-"))
    head, middle = part(string.ascii_uppercase, 1, 3), part(string.digits, 1, 4)
    return head + joint + middle + (part(string.ascii_uppercase, 1, 3) if random.random() < 0.5 else "")


def draw_price(random: Random) -> str:
    """Draw a price in dollars or rupees, or without a currency."""
    amount = random.choice((f"{random.randrange(100)}.{random.randrange(100):02d}", str(random.randrange(1000))))
    return random.choice(("$", "$", "$", "S$", "US$", "Rs.", "")) + amount + random.choice(("", "", "", "/-", "c", "*"))


def draw_date_or_time(random: Random) -> str:
    """Draw a year, a date or a time of day."""
    day, month, year = random.randint(1, 31), random.randint(1, 12), random.randint(1900, 2030)
    joint = random.choice("/.-")
    forms = (
        str(year),
        f"{day}{joint}{month}{joint}{year}",
        f"{day:02d}{joint}{month:02d}{joint}{year % 100:02d}",
        f"{random.randrange(24)}:{random.randrange(60):02d}",
        f"{random.randint(1, 12)}{random.choice(('am', 'pm', 'AM', 'PM'))}",
        f"'{year % 100:02d}",
        f"{year}-{(year + 1) % 100:02d}",
    )
    return random.choice(forms)


def draw_phone(random: Random) -> str:
    """Draw a phone number in groups."""
    groups: Sequence[int] = random.choice(((3, 4), (4, 4), (3, 3, 4), (4, 3, 3), (2, 8)))
    return random.choice("-.-").join("".join(random.choices(string.digits, k=n)) for n in groups)


def _is_drawn(character: str) -> bool:
    return character.isprintable() and not needs_shaping(character)


def script_of(character: str) -> str:
    """Name the script of a character, as its Unicode name begins: LATIN, GREEK, CJK; digits and marks go with Latin."""
    return "LATIN" if character in ASCII else unicodedata.name(character, "?").split(" ")[0]
