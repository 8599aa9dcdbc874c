"""Words to render: frequency-weighted English, and what else stands on signs (numbers, codes, names, prices)."""

from __future__ import annotations

import hashlib
import string
from bisect import bisect
from collections.abc import Callable, Sequence
from functools import lru_cache
from itertools import accumulate
from random import Random
from typing import Literal

from distill.errors import import_extra
from students.errors import UserError

Split = Literal["train", "test", "all"]
MAX_LENGTH = 25
VOCABULARY_SIZE = 90_000
TEMPER = 0.6  # exponent on the frequency: the 1,000 commonest words are a sixth of all draws instead of three quarters
HELD_OUT_TENTH = 10
PUNCTUATION = string.punctuation
PRINTABLE = frozenset(string.digits + string.ascii_letters + PUNCTUATION)


def word_key(text: str) -> str:
    """Reduce a label to what hold-out and repetition compare: lower-cased letters and digits, or the text itself."""
    return "".join(c for c in text.lower() if c.isalnum()) or text


def is_held_out(text: str) -> bool:
    """Tell whether a word belongs to the tenth that is kept for testing (a fixed hash of its lower-cased form)."""
    digest = hashlib.blake2b(word_key(text).encode(), digest_size=8, person=b"heldout-word").digest()
    return int.from_bytes(digest, "big") % HELD_OUT_TENTH == 0


@lru_cache(maxsize=1)
def _vocabulary() -> tuple[tuple[str, ...], tuple[float, ...]]:
    """Load the English words and the running sums of their tempered frequencies."""
    wordfreq = import_extra("wordfreq", "rendering words")
    allowed = frozenset(string.ascii_lowercase + "'")
    frequencies = wordfreq.get_frequency_dict("en", "large")
    kept = [(f, w) for w, f in frequencies.items() if len(w) <= 20 and allowed.issuperset(w) and w[0] != "'"]
    kept.sort(key=lambda pair: (-pair[0], pair[1]))
    del kept[VOCABULARY_SIZE:]
    return tuple(w for _, w in kept), tuple(accumulate(f**TEMPER for f, _ in kept))


class WordSampler:
    """Draws labels of one split; the same random generator state always gives the same label.

    Args:
        split: `train` leaves the held-out tenth out, `test` draws from nothing else, `all` from everything.
        charset: the characters that may occur; others are removed from what was drawn.

    Raises:
        UserError: for an unknown split, or a charset without letters and digits.
    """

    def __init__(self, split: Split = "all", charset: str | None = None) -> None:
        if split not in ("train", "test", "all"):
            raise UserError(f"unknown split {split!r}; one of train, test, all would work")
        self.split: Split = split
        self.charset = PRINTABLE if charset is None else frozenset(charset) & PRINTABLE
        if not self.charset & frozenset(string.ascii_letters + string.digits):
            raise UserError("the charset holds no letters and no digits; words can't be drawn from it")
        self.words, self.cumulative = _vocabulary()
        kinds: list[tuple[float, Callable[[Random], str]]] = [
            (64.0, self._english),
            (5.0, self._blended),
            (12.0, _number),
            (8.0, _code),
            (3.0, _initials),
            (2.0, _plate),
            (2.5, self._name),
            (2.0, self._address),
            (1.8, _price),
            (1.8, _date_or_time),
            (0.9, _phone),
        ]
        self._kinds = [kind for _, kind in kinds]
        self._kind_sums = list(accumulate(weight for weight, _ in kinds))

    def draw(self, random: Random) -> str:
        """Draw one label of this split: 1 to 25 characters of the charset, no white space.

        Raises:
            UserError: if the charset leaves (nearly) nothing of the split.
        """
        for _ in range(10_000):
            kind = self._kinds[bisect(self._kind_sums, random.random() * self._kind_sums[-1])]
            text = "".join(c for c in kind(random) if c in self.charset)[:MAX_LENGTH]
            if text and (self.split == "all" or is_held_out(text) == (self.split == "test")):
                return text
        raise UserError(f"hardly a word of split {self.split} is left with this charset; a wider one would work")

    def distinct(self, count: int, random: Random) -> list[str]:
        """Draw `count` labels, no two of which are the same word (case and punctuation aside).

        Raises:
            UserError: if the split does not hold that many words.
        """
        found: dict[str, str] = {}
        misses = 0
        while len(found) < count:
            text = self.draw(random)
            misses = misses + 1 if word_key(text) in found else 0
            found.setdefault(word_key(text), text)
            if misses > 2_000:
                raise UserError(f"found only {len(found)} different words for split {self.split}; ask for fewer")
        return list(found.values())

    def _plain(self, random: Random) -> str:
        return self.words[bisect(self.cumulative, random.random() * self.cumulative[-1])]

    def _english(self, random: Random) -> str:
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


def distinct_labels(words: int, seed: int, charset: str | None = None) -> list[str]:
    """Draw the labels of a test set beforehand, so that no word occurs twice.

    Raises:
        UserError: if there are not that many held-out words.
    """
    return WordSampler("test", charset).distinct(words, Random(f"labels {seed}"))


def change_case(word: str, random: Random) -> str:
    """Give a word one of the cases of signs: UPPER 42%, Title 28%, lower 27%, mixed 3%."""
    dice = random.random()
    if dice < 0.42:
        return word.upper()
    if dice < 0.7:
        return word[:1].upper() + word[1:]
    if dice < 0.97:
        return word
    if dice < 0.985 and len(word) > 3:
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


def _number(random: Random) -> str:
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


def _code(random: Random) -> str:
    """Draw letters and digits at random: the reader must not live on its dictionary alone."""
    dice = random.random()
    pools = (string.digits + string.ascii_uppercase, string.digits + string.ascii_letters)
    pool = pools[0] if dice < 0.5 else pools[1] if dice < 0.8 else "".join(sorted(PRINTABLE))
    return "".join(random.choices(pool, k=random.choices((1, 2, 3, 4, 5, 6, 7, 8, 10), (3, 4, 5, 6, 6, 6, 4, 3, 1))[0]))


def _initials(random: Random) -> str:
    letters = random.choices(string.ascii_uppercase, k=random.randint(1, 5))
    return (".".join(letters) + ".") if random.random() < 0.1 else "".join(letters)


def _plate(random: Random) -> str:
    def part(pool: str, low: int, high: int) -> str:
        return "".join(random.choices(pool, k=random.randint(low, high)))

    joint = random.choice(("", "", "-"))
    head, middle = part(string.ascii_uppercase, 1, 3), part(string.digits, 1, 4)
    return head + joint + middle + (part(string.ascii_uppercase, 1, 3) if random.random() < 0.5 else "")


def _price(random: Random) -> str:
    amount = random.choice((f"{random.randrange(100)}.{random.randrange(100):02d}", str(random.randrange(1000))))
    return random.choice(("$", "$", "$", "S$", "US$", "Rs.", "")) + amount + random.choice(("", "", "", "/-", "c", "*"))


def _date_or_time(random: Random) -> str:
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


def _phone(random: Random) -> str:
    groups: Sequence[int] = random.choice(((3, 4), (4, 4), (3, 3, 4), (4, 3, 3), (2, 8)))
    return random.choice("-.-").join("".join(random.choices(string.digits, k=n)) for n in groups)
