"""Runs side by side: what is one group, means and differences with their intervals, what is refused."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from distill.evaluation.metrics import Agreement, Tally
from distill.evaluation.page.runs_page import build_comparison, write_runs_page
from distill.evaluation.runs import (
    Group,
    difference,
    differences,
    differing_keys,
    group_runs,
    mean_of,
    open_run,
    open_runs,
    shared_beginning,
    t_95,
)
from students.errors import UserError

from .fakes import write_run


def hits(count: int, words: int = 20) -> list[bool]:
    return [number < count for number in range(words)]


def open_groups(*folders: str) -> list[Group]:
    return group_runs(open_runs(folders))


def test_seeds_of_one_configuration_are_one_group(tmp_path: Path) -> None:
    folders = [
        write_run(tmp_path / "a-0", 0, hits(10)),
        write_run(tmp_path / "b-0", 0, hits(12), guidance={"kd": 1.0}),
        write_run(tmp_path / "a-1", 1, hits(14)),
        write_run(tmp_path / "other", 0, hits(3), name="other"),
    ]
    groups = open_groups(*folders)
    assert [(group.name, group.seeds) for group in groups] == [("a", [0, 1]), ("b-0", [0]), ("other", [0])]
    assert groups[0].accuracy.value == 60
    assert groups[0].accuracy.over == "seeds"
    assert groups[1].accuracy.over == "words"
    assert differing_keys(groups) == {"guidance.kd": ["–", "1.0", "–"]}


def test_runs_that_share_the_seed_too_stay_apart(tmp_path: Path) -> None:
    folders = [write_run(tmp_path / name, 0, hits(10)) for name in ("before", "after")]
    assert [group.name for group in open_groups(*folders)] == ["before", "after"]


def test_no_two_groups_have_one_name(tmp_path: Path) -> None:
    folders = [
        write_run(tmp_path / "mine", 0, hits(18), name="own"),
        write_run(tmp_path / "tiny", 0, hits(10), name="own"),
        write_run(tmp_path / "x", 0, hits(16), name="tiny"),
    ]
    groups = open_groups(*folders)
    assert [group.name for group in groups] == ["mine", folders[1], folders[2]]
    verdict = build_comparison(groups, "x")["verdict"]
    assert verdict.startswith("mine reads most of 20 words, 90.00%: 10.00 points more than")


def test_intervals_of_means_are_students() -> None:
    seeds = [Tally(1000, count) for count in (244, 243, 251)]
    estimate = mean_of(seeds)
    assert estimate.value == pytest.approx(24.6)
    assert estimate.interval == pytest.approx(
        (24.6 - 4.303 * 0.4359 / 3**0.5, 24.6 + 4.303 * 0.4359 / 3**0.5), abs=1e-3
    )
    assert (t_95(1), t_95(2), t_95(30), t_95(400)) == (12.706, 4.303, 2.042, 2.042)
    assert mean_of(seeds[:1]).interval == seeds[0].interval


def test_seeds_that_both_have_are_paired(tmp_path: Path) -> None:
    # docs/results.md: distributions beside stages against the baseline of the same seed, +10.7 (+5.8 to +15.5).
    kd = [write_run(tmp_path / f"kd{n}", n, hits(c, 1000), name="kd") for n, c in enumerate((368, 329, 362))]
    plain = [write_run(tmp_path / f"plain{n}", n, hits(c, 1000), name="plain") for n, c in enumerate((244, 243, 251))]
    (found,) = differences(open_groups(*plain, *kd))
    assert (found.name, found.against, found.pairs, found.estimate.over) == ("kd", "plain", 3, "seeds")
    assert found.estimate.value == pytest.approx(10.7)
    assert found.estimate.interval == pytest.approx((5.8, 15.5), abs=0.15)


def test_other_seeds_are_compared_by_their_means(tmp_path: Path) -> None:
    one = [write_run(tmp_path / f"one{n}", n, hits(c, 100), name="one") for n, c in enumerate((50, 54))]
    two = [write_run(tmp_path / f"two{n}", n, hits(c, 100), name="two") for n, c in ((7, 60), (8, 66))]
    (found,) = differences(open_groups(*one, *two))
    # Pooled variance (8 + 18) / 2 = 13, standard error sqrt(13), t of 2 degrees of freedom.
    assert found.estimate.value == pytest.approx(11)
    assert found.estimate.interval == pytest.approx((11 - 4.303 * 13**0.5, 11 + 4.303 * 13**0.5))
    assert found.pairs == 0


def test_single_runs_are_compared_on_their_words(tmp_path: Path) -> None:
    one = write_run(tmp_path / "one", 0, hits(10), name="one")
    two = write_run(tmp_path / "two", 0, hits(16), name="two")
    (found,) = differences(open_groups(one, two))
    assert found.estimate.value == pytest.approx(30)
    assert found.estimate.interval == pytest.approx(Agreement(10, 6, 0, 4).interval)
    old = write_run(tmp_path / "old", 0, hits(16), name="old", readings=False)
    first, last = open_groups(one, old)
    assert difference(last, first).estimate.interval is None, "an earlier version stored no readings"


def test_curves_are_means_with_the_lowest_and_highest_seed(tmp_path: Path) -> None:
    (group,) = open_groups(*(write_run(tmp_path / f"r{seed}", seed, hits(10 + 4 * seed)) for seed in (0, 1)))
    assert group.curve() == [
        {"step": 10, "accuracy": 30.0, "low": 25.0, "high": 35.0, "seconds": 60.0},
        {"step": 20, "accuracy": 60.0, "low": 50.0, "high": 70.0, "seconds": 120.5},
    ]


def test_what_is_no_finished_run_is_one_line(tmp_path: Path) -> None:
    good = write_run(tmp_path / "good", 0, hits(10))
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=r"empty has no report\.json; give the folder of a finished run"):
        open_runs([good, str(tmp_path / "empty")])
    (tmp_path / "empty" / "config.yaml").write_text("name: x\n")
    with pytest.raises(UserError, match="the run is not finished; continue it with --resume auto"):
        open_runs([str(tmp_path / "empty")])
    with pytest.raises(UserError, match="No such file"):
        open_runs([str(tmp_path / "nowhere")])
    with pytest.raises(UserError, match="is given twice"):
        open_runs([good, good])
    report = json.loads(Path(good, "report.json").read_text())
    for change, message in (
        ({"config": {"student": ["tiny"]}}, "is no run but an evaluation"),
        ({"readers": [{"name": "x"}]}, "no report of this version"),
        ({"readers": 3}, "is no report of an evaluation"),
    ):
        Path(good, "report.json").write_text(json.dumps(report | change))
        with pytest.raises(UserError, match=message):
            open_run(good)


def test_other_words_can_not_be_compared(tmp_path: Path) -> None:
    one = write_run(tmp_path / "one", 0, hits(10), name="one")
    more = write_run(tmp_path / "more", 0, hits(10, 21), name="more")
    with pytest.raises(UserError, match=r"different words \(20 of signs; 21 of signs\)"):
        open_runs([one, more])
    Path(more, "readings.jsonl").write_text(
        Path(one, "readings.jsonl").read_text().replace('"w3"', '"x3"', 1).replace('"one"', '"more"')
    )
    Path(more, "report.json").write_text(Path(one, "report.json").read_text().replace('"one"', '"more"'))
    with pytest.raises(UserError, match="different words"):
        open_runs([one, more])


def test_comparing_runs_imports_no_torch() -> None:
    program = (
        "import sys, distill.evaluation.page.runs_page, distill.evaluation.frontier, distill.commands.compare; "
        "print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout.strip() == "False"


def test_runs_of_other_sets_share_those_that_are_averaged(tmp_path: Path) -> None:
    """A set that one run alone was scored on ended in a traceback, or in the refusal of equal words."""
    folders = [write_run(tmp_path / name, 0, hits(10), name=name) for name in ("one", "more")]
    report = json.loads(Path(folders[1], "report.json").read_text())
    report["readers"][0]["benchmarks"]["extra"] = report["readers"][0]["benchmarks"]["signs"]
    report |= {"averaged_sets": ["signs"], "machine": None}
    Path(folders[1], "report.json").write_text(json.dumps(report))
    line = Path(folders[1], "readings.jsonl").read_text().splitlines()[0]
    with Path(folders[1], "readings.jsonl").open("a") as file:
        file.write(line.replace('"signs"', '"extra"') + "\n")
    for order in (folders, folders[::-1]):
        groups = open_groups(*order)
        figures = build_comparison(groups, "compare")
        assert [list(each["benchmarks"]) for each in figures["groups"]] == [["signs"], ["signs"]]
        assert "left out, since not all runs were scored on them: extra" in figures["warnings"]
        assert write_runs_page(tmp_path / f"of-{Path(order[0]).name}", groups, figures).is_file()


def test_other_characters_that_are_scored_can_not_be_compared(tmp_path: Path) -> None:
    folders = [write_run(tmp_path / name, 0, hits(10), name=name, readings=False) for name in ("one", "more")]
    for folder, charset in zip(folders, ("0123456789", "0123456789abc"), strict=True):
        report = json.loads(Path(folder, "report.json").read_text())
        Path(folder, "report.json").write_text(json.dumps({**report, "charset": charset}))
    with pytest.raises(UserError, match="different alphabets"):
        open_runs(folders)


def test_one_run_under_two_names_is_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write_run(tmp_path / "one", 0, hits(10))
    monkeypatch.chdir(tmp_path)
    for again in (folder, f"{folder}/", "one", "one/report.json"):
        with pytest.raises(UserError, match="is given twice"):
            open_runs([folder, again])


def test_means_and_pairs_that_disagree_are_said_to(tmp_path: Path) -> None:
    """The verdict called a group ahead by what it was behind."""
    counts = {"a": {0: 800, 1: 801, 2: 950}, "b": {0: 820, 1: 822}}
    folders = [
        write_run(tmp_path / f"{name}{seed}", seed, hits(count, 1000), name=name)
        for name, seeds in counts.items() for seed, count in seeds.items()
    ]  # fmt: skip
    figures = build_comparison(open_groups(*folders), "compare")
    assert figures["differences"][0]["value"] == pytest.approx(2.05)
    assert (
        "a reads most of 1,000 words, 85.03%, the mean of 3 seeds. Of the 2 seeds that both have, b reads 2.05"
        in (figures["verdict"])
    )
    assert figures["groups"][0]["accuracy"]["interval"][1] == 100


def test_what_names_have_in_common() -> None:
    assert shared_beginning(["run-12", "run-1"]) == "run-1"
    assert shared_beginning(["a-s1", "a-s2"]) == "a-s"
    assert shared_beginning(["a-1", "a-2"]) == "a"
    assert shared_beginning(["a-"]) == "a-"
