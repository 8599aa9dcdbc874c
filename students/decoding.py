"""Decoding: from logits or probabilities to words, for attention decoders and CTC.

The module imports no torch: arrays are numpy's, and tensors are taken where they come.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import groupby, pairwise
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from students.beam_search import beam_search
from students.charset import Charset
from students.language_model import LanguageModel

if TYPE_CHECKING:
    from torch import Tensor

BLANK_ID = 0
"""Class of a CTC column without a character of its own; attention decoders have their end token there."""

SURE = 0.95
"""Confidence from which on a word is read as it stands, whatever a language model says."""

LogitsKind = Literal["attention", "ctc"]
"""What logits stand for: positions that end with an end token, or columns with blanks in between."""


@dataclass(frozen=True)
class ReadCharacter:
    """One character as a reader reads it."""

    text: str
    """The character."""
    confidence: float
    """0 to 1: its probability given those before it; for CTC the highest among the columns that it was read from."""
    start: float | None = None
    """Left edge of those columns, as a part of the picture's width; None for an attention decoder, which has none."""
    end: float | None = None
    """Right edge of those columns, likewise."""


@dataclass(frozen=True)
class Reading:
    """One word as a reader reads it."""

    text: str
    """The word."""
    confidence: float
    """0 to 1: the product of the token probabilities, or for CTC the probability of the word over all alignments."""
    token_probs: tuple[float, ...]
    """Probability of each character and of the end token, if there is one; for CTC of each column's best class."""
    characters: tuple[ReadCharacter, ...] = ()
    """The characters of the word, one by one; empty for a reader that knows the word as a whole only."""
    turned: int = 0
    """Degrees by which the picture was turned counter-clockwise for it; edges are those of the turned picture."""


def decode_probabilities(charset: Charset, probabilities: np.ndarray | Tensor) -> list[Reading]:
    """Decode probabilities (N, T, C + 1): the most likely characters up to the first end token.

    Without an end token nothing is cut. Exact ties take the lowest id. A tensor is reduced where it is.
    """
    if isinstance(probabilities, np.ndarray):
        best = probabilities.max(axis=-1).astype(np.float32)
        ids = probabilities.argmax(axis=-1)
    else:
        best = _to_numpy(probabilities.max(dim=-1).values)
        ids = probabilities.argmax(dim=-1).cpu().numpy()
    readings = []
    for row, probs in zip(ids.tolist(), best, strict=True):
        length = row.index(charset.end_id) if charset.end_id in row else len(row)
        used = probs[: length + 1]
        text = "".join(charset.characters[token - 1] for token in row[:length])
        probs = tuple(used.tolist())
        characters = tuple(map(ReadCharacter, text, probs))
        readings.append(Reading(text, float(used.prod()), probs, characters))
    return readings


def decode_attention(
    charset: Charset, logits: np.ndarray | Tensor, allowed: np.ndarray | None = None, lengths: Any = None,
    language_model: Any = None,
) -> list[Reading]:  # fmt: skip
    """Decode an attention decoder's logits (N, T, C + 1) to words, see `decode_probabilities`.

    Args:
        charset: the alphabet.
        logits: of N pictures.
        allowed: (C + 1,) bool, the classes that are chosen among; see `students.allow`. The context of a position
            remains what the reader itself read before it.
        lengths: for CTC only.
        language_model: for CTC only.
    """
    if isinstance(logits, np.ndarray):
        return decode_probabilities(charset, _softmax(_restrict(logits.astype(np.float32), allowed)))
    return decode_probabilities(charset, _restrict(logits.detach().float(), allowed).softmax(dim=-1))


def decode_ctc(
    charset: Charset,
    logits: np.ndarray | Tensor,
    allowed: np.ndarray | None = None,
    lengths: Sequence[int] | None = None,
    language_model: LanguageModel | None = None,
) -> list[Reading]:
    """Decode CTC logits (N, W, C + 1) to words by best path (Graves et al. 2006), or with a language model.

    The best class of each column, with repetitions merged and blanks removed, is the word. Its confidence is the
    probability that the columns give it, summed over all alignments: the CTC loss of the word is its negative
    logarithm. So it means what the product over positions means for an attention decoder. A character stands where
    the columns of its repetitions are.

    With a language model, a word that is less sure than `SURE` is read by prefix beam search over the columns, without
    regard to case, and the word counts whose probability times `LanguageModel.prior` is highest. Its confidence is its
    probability times its prior over the beam's mean prior.

    Args:
        charset: the alphabet.
        logits: of N pictures.
        allowed: (C + 1,) bool, the classes that are chosen among; see `students.allow`.
        lengths: of N pictures, the columns that are the picture's own, with padding behind; None takes all W.
        language_model: which words are more likely than others; None takes the best path always.
    """
    probabilities = _softmax(_restrict(_to_numpy(logits).astype(np.float64), allowed))
    return decode_columns(("", *charset.characters), probabilities, BLANK_ID, lengths, language_model)


