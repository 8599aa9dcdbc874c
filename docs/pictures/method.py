"""The method as one figure: student and teacher as two arches, and what compares which of their stages.

Plain SVG with text in the reader's own fonts: small, the same bytes everywhere, and readable on dark pages too, since
it brings its own ground. The terms are those of `losses.heads.TERMS`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Literal
from xml.sax.saxutils import escape

from distill.evaluation.page.svg import INK, MUTED, PAPER
from losses.heads import TERMS
from students.files import write_file

WIDTH, HEIGHT = 720, 740
BOX, BOX_HEIGHT = 106, 46
ENCODER, IMAGE, TEXT, DECODER = 72, 294, 426, 648
"""Where the middle of each of the four columns is."""
MIDDLE = WIDTH / 2
LEVELS = (252, 324, 396)
"""Heights of the stages. The image tower and the encoder climb, and so does the text tower; the decoder descends."""
TOP, JOINT, BOTTOM = 80, 187, 494
"""Heights of the student's tokens, of the joint space, and of what goes in and comes out."""
BLUE, BLUE_TINT, ORANGE, ORANGE_TINT, GREEN, GREEN_TINT = (
    "#0550ae", "#e3f1ff", "#953800", "#fff0e0", "#116329", "#dcf5e3",
)  # fmt: skip
"""Student, teacher, and what compares them."""
FONT = "system-ui, -apple-system, 'Segoe UI', Helvetica, Arial, sans-serif"
WORD = "street"
Anchor = Literal["start", "middle", "end"]
TITLE = "Symmetrical linguistic feature distillation"
DESCRIPTION = (
    "The student's encoder leads up from a picture to tokens, its decoder down from there to characters. Inside this "
    "arch stands a frozen CLIP: its image tower guides the encoder stage by stage, its text tower the decoder in "
    "reverse order, and the joint space of both the student's summary token. Each comparison is the linguistic "
    "consistency loss between rows. When the student reads, the teacher is gone."
)


def draw(folder: Path) -> list[Path]:
    """Write method.svg into a folder."""
    file = folder / "method.svg"
    write_file(file, figure())
    return [file]


def figure() -> str:
    """Return the figure as SVG."""
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}" '
        f'role="img" font-family="{FONT}" font-size="18" fill="{INK}">',
        f"<title>{TITLE}</title>",
        f"<desc>{DESCRIPTION}</desc>",
        f'<rect width="{WIDTH}" height="{HEIGHT}" rx="14" fill="{PAPER}"/>',
        *grounds(), *student(), *teacher(), *comparisons(), *loss(), "</svg>",
    ]  # fmt: skip
    return "\n".join(parts) + "\n"


def grounds() -> list[str]:
    """Draw the arch of the student, and the ground of the teacher inside of it."""
    foot = BOTTOM + 58
    arch = (
        f"M8 {foot - 12}V20a12 12 0 0 1 12-12H{WIDTH - 20}a12 12 0 0 1 12 12V{foot - 12}a12 12 0 0 1-12 12H588"
        f"a12 12 0 0 1-12-12V126a12 12 0 0 0-12-12H148a12 12 0 0 0-12 12V{foot - 12}a12 12 0 0 1-12 12H20"
        "a12 12 0 0 1-12-12Z"
    )
    return [
        f'<path d="{arch}" fill="{BLUE_TINT}"/>',
        f'<rect x="230" y="132" width="260" height="324" rx="12" fill="{ORANGE_TINT}"/>',
        text(24, 38, "Student", BLUE, size=20, bold=True, anchor="start"),
        text(WIDTH - 24, 38, "all that is left for reading", BLUE, size=16, anchor="end"),
        text(243, 158, "Teacher", ORANGE, size=20, bold=True, anchor="start"),
        text(477, 158, "a frozen CLIP", ORANGE, size=16, anchor="end"),
        text(MIDDLE, 443, "in training only", ORANGE, size=16),
    ]


