"""Draw the colours of text and of what it stands on: pairs as signs have them, muted by light, with enough contrast."""

from __future__ import annotations

import colorsys
from dataclasses import dataclass
from itertools import accumulate
from random import Random

MIN_CONTRAST = 26.0
Colour = tuple[float, float, float]
"""Red, green, blue in 0..255; plain numbers, because numpy is slow on three of them."""

# Hue ranges of paint on signs, with how often each is seen.
_SIGN_HUES = (
    (0.97, 1.03, 6),
    (0.55, 0.66, 6),
    (0.3, 0.45, 3),
    (0.05, 0.1, 2),
    (0.11, 0.16, 2),
    (0.75, 0.95, 1),
    (0.46, 0.54, 2),
)
_SIGN_SUMS = tuple(accumulate(share for _, _, share in _SIGN_HUES))


@dataclass(frozen=True)
class Palette:
    """The colours of one crop, red, green, blue in 0..255.

    Attributes:
        paper: what the text stands on.
        ink: the text.
        rim: its outline.
        shade: its shadow.
        outside: what lies beyond the board.
    """

    paper: Colour
    ink: Colour
    rim: Colour
    shade: Colour
    outside: Colour

    @property
    def contrast(self) -> float:
        """Measure the difference in brightness between text and what it stands on, in levels."""
        return abs(luma(self.ink) - luma(self.paper))


def luma(colour: Colour) -> float:
    """Weigh the channels as the eye does."""
    return 0.299 * colour[0] + 0.587 * colour[1] + 0.114 * colour[2]


def _hsv(hue: float, saturation: float, value: float) -> Colour:
    red, green, blue = colorsys.hsv_to_rgb(hue % 1.0, saturation, value)
    return 255 * red, 255 * green, 255 * blue


def _neutral(random: Random, low: float, high: float) -> Colour:
    return _hsv(random.choice((0.08, 0.1, 0.58, random.random())), abs(random.gauss(0, 0.1)), random.uniform(low, high))


def _sign(random: Random, low: float, high: float) -> Colour:
    start, end, _ = random.choices(_SIGN_HUES, [share for _, _, share in _SIGN_HUES])[0]
    return _hsv(random.uniform(start, end), random.uniform(0.3, 0.95), random.uniform(low, high))


def _pair(random: Random) -> tuple[Colour, Colour]:
    """Draw paper and ink before the light falls on them."""
    dice = random.random()
    if dice < 0.25:
        return _neutral(random, 0.6, 1.0), _neutral(random, 0.0, 0.35)
    if dice < 0.41:
        return _neutral(random, 0.0, 0.4), _neutral(random, 0.65, 1.0)
    if dice < 0.61:
        return _sign(random, 0.25, 0.8), _neutral(random, 0.8, 1.0)
    if dice < 0.73:
        return _neutral(random, 0.7, 1.0), _sign(random, 0.25, 0.75)
    if dice < 0.79:
        paper = random.choice((_neutral(random, 0.0, 0.3), _sign(random, 0.2, 0.55)))
        return paper, _hsv(random.uniform(0.09, 0.16), random.uniform(0.3, 0.9), random.uniform(0.75, 1.0))
    if dice < 0.83:
        yellow = _hsv(random.uniform(0.09, 0.16), random.uniform(0.5, 0.95), random.uniform(0.75, 1.0))
        return yellow, _neutral(random, 0.0, 0.25)
    if dice < 0.95:
        # The same material in two shades: engraved stone, embossed metal, worn paint.
        hue, saturation, value = random.random(), abs(random.gauss(0.15, 0.15)), random.uniform(0.3, 0.8)
        other = value + random.choice((-1, 1)) * random.uniform(0.15, 0.4)
        return _hsv(hue, min(0.7, saturation), value), _hsv(hue, min(0.7, saturation), min(1.0, max(0.02, other)))
    return _sign(random, 0.2, 1.0), _sign(random, 0.2, 1.0)


def _vivid_pair(random: Random) -> tuple[Colour, Colour]:
    """Draw paper and ink of posters, packages, shop and street signs, before the light falls on them."""
    dice = random.random()
    if dice < 0.17:
        return _neutral(random, 0.7, 1.0), _neutral(random, 0.0, 0.3)
    if dice < 0.32:
        return _neutral(random, 0.0, 0.35), _neutral(random, 0.7, 1.0)
    if dice < 0.56:
        return _paint(random, 0.25, 0.9), _neutral(random, 0.8, 1.0)
    if dice < 0.7:
        return _neutral(random, 0.75, 1.0), _paint(random, 0.2, 0.85)
    if dice < 0.77:
        return random.choice((_neutral(random, 0.0, 0.25), _paint(random, 0.15, 0.6))), _paint(random, 0.7, 1.0)
    if dice < 0.83:
        return _paint(random, 0.75, 1.0), random.choice((_neutral(random, 0.0, 0.2), _paint(random, 0.1, 0.5)))
    if dice < 0.93:
        # The same material in two shades: engraved stone, metal, worn paint, letters in front of their own wall.
        hue, saturation, value = random.random(), min(0.8, abs(random.gauss(0.15, 0.25))), random.uniform(0.2, 0.9)
        other = value + random.choice((-1, 1)) * random.uniform(0.15, 0.5)
        return _hsv(hue, saturation, value), _hsv(hue, saturation, min(1.0, max(0.02, other)))
    return _paint(random, 0.2, 1.0), _paint(random, 0.2, 1.0)


