"""Render words: from (seed, index) to a crop that looks cut from a photograph, its label, and where each letter is."""

from __future__ import annotations

import hashlib
import os
from bisect import bisect
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from itertools import accumulate
from random import Random
from typing import Any

import cv2
import numpy as np

from distill.data.columns import COLUMNS
from distill.data.rendering import effects
from distill.data.rendering.atlas import FontAtlas
from distill.data.rendering.colours import draw_palette
from distill.data.rendering.labels import MAX_LENGTH, LabelSampler, Split, WordSampler
from distill.data.rendering.layout import draw_setting, set_word
from distill.data.rendering.lines import MAX_LINE_WIDTH, LineSampler, long_line_factor
from distill.data.rendering.texture import NoiseBank, TextureBank
from distill.data.rendering.warp import MAX_HEIGHT, MAX_WIDTH, Placement, draw_warp
from students.errors import UserError


@dataclass(frozen=True)
class RenderedWord:
    """One rendered word.

    Attributes:
        image: (H, W, 3) uint8 RGB, as large as a crop of a photograph: H 10 to 96, W up to 288 (640 for a line).
        label: what stands there, in its case.
        columns: (32,) uint32, the code point of the character over each 32nd of the width, 0 for none.
        quality: the JPEG quality it should be stored with.
    """

    image: np.ndarray
    label: str
    columns: np.ndarray
    quality: int

    def encode(self) -> bytes:
        """Encode the picture as JPEG in its quality."""
        options = (cv2.IMWRITE_JPEG_QUALITY, self.quality)
        done, data = cv2.imencode(".jpg", cv2.cvtColor(self.image, cv2.COLOR_RGB2BGR), options)
        if not done:
            raise RuntimeError(f"OpenCV can't encode a picture of shape {self.image.shape}")
        return data.tobytes()


