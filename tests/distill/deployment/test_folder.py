"""The student folder: complete, replaceable, with a card that tells the truth and an example that runs."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open

from distill.deployment import folder as folders
from distill.deployment.card import Card, read_sections, scores_from_report
from distill.deployment.folder import export, save_folder
from distill.deployment.onnx_export import export_onnx
from distill.deployment.onnx_program import onnx_program
from distill.deployment.onnx_reader import OnnxReader
from distill.deployment.parity import ParityError
from students.errors import UserError
from students.parseq import Parseq, ParseqConfig
from students.pictures import decode_picture
from students.reading import Reader
from students.student import Student
from teachers.registry import load_reader
from tests.distill.conftest import draw
from tests.distill.evaluation.fakes import fake_report, read_words

REPORT = {
    "schema": 1,
    "readers": [
        {"name": "mini", "role": "student", "average_by_word": 80.0, "average_by_set": 75.5, "benchmarks": {
            "SVT": {"words": 647, "hits": 500, "accuracy": 77.28, "interval": [73.9, 80.3], "one_minus_ned": 90.1}}},
        {"name": "mini baseline", "role": "baseline", "benchmarks": {}},
        {"name": "mini + lexicon", "role": "student", "reading": "closed-lexicon", "benchmarks": {}},
    ],
}  # fmt: skip


def test_folder_holds_the_student_and_nothing_else(learned, tmp_path: Path) -> None:
    done = save_folder(learned.student, tmp_path / "mini", Card("mini", "Ten drawn words.", "None."))
    assert sorted(done.files) == ["README.md", "config.json", "model.safetensors"]
    assert [path.name for path in tmp_path.iterdir()] == ["mini"], "nothing is left beside it"
    assert len({file.stat().st_mode for file in (tmp_path / "mini").iterdir()}) == 1, (
        "whoever may read one may read all"
    )
    with safe_open(tmp_path / "mini" / "model.safetensors", "pt") as stored:
        assert set(stored.keys()) == set(learned.student.state_dict())
    again = Student.from_pretrained(tmp_path / "mini")
    assert [reading.text for reading in again.read(learned.pictures)] == learned.words
    assert done.parity is None


def test_card_says_what_it_must(learned) -> None:
    card = Card("mini", "Ten drawn words.", "No terms.", "91% of ten words").write(learned.student, ["onnx"])
    assert "14: <code>0123456789abcd</code>" in card
    assert f"{learned.student.parameters_count / 1e6:.2f} M" in card
    for text in ("Ten drawn words.", "No terms.", "91% of ten words", "symdistill read", "lower case", "10 characters"):
        assert text in card
    assert "onnxruntime" not in Card("mini").write(learned.student)


def test_sections_of_a_card_come_back(learned, tmp_path: Path) -> None:
    card = Card("mini", "Ten drawn\n\nwords.", "No terms.")
    (tmp_path / "README.md").write_text(card.write(learned.student, ["onnx"]), encoding="utf-8")
    sections = read_sections(tmp_path)
    assert (sections["Training"], sections["Terms"], sections["Scores"]) == (
        "Ten drawn\n\nwords.",
        "No terms.",
        "Not recorded.",
    )
    assert read_sections(tmp_path / "none") == {}


def test_titles_in_a_section_do_not_end_it(learned, tmp_path: Path) -> None:
    card = Card("mini", "Own data.\n\n## Licence\n\nNon-commercial only.\n\n# More\n\nThat.")
    (tmp_path / "README.md").write_text(card.write(learned.student), encoding="utf-8")
    expected = "Own data.\n\n### Licence\n\nNon-commercial only.\n\n### More\n\nThat."
    assert read_sections(tmp_path)["Training"] == expected


@pytest.mark.parametrize("change", ["nothing", "weights", "decoding"])
def test_scores_are_of_what_is_exported(change: str, tmp_path: Path) -> None:
    config = ParseqConfig(
        charset="abcd", max_length=5, patch=(16, 32), width=32, depth=1, heads=2, decoder_heads=2, refine_iters=0
    )
    save_folder(Parseq(config), tmp_path / "learned", Card("learned", scores="| SVT | 647 | 500 | 77.28 |"))
    reader = Parseq.from_pretrained(tmp_path / "learned")
    if change == "weights":
        with torch.no_grad():
            reader.head.weight.add_(0.1)
    elif change == "decoding":
        reader.choose_decoding("nar")
    scores = read_sections(export(reader, tmp_path / "again"))["Scores"]
    assert scores == ("| SVT | 647 | 500 | 77.28 |" if change == "nothing" else "Not recorded.")


def test_what_is_needed_to_go_on_distilling_is_not_lost(learned, tmp_path: Path) -> None:
    folder = save_folder(learned.student, tmp_path / "mini", Card("mini"), parts={"guidance": Path.mkdir}).folder
    with pytest.raises(UserError, match="holds guidance, which would be lost"):
        export(folder, folder, overwrite=True)
    assert (folder / "guidance").is_dir()
    save_folder(learned.student, folder, Card("mini"), parts={"guidance": Path.mkdir}, overwrite=True)


def test_weights_are_stored_in_two_ways(learned, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="dtype 'float64'; weights are stored as float32 or float16"):
        export(learned.student, tmp_path / "mini", dtype="float64")


def run_example(folder: Path, student: Reader, expression: str) -> Any:
    """Evaluate an expression behind the program of a card, with all that it must not need out of the way."""
    block = "import sys\nfor name in ('torch', 'onnx', 'students', 'distill'):\n    sys.modules[name] = None\n"
    script = block + onnx_program(student) + f"\nprint(json.dumps({expression}))\n"
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=folder, capture_output=True, text=True, check=True, timeout=60
    )
    return json.loads(done.stdout)


def test_onnx_example_of_the_card_needs_no_torch(learned, onnx_file: Path, tmp_path: Path) -> None:
    for number, picture in enumerate(learned.pictures):
        picture.save(tmp_path / f"{number}.png")
    (tmp_path / "student.onnx").write_bytes(onnx_file.read_bytes())
    files = [f"{number}.png" for number in range(len(learned.pictures))]
    actual = run_example(tmp_path, learned.student, f"[read(path) for path in {files!r}]")
    words, sure = zip(*actual, strict=True)
    assert list(words) == learned.words
    expected = [reading.confidence for reading in learned.student.read_batch(learned.images)]
    assert list(sure) == pytest.approx(expected, abs=1e-4)


def test_the_example_decodes_pictures_as_the_readers_do(learned, onnx_file: Path, tmp_path: Path) -> None:
    grey = np.asarray(learned.pictures[0].convert("L"))
    (tmp_path / "student.onnx").write_bytes(onnx_file.read_bytes())
    turned = Image.Exif()
    turned[0x0112] = 6
    dark, light = (Image.new("RGBA", grey.shape[::-1], (level, level, level, 255)) for level in (30, 250))
    dark.putalpha(Image.fromarray(grey))
    light.putalpha(Image.fromarray(grey))
    even = light.copy()
    even.putalpha(90)
    pictures = {
        "turned.jpg": Image.fromarray(grey), "dark.png": dark, "light.webp": light, "even.png": even,
        "grey.png": Image.fromarray(grey.astype(np.uint16) * 257),
        "12-bit.png": Image.fromarray(grey.astype(np.uint16) * 16),
        "palette.png": dark.quantize(8), "float.tif": Image.fromarray(grey / np.float32(255)),
        "sharpened.tif": Image.fromarray(grey / np.float32(212)),
        "wide.tif": Image.fromarray(grey.astype(np.int32) * 99_999 - 5),
    }  # fmt: skip
    for name, picture in pictures.items():
        picture.save(tmp_path / name, **({"exif": turned} if name == "turned.jpg" else {}))
    actual = run_example(tmp_path, learned.student, f"[np.asarray(load(name)).tolist() for name in {list(pictures)!r}]")
    for name, pixels in zip(pictures, actual, strict=True):
        expected = np.asarray(decode_picture(tmp_path / name))
        assert np.array_equal(np.array(pixels), expected), name


def test_the_example_keeps_the_aspect_and_turns_as_the_reader_does(tmp_path: Path) -> None:
    student = load_reader("tiny")
    assert isinstance(student, Reader)
    export_onnx(student, tmp_path / "student.onnx")
    words = ["if", "Harbour", "international", "UPWARDS"]
    pictures = [draw(word) for word in words]
    pictures[3] = pictures[3].transpose(Image.Transpose.ROTATE_90)
    for word, picture in zip(words, pictures, strict=True):
        picture.save(tmp_path / f"{word}.png")
    actual = run_example(tmp_path, student, f"[read(name + '.png') for name in {words!r}]")
    expected = [OnnxReader(tmp_path / "student.onnx").read_pictures([picture])[0] for picture in pictures]
    assert [text for text, _ in actual] == [reading.text for reading in expected] == [word.lower() for word in words]
    assert [sure for _, sure in actual] == pytest.approx([reading.confidence for reading in expected], abs=1e-5)
    assert expected[3].turned == 270


def test_existing_folder_is_only_replaced_when_asked_and_a_students(learned, tmp_path: Path) -> None:
    out = tmp_path / "mini"
    save_folder(learned.student, out, Card("first"))
    with pytest.raises(UserError, match="--overwrite"):
        save_folder(learned.student, out, Card("second"))
    save_folder(learned.student, out, Card("second"), overwrite=True)
    assert "# second" in (out / "README.md").read_text(encoding="utf-8")
    (out / "thesis.txt").write_text("years of work")
    with pytest.raises(UserError, match="not replaced"):
        save_folder(learned.student, out, Card("third"), overwrite=True)
    assert (out / "thesis.txt").read_text() == "years of work"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mini"]
    with pytest.raises(UserError, match="is a file"):
        save_folder(learned.student, out / "thesis.txt", Card("fourth"), overwrite=True)


def test_pages_of_somebodys_own_are_not_replaced(learned, tmp_path: Path) -> None:
    folder = save_folder(learned.student, tmp_path / "mini", Card("mini")).folder
    (folder / "web").mkdir()
    (folder / "web" / "reader.js").write_text("//")
    save_folder(learned.student, folder, Card("mini"), overwrite=True)
    (folder / "web").mkdir()
    (folder / "web" / "shop.html").write_text("mine")
    with pytest.raises(UserError, match="it is not replaced"):
        save_folder(learned.student, folder, Card("mini"), overwrite=True)
    assert (folder / "web" / "shop.html").read_text() == "mine"


def test_a_reader_whose_folder_is_gone_can_be_exported(learned, tmp_path: Path) -> None:
    save_folder(learned.student, tmp_path / "mini", Card("mini", "Ten drawn words.", "None."))
    reader = load_reader(tmp_path / "mini")
    assert "Ten drawn words." in (export(reader, tmp_path / "first") / "README.md").read_text()
    shutil.rmtree(tmp_path / "mini")
    assert "Ten drawn words." not in (export(reader, tmp_path / "second") / "README.md").read_text()


def test_a_difference_leaves_nothing_behind(learned, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def differ(folder: Path, name: str, targets: list[str], words: None) -> None:
        (folder / "student.onnx").write_bytes(b"")
        raise ParityError("ONNX and PyTorch differ")

    monkeypatch.setattr(folders, "export_checked", differ)
    with pytest.raises(ParityError):
        save_folder(learned.student, tmp_path / "mini", Card("mini"), targets=["onnx"])
    assert not list(tmp_path.iterdir())


def test_what_has_no_weights_is_refused(onnx_file: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="OnnxReader has no weights to export; give the folder of the student"):
        export(OnnxReader(onnx_file), tmp_path / "out")  # type: ignore[arg-type]
    assert not (tmp_path / "out").exists()


def test_half_precision_halves_the_file_and_reads_the_same(learned, tmp_path: Path) -> None:
    whole = save_folder(learned.student, tmp_path / "whole", Card("mini")).files["model.safetensors"]
    half = save_folder(learned.student, tmp_path / "half", Card("mini"), dtype="float16").files["model.safetensors"]
    assert half < 0.65 * whole
    again = Student.from_pretrained(tmp_path / "half")
    assert [reading.text for reading in again.read(learned.pictures)] == learned.words


def test_scores_come_from_the_report(tmp_path: Path) -> None:
    file = tmp_path / "report.json"
    file.write_text(json.dumps(REPORT))
    table = scores_from_report(file, "mini")
    assert "| SVT | 647 | 500 | 77.28 | 73.9 to 80.3 | 90.10 |" in table
    assert "Average by word 80.00%, average by set 75.50%." in table
    assert scores_from_report(file, "called otherwise") == f"Evaluated as `mini`.\n\n{table}", "said on the card"
    score = {**REPORT["readers"][0]["benchmarks"]["SVT"], "partial": True}
    part = {**REPORT["readers"][0], "benchmarks": {"SVT": score, "a|b": score}}
    file.write_text(json.dumps({**REPORT, "readers": [part], "averaged_sets": ["SVT"]}))
    table = scores_from_report(file, "mini")
    assert "| a\\|b | 647 (a part) | 500 |" in table
    assert "average by set 75.50%, over SVT." in table


@pytest.mark.parametrize(
    "text", ["", "[]", '{"readers": [1]}', '{"readers": []}', '{"readers": [{"name": "mini", "role": "student"}]}']
)
def test_what_is_no_report_is_refused(tmp_path: Path, text: str) -> None:
    file = tmp_path / "report.json"
    file.write_text(text)
    with pytest.raises(UserError, match=re.escape(str(file))):
        scores_from_report(file, "mini")


def test_scores_are_those_of_this_reader(tmp_path: Path) -> None:
    report = fake_report(read_words(["a"], mine=[("a", 0.5)]), {"mine": "student"})
    report["readers"][0] |= {"params": 5, "language_model": "european"}
    (tmp_path / "report.json").write_text(json.dumps({**report, "charset": "abc"}))
    text = scores_from_report(tmp_path / "report.json", "other", 5)
    assert "Evaluated as `mine`." in text
    assert "3 characters are scored. Read with the language model european. Average by word 100.00%" in text
    with pytest.raises(UserError, match="has scores of mine alone, which has 5 weights, and other has 6"):
        scores_from_report(tmp_path / "report.json", "other", 6)
