"""What a page shows of readings, as HTML, and the table of them, as CSV. Names and texts are escaped."""

from __future__ import annotations

import base64
import csv
import html
import io
import math
from collections.abc import Iterable
from typing import Literal

from PIL import Image

from distill.demo.reading import MAX_PICTURES, Entry, ReadBy
from students.decoding import ReadCharacter

UNSURE = 0.8
"""Confidence of a character below which it is marked."""
SHOWN = (384, 192)
"""Largest width and height of a picture on a card, in pixels."""
SEEN_HEIGHT = 3
"""Height of the picture as a reader sees it, in letters."""
CSS = """
#pictures .grid-container { padding-top: 2.2rem; }
#examples img { object-fit: contain; background: var(--background-fill-secondary); }
.cards { display: grid; gap: .8rem; }
.card { display: flex; flex-wrap: wrap; gap: .8rem 1.2rem; align-items: center; padding: .8rem 1rem;
  border: 1px solid var(--border-color-primary); border-radius: .8rem;
  background: var(--background-fill-primary); color: var(--body-text-color); }
.card figure { flex: 1 1 10rem; max-width: 14rem; margin: 0; }
.card figure > img { display: block; max-width: 100%; max-height: 12rem; border-radius: .3rem; }
.card figcaption { margin-top: .25rem; overflow-wrap: anywhere; }
.card figcaption, .card .note, .card small { font-size: .8rem; opacity: .75; }
.card .readers { display: grid; flex: 3 1 14rem; gap: .8rem;
  grid-template-columns: repeat(auto-fit, minmax(min(100%, 12rem), 1fr)); }
.card .word { display: flex; flex-wrap: wrap; gap: .1rem; min-height: 2.4rem; margin: .1rem 0; }
.card .word span { display: flex; flex-direction: column; align-items: center; min-width: 1.9rem; }
.card .word b { font: 600 1.4rem/1.25 ui-monospace, monospace; white-space: pre; color: inherit; }
.card .unsure, .card.failed .note { color: var(--error-text-color, #b42318); opacity: 1; }
.card .note { margin: 0; }
.card .seen { position: relative; display: block; margin-top: .3rem; }
.card .seen img { display: block; width: 100%; image-rendering: pixelated; border-radius: .2rem; }
.card .seen i { position: absolute; top: 0; bottom: 0; min-width: 2px; background: rgb(23 92 211 / 35%); }
"""


def show_cards(entries: Iterable[Entry]) -> str:
    """Format what was read as HTML, a card a picture."""
    return f'<div class="cards">{"".join(map(show_card, entries))}</div>'


def show_card(entry: Entry) -> str:
    """Format one picture: what it is, and what each reader says."""
    name = html.escape(entry.name)
    if entry.picture is None:
        return f'<article class="card failed"><p class="note">{name}: {html.escape(entry.problem)}</p></article>'
    width, height = entry.picture.size
    caption = f"<figcaption>{name}, {width} × {height}</figcaption>"
    return (
        f'<article class="card"><figure>{show_picture(entry.picture, name, "JPEG")}{caption}</figure>'
        f'<div class="readers">{"".join(map(show_reading, entry.read))}</div></article>'
    )


def show_reading(read: ReadBy) -> str:
    """Format what one reader says: text, confidence, time, and the picture as it sees it with its columns."""
    reading = read.reading
    characters = reading.characters or tuple(ReadCharacter(text, math.nan) for text in reading.text)
    marks = "".join(
        f'<i style="left:{100 * char.start:.2f}%;width:{100 * (char.end - char.start):.2f}%"></i>'
        for char in reading.characters
        if char.start is not None and char.end is not None
    )
    said = f"{percent(reading.confidence)} sure of the word, " if reading.text else "no character, "
    turned = f", turned by {reading.turned}°" if reading.turned else ""
    aspect = read.seen.width / read.seen.height
    return (
        f'<div class="reader"><small>{html.escape(read.reader)}</small>'
        f'<p class="word">{"".join(map(show_character, characters))}</p>'
        f'<p class="note">{said}{read.milliseconds:.1f} ms{turned}</p>'
        f'<span class="seen" style="width:min(100%,{SEEN_HEIGHT * aspect:.2f}rem)">'
        f"{show_picture(read.seen, 'as the reader sees it')}{marks}</span></div>"
    )


def show_character(char: ReadCharacter) -> str:
    """Format a character over its confidence, where the reader tells one."""
    told = "" if math.isnan(char.confidence) else percent(char.confidence)
    unsure = ' class="unsure"' if char.confidence < UNSURE else ""
    return f"<span{unsure}><b>{html.escape(char.text)}</b><small>{told}</small></span>"


def show_picture(picture: Image.Image, alt: str, kind: Literal["PNG", "JPEG"] = "PNG") -> str:
    """Format a picture, made smaller where it is large, and encoded as a PNG or JPEG; `alt` is HTML."""
    small = picture.copy()
    small.thumbnail(SHOWN)
    buffer = io.BytesIO()
    small.save(buffer, kind)
    data = base64.b64encode(buffer.getvalue()).decode()
    return f'<img alt="{alt}" title="{alt}" src="data:image/{kind.lower()};base64,{data}">'


def percent(value: float) -> str:
    """Format a probability; only what is certain is 100%."""
    return f"{math.floor(100 * value)}%"


def summarize(entries: list[Entry], given: int) -> str:
    """Tell in a line how many pictures were read, and which were not."""
    readable = sum(entry.picture is not None for entry in entries)
    parts = [f"{readable} {'picture' if readable == 1 else 'pictures'} read"]
    if failed := len(entries) - readable:
        parts.append(f"{failed} can't be")
    if left_out := given - len(entries):
        parts.append(f"{left_out} left out: at most {MAX_PICTURES} at once")
    return "; ".join(parts)


def write_table(entries: Iterable[Entry]) -> str:
    """Write what was read as CSV: a line for each picture and reader."""
    table = io.StringIO()
    writer = csv.writer(table)
    writer.writerow(["file", "reader", "word", "confidence", "milliseconds", "characters", "problem"])
    for entry in entries:
        if entry.picture is None:
            writer.writerow([entry.name, "", "", "", "", "", entry.problem])
        for read in entry.read:
            confidences = " ".join(f"{char.confidence:.4f}" for char in read.reading.characters)
            numbers = [f"{read.reading.confidence:.4f}", f"{read.milliseconds:.2f}", confidences]
            writer.writerow([entry.name, read.reader, read.reading.text, *numbers, ""])
    return table.getvalue()
