"""What becomes of a picture by what readers read of it."""

from __future__ import annotations

from typing import Any

import pytest

from distill.labelling.verdicts import Rules, judge
from students.charset import Charset
from students.decoding import Reading

ASCII = Charset.load("94")


def readings(*read: tuple[str, float]) -> list[Reading]:
    return [Reading(text, confidence, ()) for text, confidence in read]


def rules(**changed: Any) -> Rules:
    return Rules(**{"charset": ASCII, "max_length": 8, "threshold": 0.9, "agree": 1, **changed})


@pytest.mark.parametrize(
    ("read", "label", "reason"),
    [
        (("Bäckerei", 0.95), "Backerei", None),
        (("two words", 0.95), "twowords", None),
        (("open", 0.9), "open", None),
        (("open", 0.899), None, "below the threshold"),
        (("", 0.99), None, "nothing read"),
        (("  ", 0.99), None, "nothing read"),
        (("出口", 0.99), None, "not writable in the alphabet"),
        (("A出", 0.99), None, "not writable in the alphabet"),
        (("###", 0.99), None, "not writable in the alphabet"),
        (("123456789", 0.99), None, "too long"),
    ],
)
def test_one_reader(read: tuple[str, float], label: str | None, reason: str | None) -> None:
    verdict = judge(readings(read), None, rules())
    assert (verdict.label, verdict.reason) == (label, reason)


def test_what_most_read_counts_with_their_mean_confidence() -> None:
    three = readings(("exit", 0.8), ("exlt", 0.99), ("Exit", 0.9))
    verdict = judge(three, None, rules(charset=Charset.load("36"), threshold=0.85, agree=2))
    assert (verdict.label, verdict.readers) == ("exit", (0, 2))
    assert verdict.confidence == pytest.approx(0.85)
    assert judge(three, None, rules(threshold=0.8, agree=2)).reason == "readers disagree"
    assert judge(three, None, rules(threshold=0.8)).label == "exlt", "one each: the surest"


def test_own_labels_stay_and_are_compared() -> None:
    sure = readings(("Shop", 0.97))
    assert judge(sure, "Shop", rules()).mistake is None
    verdict = judge(sure, "Stop", rules())
    assert (verdict.label, verdict.mistake, verdict.sure) == ("Stop", "another word", True)
    assert judge(sure, "shop!", rules()).mistake == "case or punctuation"
    assert judge(readings(("Shop", 0.5)), "Stop", rules()).sure is False
    dropped = judge(sure, "Stop", rules(drop_mistakes=True))
    assert (dropped.label, dropped.reason) == (None, "likely a wrong label")
    assert judge(sure, "shop!", rules(drop_mistakes=True)).label == "shop!"
    assert judge(readings(("Shop", 0.5)), "Stop", rules(drop_mistakes=True)).label == "Stop"


@pytest.mark.parametrize(
    ("own", "reason"),
    [("###", "own label illegible"), ("出口", "own label not writable"), ("x" * 9, "own label too long")],
)
def test_own_labels_that_are_none(own: str, reason: str) -> None:
    verdict = judge(readings(("Shop", 0.97)), own, rules())
    assert (verdict.label, verdict.reason, verdict.mistake) == (None, reason, None)
