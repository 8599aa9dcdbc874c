"""Finished runs side by side: grouped over seeds, with means, differences and their intervals. Free of torch."""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, takewhile
from pathlib import Path
from typing import Any, Literal

from distill.evaluation.curves import learning_curve, read_metrics
from distill.evaluation.metrics import Tally, agreement
from distill.evaluation.readings import READINGS, ReadWord, load_readings
from distill.evaluation.stored_reports import averaged_sets, find_report, find_reports, load_report, tally_of, total
from distill.fields import as_yaml
from students.errors import UserError

OWN = ("seed", "out", "name")
"""Keys of a configuration that may differ between runs of one group."""
T_95 = (
    12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131, 2.120,
    2.110, 2.101, 2.093, 2.086, 2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042,
)  # fmt: skip
"""Two-sided 95% quantiles of Student's t, by degrees of freedom from 1; the last serves for more."""
Over = Literal["seeds", "words"]
"""What an interval is over: seeds of the training, or the words of one run."""


@dataclass(frozen=True)
class Run:
    """One finished run."""

    folder: str
    """As it was given."""
    report: Mapping[str, Any]
    reader: Mapping[str, Any]
    """The student's part of the report."""
    config: dict[str, Any]
    """Every key with dots, and its value."""
    curve: list[dict[str, float]]
    """Its validations."""
    words: list[ReadWord] | None
    """Its readings; None for a run of an earlier version, which has none."""

    @property
    def seed(self) -> int:
        """Its seed."""
        return int(self.config["seed"])

    @property
    def tally(self) -> Tally:
        """Words and hits over the averaged sets."""
        return total(self.report, self.reader)

    def tally_of(self, name: str) -> Tally:
        """Words and hits of one set."""
        return tally_of(self.reader["benchmarks"][name])


@dataclass(frozen=True)
class Estimate:
    """A number with its 95% interval."""

    value: float
    interval: tuple[float, float] | None
    """None where there is nothing to take it from."""
    over: Over


@dataclass(frozen=True)
class Group:
    """Runs that differ in nothing but their seed."""

    name: str
    runs: tuple[Run, ...]

    @property
    def seeds(self) -> list[int]:
        """The seeds, in the order of the runs."""
        return [run.seed for run in self.runs]

    @property
    def accuracy(self) -> Estimate:
        """Word accuracy over the averaged sets, per cent."""
        return mean_of([run.tally for run in self.runs])

    def accuracy_of(self, name: str) -> Estimate:
        """Word accuracy of one set, per cent."""
        return mean_of([run.tally_of(name) for run in self.runs])

    @property
    def ms_per_word(self) -> float:
        """Mean time a word, milliseconds."""
        return statistics.fmean(float(run.reader["ms_per_word"]) for run in self.runs)

    def curve(self) -> list[dict[str, float]]:
        """Validations that all runs have: `step`, mean `accuracy` with `low` and `high`, mean `seconds` if known."""
        by_step = [{row["step"]: row for row in run.curve} for run in self.runs]
        shared = [row["step"] for row in self.runs[0].curve if all(row["step"] in each for each in by_step)]
        points = []
        for step in shared:
            rows = [each[step] for each in by_step]
            scores = [row["accuracy"] for row in rows]
            point = {"step": step, "accuracy": statistics.fmean(scores), "low": min(scores), "high": max(scores)}
            if all("seconds" in row for row in rows):
                point["seconds"] = statistics.fmean(row["seconds"] for row in rows)
            points.append(point)
        return points


@dataclass(frozen=True)
class Difference:
    """Accuracy of one group minus that of another, in points."""

    name: str
    against: str
    estimate: Estimate
    pairs: int
    """Seeds that both have, over which the difference was taken; 0 where means were compared."""


def open_runs(folders: Sequence[str]) -> list[Run]:
    """Open finished runs.

    Raises:
        UserError: for a folder that is no finished run's, and for runs that were scored on different words.
    """
    find_reports(folders)  # refuses one that is given twice
    runs = [open_run(folder) for folder in folders]
    for run in runs[1:]:
        check_same_words(runs[0], run)
    return runs