def _paint(random: Random, low: float, high: float) -> Colour:
    """Draw a strong colour, of the hues of signs or any."""
    if random.random() < 0.25:
        return _hsv(random.random(), random.uniform(0.3, 1.0), random.uniform(low, high))
    start, end, _ = random.choices(_SIGN_HUES, cum_weights=_SIGN_SUMS)[0]
    return _hsv(random.uniform(start, end), random.uniform(0.45, 1.0), random.uniform(low, high))


def draw_palette(random: Random, least: float = MIN_CONTRAST, vivid: bool = False) -> Palette:
    """Draw the colours of one crop: a pair, the light on it, haze, and a contrast of at least `least` levels.

    Args:
        random: what they follow from.
        least: levels of brightness between text and paper at least.
        vivid: with the stronger colours and the clearer light that most pictures of the street have.
    """
    while True:
        paper, ink = _vivid_pair(random) if vivid else _pair(random)
        light = _draw_clear_light(random) if vivid else _draw_light(random)
        paper, ink = light.fall_on(paper), light.fall_on(ink)
        if abs(luma(paper) - luma(ink)) >= least:
            break
    outside = light.fall_on(random.choice((_neutral(random, 0.0, 1.0), _sign(random, 0.1, 0.9))))
    dark = luma(ink) < luma(paper)
    if random.random() < 0.75:
        rim = light.fall_on(_neutral(random, 0.75, 1.0) if dark else _neutral(random, 0.0, 0.25))
    else:
        rim = light.fall_on(_sign(random, 0.8, 1.0) if dark else _sign(random, 0.1, 0.5))
    depth = random.uniform(0.25, 0.75)
    other = ink if random.random() < 0.2 else (0.0, 0.0, 0.0)
    shade = _mixed(other, paper, depth)
    return Palette(paper, ink, rim, shade, outside)


def _mixed(one: Colour, other: Colour, share: float) -> Colour:
    """Mix two colours; `share` is how much of the other."""
    return tuple(a + (b - a) * share for a, b in zip(one, other, strict=True))  # type: ignore[return-value]


@dataclass(frozen=True)
class _Light:
    gain: Colour  # brightness and cast of the light, less what the haze takes
    haze: Colour  # what the haze adds
    colour: float  # how much of the colours is left

    def fall_on(self, paint: Colour) -> Colour:
        grey = luma(paint)
        seen = ((grey + (p - grey) * self.colour) * g + h for p, g, h in zip(paint, self.gain, self.haze, strict=True))
        red, green, blue = (min(255.0, max(0.0, level)) for level in seen)
        return red, green, blue


def _draw_light(random: Random) -> _Light:
    """Draw daylight mostly; shade, dusk and haze, which pulls everything towards one grey, sometimes."""
    exposure = random.uniform(0.8, 1.2) if random.random() < 0.7 else random.uniform(0.4, 0.85)
    haze = min(0.7, abs(random.gauss(0, 0.09)) if random.random() < 0.85 else random.uniform(0.2, 0.65))
    level = exposure * (1 - haze)
    gain = level * (1 + random.gauss(0, 0.05)), level, level * (1 - random.gauss(0.01, 0.06))
    veil = _mixed((0.0, 0.0, 0.0), _neutral(random, 0.2, 0.9), haze)
    return _Light(gain, veil, random.uniform(0.65, 1.05))


def _draw_clear_light(random: Random) -> _Light:
    """Draw clear light mostly; dusk and night, too long an exposure, and haze now and then."""
    dice = random.random()
    exposure = random.uniform(0.75, 1.1)
    if dice < 0.18:
        exposure = random.uniform(0.22, 0.75)
    elif dice < 0.26:
        exposure = random.uniform(1.1, 1.6)
    haze = min(0.7, abs(random.gauss(0, 0.05)) if random.random() < 0.88 else random.uniform(0.15, 0.6))
    level = exposure * (1 - haze)
    warm = random.gauss(0, 0.06) if random.random() < 0.85 else random.uniform(-0.35, 0.35)
    gain = level * (1 + warm), level * (1 + random.gauss(0, 0.03)), level * (1 - warm)
    veil = _mixed((0.0, 0.0, 0.0), _neutral(random, 0.2, 1.0), haze)
    return _Light(gain, veil, random.uniform(0.7, 1.2))
