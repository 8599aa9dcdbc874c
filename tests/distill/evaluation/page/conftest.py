"""A report with all its sections, of readings that were never read, and the page that is made of it."""

from __future__ import annotations

import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from distill.evaluation.page.rendering import render
from distill.evaluation.page.report_page import ReportPage
from distill.evaluation.page.svg import drawing
from distill.evaluation.readings import ReadWord
from tests.distill.evaluation.fakes import fake_report, read_words

FOREIGN = "<img src=http://example.org/x onerror=alert(1)>"
"""What a label may hold that a page must not take for its own."""


@dataclass(frozen=True)
class Page:
    """A page and what it was made of."""

    report: dict[str, Any]
    words: list[ReadWord]
    text: str
    file: Path


def misread(label: str, chance: float, source: random.Random) -> tuple[str, float]:
    """A reading that is wrong in one character by a chance."""
    if source.random() > chance:
        return label, source.uniform(0.7, 1.0)
    place = source.randrange(len(label))
    return label[:place] + source.choice("xyz") + label[place + 1 :], source.uniform(0.1, 0.9)


@pytest.fixture(scope="session")
def page(tmp_path_factory: pytest.TempPathFactory) -> Page:
    source = random.Random(0)
    labels = ["".join(source.choices("abcdefgh", k=source.randint(1, 9))) for _ in range(120)]
    labels[0], labels[1] = FOREIGN, "a" * 60
    roles = {"mine": "student", "mine-baseline": "baseline", "big & <b>": "teacher", "clip": "teacher", "far": "peer"}
    readings = {name: [misread(label, 0.1 + 0.1 * n, source) for label in labels] for n, name in enumerate(roles)}
    readings["mine"][0] = ("</script><script>alert(2)</script>", 0.99)
    readings["mine"][2] = ("", 0.2)
    words = read_words(labels, **readings)
    curves = {
        name: [
            {"step": 10 * at, "seconds": 30.0 * at, "accuracy": 20.0 * at + n, "one_minus_ned": 90.0}
            for at in range(1, 5)
        ]
        for n, name in enumerate(["mine", "mine-baseline"])
    }
    config = {"name": "mine", "seed": 0, "student": {"width": 128}, "out": "runs/<mine>"}
    report = fake_report(words, roles, closed=["clip"], config=config, curves=curves, warnings=["signs: a & b"])
    metrics = [
        {"step": step, "group": "train", "loss": 2.0, "ctc": 1.0 / step, "bridge": 0.5, "seconds": step}
        for step in range(10, 50, 10)
    ] + [{"step": step, "group": "gradient_share", "ctc": 0.4, "bridge": 0.6} for step in (10, 40)]
    with drawing():
        values = ReportPage(
            report, words, lambda _, number: Image.new("RGB", (300 + number, 20 + number), (number, 90, 200)), metrics
        ).values()
        text = render("report.html", values)
    file = tmp_path_factory.mktemp("page") / "report.html"
    file.write_text(text, encoding="utf-8")
    return Page(report, words, text, file)