def open_run(folder: str) -> Run:
    """Open one finished run; raises `UserError` for anything else."""
    path = find_report(folder)
    report = load_report(path)
    config = report.get("config")
    if not isinstance(config, dict) or not isinstance(config.get("student"), dict) or "seed" not in config:
        raise UserError(f"{folder} is no run but an evaluation; give run folders (frontier takes evaluations too)")
    try:
        reader = next(each for each in report["readers"] if each["role"] == "student" and each["reading"] == "open")
        curve = report.get("curves", {}).get(reader["name"]) or learning_curve(read_metrics(path.parent))
        words = load_readings(path.parent / READINGS) if (path.parent / READINGS).is_file() else None
        run = Run(folder, report, reader, flatten(config), curve, words)
        run.tally, run.seed, float(reader["ms_per_word"])
    except (KeyError, TypeError, ValueError, StopIteration, AttributeError) as error:
        raise UserError(f"{path} is no report of this version ({error!r}); evaluate again") from None
    return run


def flatten(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """List the keys of a configuration with dots."""
    keys: dict[str, Any] = {}
    for name, value in config.items():
        if isinstance(value, dict) and value:
            keys |= flatten(value, f"{prefix}{name}.")
        else:
            keys[f"{prefix}{name}"] = value
    return keys


def check_same_words(one: Run, other: Run) -> None:
    """Refuse runs that were scored on different words, whose accuracies can't be compared; raises `UserError`."""
    counts = [{name: run.tally_of(name).words for name in averaged_sets(run.report)} for run in (one, other)]
    scored = [run.report.get("charset", run.reader["charset"]) for run in (one, other)]
    labels = [
        None if run.words is None else [(word.set, word.label) for word in run.words if word.set in counts[0]]
        for run in (one, other)
    ]
    same_labels = None in labels or labels[0] == labels[1]
    if counts[0] != counts[1] or set(scored[0]) != set(scored[1]) or not same_labels:
        described = [" and ".join(f"{count} of {name}" for name, count in each.items()) for each in counts]
        raise UserError(
            f"{one.folder} and {other.folder} were scored on different words ({described[0]}; {described[1]}) or with "
            "different alphabets; compare their students on the same words with evaluate --student A --student B"
        )


def group_runs(runs: Sequence[Run]) -> list[Group]:
    """Group runs of one name and configuration that differ in their seed, in the order in which they were given.

    Runs that share a seed too stay apart: something that the configuration doesn't tell differs between them.
    """
    grouped: dict[str, list[Run]] = {}
    for run in runs:
        settings = {key: value for key, value in run.config.items() if key not in OWN}
        grouped.setdefault(json.dumps([run.config.get("name"), settings], sort_keys=True, default=str), []).append(run)
    found: list[list[Run]] = []
    for each in grouped.values():
        seeds = [run.seed for run in each]
        found += [each] if len(set(seeds)) == len(seeds) else [[run] for run in each]
    return [Group(name, tuple(each)) for name, each in zip(name_groups(found), found, strict=True)]


def name_groups(groups: Sequence[Sequence[Run]]) -> list[str]:
    """Name groups by the runs' name, or by what their folders have in common where a name stands for several."""
    names = [str(group[0].config.get("name") or group[0].reader["name"]) for group in groups]
    folders = [shared_beginning([Path(run.folder).name for run in group]) for group in groups]
    chosen = [
        name if names.count(name) == 1
        else folder if folder and folders.count(folder) == 1
        else group[0].folder
        for name, folder, group in zip(names, folders, groups, strict=True)
    ]  # fmt: skip
    # A folder's name may be the name of another group.
    return [name if chosen.count(name) == 1 else group[0].folder for name, group in zip(chosen, groups, strict=True)]


def shared_beginning(names: Sequence[str]) -> str:
    """Return what all names begin with, without what joins it to the rest."""
    equal = takewhile(lambda chars: len(set(chars)) == 1, zip(*names, strict=False))
    shared = "".join(chars[0] for chars in equal)
    return shared if len(set(names)) == 1 else shared.rstrip("-_.")


def differing_keys(groups: Sequence[Group]) -> dict[str, list[str]]:
    """List the keys of the configurations that differ between groups, with each group's value as YAML has it."""
    configs = [group.runs[0].config for group in groups]
    keys = [key for key in dict.fromkeys(key for config in configs for key in config) if key not in OWN]
    values = {key: [as_yaml(config[key]) if key in config else "–" for config in configs] for key in keys}
    return {key: each for key, each in values.items() if len(set(each)) > 1}


def t_95(freedom: int) -> float:
    """Return the two-sided 95% quantile of Student's t."""
    return T_95[min(freedom, len(T_95)) - 1]


def mean_of(tallies: Sequence[Tally]) -> Estimate:
    """Average accuracies over seeds, with Student's interval of the mean; of one seed with Wilson's over its words."""
    values = [tally.accuracy for tally in tallies]
    if len(values) == 1:
        return Estimate(values[0], tallies[0].interval, "words")
    half = t_95(len(values) - 1) * statistics.stdev(values) / math.sqrt(len(values))
    mean = statistics.fmean(values)
    return Estimate(mean, (max(0.0, mean - half), min(100.0, mean + half)), "seeds")


def shared_sets(groups: Sequence[Group]) -> list[str]:
    """List the sets that all runs were scored on, in the order of the first."""
    runs = [run for group in groups for run in group.runs]
    return [name for name in runs[0].reader["benchmarks"] if all(name in run.reader["benchmarks"] for run in runs)]


def differences(groups: Sequence[Group]) -> list[Difference]:
    """Compare each two groups, the later one against the earlier one."""
    return [difference(group, against) for against, group in combinations(groups, 2)]


def difference(group: Group, against: Group) -> Difference:
    """Subtract accuracies, with a 95% interval.

    Seeds that both have, two or more, are paired (Student's t over the differences); else means are compared with the
    spread of both pooled. One run each: over their words, when the readings are there (Newcombe's paired interval).
    """
    value = group.accuracy.value - against.accuracy.value
    own = {run.seed: run.tally.accuracy for run in group.runs}
    other = {run.seed: run.tally.accuracy for run in against.runs}
    shared = [seed for seed in own if seed in other]
    if len(shared) > 1:
        paired = [own[seed] - other[seed] for seed in shared]
        mean, half = statistics.fmean(paired), t_95(len(paired) - 1) * statistics.stdev(paired) / len(paired) ** 0.5
        return Difference(group.name, against.name, Estimate(mean, (mean - half, mean + half), "seeds"), len(paired))
    freedom = len(own) + len(other) - 2
    if freedom > 0:
        squares = sum(
            (accuracy - statistics.fmean(each.values())) ** 2 for each in (own, other) for accuracy in each.values()
        )
        half = t_95(freedom) * math.sqrt(squares / freedom * (1 / len(own) + 1 / len(other)))
        return Difference(group.name, against.name, Estimate(value, (value - half, value + half), "seeds"), 0)
    one, two = group.runs[0], against.runs[0]
    if one.words is None or two.words is None:
        return Difference(group.name, against.name, Estimate(value, None, "words"), 0)
    counts = agreement(hits_of(one), hits_of(two))
    return Difference(group.name, against.name, Estimate(value, counts.interval, "words"), 0)


def hits_of(run: Run) -> list[bool]:
    """List which words of the averaged sets a run's student reads."""
    sets, name = averaged_sets(run.report), str(run.reader["name"])
    return [word.is_hit(name) for word in run.words or () if word.set in sets]


def warnings_of(runs: Sequence[Run]) -> list[str]:
    """Say what makes runs less comparable than they look: machines, versions, missing readings."""
    lines = []
    machines = {str((run.report.get("machine") or {}).get("processor")) for run in runs}
    if len(machines) > 1:
        lines.append(f"times are from different machines ({'; '.join(sorted(machines))}): don't compare them")
    for package in ("symdistill", "torch"):
        versions = {str((run.report.get("versions") or {}).get(package)) for run in runs}
        if len(versions) > 1:
            lines.append(f"the runs used different versions of {package}: {', '.join(sorted(versions))}")
    sets = dict.fromkeys(name for run in runs for name in run.reader["benchmarks"])
    partly = [name for name in sets if not all(name in run.reader["benchmarks"] for run in runs)]
    if partly:
        lines.append(f"left out, since not all runs were scored on them: {', '.join(partly)}")
    missing = [run.folder for run in runs if run.words is None]
    if missing:
        lines.append(f"without {READINGS}, so without intervals over words: {', '.join(missing)}")
    return lines
