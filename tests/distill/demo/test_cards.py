"""What the page shows of readings: escaped, with confidences and columns; and the table."""

from __future__ import annotations

import csv
import io
import re

from PIL import Image

from distill.demo.cards import show_cards, show_reading, summarize, write_table
from distill.demo.reading import Entry, ReadBy
from students.decoding import ReadCharacter, Reading

PICTURE = Image.new("RGB", (90, 30), "white")
CTC = Reading("a<", 0.5, (), (ReadCharacter("a", 0.999, 0.25, 0.5), ReadCharacter("<", 0.4, 0.75, 1.0)), turned=90)
ATTENTION = Reading("ab", 1.0, (), (ReadCharacter("a", 1.0), ReadCharacter("b", 0.9)))
WHOLE = Reading("ab", 0.7, ())
NOTHING = Reading("", 0.9, ())


def show(reading: Reading) -> str:
    return show_reading(ReadBy("mine", reading, 3.14159, PICTURE))


def test_characters_have_confidences_and_columns() -> None:
    shown = show(CTC)
    assert re.findall(r"<b>(.*?)</b><small>(.*?)</small>", shown) == [("a", "99%"), ("&lt;", "40%")]
    assert re.findall(r'<i style="left:(.*?)%;width:(.*?)%">', shown) == [("25.00", "25.00"), ("75.00", "25.00")]
    assert shown.count('class="unsure"') == 1
    assert "50% sure of the word, 3.1 ms, turned by 90°" in shown


def test_what_a_reader_does_not_tell_is_not_shown() -> None:
    assert "<i " not in show(ATTENTION)
    assert re.findall(r"<b>(.*?)</b><small>(.*?)</small>", show(ATTENTION)) == [("a", "100%"), ("b", "90%")]
    assert re.findall(r"<b>(.*?)</b><small>(.*?)</small>", show(WHOLE)) == [("a", ""), ("b", "")]
    assert "unsure" not in show(WHOLE)
    assert "no character, 3.1 ms" in show(NOTHING)


def test_names_and_problems_are_escaped() -> None:
    read = ReadBy("<i>reader</i>", ATTENTION, 1.0, PICTURE)
    shown = show_cards([
        Entry('"><script>alert(1)</script>.png', PICTURE, read=(read,)), Entry("<b>", None, "<u>no picture</u>"),
    ])  # fmt: skip
    assert "<script" not in shown
    assert "<u>" not in shown
    assert "<i>" not in shown
    assert shown.count("<article") == 2
    assert 'title="&quot;&gt;&lt;script' in shown


def test_large_pictures_are_shown_small() -> None:
    entry = Entry("large.png", Image.effect_noise((3000, 2000), 60).convert("RGB"))
    assert len(show_cards([entry])) < 100_000
    assert "3000 × 2000" in show_cards([entry])


def test_the_line_above_counts_what_was_not_read() -> None:
    good, bad = Entry("a", PICTURE), Entry("b", None, "broken")
    assert summarize([good], 1) == "1 picture read"
    assert summarize([good, bad, good], 500) == "2 pictures read; 1 can't be; 497 left out: at most 50 at once"


def test_the_table_has_a_line_for_each_picture_and_reader() -> None:
    entries = [
        Entry('a,"b".png', PICTURE, read=(ReadBy("one", CTC, 3.14159, PICTURE), ReadBy("two", WHOLE, 2.0, PICTURE))),
        Entry("broken.png", None, "the file is empty"),
    ]
    rows = list(csv.DictReader(io.StringIO(write_table(entries))))
    assert [(row["file"], row["reader"], row["word"]) for row in rows] == [
        ('a,"b".png', "one", "a<"), ('a,"b".png', "two", "ab"), ("broken.png", "", ""),
    ]  # fmt: skip
    assert rows[0]["confidence"] == "0.5000"
    assert rows[0]["characters"] == "0.9990 0.4000"
    assert rows[0]["milliseconds"] == "3.14"
    assert rows[2]["problem"] == "the file is empty"
