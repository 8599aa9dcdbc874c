"""Weights of losses over a run, and the schedules by which they rise and fall."""

from __future__ import annotations

from collections.abc import Mapping

from distill.training.sections import LossSection, ScheduleSection
from students.errors import UserError

Schedule = ScheduleSection | LossSection
"""What says how a weight moves, in shares of the run."""


class TermWeights:
    """Weights of losses by name.

    Args:
        sections: weight and schedule of each.

    Raises:
        UserError: for a weight below 0, or a schedule that isn't within the run.
    """

    def __init__(self, sections: Mapping[str, LossSection]) -> None:
        self.sections = dict(sections)
        for name, section in sections.items():
            if not section.weight >= 0:
                raise UserError(f"losses.{name}.weight={section.weight}: give 0 or more")
            check_schedule(section, f"losses.{name}")

    def at(self, progress: float) -> dict[str, float]:
        """Compute the weights when a share `progress` of the run is over."""
        return {name: section.weight * share_at(section, progress) for name, section in self.sections.items()}

    def is_constant(self, name: str) -> bool:
        """Tell whether a loss counts from the first step to the last."""
        section = self.sections.get(name)
        return section is not None and section.weight > 0 and section.warmup == 0 and section.until == 1


def share_at(schedule: Schedule, progress: float) -> float:
    """Compute the share of the full weight: up over `warmup`, down over `decay` up to `until`, both linear."""
    rise = min(progress / schedule.warmup, 1.0) if schedule.warmup > 0 else 1.0
    left = schedule.until - progress
    fall = min(max(left / schedule.decay, 0.0), 1.0) if schedule.decay > 0 else float(left > 0 or schedule.until == 1)
    return rise * fall


def check_schedule(schedule: Schedule, name: str) -> None:
    """Refuse a schedule that isn't within the run; raises `UserError`."""
    if not 0 <= schedule.warmup <= schedule.until:
        raise UserError(f"{name}.warmup={schedule.warmup}: give a share of the run from 0 to {name}.until")
    if not 0 < schedule.until <= 1:
        raise UserError(f"{name}.until={schedule.until}: give a share of the run above 0, up to 1")
    if not 0 <= schedule.decay <= schedule.until:
        raise UserError(f"{name}.decay={schedule.decay}: give a share of the run from 0 to {name}.until")
