"""Student folders: a saved student loads unchanged; a broken folder is refused in one line."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
import torch
from huggingface_hub.errors import LocalEntryNotFoundError
from safetensors.torch import load_file, save_file
from torch import Tensor

from students import pretrained
from students.charset import Charset
from students.ctc import CtcReader
from students.errors import UserError
from students.pretrained import locate
from students.student import Student


@pytest.fixture
def folder(student: Student, tmp_path: Path) -> Path:
    student.save_pretrained(tmp_path / "saved")
    return tmp_path / "saved"


def refusal(name: str | Path, charset: Charset | None = None) -> str:
    with pytest.raises(UserError) as refused:
        Student.from_pretrained(name, charset)
    assert "\n" not in str(refused.value)
    return str(refused.value)


def test_a_saved_student_loads_unchanged(student: Student, folder: Path, images: Tensor) -> None:
    loaded = Student.from_pretrained(folder, student.charset)
    assert loaded.config == student.config
    assert not loaded.training
    assert sorted(path.name for path in folder.iterdir()) == ["config.json", "model.safetensors"]
    assert torch.equal(loaded(images), student(images))


def test_half_precision_halves_the_file(student: Student, folder: Path, images: Tensor) -> None:
    student.save_pretrained(folder.with_name("half"), "float16")
    sizes = [(folder.with_name(name) / "model.safetensors").stat().st_size for name in ("saved", "half")]
    assert sizes[1] < 0.6 * sizes[0]
    loaded = Student.from_pretrained(folder.with_name("half"))
    assert all(weight.dtype == torch.float32 for weight in loaded.parameters())
    memory = loaded.encode(images)
    torch.testing.assert_close(memory, student.encode(images), rtol=0.02, atol=0.02)


def test_the_old_folder_stays_when_saving_fails(
    student: Student, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: dict[str, Tensor], file: Path) -> None:
        file.write_bytes(b"half")
        raise OSError("no space left")

    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    monkeypatch.setattr("students.reading.save_file", fail)
    with pytest.raises(OSError, match="no space"):
        student.save_pretrained(folder, "float16")
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_another_alphabet_is_refused(folder: Path) -> None:
    message = refusal(folder, Charset.load("94"))
    assert "36 characters" in message
    assert "student.charset" in message


@pytest.mark.parametrize("size", [[33, 320], [32, 4], [32, 2**17]])
def test_sizes_of_pictures_that_a_reader_of_any_width_can_not_have(size: list[int], tmp_path: Path) -> None:
    shutil.copytree(pretrained.SHIPPED / "tiny-free", tmp_path / "reader")
    file = tmp_path / "reader" / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "image_size": size}))
    with pytest.raises(UserError, match=r"pictures of|image_size"):
        CtcReader.from_pretrained(tmp_path / "reader")


def test_a_folder_without_a_schema_is_of_version_0_1(folder: Path) -> None:
    stored = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    del stored["schema"]
    (folder / "config.json").write_text(json.dumps(stored), encoding="utf-8")
    Student.from_pretrained(folder)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda stored: stored.update(format="other"), "does not describe a student"),
        (lambda stored: stored.update(colour=1), "colour"),
        (lambda stored: stored.update(width="wide"), "width"),
        (lambda stored: stored.update(width=True), "width"),
        (lambda stored: stored.update(image_size=[32]), "image_size"),
        (lambda stored: stored.update(charset=None), "charset"),
        (lambda stored: stored.update(charset="aab"), "alphabet"),
        (lambda stored: stored.update(heads=5), "heads"),
        (lambda stored: stored.update(depth=1), "depth"),
        (lambda stored: stored.update(encoder="nonsense"), "nonsense"),
        (lambda stored: stored.update(depth=6), "can't be loaded"),
        (lambda stored: stored.update(width=64), "can't be loaded"),
        (lambda stored: stored.update(depth=10**12), "depth can't be 1000000000000, more than 1000"),
        (lambda stored: stored.update(image_size=[32, 10**9]), "image_size can't be (32, 1000000000)"),
        (lambda stored: stored.update(schema=2), "was written by a later version"),
        (lambda stored: stored.update(schema=None), "was written by a later version"),
    ],
)
def test_a_changed_configuration(folder: Path, change: Callable[[dict[str, Any]], None], message: str) -> None:
    stored = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    change(stored)
    (folder / "config.json").write_text(json.dumps(stored), encoding="utf-8")
    assert message in refusal(folder)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff\xfe", b"null", b'"text"'])
def test_a_broken_configuration(folder: Path, content: bytes) -> None:
    (folder / "config.json").write_bytes(content)
    assert "config.json" in refusal(folder)


@pytest.mark.parametrize("length", [0, 4, 100, -10])
def test_cut_off_weights(folder: Path, length: int) -> None:
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:length])
    assert "model.safetensors" in refusal(folder)


def test_weights_that_are_not_all_there(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    del weights["head.bias"]
    save_file(weights, folder / "model.safetensors")
    assert "head.bias" in refusal(folder)


def test_a_pickle_is_never_opened(folder: Path) -> None:
    torch.save({"head.bias": torch.zeros(2)}, folder / "model.safetensors")
    assert "model.safetensors" in refusal(folder)


def test_missing_files(folder: Path, tmp_path: Path) -> None:
    (folder / "model.safetensors").unlink()
    assert "model.safetensors" in refusal(folder)
    (tmp_path / "empty").mkdir()
    assert "config.json" in refusal(tmp_path / "empty")


def test_a_run_folder_names_the_student_in_it(student: Student, tmp_path: Path) -> None:
    student.save_pretrained(tmp_path / "run" / "student")
    assert f"is a run; its student is {tmp_path / 'run' / 'student'}" in refusal(tmp_path / "run")


def test_an_unknown_name_lists_what_works(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pretrained, "SHIPPED", tmp_path)
    for name in ("tinny", str(tmp_path / "nothing"), "./nothing", "~/nothing"):
        message = refusal(name)
        assert "config.json and model.safetensors" in message
        assert "saved" in message, "the shipped ones are named"
    assert Student.from_pretrained("saved").parameters_count > 0


def test_a_path_is_never_taken_for_a_shipped_name(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    shutil.copytree(folder, tmp_path / "tiny")
    monkeypatch.chdir(tmp_path)
    for own in (Path("tiny"), "./tiny", Path("./tiny"), tmp_path / "tiny"):
        assert locate(own).resolve() == tmp_path / "tiny"
        assert Student.from_pretrained(own).source == tmp_path / "tiny"
    assert not caplog.records
    assert locate("tiny") == pretrained.SHIPPED / "tiny"
    assert locate("tiny") == pretrained.SHIPPED / "tiny"
    assert [each.message for each in caplog.records] == [
        "tiny is the shipped reader; for the folder of that name give ./tiny"
    ]


def test_a_hub_model_without_network_lists_what_works(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> str:
        raise LocalEntryNotFoundError("no network\nand more of it")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", fail)
    message = refusal("somebody/reader")
    assert "somebody/reader" in message
    assert "local folder with config.json and model.safetensors" in message


def test_a_hub_model_is_read_from_where_it_was_fetched(
    student: Student, folder: Path, images: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(huggingface_hub, "snapshot_download", lambda name, **_: str(folder))
    assert torch.equal(Student.from_pretrained("somebody/reader")(images), student(images))


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_weights_that_are_no_numbers(folder: Path, value: float, dtype: torch.dtype) -> None:
    weights = {name: weight.to(dtype) for name, weight in load_file(folder / "model.safetensors").items()}
    weights["head.bias"][3] = value
    save_file(weights, folder / "model.safetensors")
    message = refusal(folder)
    assert "head.bias has values that are NaN or infinite" in message
    assert str(folder / "model.safetensors") in message


def test_finding_a_folder_takes_no_torch() -> None:
    program = (
        "import sys; from students import pretrained; pretrained.locate('tiny'); assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)


def test_a_hub_model_comes_with_its_words_and_its_card(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "language_model.tsv").write_text("harbour\t2\n", encoding="utf-8")
    (folder / "README.md").write_text("# reader", encoding="utf-8")
    (folder / "student.onnx").touch()
    cache = tmp_path / "models--somebody--reader" / "snapshots" / ("0" * 40)

    def fetch(name: str, allow_patterns: list[str]) -> str:
        cache.mkdir(parents=True)
        for pattern in allow_patterns:
            for file in folder.glob(pattern):
                (cache / file.name).write_bytes(file.read_bytes())
        return str(cache)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", fetch)
    fetched = pretrained.locate("somebody/reader")
    assert {path.name for path in fetched.iterdir()} == {path.name for path in folder.iterdir()} - {"student.onnx"}
    assert pretrained.name_of(fetched) == "reader"