class WordRenderer:
    """Draw word number `index` of a seed; the same for every process, in any order.

    Args:
        fonts: the fonts' glyphs (`fonts.choose_fonts`).
        seed: together with the split it decides everything.
        split: which words (`WordSampler`); the fonts are the caller's choice.
        charset: characters that may occur.
        difficulty: how hard the street is on the words, 0 to 1: share of low-resolution crops, blur, bend, perspective
            and faint colours; 1 is as varied as real crops, less is quicker to learn.
        languages: see `WordSampler`.
        line_words: fewest and most words of a line; (1, 1) renders single words.
        max_length: longest word or line in characters; words have at most 25.

    Raises:
        UserError: without fonts, for a label that no font draws, or a difficulty out of range.
    """

    def __init__(
        self, fonts: Sequence[FontAtlas], seed: int, split: Split = "all", charset: str | None = None,
        difficulty: float = 1.0, languages: Collection[str] = (),
        line_words: tuple[int, int] = (1, 1), max_length: int = MAX_LENGTH,
    ) -> None:  # fmt: skip
        if not fonts:
            raise UserError("no fonts to render with; give a folder of fonts")
        if not 0 <= difficulty <= 1:
            raise UserError(
                f"a difficulty of {difficulty} is out of range; 0 (plain) to 1 (as varied as real crops) would work"
            )
        self.difficulty = difficulty
        self.fonts = tuple(fonts)
        self.seed, self.split = seed, split
        words = self._make_sampler(charset, languages)
        words.max_length = min(max_length, MAX_LENGTH)
        self.renders_lines = line_words != (1, 1)
        self.words: LabelSampler = LineSampler(words, line_words, max_length) if self.renders_lines else words
        self.labels: tuple[str, ...] | None = None
        weights = _weights(self.fonts)
        self._font_sums = list(accumulate(weights))
        self._weights = np.array(weights)
        self._fonts_with = {
            char: np.array([char in font.glyphs for font in self.fonts]) for char in self.words.extra
        }  # fmt: skip
        self._make_banks()

    def _make_sampler(self, charset: str | None, languages: Collection[str]) -> WordSampler:
        return WordSampler(self.split, charset, languages)

    def draw_labels(self, count: int) -> None:
        """Fix the labels of a test set beforehand, so that no word occurs twice and a font draws each.

        Raises:
            UserError: if the split does not hold that many words.
        """
        random = Random(f"labels {self.seed}")
        self.labels = tuple(self.words.distinct(count, random, lambda label: bool(self._weights_for(label).any())))

    def _make_banks(self) -> None:
        # The banks are the same for all splits and seeds: textures carry no labels.
        self._textures, self._noises = TextureBank(), NoiseBank()

    def __getstate__(self) -> dict[str, Any]:
        """Leave the banks out of pickles: they are made again in a second, but weigh 30 MB."""
        return {k: v for k, v in self.__dict__.items() if k not in ("_textures", "_noises", "_street")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._make_banks()

    def generator(self, index: int) -> Random:
        """Make the random generator of one word; splits of one seed have nothing in common."""
        digest = hashlib.blake2b(f"{self.seed}/{self.split}/{index}".encode(), digest_size=16).digest()
        return Random(int.from_bytes(digest, "big"))

    def render(self, index: int) -> RenderedWord:
        """Render word number `index` (0 or more)."""
        random = self.generator(index)
        label, font = self._label_and_font(index, random)
        setting = draw_setting(random)
        filler = self._filler(font, random) if setting.neighbours else ""
        word = set_word(label, font, setting, random, filler)
        difficulty = self.difficulty
        small = random.random() < 0.27 * difficulty
        cap = random.uniform(8, 13) if small else random.uniform(15, 30)
        if self.renders_lines:
            warp, limits = draw_warp(random, difficulty * long_line_factor(word)), (MAX_LINE_WIDTH, MAX_HEIGHT)
        else:
            warp, limits = draw_warp(random, difficulty), (MAX_WIDTH, MAX_HEIGHT)
        placement = Placement(word, warp, cap, _margins(random), limits)
        palette = draw_palette(random, (46.0 if small else 32.0) + 40 * (1 - difficulty))
        planes = effects.paint(placement.layers(), palette, setting, self._textures, random)
        effects.light(planes, random)
        image = cv2.merge(list(planes))
        if random.random() < 0.05:
            effects.clutter(image, palette, placement.scale, random)
        image = effects.blur(image, placement.scale * difficulty, palette.contrast, random)
        crop = effects.sense(image, palette.contrast, self._noises, random)
        quality = random.randint(40, 95)
        if small and random.random() < 0.5:
            crop = _enlarged(crop, random)
        return RenderedWord(crop, label, placement.columns(label, COLUMNS), quality)

    def _label_and_font(self, index: int, random: Random) -> tuple[str, FontAtlas]:
        """Draw a label and a font that has its characters; capitals where the font has no others."""
        fixed = None if self.labels is None else self.labels[index]
        for _ in range(200):
            label = self.words.draw(random) if fixed is None else fixed
            sums: Sequence[float] = self._font_sums
            if not label.isascii():
                sums = np.cumsum(self._weights_for(label)).tolist()
            for _ in range(8 if sums[-1] > 0 else 0):
                number = bisect(sums, random.random() * sums[-1])
                font = self.fonts[min(number, len(self.fonts) - 1)]
                text = label.upper() if font.caseless else label
                if font.draws(text) and (fixed is None or text == fixed):
                    return text, font
        raise UserError(f"no font draws {label!r}; add fonts or leave characters out of the charset")

    def _weights_for(self, label: str) -> np.ndarray:
        """Weigh the fonts (F,) for a label: 0 for those that lack one of its characters beyond ASCII."""
        weights = self._weights
        for char in set(label).intersection(self._fonts_with):
            weights = weights * self._fonts_with[char]
        return weights

    def _filler(self, font: FontAtlas, random: Random) -> str:
        """Draw text for neighbouring lines, in characters of the font."""
        text = self.words.draw(random)
        text = text.upper() if font.caseless or random.random() < 0.4 else text
        return text if font.draws(text) else "".join(c for c in text if c in font.glyphs) or "H"


def _weights(fonts: Sequence[FontAtlas]) -> list[float]:
    """Weigh the fonts: a design with four fonts is drawn twice as often as one with a single font.

    Fonts of one folder are mostly of one foundry; a folder of hundreds of oddities must not set the tone.
    """
    designs = Counter(font.family for font in fonts)
    folders = Counter(os.path.dirname(font.path) for font in fonts)
    return [font.weight / designs[font.family] ** 0.5 / folders[os.path.dirname(font.path)] ** 0.4 for font in fonts]


def _margins(random: Random) -> tuple[float, float, float, float]:
    """Draw the room around the word, in cap heights: tight, loose, or cut a little."""
    looseness = random.choice((0.05, 0.1, 0.2, 0.35))
    across = [abs(random.gauss(0, looseness)) for _ in range(2)]
    down = [abs(random.gauss(0, looseness * 0.8)) for _ in range(2)]
    if random.random() < 0.12:
        across[random.randrange(2)] = -random.uniform(0.0, 0.08)
    if random.random() < 0.12:
        down[random.randrange(2)] = -random.uniform(0.0, 0.1)
    return across[0], down[0], across[1], down[1]


def _enlarged(crop: np.ndarray, random: Random) -> np.ndarray:
    """Enlarge a low-resolution crop, as phones and web sites do, sometimes after a first JPEG."""
    if random.random() < 0.4:
        done, data = cv2.imencode(".jpg", crop, (cv2.IMWRITE_JPEG_QUALITY, random.randint(35, 85)))
        coarse = cv2.imdecode(data, cv2.IMREAD_COLOR) if done else None
        crop = crop if coarse is None else np.asarray(coarse, np.uint8)
    factor = min(random.uniform(1.3, 3.0), 288 / crop.shape[1])
    if factor <= 1:
        return crop
    kind = random.choice((cv2.INTER_LINEAR, cv2.INTER_CUBIC, cv2.INTER_CUBIC))
    return cv2.resize(crop, None, fx=factor, fy=factor, interpolation=kind)
