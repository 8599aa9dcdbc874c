"""Weights of the guidance terms over a run."""

from __future__ import annotations

import pytest

from distill.config import GuidanceSection, ScheduleSection, SchedulesSection
from distill.training.term_weights import KINDS, TermWeights, share_at
from students.errors import UserError


def test_without_schedules_weights_stay() -> None:
    weights = TermWeights(GuidanceSection(linguistic=0.3, bridge=0.0, kd=2.0))
    expected = {"linguistic": 0.3, "visual": 1.0, "bridge": 0.0, "kd": 2.0, "dkd": 0.0, "pseudo": 1.0}
    assert all(weights.at(progress) == expected for progress in (0.0, 0.5, 0.999, 1.0))
    assert [kind for kind in KINDS if weights.is_constant(kind)] == ["linguistic", "visual", "kd", "pseudo"]


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
    assert [share_at(schedule, place / 5) for place in range(6)] == pytest.approx(shares)


def test_a_term_follows_its_own_schedule() -> None:
    schedules = SchedulesSection(visual=ScheduleSection(until=0.5), kd=ScheduleSection(warmup=0.5))
    weights = TermWeights(GuidanceSection(visual=3.0, kd=2.0, schedules=schedules))
    assert (weights.at(0.25)["visual"], weights.at(0.25)["kd"]) == (3.0, 1.0)
    assert (weights.at(0.75)["visual"], weights.at(0.75)["kd"]) == (0.0, 2.0)
    assert not weights.is_constant("visual")
    assert not weights.is_constant("kd")
    assert weights.is_constant("linguistic")


@pytest.mark.parametrize(
    ("schedule", "told"),
    [
        (ScheduleSection(warmup=-0.1), "kd.warmup=-0.1"),
        (ScheduleSection(warmup=0.6, until=0.5), "kd.warmup=0.6"),
        (ScheduleSection(until=0.0), "kd.until=0.0"),
        (ScheduleSection(until=1.5), "kd.until=1.5"),
        (ScheduleSection(decay=0.6, until=0.5), "kd.decay=0.6"),
    ],
)
def test_a_schedule_outside_the_run_is_refused(schedule: ScheduleSection, told: str) -> None:
    with pytest.raises(UserError, match=told):
        TermWeights(GuidanceSection(schedules=SchedulesSection(kd=schedule)))