def student() -> list[str]:
    """Draw the student's way: up through the encoder, over its tokens, down through the decoder to characters."""
    low = BOTTOM - BOX_HEIGHT / 2
    parts = [
        *sign(ENCODER, BOTTOM),
        text(ENCODER, BOTTOM + 45, "picture", MUTED, size=16),
        arrow(BLUE, (ENCODER, low), (ENCODER, LEVELS[2] + 23)),
        arrow(BLUE, (ENCODER, LEVELS[0] - 23), (ENCODER, TOP), (MIDDLE - 128, TOP)),
        arrow(BLUE, (MIDDLE + 128, TOP), (DECODER, TOP), (DECODER, LEVELS[0] - 23)),
        arrow(BLUE, (DECODER, LEVELS[2] + 23), (DECODER, low)),
        *box(MIDDLE, TOP, "", BLUE, width=256),
        f'<rect x="{MIDDLE - 52}" y="{TOP - 17}" width="104" height="34" rx="6" fill="{BLUE}"/>',
        text(MIDDLE, TOP + 6, "summary", PAPER),
        text(MIDDLE - 90, TOP + 6, "tokens", BLUE),
        *(f'<circle cx="{MIDDLE + 72 + 18 * n}" cy="{TOP}" r="5" fill="{BLUE}" opacity="0.45"/>' for n in range(3)),
        *box(DECODER, BOTTOM, WORD, BLUE, bold=True),
        text(DECODER, BOTTOM + 45, "what it reads", MUTED, size=16),
    ]
    for number, level in enumerate(reversed(LEVELS), start=1):
        parts += box(ENCODER, level, f"encoder {number}", BLUE)
    for number, level in enumerate(LEVELS, start=1):
        parts += box(DECODER, level, f"decoder {number}", BLUE)
    for upper, lower in pairwise(LEVELS):
        parts += [
            arrow(BLUE, (ENCODER, lower - 23), (ENCODER, upper + 23)),
            arrow(BLUE, (DECODER, upper + 23), (DECODER, lower - 23)),
        ]
    return parts


def teacher() -> list[str]:
    """Draw the two towers, both climbing to the joint space; the image tower isn't run beyond its third tap."""
    low = BOTTOM - BOX_HEIGHT / 2
    parts = [
        arrow(ORANGE, (ENCODER + BOX / 2, BOTTOM), (IMAGE, BOTTOM), (IMAGE, LEVELS[2] + 23)),
        arrow(ORANGE, (TEXT, low), (TEXT, LEVELS[2] + 23)),
        *box(TEXT, BOTTOM, " ".join(WORD), ORANGE, bold=True),
        text(TEXT, BOTTOM + 45, "label", MUTED, size=16),
        arrow(ORANGE, (IMAGE, LEVELS[0] - 23), (IMAGE, JOINT + 19), dashed=True),
        arrow(ORANGE, (TEXT, LEVELS[0] - 23), (TEXT, JOINT + 19)),
        *box(MIDDLE, JOINT, "joint space", ORANGE, width=TEXT - IMAGE + BOX, height=38),
    ]
    for number, level in enumerate(reversed(LEVELS), start=1):
        parts += [*box(IMAGE, level, f"image {number}", ORANGE), *box(TEXT, level, f"text {number}", ORANGE)]
    for upper, lower in pairwise(LEVELS):
        parts += [arrow(ORANGE, (x, lower - 23), (x, upper + 23)) for x in (IMAGE, TEXT)]
    return parts


def comparisons() -> list[str]:
    """Draw what compares stages: the seven terms of guidance, and the characters with the label."""
    parts = []
    for name, kind in TERMS.items():
        if kind == "bridge":
            parts += compare((MIDDLE, TOP + 23), (MIDDLE, JOINT - 19), name)
        elif kind == "visual":
            level = LEVELS[3 - int(name[-1])]
            parts += compare((ENCODER + BOX / 2, level), (IMAGE - BOX / 2, level), name)
        else:
            level = LEVELS[int(name[-1]) - 1]
            parts += compare((TEXT + BOX / 2, level), (DECODER - BOX / 2, level), name)
    parts += [
        text((TEXT + DECODER) / 2, LEVELS[0] - y, words, GREEN, size=15)
        for y, words in ((42, "in reverse"), (24, "order"))
    ]
    return [*parts, *compare((TEXT + BOX / 2, BOTTOM), (DECODER - BOX / 2, BOTTOM), "characters", plain=True)]


def loss() -> list[str]:
    """Draw the linguistic consistency loss: own rows are found, and relations between rows agree."""
    top = BOTTOM + 74
    cells = top + 58
    angles, offsets = (0.0, 0.9, 1.5, 2.6, 3.3), (0.15, -0.1, 0.12, -0.15, 0.1)
    guided = [angle + offset for angle, offset in zip(angles, offsets, strict=True)]
    return [
        f'<rect x="8" y="{top}" width="{WIDTH - 16}" height="{HEIGHT - top - 8}" rx="12" fill="{GREEN_TINT}"/>',
        text(24, top + 30, "Linguistic consistency loss", GREEN, size=20, bold=True, anchor="start"),
        text(WIDTH - 24, top + 30, "of each green pair, over the rows of a batch", GREEN, size=16, anchor="end"),
        *matrix(24, cells, angles, guided, GREEN),
        text(128, cells + 22, "0.1 ×", GREEN, bold=True, anchor="start"),
        text(128, cells + 46, "each row finds its own", anchor="start", size=16),
        text(128, cells + 67, "teacher row among all", anchor="start", size=16),
        *matrix(338, cells, angles, angles, BLUE),
        text(445, cells + 50, "≈", GREEN, size=24, bold=True),
        *matrix(462, cells, guided, guided, ORANGE),
        text(566, cells + 22, "5 ×", GREEN, bold=True, anchor="start"),
        text(566, cells + 46, "rows relate to", anchor="start", size=16),
        text(566, cells + 67, "each other alike", anchor="start", size=16),
    ]


