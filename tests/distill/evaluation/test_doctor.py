from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from distill.commands.evaluate import main
from teachers.clip4str import Clip4Str
from teachers.clip4str_config import Clip4StrConfig
from teachers.small import SmallTeacherConfig
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
    shown = capsys.readouterr().out
    for told in (
        "words-small, for 20 characters", "upper and lower case of 4 of 4 letters", "stands for '1\u20442'",
        "The student will not be taught:", "- words with ½: labels with such a character are refused",
        "Not examined:", "- text embeddings: ViT-B-16/openai: its weights can't be fetched",
        "it has the other case only", "- words from | ½ on: it can't read such a character", "10 characters",
    ):  # fmt: skip
        assert told in shown
    assert sorted(file.name for file in out.iterdir()) == ["doctor.json", "doctor.md"]
    found = json.loads((out / "doctor.json").read_text())
    assert (found["schema"], found["charset"]) == (1, "0123456789abcdABCD|½")
    assert found["command"].startswith("symdistill evaluate --teacher words-small")
    small, zoo, reader = found["teachers"]
    assert small["tokens"]["broken"] == {"½": "no token"}
    assert [contrast["kind"] for contrast in small["contrasts"]][:2] == ["case only", "one letter"]
    assert small["contrasts"][0]["median"] == 1.0
    assert small["reading"] is None
    assert (zoo["contrasts"], len(zoo["unknown"])) == ([], 1)
    assert (reader["tokens"], reader["reading"]["outside"], reader["reading"]["other_case"]) == (None, "|½", "ABCD")
    assert all(each["untaught"] for each in found["teachers"])
    text = (out / "doctor.md").read_text()
    assert "| its alphabet | 14: 0123456789abcd |" in text
    assert "| it can't read | \\| ½ |" in text
    assert text.count("\n## ") == 3
    assert main(arguments) == 2
    assert "--overwrite" in capsys.readouterr().err
    assert main([*arguments, "--overwrite"]) == 0


def test_a_teacher_that_loses_nothing_is_told_so(
    learned: Learned, tmp_path: Path, alphabet: Path, onnx_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    alphabet.write_text("0123abc", encoding="utf-8")
    assert main(["--doctor", "--teacher", str(onnx_file), "--charset", str(alphabet)]) == 0
    shown = capsys.readouterr().out
    assert "ONNX file" in shown
    assert "- what comes after 10 characters of a word" in shown
    assert main(["--doctor", "--teacher", "tiny", "--charset", "36"]) == 0
    assert "- nothing that these checks could find" in capsys.readouterr().out


def test_what_captions_lose_is_in_every_form(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    clip = SmallTeacherConfig(
        stem=(4, 4, 8), image_width=24, image_layers=4, image_heads=2, text_width=16, text_layers=4, text_heads=2,
        joint_width=12,
    )  # fmt: skip
    torch.manual_seed(0)
    Clip4Str(Clip4StrConfig(clip=clip, decoder_heads=2)).save_pretrained(tmp_path / "crossed")
    out = tmp_path / "out"
    assert main(["--doctor", "--teacher", str(tmp_path / "crossed"), "--charset", "62", "--out", str(out)]) == 0
    lost = [
        "the case of 26 letters: both cases are written alike",
        "the end of words of more than 14 characters, when their captions exceed 14 tokens",
    ]
    found = json.loads((out / "doctor.json").read_text())["teachers"][0]
    assert found["captions"]["lost"] == lost
    assert found["reading"]["outside"] == ""
    assert found["untaught"] == []
    shown, text = capsys.readouterr().out, (out / "doctor.md").read_text()
    for told in ("Captions for its text tower", "Its captions lose", *lost, "nothing that these checks could find"):
        assert told in shown
        assert told in text


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (["--teacher", "nobody"], "unknown teacher or reader 'nobody'"),
        (["--charset", "nothing"], "no alphabet 'nothing'"),
        (["--data", "."], "leave --data out"),
        (["--closed-lexicon"], "leave --closed-lexicon out"),
    ],
)
def test_a_mistake_is_one_line(
    changed: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    assert main(["--doctor", "--teacher", "ViT-B-16", "--out", "out", *changed]) == 2
    told = capsys.readouterr()
    assert message in told.err
    assert len(told.err.splitlines()) == 1
    assert not list(tmp_path.iterdir())
