"""Bad input through the real command: one line on stderr, exit 2, nothing written, nothing lost."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import huggingface_hub
import lmdb
import pytest
from huggingface_hub.errors import LocalEntryNotFoundError

from distill.commands.distill import main
from students.student import Student

ROOT = Path(__file__).resolve().parents[3]
Refuse = Callable[..., str]


def tree(folder: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*")}


@pytest.fixture
def refuse(config: Path, material: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> Refuse:
    """Run the command, which must refuse and leave everything as it was; gives its one line."""

    def run(*arguments: str) -> str:
        before = tree(tmp_path), tree(material)
        assert main(["--config", str(config), *arguments]) == 2
        message = capfd.readouterr().err
        assert message.startswith("error: ")
        assert message.count("\n") == 1
        assert message.endswith("\n")
        assert "Traceback" not in message
        assert (tree(tmp_path), tree(material)) == before
        return message

    return run


def test_a_misspelt_key(refuse: Refuse) -> None:
    message = refuse("train.stepz=3")
    assert "'train.stepz'" in message
    assert "'train.steps'" in message


def test_overrides_may_stand_on_both_sides_of_options(refuse: Refuse) -> None:
    assert "train.stepz" in refuse("train.steps=3", "--overwrite", "train.stepz=3")


def test_a_misspelt_key_does_not_wait_for_torch(config: Path) -> None:
    code = f"""
import sys
from distill.commands.distill import main
assert main(["--config", {str(config)!r}, "train.stepz=3"]) == 2
assert main(["--config", {str(config)!r}, "--resume", "nowhere"]) == 2
assert not {{"torch", "timm", "accelerate"}} & set(sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr


def test_from_the_shell(config: Path, tmp_path: Path) -> None:
    command = [sys.executable, str(ROOT / "tools" / "distill.py"), "--config", str(config), "train.stepz=3"]
    done = subprocess.run(command, cwd=tmp_path, env=dict(os.environ), capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["run.yaml"]


@pytest.mark.parametrize("key", ["data.train=[{{path: {0}}}]", "data.validation={0}", "data.root={0}"])
def test_a_missing_folder(key: str, refuse: Refuse, tmp_path: Path) -> None:
    more = ["data.train=[{path: train}]"] if "root" in key else []
    message = refuse(key.format(tmp_path / "none"), *more)
    assert f"{tmp_path}/none" in message
    assert "no such folder" in message


def test_a_source_without_a_path_and_no_source(refuse: Refuse) -> None:
    assert "without a path" in refuse("data.train=[{ratio: 1}]")
    assert "data.synthetic.words" in refuse("data.train=[]")
    assert "data.synthetic.test_words" in refuse("data.validation=null", "data.synthetic.test_words=0")


@pytest.mark.parametrize("key", ["data.train=[{{path: {0}}}]", "data.validation={0}"])
def test_a_folder_without_an_lmdb(key: str, refuse: Refuse, tmp_path: Path) -> None:
    (tmp_path / "words").mkdir()
    (tmp_path / "words" / "readme.txt").write_text("no words", encoding="utf-8")
    message = refuse(key.format(tmp_path / "words"))
    assert "holds no LMDB" in message or "holds no test set" in message


@pytest.mark.parametrize("count", [None, b"many"])
def test_an_lmdb_without_its_count(count: bytes | None, refuse: Refuse, tmp_path: Path) -> None:
    with lmdb.open(str(tmp_path / "words")) as opened, opened.begin(write=True) as transaction:
        transaction.put(b"label-000000001", b"word")
        if count is not None:
            transaction.put(b"num-samples", count)
    assert "`num-samples`" in refuse(f"data.train=[{{path: {tmp_path / 'words'}}}]")


@pytest.mark.parametrize("key", ["data.train=[{{path: {0}}}]", "data.validation={0}"])
def test_labels_outside_the_alphabet(
    key: str, refuse: Refuse, tmp_path: Path, make_words: Callable[[Path, list[str]], Path]
) -> None:
    make_words(tmp_path / "words", ["?!", "...", "-"])
    message = refuse(key.format(tmp_path / "words"))
    assert "no word is left (3 empty)" in message
    assert "charset" in message


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (["eval.test={0}"], "{0}"),
        (["eval.test=test", "data.root={0}", "data.train=[{{path: {1}}}]", "data.validation={1}"], "{0}/test"),
        (["eval.test={1}", "eval.charset=63"], "no alphabet '63'"),
        (["eval.train_root={0}"], "{0}: no such folder to search for test words; mend eval.train_root"),
    ],
)
def test_a_comparison_that_could_not_be_made_after_the_training(
    changes: list[str], message: str, refuse: Refuse, tmp_path: Path, material: Path
) -> None:
    folders = (tmp_path / "none", material / "validation")
    assert message.format(*folders) in refuse(*(change.format(*folders) for change in changes))


