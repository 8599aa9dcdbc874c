"""What the guidance terms weigh at a moment of the run: their weights, and the schedules these move by."""

from __future__ import annotations

from distill.config import GuidanceSection, ScheduleSection
from students.errors import UserError

KINDS = ("linguistic", "visual", "bridge", "kd", "dkd", "pseudo")
WEIGHTS = {"pseudo": "pseudo_label_weight"}
"""Kinds of terms that have a weight and a schedule."""


class TermWeights:
    """Weights by kind.

    Args:
        guidance: weights and schedules.

    Raises:
        UserError: for a schedule that isn't within the run.
    """

    def __init__(self, guidance: GuidanceSection) -> None:
        self.full = {kind: float(getattr(guidance, WEIGHTS.get(kind, kind))) for kind in KINDS}
        self.schedules = {kind: getattr(guidance.schedules, kind) for kind in KINDS}
        for kind, schedule in self.schedules.items():
            check_schedule(schedule, f"guidance.schedules.{kind}")

    def at(self, progress: float) -> dict[str, float]:
        """Give the weights when a share `progress` of the run is over."""
        return {kind: weight * share_at(self.schedules[kind], progress) for kind, weight in self.full.items()}

    def is_constant(self, kind: str) -> bool:
        """Say whether a kind of term counts from the first step to the last."""
        return self.full[kind] > 0 and self.schedules[kind].warmup == 0 and self.schedules[kind].until == 1


def share_at(schedule: ScheduleSection, progress: float) -> float:
    """Give the share of the full weight: up over `warmup`, down over the last `decay` before `until`, both linear."""
    rise = min(progress / schedule.warmup, 1.0) if schedule.warmup > 0 else 1.0
    left = schedule.until - progress
    fall = min(max(left / schedule.decay, 0.0), 1.0) if schedule.decay > 0 else float(left > 0 or schedule.until == 1)
    return rise * fall


def check_schedule(schedule: ScheduleSection, name: str) -> None:
    """Refuse a schedule that isn't within the run; raises `UserError`."""
    if not 0 <= schedule.warmup <= schedule.until:
        raise UserError(f"{name}.warmup={schedule.warmup}: give a share of the run from 0 to {name}.until")
    if not 0 < schedule.until <= 1:
        raise UserError(f"{name}.until={schedule.until}: give a share of the run above 0, up to 1")
    if not 0 <= schedule.decay <= schedule.until:
        raise UserError(f"{name}.decay={schedule.decay}: give a share of the run from 0 to {name}.until")
