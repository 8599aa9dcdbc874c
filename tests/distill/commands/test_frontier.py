from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from distill.commands.frontier import main
from distill.evaluation.frontier import collect_places
from distill.evaluation.readings import write_readings
from tests.distill.evaluation.fakes import fake_report, read_words


def write_report(folder: Path, labels: list[str], closed: tuple[str, ...] = (), **roles: str) -> str:
    words = read_words(labels, **{name: [(label[:n], 0.5) for label in labels] for n, name in enumerate(roles)})
    folder.mkdir()
    (folder / "report.json").write_text(json.dumps(fake_report(words, roles, closed)))
    return str(folder)


def test_readers_of_several_reports_are_in_one_picture(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one = write_report(tmp_path / "one", ["a", "bc"], mine="student", clip="teacher", closed=("clip",))
    two = write_report(tmp_path / "two", ["a", "bc"], mine="student", far="peer")
    out = tmp_path / "picture"
    assert main([one, f"{two}/report.json", "--out", str(out)]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith("note: times are of several measurements")
    assert printed.endswith(f"wrote {out}.svg, {out}.png\n")
    with Image.open(f"{out}.png") as picture:
        assert picture.size == (1280, 840)
    drawn = Path(f"{out}.svg").read_text(encoding="utf-8")
    assert ' width="640" height="420" ' in drawn
    assert "far" in drawn
    assert "clip" not in drawn.replace("clip-path", "").replace("clipPath", "").replace("clip-rule", "")
    assert "note: left out, for they choose from a lexicon: clip\n" in printed
    assert main([one, f"{one}/report.json", "--out", str(tmp_path / "twice")]) == 2
    assert "is given twice" in capsys.readouterr().err
    assert main([one, "--out", str(tmp_path / "other.svg")]) == 0
    assert capsys.readouterr().out.endswith(f"wrote {tmp_path}/other.svg, {tmp_path}/other.png\n")
    assert main([one, "--out", str(out)]) == 2
    assert f"{out}.svg exists" in capsys.readouterr().err
    assert main([one, "--out", str(out), "--overwrite"]) == 0


def test_readers_of_one_name_can_be_told_apart(tmp_path: Path) -> None:
    files = [f"{write_report(tmp_path / name, ['a', 'bc'], mine='student')}/report.json" for name in ("one", "two")]
    assert [place.name for place in collect_places(files)[0]] == [f"mine ({file})" for file in files]
    folders = [str(Path(file).parent) for file in files]
    assert [place.name for place in collect_places(folders)[0]] == ["mine (one)", "mine (two)"]


def test_a_mistake_is_one_line_and_writes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    write_report(tmp_path / "one", ["a", "bc"], mine="student")
    write_report(tmp_path / "other", ["a"], mine="student")
    write_report(tmp_path / "closed", ["a"], closed=("clip",), clip="teacher")
    (tmp_path / "empty").mkdir()
    write_report(tmp_path / "cases", ["a", "bc"], mine="student")
    for name, charset in {"one": "abc", "cases": "abcABC"}.items():
        report = json.loads((tmp_path / name / "report.json").read_text())
        (tmp_path / name / "report.json").write_text(json.dumps({**report, "charset": charset}))
    for given, message in (
        (["one", "other"], "one and other are over different words"),
        (["one", "cases"], "other characters are scored in each"),
        (["closed"], "no reader there reads openly"),
        (["empty"], "empty has no report.json"),
        (["one", "--out", "none/picture"], "none/picture.svg can't be written"),
        (["one", "--out", ".."], "name without ending"),
    ):
        assert main(given) == 2
        printed = capsys.readouterr()
        assert message in printed.err
        assert printed.err.count("\n") == 1
        assert not list(tmp_path.glob("*.svg"))


def test_reports_over_other_words_of_one_number_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    labels = {"one": ["a", "bc"], "two": ["d", "ef"]}
    folders = [write_report(tmp_path / name, words, mine="student") for name, words in labels.items()]
    for name, words in labels.items():
        write_readings(tmp_path / name, read_words(words, mine=[("x", 0.5)] * 2))
    assert main([*folders, "--out", str(tmp_path / "picture")]) == 2
    assert "are over different words" in capsys.readouterr().err


def test_the_order_of_sets_does_not_matter_and_another_alphabet_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [(0, "a"), (1, "bc")]
    for name, order in {"one": words, "two": words[::-1]}.items():
        write_report(tmp_path / name, ["a", "bc"], mine="student")
        read = read_words([label for _, label in words], mine=[("x", 0.5)] * 2)
        write_readings(tmp_path / name, [read[number] for number, _ in order])
    assert len(collect_places([str(tmp_path / "one"), str(tmp_path / "two")])[0]) == 2
    file = tmp_path / "two" / "report.json"
    for path, charset in ((tmp_path / "one" / "report.json", "abc"), (file, "ABC")):
        path.write_text(json.dumps({**json.loads(path.read_text()), "charset": charset}))
    write_readings(tmp_path / "two", read_words(["A", "BC"], mine=[("x", 0.5)] * 2))
    assert main([str(tmp_path / "one"), str(tmp_path / "two"), "--out", str(tmp_path / "picture")]) == 2
    assert "other characters are scored in each" in capsys.readouterr().err