def test_labels_that_are_too_long(
    refuse: Refuse, tmp_path: Path, make_words: Callable[[Path, list[str]], Path]
) -> None:
    make_words(tmp_path / "words", ["longer"])
    assert "1 too long" in refuse("student.max_length=3", f"data.train=[{{path: {tmp_path / 'words'}}}]")


def test_validation_words_that_do_not_fit_the_comparison(
    refuse: Refuse, tmp_path: Path, make_words: Callable[[Path, list[str]], Path]
) -> None:
    make_words(tmp_path / "tree" / "mine", ["word"])
    make_words(tmp_path / "tree" / "other", ["?!"])
    message = refuse(f"data.validation={tmp_path / 'tree'}")
    assert "has no set IIIT5k" in message
    assert "eval.benchmarks" in message
    assert "there are mine, other" in message
    message = refuse(f"data.validation={tmp_path / 'tree'}", "eval.benchmarks=other", "eval.charset=36")
    assert "no label is left" in message


def test_an_unknown_alphabet(refuse: Refuse) -> None:
    assert "no alphabet '63'; give 36, 62, 94" in refuse("student.charset=63")


def test_an_unknown_teacher(refuse: Refuse, tmp_path: Path) -> None:
    assert "did you mean words-small" in refuse("teacher.name=word-small")
    assert "ViT-B-16" in refuse("teacher.name=ViT-B-17/openai")
    assert "unknown teacher" in refuse(f"teacher.name={tmp_path / 'none'}")


def test_a_teacher_of_the_zoo_without_network(refuse: Refuse, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> str:
        raise OSError("no network\nat all")

    monkeypatch.setattr("teachers.zoo.fetch", fail)
    message = refuse("teacher.name=ViT-B-16/openai")
    assert "weights=PATH" in message
    assert "words-small" in message


@pytest.mark.parametrize("damage", ["missing", "cut"])
def test_a_teacher_with_broken_weights(damage: str, material: Path, refuse: Refuse, tmp_path: Path) -> None:
    folder = tmp_path / "teacher"
    folder.mkdir()
    (folder / "config.json").write_bytes((material / "teacher" / "config.json").read_bytes())
    if damage == "cut":
        (folder / "weights.safetensors").write_bytes((material / "teacher" / "weights.safetensors").read_bytes()[:500])
    assert "weights.safetensors" in refuse(f"teacher.name={folder}")


START = ("student.width=null", "student.depth=null", "student.decoder_depth=null", "student.dropout=null")
"""A student to start from brings its own sizes."""


def test_an_unknown_student(refuse: Refuse, tmp_path: Path) -> None:
    for name in ("tinny", str(tmp_path / "none")):
        message = refuse(*START, f"student.init={name}")
        assert f"no student '{name}'" in message
        assert "config.json and model.safetensors" in message
    assert "test_vit" in refuse("student.width=null", "student.depth=null", "student.encoder=test_vitt")


def test_a_student_of_the_hub_without_network(refuse: Refuse, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> str:
        raise LocalEntryNotFoundError("no network")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", fail)
    assert "give a local folder with config.json" in refuse(*START, "student.init=somebody/reader")


def test_a_student_of_another_alphabet(refuse: Refuse, student: Student, tmp_path: Path) -> None:
    student.save_pretrained(tmp_path / "student")
    message = refuse(*START, f"student.init={tmp_path / 'student'}", "student.charset=94")
    assert "alphabet of 36 characters" in message


def test_a_student_with_broken_files(refuse: Refuse, student: Student, tmp_path: Path) -> None:
    folder = tmp_path / "student"
    student.save_pretrained(folder)
    init = (*START, f"student.init={folder}")
    (folder / "model.safetensors").write_bytes((folder / "model.safetensors").read_bytes()[:1000])
    assert "model.safetensors" in refuse(*init)
    (folder / "config.json").write_text("{", encoding="utf-8")
    assert "is no JSON" in refuse(*init)


@pytest.mark.parametrize(
    ("ratio", "reason"), [("-1", "give 0 or more"), ("0", "give each 0 or more, and at least one above 0")]
)
def test_ratios_that_make_no_batch(ratio: str, reason: str, material: Path, refuse: Refuse) -> None:
    assert reason in refuse(f"data.train=[{{path: {material / 'train'}, ratio: {ratio}}}]")


@pytest.mark.parametrize("change", ["aux.ctc=-1", "guidance.visual=-2", "data.max_corrupt=-1", "train.threads=-4"])
def test_weights_and_counts_below_nothing(change: str, refuse: Refuse) -> None:
    assert "is too small; give 0 or more" in refuse(change)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ("student.depth=1", "depth 3 or more"),
        ("student.decoder_depth=2", "depth 3 or more"),
        ("train.batch_size=0", "train.batch_size=0 is too small; give 1 or more"),
        ("guidance.max_rows=0", "guidance.max_rows=0 is too small; give 1 or more"),
    ],
)
def test_sizes_that_can_not_be(change: str, reason: str, refuse: Refuse) -> None:
    assert reason in refuse(change)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ("optim.weight_decay=-1", "optim.weight_decay=-1.0 is too small; give 0 or more"),
        ("optim.ema=1", "optim.ema=1.0 is too large; give less than 1"),
        ("optim.warmup=1", "optim.warmup=1.0 is too large; give less than 1"),
        ("optim.lr=-1", "optim.lr=-1.0 is too small; give 0 or more"),
        ("optim.lr=.inf", "optim.lr=inf is no finite number; give at least 0"),
        ("optim.eps=0", "optim.eps=0.0 is too small; give more than 0"),
        ("guidance.bridge=.inf", "guidance.bridge=inf is no finite number; give at least 0"),
        ("guidance.dkd_alpha=.nan", "guidance.dkd_alpha=nan is no finite number; give at least 0"),
        ("teacher.weight=1e400", "teacher.weight=inf is no finite number; give at least 0"),
    ],
)
def test_an_optimizer_that_can_not_be(change: str, reason: str, refuse: Refuse) -> None:
    assert reason in refuse(change)


