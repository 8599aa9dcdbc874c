"""Words that only a teacher can label: what is read becomes a label, or contributes nothing."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from distill.commands.distill import main
from distill.config import load_config
from distill.data.batch import Batch
from distill.data.sections import SourceSection
from distill.schema import Config
from distill.training.baseline import baseline_config
from distill.training.pseudo_labels import label_words
from distill.training.trainer import check_gradients
from losses.labels import character_loss
from students.decoding import Reading
from students.student import Student
from teachers.clip import ClipTeacher
from teachers.reading import StudentTeacher
from tests.distill.conftest import Learned
from tests.distill.training.test_reading_teachers import FEATURES, make, other_student, terms_of


class SureTeacher(StudentTeacher):
    """Reads given texts with given confidences."""

    def __init__(self, readings: dict[float, tuple[str, float]]) -> None:
        super().__init__("sure", other_student("36"))
        self.readings = readings

    def read_batch(self, images: Tensor) -> list[Reading]:
        labelled = [self.readings[round(float(image.mean()), 2)] for image in images]
        return [Reading(text, confidence, (confidence,)) for text, confidence in labelled]


def shaded(labels: list[str], *shades: float) -> Batch:
    """Pictures of one grey each, by which `SureTeacher` knows them."""
    images = torch.stack([torch.full((3, 32, 128), shade) for shade in shades])
    return Batch(images, labels, torch.full((len(labels), 32), -1), torch.arange(len(labels)))


@pytest.fixture
def sure() -> SureTeacher:
    return SureTeacher({0.1: ("Cat", 0.95), 0.2: ("dog", 0.5), 0.3: ("!!!", 1.0), 0.4: ("it's", 0.9), 0.5: ("x", 0.2)})


def test_a_sure_reading_becomes_a_label(student: Student, sure: SureTeacher) -> None:
    batch = shaded(["", "own", "", "", ""], 0.1, 0.2, 0.3, 0.4, 0.5)
    labelled = label_words(batch, batch.images, sure, student.charset, 25, 0.9)
    assert labelled.batch.labels == ["cat", "own", "its"], "cleaned as labels are"
    assert labelled.batch.indices.tolist() == [0, 1, 3]
    assert labelled.pseudo_labelled.tolist() == [True, False, True]
    assert not labelled.placeholder
    assert label_words(batch, batch.images, sure, student.charset, 2, 0.9).batch.labels == ["own"], (
        "longer than the longest word"
    )


def test_a_word_below_the_threshold_contributes_nothing(student: Student, sure: SureTeacher) -> None:
    student.eval()
    task = make(student, sure, kd=1.0)
    whole = terms_of(task, shaded(["", "own", "", ""], 0.1, 0.7, 0.2, 0.3))
    without = terms_of(task, shaded(["", "own"], 0.1, 0.7))
    assert set(whole) == set(without) == {"characters", "ctc", "pseudo", "pseudo_ctc", "kd", *FEATURES}
    torch.testing.assert_close(whole, without)
    (note,) = task.notes()
    assert note.startswith("2 of 4 words without a label were left out: "), "in both batches together"
    assert "guidance.pseudo_label_threshold=0.9" in note
    assert task.notes() == [], "none since the last time"


def test_read_words_have_a_weight_of_their_own(student: Student, sure: SureTeacher) -> None:
    student.eval()
    task = make(student, sure, pseudo_label_weight=0.25)
    batch = shaded(["", "own", "more"], 0.1, 0.7, 0.8)
    terms = terms_of(task, batch)
    ids = student.charset.encode(["cat", "own", "more"])
    logits = student.stages(batch.images, ids).logits
    torch.testing.assert_close(terms["pseudo"], 0.25 * character_loss(logits[:1], ids[:1], student.charset.pad_id))
    torch.testing.assert_close(terms["characters"], character_loss(logits[1:], ids[1:], student.charset.pad_id))


@pytest.mark.parametrize("shades", [(0.1, 0.4), (0.2, 0.5)])
def test_every_weight_gets_a_gradient_whatever_was_read(
    student: Student, sure: SureTeacher, shades: tuple[float, float]
) -> None:
    """Two words that are learned from, or two of which the teacher is not sure."""
    task = make(student, sure, kd=1.0)
    terms = terms_of(task, shaded(["", ""], *shades))
    task.total(terms).backward()
    check_gradients(task)
    idle = shades[0] == 0.2
    assert (task.total(terms) == 0) == idle
    moved = [name for name, weight in task.named_parameters() if weight.grad is not None and bool(weight.grad.any())]
    assert bool(moved) != idle


def test_words_are_read_between_guided_steps_too(student: Student, sure: SureTeacher) -> None:
    task = make(student, sure, interval=2)
    inputs = task.prepare(shaded([""], 0.1), 1, 0.0)
    assert inputs.guidance == (None,)
    assert set(task(inputs)) == {"pseudo", "pseudo_ctc"}


def test_nobody_to_read_is_a_bug(student: Student, teacher: ClipTeacher) -> None:
    with pytest.raises(RuntimeError, match="no teacher that reads"):
        terms_of(make(student, teacher), shaded([""], 0.1))


@pytest.fixture(scope="module")
def unread(learned: Learned, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with pictures of words nobody labelled, and big/, a student that can read them."""
    folder = tmp_path_factory.mktemp("unread")
    (folder / "pictures" / "deep").mkdir(parents=True)
    for number, picture in enumerate(learned.pictures):
        picture.save(folder / "pictures" / ("deep" if number % 2 else "") / f"{number}.png")
    learned.student.save_pretrained(folder / "big")
    return folder


