"""--dry-run builds everything, shows the first step, and leaves nothing behind."""

from __future__ import annotations

from pathlib import Path

import pytest

from distill.commands.distill import main


def tree(*folders: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for folder in folders for path in folder.rglob("*")}


def test_a_rehearsal_shows_the_first_step_and_leaves_nothing(
    material: Path, config: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    before = tree(material, tmp_path)
    overrides = ["data.synthetic.cache=memory", "data.train[0].cache=memory", "student.charset=36"]
    assert main(["--config", str(config), "--dry-run", *overrides]) == 0
    output, errors = capfd.readouterr()
    assert errors == ""
    assert output.startswith("world size 1: ")
    for part in (
        "linguistic1",
        "visual3",
        "bridge",
        "text tap 3",
        "6x33x32",
        "64 of 198",
        "weights, frozen",
        "in training only",
    ):
        assert part in output, part
    shares = [line for line in output.splitlines() if "gradient share" in line]
    assert [line.split()[0] for line in shares][:3] == ["characters", "ctc", "columns"]
    assert len(shares) == 10
    assert sum(float(line.split()[-1].rstrip("%")) for line in shares) == pytest.approx(100, abs=0.6)
    assert tree(material, tmp_path) == before


def test_a_teacher_sees_one_size_beside_a_student_that_keeps_the_aspect(
    config: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    overrides = ["student.decoding=ctc", "student.keep_aspect=true", "teacher.name=words-small", "student.charset=36"]
    assert main(["--config", str(config), "--dry-run", *overrides]) == 0
    assert "visual3" in capfd.readouterr().out


def test_a_rehearsal_renders_a_few_words_and_keeps_none(
    config: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    before = tree(tmp_path)
    overrides = [
        "data.train=[]",
        "data.validation=null",
        "data.synthetic.words=100000",
        f"data.synthetic.folder={tmp_path / 'kept'}",
    ]
    assert main(["--config", str(config), "--dry-run", "teacher.name=null", *overrides]) == 0
    output = capfd.readouterr().out
    assert "64 words" in output
    assert "characters" in output
    assert "linguistic1" not in output, "a baseline is not guided"
    assert tree(tmp_path) == before


def test_words_that_the_teacher_is_not_sure_of_are_counted(
    config: Path, material: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    source = f"data.train=[{{path: {material}/train, labels: pseudo}}]"
    given = [source, "teacher.name=tiny-free", "guidance.pseudo_label_threshold=1", "eval.baseline=false"]
    assert main(["--config", str(config), "--dry-run", *given]) == 0
    told = "6 of 6 words without a label were left out: tiny-free is less sure than guidance.pseudo_label_threshold=1"
    assert told in capfd.readouterr().out


def test_a_first_step_that_is_not_finite_is_refused(config: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["--config", str(config), "--dry-run", "guidance.bridge=1e39"]) == 2
    assert "bridge: not finite in the first step" in capfd.readouterr().err