def test_a_checkpoint_that_is_none(refuse: Refuse, tmp_path: Path) -> None:
    (tmp_path / "some").mkdir()
    for folder in (tmp_path / "some", tmp_path / "none", tmp_path / "run.yaml"):
        assert "is no checkpoint" in refuse("--resume", str(folder))


def test_a_checkpoint_with_nonsense_in_it(refuse: Refuse, tmp_path: Path) -> None:
    folder = tmp_path / "some" / "step-00000004"
    folder.mkdir(parents=True)
    (folder / "complete.json").write_text(json.dumps({"schema": 1, "step": 4}), encoding="utf-8")
    (folder / "model.safetensors").write_bytes(b"nonsense" * 10)
    assert "does not fit this run" in refuse("--resume", str(folder))


def test_a_checkpoint_of_another_student(config: Path, refuse: Refuse, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["--config", str(config), "train.steps=1"]) == 0
    capfd.readouterr()
    run = config.parent / "run"
    message = refuse("--resume", "auto", "student.width=64")
    assert "(changed since then: student.width 32 -> 64, train.steps 1 -> 4; " in message
    assert "resume with the configuration it was made with" in message
    for change, told in (
        ("optim.name=muon", "has the state of another optimizer (changed since then: optim.name adamw -> muon"),
        ("optim.ema=0", "changed since then: optim.ema 0.9 -> 0.0"),
        ("optim.schedule=cosine", "changed since then: optim.schedule onecycle -> cosine"),
    ):
        assert told in refuse("--resume", "auto", change)
    assert "width: 32" in (run / "config.yaml").read_text(encoding="utf-8"), "nothing is lost"
    assert "--resume auto" in refuse()
    assert "one of them" in refuse("--resume", "auto", "--overwrite")
    (run / "notes.txt").write_text("mine", encoding="utf-8")
    assert main(["--config", str(config), "train.steps=2", "--overwrite"]) == 0
    assert (run / "notes.txt").exists()
    assert [path.name for path in (run / "checkpoints").iterdir()] == ["step-00000002"]