def test_a_run_with_words_that_the_teacher_reads(
    unread: Path, material: Path, config: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """From pictures without labels to the report: read, learned, and the teacher among the readers."""
    sources = f"[{{path: {material / 'train'}}}, {{path: {unread / 'pictures'}, labels: pseudo, ratio: 0.5}}]"
    arguments = [
        "--config", str(config), f"data.train={sources}", f"teacher.name={unread / 'big'}", "guidance.kd=0.5",
        "guidance.pseudo_label_threshold=0.1", "guidance.schedules.kd.warmup=0.5", "train.steps=3", "eval.teacher=true",
    ]  # fmt: skip
    assert main(arguments) == 0
    message = capfd.readouterr().out
    assert "10 words to train on (ratio 0.5): pictures, read by the teacher" in message
    run = config.parent / "run"
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    trained = [row for row in rows if row["group"] == "train"]
    assert len(trained) == 3
    assert all({"characters", "pseudo", "bridge", "linguistic1"} <= set(row) for row in trained)
    assert "kd" not in trained[0], "it weighs nothing yet"
    assert trained[1]["kd"] > 0
    report = json.loads((run / "report.json").read_text(encoding="utf-8"))
    readers = [(reader["name"], reader["role"], reader["reading"]) for reader in report["readers"]]
    assert readers == [("mini", "student", "open"), ("big", "teacher", "open")]
    weights = load_file(run / "checkpoints" / "step-00000003" / "model.safetensors")
    assert {name.split(".")[0] for name in weights} == {"student", "heads"}


def test_nobody_reads_to_the_baseline(config: Path) -> None:
    expected = load_config(Config, config)
    expected.data.train += [SourceSection("unread", labels="pseudo")]
    baseline = baseline_config(expected, 1, 1e-3)
    assert [source.ratio for source in baseline.data.train] == [1.0, 0.0]
    assert (baseline.teacher.name, baseline.teachers) == (None, [])


def test_a_dry_run_shows_what_a_reading_teacher_gives(
    unread: Path, config: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    sources = f"[{{path: {unread / 'pictures'}, labels: pseudo}}]"
    teachers = f"[{{name: {config.parents[0] / 'none'}, kind: clip}}, {{name: {unread / 'big'}}}]"
    arguments = ["--config", str(config), "--dry-run", f"data.train={sources}", "guidance.dkd=1"]
    arguments += ["guidance.pseudo_label_threshold=0"]
    assert main([*arguments, f"teachers={teachers}"]) == 2
    assert "unknown teacher" in capfd.readouterr().err
    assert main([*arguments, f"teacher.name={unread / 'big'}", "student.charset=94"]) == 0
    output = capfd.readouterr().out
    for part in ("decoder tap 3", "summary", "dkd", "x95", "x15", "it can't read efgh", "teacher big:"):
        assert part in output, part
    shares = [line.split()[0] for line in output.splitlines() if "gradient share" in line]
    assert shares == ["pseudo", "pseudo_ctc", "columns", *FEATURES, "dkd"]


def test_words_without_labels_need_a_teacher_that_reads(
    unread: Path, config: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    sources = f"data.train=[{{path: {unread / 'pictures'}, labels: pseudo}}]"
    for arguments, message in (
        ([sources], "no teacher that reads"),
        ([sources, f"teacher.name={unread / 'big'}", "eval.baseline=true"], "eval.baseline=false"),
        (["guidance.kd=1"], "needs a teacher that reads"),
        (["guidance.schedules.kd.until=2"], "kd.until=2.0"),
    ):
        assert main(["--config", str(config), *arguments]) == 2
        error = capfd.readouterr().err
        assert error.count("\n") == 1
        assert message in error
    assert not (config.parent / "run").exists()
