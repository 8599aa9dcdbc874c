"""The page says what report.json and the readings say, and foreign text in it is only text."""

from __future__ import annotations

import random
import re

import pytest
from PIL import Image

from distill.evaluation.page.galleries import WORDS, compare_parts, embed, make_galleries
from distill.evaluation.page.rendering import render
from distill.evaluation.page.report_page import ReportPage
from distill.evaluation.page.svg import drawing
from distill.evaluation.page.word_sections import thinned
from tests.distill.evaluation.fakes import fake_report, read_words
from tests.distill.evaluation.html_pages import PageReader

from .conftest import FOREIGN, Page


def test_the_verdict_and_every_accuracy_are_those_of_the_report(page: Page) -> None:
    read = PageReader(page.text)
    assert page.report["verdict"] in read.texts
    for reader in page.report["readers"]:
        row = next(row for row in read.rows if row[:2] == [reader["name"], reader["role"]])
        assert f"{reader['benchmarks']['signs']['accuracy']:.2f}" in row
        assert row[-1] == f"{reader['ms_per_word']:.1f}"


def test_curves_are_those_of_the_report(page: Page) -> None:
    read = PageReader(page.text)
    for name, curve in page.report["curves"].items():
        assert read.curve(name) == [(point["step"], point["accuracy"]) for point in curve]


def test_nothing_is_fetched_run_or_taken_for_markup(page: Page) -> None:
    read = PageReader(page.text)
    assert {tag for tag, _ in read.tags} & {"script", "iframe", "object", "link"} == {"link"}
    assert [attributes["href"] for tag, attributes in read.tags if tag == "link"] == ["data:,"]
    pictures = [attributes for tag, attributes in read.tags if tag == "img"]
    assert pictures
    assert all(str(attributes["src"]).startswith("data:image/webp;base64,") for attributes in pictures)
    assert not [name for _, attributes in read.tags for name in attributes if name.startswith("on")]
    links = [attributes["href"] for tag, attributes in read.tags if tag == "a"]
    assert links
    assert all(str(link).startswith("#") for link in links)
    assert any(FOREIGN in text for text in read.texts)
    assert "url(" not in re.sub(r"url\(#\w+\)", "", page.text)


def test_every_link_leads_to_a_section(page: Page) -> None:
    read = PageReader(page.text)
    ids = {attributes.get("id") for tag, attributes in read.tags if tag == "section"}
    links = [str(attributes["href"]).removeprefix("#") for tag, attributes in read.tags if tag == "a"]
    assert set(links) == ids == {
        "accuracy", "differences", "learning", "losses", "words", "confusions", "confidence", "galleries", "origin",
    }  # fmt: skip


def test_galleries_have_the_words_that_they_promise(page: Page) -> None:
    readers = ["mine", "mine-baseline", "far"]
    loaded: list[int] = []

    def load(_: str, number: int) -> Image.Image:
        loaded.append(number)
        return Image.new("RGB", (50, 20))

    galleries = {each.title: each for each in make_galleries(page.words, readers, "mine", load)}
    assert list(galleries) == [
        "Misread by all", "Only mine right", "Only mine-baseline right", "Only far right", "mine least sure",
    ]  # fmt: skip
    hits = {word.number: [name for name in readers if word.is_hit(name)] for word in page.words}
    for title, expected in (("Misread by all", []), ("Only mine right", ["mine"]), ("Only far right", ["far"])):
        assert galleries[title].total == sum(each == expected for each in hits.values())
        for item in galleries[title].items:
            assert [seen.reader for seen in item.seen if seen.right] == expected
    unsure = galleries["mine least sure"]
    assert len(unsure.items) == WORDS
    confidences = [item.seen[0].confidence for item in unsure.items]
    assert confidences == sorted(confidences)
    assert confidences[-1] <= min(
        word.readings["mine"][1] for word in page.words if word.record not in {item.record for item in unsure.items}
    )
    alone = [each.title for each in make_galleries(page.words, ["mine"], "mine", load)]
    assert alone == ["Misread", "mine least sure"]


def test_what_does_not_belong_is_marked() -> None:
    assert compare_parts("street", "stroet") == (("str", True), ("o", False), ("et", True))
    assert compare_parts("on", "one") == (("on", True), ("e", False))
    assert compare_parts("on", "") == ()


def test_pictures_are_small_and_keep_their_aspect() -> None:
    uri, size = embed(Image.effect_noise((1200, 300), 90))
    assert size == (220, 55)
    assert len(uri) < 20_000
    assert embed(Image.new("RGBA", (30, 10)))[1] == (30, 10)
    assert embed(Image.new("L", (5, 4000)))[1] == (1, 72)


def test_a_report_of_one_reader_has_a_page_too(page: Page) -> None:
    for closed in ([], ["mine"]):
        words = read_words(["a"], mine=[("a", 1.0)])
        report = fake_report(words, {"mine": "teacher" if closed else "student"}, closed=closed)
        with drawing():
            text = render("report.html", ReportPage(report, words, lambda *_: Image.new("RGB", (9, 9))).values())
        assert report["verdict"] in text
        assert 'id="differences"' not in text
        assert 'id="learning"' not in text


def test_a_page_is_small_however_many_words_and_however_large_their_pictures() -> None:
    source = random.Random(0)
    labels = [f"word{number}" for number in range(1500)]
    roles = {"mine": "student", "plain": "baseline", "big": "teacher", "far": "peer", "near": "peer"}
    readings = {name: [(source.choice([label, "?"]), source.random()) for label in labels] for name in roles}
    words = read_words(labels, **readings)
    noise = Image.effect_noise((900, 300), 120)
    with drawing():
        values = ReportPage(fake_report(words, roles), words, lambda *_: noise).values()
        text = render("report.html", values)
    assert [len(gallery.items) for gallery in values["galleries"]] == [WORDS] * 7
    assert len(text) < 8_000_000


@pytest.mark.parametrize("count", [1, 2, 200, 201, 399, 1000])
def test_curves_are_thinned(count: int) -> None:
    points = [(float(number), 0.0) for number in range(count)]
    kept = thinned(points)
    assert len(kept) == min(count, 200)
    assert kept[-1] == points[-1]
    assert kept == sorted(set(kept))
