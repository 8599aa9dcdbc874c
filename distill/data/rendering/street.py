"""Render words in the style `street`: nearer to real crops than the first style, at the words' own aspect."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Collection
from random import Random

from distill.data.columns import COLUMNS
from distill.data.rendering import street_effects
from distill.data.rendering.colours import draw_palette
from distill.data.rendering.layout import Setting, SetWord, set_word
from distill.data.rendering.lines import MAX_LINE_WIDTH
from distill.data.rendering.renderer import RenderedWord, WordRenderer
from distill.data.rendering.scenes import SceneBank
from distill.data.rendering.street_labels import StreetSampler
from distill.data.rendering.texture import NoiseBank, TextureBank
from distill.data.rendering.warp import Placement, Warp

MAX_WIDTH, MAX_HEIGHT = 480, 64
LEAST_CAP = 8.0
"""Height of capitals in pixels, below which a word is bent and turned less, and drawn larger."""
_PAD = 34


class StreetRenderer(WordRenderer):
    """Draw word number `index` of a seed, with what makes real words hard.

    Beside the first style: stronger and cleaner colours, tight and loose crops, other lines and letters at the edges,
    steeper rotation, perspective and arcs, letters in depth, relief, lights, tiles and large initials, scenes behind
    the text, glare and shadow, sharpened and compressed pictures of few pixels. Crops are 14 to 64 px high, at the
    word's own aspect and up to 480 px wide. A word that can't be told from its background is painted again on plain
    paper, and one whose capitals would be too small is bent and turned less.
    """

    def _make_sampler(self, charset: str | None, languages: Collection[str]) -> StreetSampler:
        return StreetSampler(self.split, charset, languages)

    def _make_banks(self) -> None:
        self._street = street_effects.Banks(TextureBank(), SceneBank(), NoiseBank(size=(MAX_WIDTH + 8, MAX_HEIGHT + 8)))

    def render(self, index: int) -> RenderedWord:
        """Render word number `index` (0 or more)."""
        random = self.generator(index)
        difficulty = self.difficulty
        label, font = self._label_and_font(index, random)
        setting = draw_setting(random, label, float(font.glyphs["H"].ink.mean()) / 255)
        filler = self._filler(font, random) if setting.neighbours else ""
        word = set_word(label, font, setting, random, filler)
        small = random.random() < 0.25 * difficulty
        height = random.uniform(14, 25) if small else random.uniform(26, 58)
        widest = MAX_LINE_WIDTH if self.renders_lines else MAX_WIDTH
        placement = place(word, draw_warp(random, difficulty), height, draw_margins(random, setting), widest)
        faint = random.random() < 0.08 * difficulty
        palette = draw_palette(random, 22.0 if faint else 48.0 if small else 36.0, vivid=True)
        crop = street_effects.photograph(
            placement.layers(), palette, setting, self._street, placement.scale, difficulty, random
        )
        quality = random.randint(30, 80) if random.random() < 0.35 else random.randint(75, 96)
        if small and random.random() < 0.5:
            if random.random() < 0.6:
                crop = street_effects.compress(crop, random)
            crop = street_effects.enlarge(crop, random.randint(26, 48), random)
        return RenderedWord(crop, label, placement.columns(label, COLUMNS), quality)


def draw_setting(random: Random, label: str, boldness: float) -> Setting:
    """Draw how a word is set: spacing, weight, outline, depth, tiles, lamps, initials, and what stands beside it.

    Args:
        random: what it follows from.
        label: capitals may have a large initial.
        boldness: ink in the box of a capital H, 0 to 1; letters of the street are bold, so thin ones are thickened.
    """
    dice = random.random
    spread, weight = dice(), dice()
    spacing = random.gauss(0.2, 0.8)
    if spread > 0.76:
        spacing = random.uniform(1, 5) if spread < 0.94 else random.uniform(5, 16)
    stroke = -1 if weight > 0.97 else 0
    if weight < (0.65 if boldness < 0.45 else 0.2):
        stroke = 2 if weight < (0.25 if boldness < 0.35 else 0.08) else 1
    rim = random.choice((1, 1, 2, 2, 3)) if dice() < 0.14 else 0
    shadow, extrude = None, dice() < 0.5
    if dice() < 0.2:
        reach = random.choice((1, 2, 2, 3, 4, 6)) if extrude else random.choice((1, 1, 2, 2, 3))
        shadow = (random.choice((-reach, reach, reach, 0)), random.choice((-reach, reach, reach)))
    shares = (("above", 0.15), ("below", 0.17), ("left", 0.12), ("right", 0.13))
    tiles = dice() < 0.025
    board = None
    if not tiles and dice() < 0.16:
        board = (random.randint(2, 26), random.randint(2, 20), random.randint(2, 26), random.randint(2, 20))
    return Setting(
        spacing=spacing + (6 if tiles else 0),
        jitter=0.0 if dice() < 0.88 else random.uniform(0.5, 2.5),
        stroke=stroke,
        rim=rim,
        hollow=rim > 0 and dice() < 0.15,
        shadow=shadow,
        extrude=extrude,
        shadow_blur=dice() < 0.5,
        neighbours=frozenset(side for side, share in shares if dice() < share),
        underline=dice() < 0.04,
        board=board,
        pad=_PAD,
        initial=random.uniform(1.15, 1.5) if dice() < 0.06 and label.isupper() and len(label) > 2 else 1.0,
        tiles=tiles,
        dots=random.choice((3, 4)) if dice() < 0.015 else 0,
        apart=max(0, round(2 * spacing)),
    )


def draw_margins(random: Random, setting: Setting) -> tuple[float, float, float, float]:
    """Draw the room around the word in cap heights: tight mostly, loose where other text shows, now and then cut."""
    looseness = random.choice((0.03, 0.06, 0.1, 0.15, 0.3))
    left, right = (abs(random.gauss(0, looseness)) + 0.02 for _ in range(2))
    above, below = (abs(random.gauss(0, looseness)) for _ in range(2))
    sides = setting.neighbours
    left = random.uniform(0.3, 0.9) if "left" in sides else left
    right = random.uniform(0.3, 0.9) if "right" in sides else right
    above = random.uniform(0.2, 0.7) if "above" in sides else above
    below = random.uniform(0.2, 0.7) if "below" in sides else below
    margins = [left, above, right, below]
    if random.random() < 0.12:
        margins[random.choice((0, 2))] = -random.uniform(0.0, 0.1)
    if random.random() < 0.16:
        margins[random.choice((1, 3))] = -random.uniform(0.0, 0.14)
    return margins[0], margins[1], margins[2], margins[3]


def draw_warp(random: Random, difficulty: float = 1.0) -> Warp:
    """Draw a geometry: two fifths nearly straight, the others turned, seen from a side, on an arc or on a wave.

    A `difficulty` below 1 reduces bend, wave, shear, tilt and rotation by that factor.
    """
    kind = random.random()
    stretch = math.exp(random.gauss(-0.06, 0.27))
    bend, wave = 0.0, (0.0, 0.0, 0.0)
    tilt = (random.gauss(0, 0.05), random.gauss(0, 0.03))
    shear = random.gauss(0, 0.04) if random.random() < 0.75 else random.uniform(-0.35, 0.35)
    degrees = random.gauss(0, 1.5)
    if kind < 0.2:
        degrees = random.gauss(0, 9)
    elif kind < 0.26:
        degrees = random.choice((-1, 1)) * random.uniform(15, 50)
    elif kind < 0.44:
        # Seen from a side: the line climbs or falls, uprights stay nearly upright, letters get narrow.
        degrees = random.gauss(0, 13)
        shear = -math.tan(math.radians(degrees)) * random.uniform(0.2, 1.2) + random.gauss(0, 0.05)
        tilt = (random.uniform(-0.45, 0.45), random.uniform(-0.25, 0.25))
        stretch *= random.uniform(0.6, 1.05)
    elif kind < 0.57:
        bend = math.radians(random.uniform(15, 130)) * (1 if random.random() < 0.7 else -1)
        degrees = random.gauss(0, 12)
    elif kind < 0.6:
        wave = (random.uniform(0.05, 0.25), random.uniform(0.6, 1.8), random.uniform(0, 6.28))
    return Warp(
        stretch=min(1.8, max(0.5, stretch)),
        wave=(wave[0] * difficulty, *wave[1:]),
        bend=bend * difficulty,
        shear=max(-0.8, min(0.8, shear)) * difficulty,
        tilt=(tilt[0] * difficulty, tilt[1] * difficulty),
        angle=math.radians(degrees) * difficulty,
    )


def place(
    word: SetWord, warp: Warp, height: float, margins: tuple[float, float, float, float], widest: float = MAX_WIDTH
) -> Placement:
    """Place a word in a crop of a height; where capitals would be too small, it is bent and turned less, and larger."""
    for _ in range(4):
        placement = Placement(word, warp, 44.0, margins, (widest, height))
        if placement.scale / (1 + 0.6 * abs(warp.tilt[0])) >= LEAST_CAP:
            break
        height = min(MAX_HEIGHT, 1.4 * height)
        warp = dataclasses.replace(
            warp, angle=0.6 * warp.angle, bend=0.7 * warp.bend, shear=0.6 * warp.shear,
            tilt=(0.5 * warp.tilt[0], warp.tilt[1]), stretch=max(0.7, 0.8 * warp.stretch),
        )  # fmt: skip
    return placement
