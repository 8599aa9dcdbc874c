"""Weights of losses over a run."""

from __future__ import annotations

import pytest

from distill.training.branches import loss_sections, pseudo_section
from distill.training.sections import GuidanceSection, ScheduleSection
from distill.training.term_weights import LossSection, TermWeights, share_at
from students.errors import UserError
from students.student import Student


def test_without_schedules_weights_stay(student: Student) -> None:
    weights = TermWeights(loss_sections(GuidanceSection(linguistic=0.3, bridge=0.0, kd=2.0), {}, student))
    expected = {"linguistic": 0.3, "visual": 1.0, "bridge": 0.0, "kd": 2.0, "dkd": 0.0}
    assert all(weights.at(progress) == expected for progress in (0.0, 0.5, 0.999, 1.0))
    constant = {name for name in expected if weights.is_constant(name)}
    assert constant == {"linguistic", "visual", "kd"}


@pytest.mark.parametrize(
    ("schedule", "shares"),
    [
        (ScheduleSection(warmup=0.4), [0.0, 0.5, 1.0, 1.0, 1.0, 1.0]),
        (ScheduleSection(until=0.6), [1.0, 1.0, 1.0, 0.0, 0.0, 0.0]),
        (ScheduleSection(decay=0.8), [1.0, 1.0, 0.75, 0.5, 0.25, 0.0]),
        (ScheduleSection(until=0.6, decay=0.6), [1.0, 2 / 3, 1 / 3, 0.0, 0.0, 0.0]),
        (ScheduleSection(warmup=0.4, until=0.8, decay=0.4), [0.0, 0.5, 1.0, 0.5, 0.0, 0.0]),
    ],
)
def test_up_then_down(schedule: ScheduleSection, shares: list[float]) -> None:
    assert [share_at(schedule, fifth / 5) for fifth in range(6)] == pytest.approx(shares)


def test_a_term_follows_its_own_schedule(student: Student) -> None:
    schedules = {"visual": ScheduleSection(until=0.5), "kd": ScheduleSection(warmup=0.5)}
    weights = TermWeights(loss_sections(GuidanceSection(visual=3.0, kd=2.0, schedules=schedules), {}, student))
    assert (weights.at(0.25)["visual"], weights.at(0.25)["kd"]) == (3.0, 1.0)
    assert (weights.at(0.75)["visual"], weights.at(0.75)["kd"]) == (0.0, 2.0)
    assert not weights.is_constant("visual")
    assert not weights.is_constant("kd")
    assert weights.is_constant("linguistic")


@pytest.mark.parametrize(
    ("schedule", "message"),
    [
        (ScheduleSection(warmup=-0.1), "kd.warmup=-0.1"),
        (ScheduleSection(warmup=0.6, until=0.5), "kd.warmup=0.6"),
        (ScheduleSection(until=0.0), "kd.until=0.0"),
        (ScheduleSection(until=1.5), "kd.until=1.5"),
        (ScheduleSection(decay=0.6, until=0.5), "kd.decay=0.6"),
    ],
)
def test_a_schedule_outside_the_run_is_refused(schedule: ScheduleSection, message: str, student: Student) -> None:
    with pytest.raises(UserError, match=f"guidance.schedules.{message}"):
        loss_sections(GuidanceSection(schedules={"kd": schedule}), {}, student)
    own = LossSection(1.0, schedule.warmup, schedule.until, schedule.decay)
    with pytest.raises(UserError, match=f"losses.{message}"):
        TermWeights({"kd": own})


def test_a_negative_weight_is_refused() -> None:
    with pytest.raises(UserError, match=r"losses\.own\.weight=-1: give 0 or more"):
        TermWeights({"own": LossSection(-1)})


def test_words_that_a_teacher_labelled_have_a_weight_with_a_schedule() -> None:
    schedules = {"pseudo": ScheduleSection(warmup=0.5)}
    section = pseudo_section(GuidanceSection(pseudo_label_weight=0.4, schedules=schedules))
    assert TermWeights({"pseudo": section}).at(0.25) == {"pseudo": pytest.approx(0.2)}
