"""The frontier: readers of one or several reports by accuracy and milliseconds a word. Free of torch."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

from distill.evaluation.metrics import Tally
from distill.evaluation.page.charts import Mark, Place
from distill.evaluation.readings import READINGS, load_readings
from distill.evaluation.stored_reports import averaged_sets, find_reports, load_report, total
from students.errors import UserError


def collect_places(given: Sequence[str]) -> tuple[list[Place], list[str]]:
    """Collect the readers of reports that read openly.

    Args:
        given: folders of runs or evaluations, or report.json files.

    Returns:
        The readers, and what makes their places less comparable than they look.

    Raises:
        UserError: for a report that isn't there or is none, and for reports over different words.
    """
    found: list[tuple[str, str, float, Tally]] = []
    machines: dict[str, str] = {}
    scored: dict[str, dict[str, int]] = {}
    labels: dict[str, list[tuple[str, str]]] = {}
    charsets: dict[str, str] = {}
    closed: list[str] = []
    partly: list[str] = []
    for path, file in zip(given, find_reports(given), strict=True):
        report = load_report(file)
        try:
            opened = [reader for reader in report["readers"] if reader["reading"] == "open"]
            found += [(path, str(each["name"]), float(each["ms_per_word"]), total(report, each)) for each in opened]
            machines[path] = str(report["machine"]["processor"])
            charsets[path] = "".join(sorted(report.get("charset", "")))  # reports of before don't say
            closed += [str(each["name"]) for each in report["readers"] if each["reading"] != "open"]
            if any(score.get("partial") for each in opened for score in each["benchmarks"].values()):
                partly.append(path)
            if opened:
                scored[path] = {name: opened[0]["benchmarks"][name]["words"] for name in averaged_sets(report)}
                if (readings := file.parent / READINGS).is_file():
                    labels[path] = sorted((w.set, w.label) for w in load_readings(readings) if w.set in scored[path])
        except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
            raise UserError(f"{path} is no report of this version ({error!r}); evaluate again") from None
    first = next(iter(scored), None)
    if first is None:
        raise UserError("no reader there reads openly; closed lexicons are not comparable with open reading")
    if len(set(filter(None, charsets.values()))) > 1:
        listed = "; ".join(f"{path}: {len(charset)}" for path, charset in charsets.items())
        raise UserError(f"other characters are scored in each ({listed}); evaluate all readers with the same --charset")
    for path, sets in scored.items():
        if sets != scored[first]:
            raise UserError(f"{first} and {path} are over different words; evaluate all readers on the same sets")
    for (one, words), (other, others) in pairwise(labels.items()):
        if words != others:
            raise UserError(f"{one} and {other} are over different words; evaluate all readers on the same sets")
    names = [name for _, name, _, _ in found]
    short = {path: Path(path).name for path, _, _, _ in found}
    places = [
        Place(
            name if names.count(name) == 1
            else f"{name} ({short[path] if list(short.values()).count(short[path]) == 1 else path})",
            ms, Mark(number, tally.accuracy, tally.interval),
        )
        for number, (path, name, ms, tally) in enumerate(found)
    ]  # fmt: skip
    notes = []
    if len(given) > 1:
        notes.append("times are of several measurements; they compare only when the machine was as busy in each")
    if len(set(machines.values())) > 1:
        listed = "; ".join(f"{path}: {machine}" for path, machine in machines.items())
        notes.append(f"times are from different machines, don't compare them ({listed})")
    if closed:
        notes.append(f"left out, for they choose from a lexicon: {', '.join(dict.fromkeys(closed))}")
    if partly:
        notes.append(f"only a part of the words was read: {', '.join(partly)}")
    return places, notes