def matrix(x: float, y: float, rows: Sequence[float], columns: Sequence[float], colour: str) -> list[str]:
    """Draw how near rows at some angles are to others, as a square of cells: the darker the nearer."""
    size = 90 / len(rows)
    return [
        f'<rect x="{x:g}" y="{y:g}" width="90" height="90" fill="{PAPER}"/>',
        *(
            f'<rect x="{x + size * j:g}" y="{y + size * i:g}" width="{size - 1:g}" height="{size - 1:g}" '
            f'fill="{colour}" opacity="{max(0.06, math.cos(one - other)) ** 2:.2f}"/>'
            for i, one in enumerate(rows) for j, other in enumerate(columns)
        ),
    ]  # fmt: skip


def text(
    x: float, y: float, words: str, colour: str = INK, *, size: int = 18, bold: bool = False, anchor: Anchor = "middle"
) -> str:
    """Write words on a base line."""
    weight = ' font-weight="600"' if bold else ""
    return (
        f'<text x="{x:g}" y="{y:g}" font-size="{size}" fill="{colour}" text-anchor="{anchor}"{weight}>'
        f"{escape(words)}</text>"
    )


def box(
    x: float, y: float, words: str, colour: str, *, width: float = BOX, height: float = BOX_HEIGHT, bold: bool = False
) -> list[str]:
    """Draw a box around a point, with words in it."""
    frame = (
        f'<rect x="{x - width / 2:g}" y="{y - height / 2:g}" width="{width:g}" height="{height:g}" rx="8" '
        f'fill="{PAPER}" stroke="{colour}" stroke-width="1.6"/>'
    )
    return [frame, text(x, y + 6, words, bold=bold)] if words else [frame]


def arrow(colour: str, *points: tuple[float, float], dashed: bool = False) -> str:
    """Draw a line through points that ends in a head."""
    *_, (x0, y0), (x1, y1) = points
    length = math.hypot(x1 - x0, y1 - y0)
    along = (x1 - x0) / length, (y1 - y0) / length
    line = "L".join(f"{x:g} {y:g}" for x, y in (*points[:-1], (x1 - 6 * along[0], y1 - 6 * along[1])))
    dashes = ' stroke-dasharray="3 5"' if dashed else ""
    return (
        f'<path d="M{line}" fill="none" stroke="{colour}" stroke-width="2" stroke-linejoin="round"{dashes}/>'
        f'<path d="{head((x1, y1), along)}" fill="{colour}"/>'
    )


def head(tip: tuple[float, float], along: tuple[float, float]) -> str:
    """Return the path of an arrow's head that points along a unit vector."""
    (x, y), (dx, dy) = tip, along
    left, right = (x - 9 * dx - 5 * dy, y - 9 * dy + 5 * dx), (x - 9 * dx + 5 * dy, y - 9 * dy - 5 * dx)
    return f"M{x:g} {y:g}L{left[0]:g} {left[1]:g}L{right[0]:g} {right[1]:g}Z"


def compare(one: tuple[float, float], other: tuple[float, float], name: str, *, plain: bool = False) -> list[str]:
    """Draw what compares two places: an arrow with two heads, and the name of the term on it."""
    (x0, y0), (x1, y1) = one, other
    length = math.hypot(x1 - x0, y1 - y0)
    along = (x1 - x0) / length, (y1 - y0) / length
    colour = MUTED if plain else GREEN
    x, y, width = (x0 + x1) / 2, (y0 + y1) / 2, 12 + 6.9 * len(name)
    return [
        f'<path d="M{x0:g} {y0:g}L{x1:g} {y1:g}" stroke="{colour}" stroke-width="2"/>',
        f'<path d="{head(other, along)}{head(one, (-along[0], -along[1]))}" fill="{colour}"/>',
        f'<rect x="{x - width / 2:g}" y="{y - 12:g}" width="{width:g}" height="24" rx="12" '
        f'fill="{PAPER if plain else GREEN_TINT}" stroke="{colour}" stroke-width="1.2"/>',
        text(x, y + 5, name, colour, size=15),
    ]


def sign(x: float, y: float) -> list[str]:
    """Draw a street sign: the picture that is read."""
    return [
        f'<rect x="{x - BOX / 2:g}" y="{y - 23:g}" width="{BOX}" height="46" rx="4" fill="#c9d3d8"/>',
        f'<g transform="rotate(-5 {x:g} {y:g})">'
        f'<rect x="{x - 46:g}" y="{y - 15:g}" width="92" height="30" rx="4" fill="#0b5d3b" stroke="#f6f3e6"/>'
        f'<text x="{x:g}" y="{y + 7:g}" font-size="20" fill="#f6f3e6" text-anchor="middle" font-weight="700" '
        f"font-family=\"Georgia, 'Times New Roman', serif\">{WORD}</text></g>",
    ]