def test_a_checkpoint_of_another_alphabet(
    config: Path, refuse: Refuse, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """An alphabet file of the same name and length, with another character, would be trained on without a word."""
    alphabet = tmp_path / "mine.txt"
    alphabet.write_text("abcdefghijklmnopqrstuvwxyz0123456789", encoding="utf-8")
    given = [f"student.charset={alphabet}", "train.steps=1"]
    assert main(["--config", str(config), *given]) == 0
    capfd.readouterr()
    alphabet.write_text("abcdefghijklmnopqrstuvwxyz012345678%", encoding="utf-8")
    message = refuse("--resume", "auto", *given)
    assert "trained for another alphabet (now without 9, with %)" in message
    alphabet.write_text("bacdefghijklmnopqrstuvwxyz0123456789", encoding="utf-8")
    assert "now in another order" in refuse("--resume", "auto", *given)
    assert "(now with A B" in refuse("--resume", "auto", "train.steps=1", "student.charset=94")
    alphabet.write_text("abcdefghijklmnopqrstuvwxyz0123456789", encoding="utf-8")
    assert main(["--config", str(config), *given, "--resume", "auto"]) == 0


def test_words_that_the_teacher_does_not_take(refuse: Refuse) -> None:
    """The run used to die when the first long word was drawn."""
    for more in ([], ["--dry-run"]):
        assert "student.max_length=40: teacher teacher takes labels of up to 25" in refuse(
            "student.max_length=40", *more
        )


def test_an_output_folder_that_is_somebody_elses(refuse: Refuse, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "thesis.txt").write_text("years of work", encoding="utf-8")
    assert "exists" in refuse()
    assert "other things than a run" in refuse("--overwrite")
    assert "is a file" in refuse(f"out={tmp_path / 'run' / 'thesis.txt'}")


@pytest.fixture
def torn(tmp_path: Path, make_words: Callable[[Path, list[str]], Path]) -> Path:
    """Eight words, of which the picture of the fifth is cut off."""
    folder = make_words(tmp_path / "torn", ["one", "two", "three", "four", "five", "six", "seven", "eight"])
    with lmdb.open(str(folder)) as opened, opened.begin(write=True) as transaction:
        whole = transaction.get(b"image-000000005")
        transaction.put(b"image-000000005", bytes(whole)[: len(whole) // 2])
    (folder / "lock.mdb").unlink()
    return folder


@pytest.mark.parametrize("workers", [0, 1])
def test_too_many_torn_pictures_stop_a_training(
    workers: int, torn: Path, config: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--config", str(config), f"data.train=[{{path: {torn}}}]", f"data.workers={workers}"]
    assert main([*arguments, "data.max_corrupt=0.1"]) == 2
    message = capfd.readouterr().err
    assert message.count("\n") == 1
    assert message.startswith(f"error: {torn}: 1 of 8 records corrupt")
    assert "record 5 of torn" in message
    assert "Traceback" not in message
    assert main([*arguments, "data.max_corrupt=0.2", "--resume", "auto"]) == 0, "allowed to be skipped"


def test_a_torn_validation_picture_is_found_before_the_first_step(
    torn: Path, config: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    for key in ("data.validation", "eval.test"):
        assert main(["--config", str(config), "data.max_corrupt=0.5", f"{key}={torn}"]) == 2
        message = capfd.readouterr().err.splitlines()[-1]
        assert message.startswith("error: ")
        assert "record 5 of torn can't be read as a picture" in message, "data.max_corrupt is for training words"
        assert "check-lmdb names all such records" in message
        assert not (config.parent / "run").exists()


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["eval.train_root=EMPTY"], "eval.train_root, which is searched for test words: "),
        (["seed=5000000000"], "seed"),
        (["guidance.pseudo_label_threshold=90"], "guidance.pseudo_label_threshold"),
        (["teachers=[{name: words-small}, {weights: x.pt}]"], "an entry of teachers has no name"),
        (["teacher.name=null", "student.init=tiny-free", "student.max_length=40"], "set student.remap=true"),
        (["student.remap=true"], "set student.init, or leave it"),
    ],
)
def test_what_would_be_ignored_or_found_late(refuse: Refuse, tmp_path: Path, arguments: list[str], text: str) -> None:
    (tmp_path / "empty").mkdir()
    assert text in refuse(*(each.replace("EMPTY", str(tmp_path / "empty")) for each in arguments))