def decode_columns(
    texts: Sequence[str], probabilities: np.ndarray, blank: int, lengths: Sequence[float] | None = None,
    language_model: LanguageModel | None = None,
) -> list[Reading]:  # fmt: skip
    """Decode CTC probabilities (N, W, classes) to words, see `decode_ctc`.

    Args:
        texts: what each class stands for.
        probabilities: of N pictures.
        blank: the class without a character.
        lengths: see `decode_ctc`; a part of a column counts as such.
        language_model: see `decode_ctc`.
    """
    ids, best = probabilities.argmax(axis=-1), probabilities.max(axis=-1)
    before = np.pad(ids[:, :-1], ((0, 0), (1, 0)), constant_values=blank)
    words = [row[taken] for row, taken in zip(ids, (ids != blank) & (ids != before), strict=True)]
    confidences = _alignments(probabilities, words, blank)
    own = [ids.shape[1]] * len(ids) if lengths is None else lengths
    readings = []
    for row, probs, confidence, columns in zip(ids.tolist(), best.tolist(), confidences, own, strict=True):
        characters = tuple(_best_path(texts, row, probs, columns, blank))
        readings.append(Reading("".join(char.text for char in characters), confidence, tuple(probs), characters))
    if language_model is None:
        return readings
    return [
        reading if reading.confidence >= SURE else _weigh(texts, row, blank, columns, reading, language_model)
        for reading, row, columns in zip(readings, probabilities, own, strict=True)
    ]


def _weigh(
    texts: Sequence[str], probabilities: np.ndarray, blank: int, columns: float, reading: Reading, model: LanguageModel
) -> Reading:
    """Weigh what probabilities (W, classes) say, `reading` being their best path, by a language model.

    Letters that differ in case alone are one character here; the case is what the letter's columns say.
    """
    caseless, names = _merge_cases(tuple(texts))
    beam = beam_search(probabilities, blank, caseless)
    priors = {word: model.prior("".join(names[token] for token in word)) for word in beam}
    total = sum(beam.values())
    expected = sum(beam[word] * priors[word] for word in beam) / total if total else 0.0
    if not expected:
        return reading
    chosen = max(beam, key=lambda word: beam[word] * priors[word])
    gain = priors[chosen] / expected
    if [names[token] for token in chosen] == [_lower(char.text) for char in reading.characters]:
        return replace(reading, confidence=min(reading.confidence * gain, 1.0))
    found = _align(probabilities, [np.flatnonzero(caseless == token).tolist() for token in chosen], blank)
    characters = [
        ReadCharacter(texts[token], float(probabilities[start:end, token].max()), *_parts(start, end, columns))
        for token, start, end in found
    ]
    confidence = _alignments(probabilities[None], [np.array([token for token, _, _ in found], int)], blank)[0]
    text = "".join(char.text for char in characters)
    return Reading(text, min(confidence * gain, 1.0), reading.token_probs, tuple(characters))


@lru_cache(maxsize=8)
def _merge_cases(texts: tuple[str, ...]) -> tuple[np.ndarray, tuple[str, ...]]:
    """Number the classes anew, both cases of a letter alike: (classes,) new numbers, and the text of each of these."""
    numbers: dict[str, int] = {}
    caseless = np.array([numbers.setdefault(_lower(text), len(numbers)) for text in texts])
    return caseless, tuple(numbers)


def _lower(text: str) -> str:
    return text.lower() if len(text.lower()) == len(text) else text


