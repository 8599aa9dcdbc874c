from __future__ import annotations

from distill.evaluation.verdict import verdict

from .fakes import fake_report, read_words

LABELS = [f"w{number}" for number in range(20)]


def reading(count: int) -> list[tuple[str, float]]:
    """The first `count` of the words are read."""
    return [(label if number < count else "", 0.5) for number, label in enumerate(LABELS)]


def test_student_baseline_and_a_teacher_that_chooses() -> None:
    words = read_words(LABELS, mine=reading(16), plain=reading(6), clip=reading(19))
    report = fake_report(words, {"mine": "student", "plain": "baseline", "clip": "teacher"}, closed=["clip"])
    assert verdict(report) == (
        "mine reads 80.00% of 20 words of signs (95% interval 58.4 to 91.9), 50.00 points more (+22.3 to +67.6) than "
        "plain, the same student without a teacher (30.00%); the teacher clip only chooses among given words, which is "
        "far easier, and is right for 95.00%."
    )


def test_a_difference_that_may_be_chance_is_called_so() -> None:
    words = read_words(LABELS, mine=reading(10), plain=reading(9))
    text = verdict(fake_report(words, {"mine": "student", "plain": "baseline"}))
    assert "5.00 points more (-" in text
    assert "which these words can't tell apart) than plain" in text
    turned = verdict(fake_report(words, {"plain": "student", "mine": "teacher"}))
    assert "5.00 points less (-" in turned
    assert "than mine, the teacher (50.00%)" in turned
    equal = read_words(LABELS, mine=reading(10), plain=reading(10))
    assert ", as many (" in verdict(fake_report(equal, {"mine": "student", "plain": "baseline"}))


def test_of_many_others_the_best_is_named() -> None:
    words = read_words(LABELS, mine=reading(10), other=reading(3), far=reading(20))
    text = verdict(fake_report(words, {"mine": "student", "other": "student", "far": "peer"}))
    assert "50.00 points less" in text
    assert "than far, the best other reader here (100.00%)." in text
    assert "other (" not in text


def test_without_a_student_or_open_reading_there_is_a_verdict_too() -> None:
    words = read_words(LABELS, far=reading(20))
    assert verdict(fake_report(words, {"far": "peer"})).startswith("far reads 100.00% of 20 words of signs (95%")
    chosen = verdict(fake_report(words, {"far": "teacher"}, closed=["far"]))
    assert chosen.startswith("far chooses the right one of given words for 100.00%")
    assert chosen.count("far") == 1
