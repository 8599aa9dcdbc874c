"""The front door: load, read, distil, evaluate, export and register, from Python and without a clone in sight."""

from __future__ import annotations

import ast
import copy
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw, ImageFont

import symdistill
from distill.evaluation.tables import warnings
from students.student import Student, StudentConfig

ROOT = Path(__file__).resolve().parent.parent
WORDS = ["street", "museum", "42", "open"]


def draw(word: str) -> Image.Image:
    picture = Image.new("RGB", (30 + 20 * len(word), 44), "white")
    ImageDraw.Draw(picture).text((10, 4), word, fill="black", font=ImageFont.load_default(28))
    return picture


def write_words(folder: Path, words: Sequence[str]) -> Path:
    folder.mkdir()
    for number, word in enumerate(words):
        draw(word).save(folder / f"{number}.png")
    lines = [f"{number}.png\t{word}\n" for number, word in enumerate(words)]
    (folder / "labels.tsv").write_text("".join(lines), encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def reader() -> symdistill.Reader:
    loaded = symdistill.load("tiny")
    assert isinstance(loaded, symdistill.Reader)
    return loaded


@pytest.fixture(scope="module")
def small() -> symdistill.Reader:
    """A student of a few weights, which has learned nothing."""
    torch.manual_seed(0)
    config = StudentConfig(
        encoder="conv", stem=(8, 12, 16), width=32, depth=3, heads=2, mlp_ratio=2.0, decoder_depth=3, decoder_heads=2,
        decoder_mlp_ratio=2.0, dropout=0.0, taps="even",
    )  # fmt: skip
    return Student(config).eval()


@pytest.fixture(scope="module")
def onnx_file(small: symdistill.Reader, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return (
        symdistill.export(small, tmp_path_factory.mktemp("front") / "small", onnx=True, name="small") / "student.onnx"
    )


def test_one_picture_gives_one_reading_and_many_a_list(reader: symdistill.Reader, tmp_path: Path) -> None:
    picture = draw("street")
    picture.save(tmp_path / "word.png")
    path = tmp_path / "word.png"
    for one in (path, str(path), picture, np.asarray(picture)):
        assert reader.read(one).text == "street"
    many = reader.read([path, picture, np.asarray(draw("museum"))])
    assert [reading.text for reading in many] == ["street", "street", "museum"]
    assert reader.read([]) == []


def test_an_onnx_file_reads_the_same_without_torch(onnx_file: Path, small: symdistill.Reader, tmp_path: Path) -> None:
    for word in WORDS:
        draw(word).save(tmp_path / f"{word}.png")
    program = f"""
import sys
for name in ("torch", "timm", "torchvision", "open_clip", "onnx"):
    sys.modules[name] = None
import symdistill
reader = symdistill.load({str(onnx_file)!r})
for reading in reader.read([{str(tmp_path)!r} + "/" + word + ".png" for word in {WORDS!r}]):
    print(reading.text, reading.confidence)
"""
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    actual = [line.rpartition(" ") for line in done.stdout.splitlines()]
    expected = small.read([draw(word) for word in WORDS])
    assert [word for word, _, _ in actual] == [reading.text for reading in expected]
    assert [float(sure) for _, _, sure in actual] == pytest.approx([each.confidence for each in expected], rel=1e-3)


def test_what_cannot_be_loaded_is_a_user_error(tmp_path: Path) -> None:
    for name in ("tinny", tmp_path / "nowhere", tmp_path / "none.onnx"):
        with pytest.raises(symdistill.UserError):
            symdistill.load(name)


def test_evaluate_takes_names_readers_and_names_of_ones_own(
    reader: symdistill.Reader, onnx_file: Path, tmp_path: Path
) -> None:
    data = write_words(tmp_path / "words", WORDS)
    report = symdistill.evaluate(["tiny", onnx_file], data, overlap_check=False)
    assert [(entry["name"], entry["role"]) for entry in report["readers"]] == [
        ("tiny", "student"),
        ("small", "student"),
    ]
    assert [entry["average_by_word"] for entry in report["readers"]] == [100, 0]
    named = {"mine": reader, "file": symdistill.load(onnx_file)}
    report = symdistill.evaluate(named, data, teachers=["words-small"], overlap_check=False, out=tmp_path / "out")
    assert [(entry["name"], entry["reading"]) for entry in report["readers"]] == [
        ("mine", "open"), ("file", "open"), ("words-small", "closed-lexicon"),
    ]  # fmt: skip
    assert (tmp_path / "out" / "report.json").is_file()
    with pytest.raises(symdistill.UserError, match="exists"):
        symdistill.evaluate(reader, data, overlap_check=False, out=tmp_path / "out")
    with pytest.raises(symdistill.UserError, match="dictionary"):
        symdistill.evaluate([reader, "tiny"], data)


def test_evaluate_takes_what_python_has(reader: symdistill.Reader, tmp_path: Path) -> None:
    data = write_words(tmp_path / "words", WORDS)
    some = (each for each in [reader])
    report = symdistill.evaluate(some, data, teachers="small", benchmarks=["words"], charset=36, limit=2)
    assert [entry["role"] for entry in report["readers"]] == ["student", "teacher"]
    for given, text in (
        ({"limit": "2"}, "limit is '2'; give a whole number"), ({"device": "cuda:0"}, "give auto, cpu or cuda"),
        ({"data": None}, "None is no folder of words"), ({"readers": None}, "None is no reader"),
        ({"teachers": ["tiny"]}, "two readers are called 'tiny'"),
    ):  # fmt: skip
        with pytest.raises(symdistill.UserError, match=text):
            symdistill.evaluate(**{"readers": reader, "data": data, **given})


def test_export_keeps_what_the_card_of_a_loaded_reader_says(tmp_path: Path) -> None:
    for number, source in enumerate(("tiny-free", symdistill.load("tiny-free"))):
        folder = symdistill.export(source, tmp_path / str(number), dtype="float16")
        assert {file.name for file in folder.iterdir()} == {"README.md", "config.json", "model.safetensors"}
        card = (folder / "README.md").read_text(encoding="utf-8")
        assert card.startswith("---")
        assert "# tiny-free\n" in card
        assert "Rendered words only: no data terms" in card
        assert [each.text for each in symdistill.load(folder).read([draw(word) for word in WORDS])] == WORDS
    with pytest.raises(symdistill.UserError, match="exists"):
        symdistill.export("tiny", folder)


def test_a_path_is_the_folder_and_not_the_shipped_reader_of_its_name(
    small: symdistill.Reader, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    data, path = write_words(tmp_path / "words", WORDS), Path("tiny")
    symdistill.export(small, path)
    for readers in (path, {"mine": path}, [path]):
        (entry,) = symdistill.evaluate(readers, data, overlap_check=False)["readers"]
        assert entry["params"] == small.parameters_count
    _, teacher = symdistill.evaluate("tiny-free", data, teachers=path, overlap_check=False)["readers"]
    assert teacher["params"] == small.parameters_count
    assert symdistill.load_teacher(path).parameters_count == small.parameters_count


def test_reading_and_loading_leave_everything_as_it_was(small: symdistill.Reader) -> None:
    state = torch.get_rng_state()
    symdistill.load("tiny-free")
    assert torch.equal(torch.get_rng_state(), state), "loading draws nothing"
    reader = copy.deepcopy(small).train()
    reader.encoder.eval()
    reader.read(draw("open"))
    assert (reader.training, reader.encoder.training) == (True, False)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_a_reader_reads_in_the_precision_of_its_weights(dtype: torch.dtype) -> None:
    reader = symdistill.load("tiny-free")
    assert isinstance(reader, symdistill.Reader)
    assert [each.text for each in reader.to(dtype).read([draw(word) for word in WORDS])] == WORDS
    torch.set_default_dtype(torch.float64)
    try:
        assert symdistill.load("tiny-free").read(draw("street")).text == "street"
    finally:
        torch.set_default_dtype(torch.float32)


def test_what_can_not_be_meant_is_a_user_error(reader: symdistill.Reader, tmp_path: Path) -> None:
    data, out = write_words(tmp_path / "words", WORDS), tmp_path / "out"
    for call, text in (
        (lambda: symdistill.load(""), "an empty name"), (lambda: symdistill.load_teacher(""), "an empty name"),
        (lambda: symdistill.load_teacher(None), "no name of a teacher"),  # type: ignore[arg-type]
        (lambda: symdistill.open_language_model(""), "has an empty name in it"),
        (lambda: symdistill.open_language_model(None), "None is no language model"),  # type: ignore[arg-type]
        (lambda: symdistill.evaluate(reader, ""), "'' is no folder of words"),
        (lambda: symdistill.evaluate(reader, data, benchmarks=5), "benchmarks is 5"),  # type: ignore[arg-type]
        (lambda: symdistill.evaluate(reader, data, limit=True), "limit is True"),
        (lambda: symdistill.export(reader, ""), "'' is no folder to export to"),
        (lambda: symdistill.export(reader, out, mix=0.25), "mix is 0.25"),  # type: ignore[arg-type]
        (lambda: symdistill.evaluate({1: reader}, data), "1 is no name of a reader"),  # type: ignore[dict-item]
        (lambda: symdistill.evaluate(reader, data, out=3), "out is 3"),  # type: ignore[arg-type]
        (lambda: symdistill.evaluate(reader, data, teachers=5), "5 is no teacher"),  # type: ignore[arg-type]
        (lambda: symdistill.evaluate(torch.nn.Transformer(8, 2), data), "a Transformer is no reader"),  # type: ignore[arg-type]
        (lambda: symdistill.distill(5), "5 is no configuration"),  # type: ignore[arg-type]
        (lambda: symdistill.distill("quickstart", overwrite="no"), "overwrite is 'no'"),  # type: ignore[arg-type]
        (lambda: symdistill.distill("quickstart", resume=True), "resume is True"),  # type: ignore[arg-type]
        (lambda: symdistill.export(reader, out, mix="tiny"), "mix is 'tiny'"),  # type: ignore[arg-type]
        (lambda: symdistill.export(reader, out, targets="onnxx"), "no target 'onnxx'"),  # type: ignore[arg-type]
        (lambda: symdistill.export(reader, out, web_runtime="x"), "add it to targets"),
    ):  # fmt: skip
        with pytest.raises(symdistill.UserError, match=text):
            call()
    assert not out.exists()


def test_distil_twice_in_one_process(tmp_path: Path) -> None:
    words = write_words(tmp_path / "words", WORDS * 4)
    section = {"train": [{"path": str(words)}], "validation": str(words), "workers": 0, "synthetic": {"words": 0}}
    settings = {"steps": 2, "batch_size": 4, "validate_every": 2, "checkpoint_every": 2, "precision": "no"}
    switches = {"eval.baseline": False, "eval.onnx": False, "eval.teacher": False}
    for number in range(2):
        out = tmp_path / str(number)
        result = symdistill.distill("quickstart", out=str(out), data=section, train=settings, **switches)
        assert result.finished
        assert result.folder == out
        assert result.report["readers"][0]["name"] == "quickstart"
        assert isinstance(result.student, symdistill.Reader)
        assert all(torch.isfinite(weight).all() for weight in result.student.parameters())
    with pytest.raises(symdistill.UserError, match=r"resume|overwrite"):
        symdistill.distill("quickstart", out=str(out), data=section, train=settings, **switches)
    with pytest.raises(symdistill.UserError, match=r"train\.steps"):
        symdistill.distill("quickstart", train={"stepz": 3})


def test_every_name_of_the_front_door_is_there() -> None:
    for name in symdistill.__all__:
        assert getattr(symdistill, name) is not None
    assert dir(symdistill) == sorted(symdistill.__all__)
    with pytest.raises(AttributeError, match="no_such_name"):
        symdistill.no_such_name  # noqa: B018
    source = (ROOT / "symdistill" / "__init__.py").read_text(encoding="utf-8")
    assert len(source.splitlines()) < 120
    assert (ROOT / "symdistill" / "py.typed").is_file()


@pytest.mark.parametrize("package", ["symdistill", "distill", "losses", "teachers", "students"])
def test_only_programs_exit(package: str) -> None:
    for file in (ROOT / package).rglob("*.py"):
        if file.name == "__main__.py" or file.parent.name == "commands":
            continue
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            named = isinstance(node, ast.Attribute) and (ast.unparse(node) in ("sys.exit", "os.exit"))
            assert not named, f"{file.relative_to(ROOT)}:{node.lineno} exits"


def test_evaluate_and_export_take_what_was_loaded(reader: symdistill.Reader, tmp_path: Path) -> None:
    data = write_words(tmp_path / "words", WORDS)
    report = symdistill.evaluate(reader, data, teachers=[symdistill.load_teacher("words-small")], peers=None)
    assert [entry["role"] for entry in report["readers"]] == ["student", "teacher"]
    origin, name = copy.deepcopy(reader), next(iter(dict(reader.named_parameters())))
    with torch.no_grad():
        dict(origin.named_parameters())[name].add_(1)
    symdistill.export(reader, tmp_path / "mixed", mix=(origin, 0.5))
    mixed = dict(symdistill.load(tmp_path / "mixed").named_parameters())  # type: ignore[union-attr]
    torch.testing.assert_close(mixed[name], dict(reader.named_parameters())[name] + 0.5)
    report = symdistill.evaluate(reader, data, teachers=symdistill.load("tiny-free"))
    assert [entry["role"] for entry in report["readers"]] == ["student", "teacher"]


def test_a_report_tells_the_language_model(tmp_path: Path) -> None:
    data = write_words(tmp_path / "words", WORDS)
    with_model, without = symdistill.load("tiny-free"), symdistill.load("tiny-free")
    without.language_model = None
    report = symdistill.evaluate({"with": with_model, "without": without}, data)
    assert [entry.get("language_model") for entry in report["readers"]] == ["european", None]
    assert "read with a language model: with (european)" in warnings(report)


def test_terms_are_not_lost_in_silence(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    copied = symdistill.export("tiny-free", tmp_path / "copy")
    reader = symdistill.load(copied)
    (copied / "README.md").write_bytes("Schl\u00fcssel".encode("latin-1"))
    with pytest.raises(symdistill.UserError, match=r"README\.md is no UTF-8 text"):
        symdistill.export(reader, tmp_path / "again")
    shutil.rmtree(copied)
    symdistill.export(reader, tmp_path / "again")
    assert "is gone, and with it what its card said of training, terms and scores" in caplog.text


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_forked_process_reads(tmp_path: Path) -> None:
    draw("street").save(tmp_path / "word.png")
    script = f"""
import os, sys, symdistill, torch
torch.set_num_threads(2)
reader = symdistill.load("tiny-free")
first = reader.read([{str(tmp_path / "word.png")!r}] * 8)
child = os.fork()
if child == 0:
    os._exit(0 if reader.read([{str(tmp_path / "word.png")!r}] * 8)[0].text == first[0].text else 1)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
    environment = {name: value for name, value in os.environ.items() if not name.endswith("_NUM_THREADS")}
    assert subprocess.run([sys.executable, "-c", script], timeout=120, check=False, env=environment).returncode == 0