def _align(probabilities: np.ndarray, word: Sequence[Sequence[int]], blank: int) -> list[tuple[int, int, int]]:
    """Find the class of each character of a word, and its columns [start, end), in the most likely alignment.

    Args:
        probabilities: (W, classes).
        word: by place, the classes that may stand there, such as both cases of a letter.
        blank: the class without a character.
    """
    # A state is a class in a place: blanks have the places 0, 2, ..., characters those between.
    states = [(0, blank)]
    for number, tokens in enumerate(word):
        states += [*((2 * number + 1, token) for token in tokens), (2 * number + 2, blank)]
    places, tokens = np.array(states).T
    ahead = places[None, :] - places[:, None]
    over_blank = (ahead == 2) & (places[:, None] % 2 == 1) & (tokens[None, :] != tokens[:, None])
    allowed = np.where(np.eye(len(states), dtype=bool) | (ahead == 1) | over_blank, 0, -np.inf)
    emitted = np.log(np.maximum(probabilities[:, tokens], 1e-300))
    best = np.where(places < 2, emitted[0], -np.inf)
    steps = np.zeros(emitted.shape, int)
    for column in range(1, len(emitted)):
        reached = best[:, None] + allowed
        steps[column] = len(states) - 1 - reached[::-1].argmax(axis=0)  # of equal ones the last: it stays
        best = reached.max(axis=0) + emitted[column]
    best[places < places[-1] - 1] = -np.inf
    path = [len(states) - 1 - int(best[::-1].argmax())]
    for column in range(len(emitted) - 1, 0, -1):
        path.append(int(steps[column, path[-1]]))
    found = []
    for number in range(len(word)):
        (columns,) = np.nonzero(places[path[::-1]] == 2 * number + 1)
        found.append((int(tokens[path[::-1][columns[0]]]), int(columns[0]), int(columns[-1]) + 1))
    return found


DECODERS: Mapping[LogitsKind, Callable[..., list[Reading]]] = {
    "attention": decode_attention, "ctc": decode_ctc,
}  # fmt: skip
"""The function that decodes each kind of logits."""


def ctc_columns_needed(label: str) -> int:
    """Count the columns that CTC needs to spell a label: one a character, and a blank between two equal ones."""
    return len(label) + sum(one == other for one, other in pairwise(label))


def _best_path(
    texts: Sequence[str], ids: list[int], probs: list[float], columns: float, blank: int
) -> Iterator[ReadCharacter]:
    """Yield the characters of one picture's best classes `ids` (W,), with their columns as parts of `columns`."""
    start = 0
    for token, group in groupby(ids):
        end = start + len(list(group))
        if token != blank:
            yield ReadCharacter(texts[token], max(probs[start:end]), *_parts(start, end, columns))
        start = end


def _parts(start: int, end: int, columns: float) -> tuple[float, float]:
    """Return columns as parts of a picture's own, which others may stand behind."""
    return min(start / columns, 1.0), min(end / columns, 1.0)


def _restrict(logits: Any, allowed: np.ndarray | None) -> Any:
    """Mask the logits of classes (C + 1,) that are not allowed."""
    if allowed is None:
        return logits
    if isinstance(logits, np.ndarray):
        return np.where(allowed, logits, -np.inf).astype(logits.dtype)
    return logits.masked_fill(logits.new_tensor(~allowed).bool(), -np.inf)


def _alignments(probabilities: np.ndarray, words: Sequence[np.ndarray], blank: int) -> list[float]:
    """Sum the probabilities (N, W, C + 1) of all alignments of each word: CTC's forward recursion.

    A state is a character or a blank around it; a path goes to the next state, or past a blank between two different
    characters. In float64 the product over a hundred columns stays a normal number.
    """
    states = np.full((len(words), 2 * max(map(len, words), default=0) + 1), blank)
    for row, word in zip(states, words, strict=True):
        row[1 : 2 * len(word) : 2] = word
    skips = np.zeros(states.shape)
    skips[:, 2:] = (states[:, 2:] != blank) & (states[:, 2:] != states[:, :-2])
    emitted = np.take_along_axis(probabilities, states[:, None], axis=-1)  # (N, W, S)
    forward = np.zeros(states.shape)
    forward[:, :2] = emitted[:, 0, :2]
    for column in range(1, probabilities.shape[1]):
        reached = forward.copy()
        reached[:, 1:] += forward[:, :-1]
        reached[:, 2:] += skips[:, 2:] * forward[:, :-2]
        forward = reached * emitted[:, column]
    ends = [2 * len(word) for word in words]
    return [min(float(row[max(end - 1, 0) : end + 1].sum()), 1.0) for row, end in zip(forward, ends, strict=True)]


def _softmax(logits: np.ndarray) -> np.ndarray:
    """Return probabilities over the last axis, in the type of the logits."""
    exponents = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return np.asarray(exponents / exponents.sum(axis=-1, keepdims=True))


def _to_numpy(values: np.ndarray | Tensor) -> np.ndarray:
    """Return float32 numbers on the CPU."""
    if isinstance(values, np.ndarray):
        return values.astype(np.float32)
    return values.detach().float().cpu().numpy()
