"""A reader of lines from its configuration to text with spaces: rendered, trained, exported, read, scored."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from PIL import Image, ImageDraw, ImageFont

import symdistill
from distill.commands.evaluate import main as evaluate
from distill.commands.read import main as read
from distill.data.rendering import fonts
from distill.deployment.folder import export
from students.charset import Charset
from students.ctc import CtcReader
from students.pictures import to_tensor
from students.student import StudentConfig

LINES = ["open all day", "no 24 7", "a b c"]


def test_the_configuration_runs_to_its_end(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(fonts, "SYSTEM_FOLDERS", ())
    result = symdistill.distill(
        str(root / "configs" / "lines.yaml"), out=str(tmp_path / "run"),
        student={
            "init": None, "remap": False, "keep_aspect": True, "width": 32, "depth": 3, "stem": [8, 8, 16],
        },
        data={"workers": 0, "synthetic": {"words": 40, "test_words": 6, "folder": str(tmp_path), "max_fonts": 8}},
        train={"steps": 3, "batch_size": 4, "validate_every": 3, "checkpoint_every": 3},
    )  # fmt: skip
    assert result.student.charset == Charset.load("95")
    scores = result.report["readers"][0]["benchmarks"]
    (entry,) = scores.values()
    assert entry["words"] == 6, "no line is too long to be scored"
    assert {"accuracy", "accuracy_without_spaces", "one_minus_ned"} <= set(entry)
    words = next(path for path in tmp_path.glob("test-6-*") if path.is_dir())
    assert "lines1to6of60" in words.name
    given = ["--student", str(tmp_path / "run" / "student" / "student.onnx"), "--data", str(words), "--charset", "95"]
    assert evaluate([*given, "--max-length", "60", "--out", str(tmp_path / "scored")]) == 0
    report = json.loads((tmp_path / "scored" / "report.json").read_text())
    assert report["readers"][0]["benchmarks"][words.name]["words"] == 6
    assert "without spaces %" in (tmp_path / "scored" / "report.md").read_text()


def drawn(line: str) -> Image.Image:
    font = ImageFont.load_default(24)
    picture = Image.new("RGB", (int(font.getlength(line)) + 12, 36), "white")
    ImageDraw.Draw(picture).text((6, 2), line, "black", font)
    return picture


def test_lines_are_read_with_their_spaces_in_pytorch_and_onnx(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    charset = Charset.load("95")
    reader = CtcReader(
        StudentConfig(
            charset=charset.characters, max_length=60, encoder="conv", stem=(8, 12, 16), width=32, depth=3, heads=2,
            mlp_ratio=2.0, column_head=True, decoding="ctc", keep_aspect=True, image_size=(32, 512), taps="even",
        )
    )  # fmt: skip
    images = to_tensor([drawn(line) for line in LINES], reader.image_size, keep_aspect=True)
    targets = torch.tensor([charset.ids[char] for line in LINES for char in line])
    lengths = torch.tensor([len(line) for line in LINES])
    optimizer = torch.optim.AdamW(reader.parameters(), lr=6e-3)
    for _ in range(150):
        log_probs = reader(images).log_softmax(dim=-1).transpose(0, 1)
        loss = F.ctc_loss(log_probs, targets, torch.full((3,), len(log_probs)), lengths)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    export(reader.eval(), tmp_path / "lines", onnx=True)
    for number, line in enumerate(LINES):
        drawn(line).save(tmp_path / f"{number}.png")
    files = [str(tmp_path / f"{number}.png") for number in (2, 0, 1)]
    for student in ("lines", "lines/student.onnx"):
        assert read(["--student", str(tmp_path / student), "--json", *files]) == 0
        rows = json.loads(capsys.readouterr().out)
        assert [row["word"] for row in rows] == [LINES[2], LINES[0], LINES[1]]
        for row in rows:
            assert "".join(one["character"] for one in row["characters"]) == row["word"]
            places = [(one["start"], one["end"]) for one in row["characters"]]
            assert places == sorted(places)
            assert 0.5 < places[-1][1] <= 1, "parts of the picture's own width, not of the padded batch"
    opened = symdistill.load(tmp_path / "lines" / "student.onnx")
    assert [set(reading.text) <= set("abcdefghijklm ") for reading in opened.read(files, allow="a-m ")] == [True] * 3
