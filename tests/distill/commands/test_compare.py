from __future__ import annotations

import json
from pathlib import Path

import pytest

from distill.commands.compare import main
from distill.evaluation.page.runs_page import learning_figures
from distill.evaluation.page.svg import drawing
from distill.evaluation.runs import group_runs, open_runs
from tests.distill.evaluation.fakes import write_run


@pytest.fixture
def runs(tmp_path: Path) -> list[str]:
    """Two seeds without a teacher, two with one."""
    plain = [write_run(tmp_path / f"plain-{seed}", seed, [n < 10 + seed for n in range(40)]) for seed in (0, 1)]
    guided = [
        write_run(tmp_path / f"guided-{seed}", seed, [n < 20 + 2 * seed for n in range(40)], guidance={"kd": 0.5})
        for seed in (0, 1)
    ]
    return [*plain, *guided]


def test_one_page_of_several_runs(runs: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    assert main([*runs, "--out", str(out)]) == 0
    figures = json.loads((out / "compare.json").read_text(encoding="utf-8"))
    assert [(group["name"], group["seeds"], group["accuracy"]["value"]) for group in figures["groups"]] == [
        ("plain", [0, 1], 26.25), ("guided", [0, 1], 52.5),
    ]  # fmt: skip
    assert [group["settings"] for group in figures["groups"]] == [{"guidance.kd": "–"}, {"guidance.kd": "0.5"}]
    (found,) = figures["differences"]
    assert (found["name"], found["against"], found["value"], found["paired_seeds"]) == ("guided", "plain", 26.25, 2)
    assert found["interval"] == pytest.approx([26.25 - 12.706 * 1.25, 26.25 + 12.706 * 1.25], abs=1e-3)
    assert figures["verdict"] == (
        "guided reads most of 40 words, 52.50%, the mean of 2 seeds: 26.25 points more than plain (95% interval over "
        "seeds +10.37 to +42.13)."
    )
    page = (out / "compare.html").read_text(encoding="utf-8")
    assert figures["verdict"] in page
    assert "+10.37 to +42.13" in page
    assert "guidance.kd" in page
    printed = capsys.readouterr().out
    assert figures["verdict"] in printed
    assert printed.endswith(f"report: {out / 'compare.html'}\n")
    assert main([*runs, "--out", str(out)]) == 2
    assert "--overwrite" in capsys.readouterr().err
    assert main([*runs, "--out", str(out), "--overwrite"]) == 0


def test_learning_curves_as_pictures(runs: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    assert main([*runs, "--out", str(out), "--curves"]) == 0
    names = [f"curve-{what}{ending}" for what in ("steps", "time") for ending in (".svg", ".png")]
    assert capsys.readouterr().out.endswith("curves: " + ", ".join(str(out / name) for name in names) + "\n")
    assert sorted(file.name for file in out.iterdir()) == sorted(["compare.html", "compare.json", *names])
    assert main([*runs, "--out", str(tmp_path / "again"), "--curves"]) == 0
    assert main([*runs, "--out", str(tmp_path / "again"), "--overwrite"]) == 0
    assert sorted(file.name for file in (tmp_path / "again").iterdir()) == ["compare.html", "compare.json"]
    capsys.readouterr()
    with drawing():
        figures = learning_figures(group_runs(open_runs(runs)), named=True)
    (steps,), (time,) = (figure.axes for figure in figures.values())
    assert [list(line.get_ydata()) for line in steps.lines] == [[13.125, 26.25], [26.25, 52.5]]
    assert [list(axes.lines[0].get_xdata()) for axes in (steps, time)] == [[10, 20], [1, pytest.approx(120.5 / 60)]]
    assert [text.get_text() for text in time.get_legend().texts] == ["plain", "guided"]


def test_a_mistake_is_one_line_and_writes_nothing(
    runs: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "unfinished").mkdir()
    (tmp_path / "text.txt").write_text("no report")
    for given, message in (
        ([runs[0], "unfinished"], "unfinished has no report.json"),
        ([runs[0], "nowhere"], "nowhere: No such file"),
        ([runs[0], "text.txt"], "text.txt is no JSON"),
        ([runs[0]], "one run: nothing to compare with"),
        (runs[:2], "differ in their seed: nothing to compare with"),
    ):
        assert main([*given, "--out", "out"]) == 2
        printed = capsys.readouterr()
        assert message in printed.err
        assert printed.err.count("\n") == 1
        assert not printed.out
        assert not (tmp_path / "out").exists()
