from __future__ import annotations

import json
from pathlib import Path

import pytest

from distill.commands.evaluate import main
from teachers import registry
from tests.distill.conftest import Learned


@pytest.fixture
def alphabet(tmp_path: Path) -> Path:
    file = tmp_path / "mine.txt"
    file.write_text("0123456789abcdABCD|½\n", encoding="utf-8")
    return file


def test_teachers_of_every_kind_are_examined(
    tmp_path: Path, alphabet: Path, learned: Learned, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    def fail(*_: object, **__: object) -> str:
        raise OSError("no network")

    monkeypatch.setattr("teachers.zoo.fetch", fail)
    learned.student.save_pretrained(tmp_path / "reader")
    out = tmp_path / "out"
    names = ["words-small", "ViT-B-16/openai", str(tmp_path / "reader")]
    arguments = [word for name in names for word in ("--teacher", name)]
    arguments += ["--doctor", "--charset", str(alphabet), "--out", str(out)]
    assert main(arguments) == 0
    printed = capsys.readouterr().out
    for line in (
        "words-small, for 20 characters", "both cases alike: aA bB cC dD", "not taken: ½ (stands for '1\u20442')",
        "The student will not be taught:", "- words with ½: it takes no label with them",
        "not in its alphabet: | ½", "- the rest of a word from | ½ on: it can't read them",
        "longest word: 10 characters",
    ):  # fmt: skip
        assert line in printed
    assert sorted(file.name for file in out.iterdir()) == ["doctor.json", "doctor.md"]
    report = json.loads((out / "doctor.json").read_text())
    assert (report["schema"], report["charset"]) == (2, "0123456789abcdABCD|½")
    assert report["command"].startswith("symdistill evaluate --teacher words-small")
    small, zoo, reader = report["teachers"]
    assert small["unguided"] == {"½": "no token"}
    assert zoo["same"] == ["aA", "bB", "cC", "dD"]
    assert (reader["outside"], reader["same"], reader["longest"]) == ("|½", ["aA", "bB", "cC", "dD"], 10)
    assert all(each["untaught"] for each in report["teachers"])
    text = (out / "doctor.md").read_text()
    assert "| not in its alphabet | \\| ½ |" in text
    assert text.count("\n## ") == 3
    assert main(arguments) == 2
    assert "--overwrite" in capsys.readouterr().err
    assert main([*arguments, "--overwrite"]) == 0


def test_a_teacher_that_lacks_nothing_is_reported_so(
    learned: Learned, alphabet: Path, onnx_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    alphabet.write_text("0123abc", encoding="utf-8")
    assert main(["--doctor", "--teacher", str(onnx_file), "--charset", str(alphabet)]) == 0
    printed = capsys.readouterr().out
    assert "an ONNX file" in printed
    assert "- words of more than 10 characters: it takes no longer ones" in printed
    assert main(["--doctor", "--teacher", "tiny", "--charset", "36"]) == 0
    assert "- nothing: it has guidance for every character and word" in capsys.readouterr().out


PLUGIN = """
from teachers import Teacher, TeacherShape, register_teacher

@register_teacher("ascii-codes")
class Codes(Teacher):
    longest_label = 10

    def __init__(self):
        super().__init__("ascii-codes", "a code for each character")
        self.shape = TeacherShape(joint_width=4)

    def accepts(self, label):
        return label.isascii()

    def forward(self, images, labels):
        raise NotImplementedError
"""


def test_a_teacher_of_a_plugin_is_examined(
    tmp_path: Path, alphabet: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(registry, "TEACHERS", {})
    (tmp_path / "own_codes.py").write_text(PLUGIN, encoding="utf-8")
    arguments = ["--doctor", "--teacher", "ascii-codes", "--charset", str(alphabet)]
    assert main(arguments) == 2
    assert "unknown teacher or reader 'ascii-codes'" in capsys.readouterr().err
    assert main([*arguments, "--plugin", str(tmp_path / "own_codes.py")]) == 0
    printed = capsys.readouterr().out
    assert "a code for each character" in printed
    assert "not taken: ½ (refused by it)" in printed


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (["--teacher", "nobody"], "unknown teacher or reader 'nobody'"),
        (["--charset", "nothing"], "no alphabet 'nothing'"),
        (["--data", "."], "leave --data out"),
        (["--closed-lexicon"], "leave --closed-lexicon out"),
        (["--device", "cuda"], "leave --device out"),
    ],
)
def test_a_mistake_is_one_line(
    changed: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    assert main(["--doctor", "--teacher", "ViT-B-16", "--out", "out", *changed]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert len(error.splitlines()) == 1
    assert not list(tmp_path.iterdir())
