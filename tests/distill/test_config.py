"""The configuration: what is wrong is said in one line that names what would work; what ships loads and is short."""

from __future__ import annotations

import dataclasses
import itertools
from pathlib import Path

import pytest

from distill.config import Config, SourceSection, TeacherConfig, load_config, save_config
from students.errors import UserError

SHIPPED = sorted((Path(__file__).resolve().parents[2] / "configs").glob("*.yaml"))


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "run.yaml"
    path.write_text("# python tools/distill.py --config run.yaml\ntrain: {steps: 7}\n", encoding="utf-8")
    return path


def refusal(file: Path, *overrides: str) -> str:
    with pytest.raises(UserError) as refused:
        load_config(Config, file, overrides)
    assert "\n" not in str(refused.value)
    return str(refused.value)


def test_defaults_then_file_then_overrides(file: Path) -> None:
    config = load_config(Config, file, ["train.batch_size=3", "optim.lr=1e-4", "teacher.name=null", "name=7"])
    assert (config.train.steps, config.train.batch_size, config.train.grad_accum) == (7, 3, 1)
    assert (config.optim.lr, config.teacher.name, config.name) == (1e-4, None, "7")
    assert load_config(Config, file, ["train.steps=8", "train.steps=9"]).train.steps == 9, "the last one counts"
    assert load_config(Config, file, ["train={batch_size: 3}"]).train.steps == 7, "a section joins with the file's"


def test_lists_of_sources(file: Path) -> None:
    given = ["data.train=[{path: a, ratio: 2}, {path: b}]", "data.train[1].augmentation=strong"]
    expected = [SourceSection("a", 2.0), SourceSection("b", augmentation="strong")]
    assert load_config(Config, file, given).data.train == expected


def test_references_are_resolved(file: Path) -> None:
    assert load_config(Config, file, ["name=seven", "out=runs/${name}"]).out == "runs/seven"


@pytest.mark.parametrize(
    ("wrong", "near"),
    [
        ("train.stepz=1", "'train.steps'"),
        ("trian.steps=1", "'train.steps'"),
        ("guidance.max_row=1", "'guidance.max_rows'"),
        ("data.synthetic.word=1", "'data.synthetic.words'"),
        ("student.withd=1", "'student.width'"),
    ],
)
def test_an_unknown_key_names_the_nearest(file: Path, wrong: str, near: str) -> None:
    assert near in refusal(file, wrong)


@pytest.mark.parametrize(("text", "near"), [("train: {stepz: 1}", "train.steps"), ("sed: 1", "seed")])
def test_an_unknown_key_in_the_file_names_file_and_nearest(file: Path, text: str, near: str) -> None:
    file.write_text(text, encoding="utf-8")
    message = refusal(file)
    assert str(file) in message
    assert repr(near) in message


def test_an_unknown_key_of_a_source(file: Path) -> None:
    assert "'data.train[].path'" in refusal(file, "data.train=[{pth: a}]")


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ("train.steps=many", "train.steps"),
        ("train.steps=1.5", "Integer"),
        ("train.steps=null", "not Optional"),
        ("train.steps=", "train.steps"),
        ("train=5", "train is a section with the keys steps, batch"),
        ("train=[1]", "train is a section with the keys steps, batch"),
        ("data.synthetic=[a]", "data.synthetic is a section with the keys words, live"),
        ("data.train=5", "data.train is a list"),
        ("data.train={path: a}", "data.train is a list"),
        ("student.size=big", "'tiny', 'small', 'paper'"),
        ("name.first=x", "name"),
        ("data.train=a", "data.train"),
        ("data.train[0].path=a", "data.train[0]"),
        ("teacher=null", "teacher"),
        ("train.steps=[", "no YAML"),
        ("name=${nobody}", "nobody"),
        ("name=${oc.env:SYMDISTILL_NOT_SET}", "SYMDISTILL_NOT_SET"),
        ("train.steps", "key=value"),
        ("=1", "key=value"),
    ],
)
def test_a_wrong_override(file: Path, wrong: str, told: str) -> None:
    assert told in refusal(file, wrong)


@pytest.mark.parametrize(
    "key",
    ["train.steps", "train.batch_size", "train.validate_every", "train.checkpoint_every", "train.log_every",
     "train.keep", "train.grad_accum", "guidance.interval", "guidance.max_rows", "student.width"],
)  # fmt: skip
def test_a_count_of_0_is_refused(file: Path, key: str) -> None:
    assert f"{key}=0" in refusal(file, f"{key}=0")


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ("data.workers=-1", "data.workers=-1 is too small; give 0 or more"),
        ("data.synthetic.difficulty=1.5", "data.synthetic.difficulty=1.5 is too large; give 1 or less"),
        ("data.max_corrupt=2", "give 1 or less"),
        ("data.train=[{path: a}, {path: b, ratio: -1}]", "data.train[1].ratio=-1.0 is too small; give 0 or more"),
        ("data.train=[{path: a, fixed_augmentations: -3}]", "data.train[0].fixed_augmentations=-3"),
    ],
)
def test_bounds_stand_with_the_fields(file: Path, wrong: str, message: str) -> None:
    assert message in refusal(file, wrong)


@pytest.mark.parametrize("text", ["train: [", "- 1", "only text", "train: {steps: many}", "\x00", "a: 1\na: 2"])
def test_a_file_that_is_no_configuration(file: Path, text: str) -> None:
    file.write_text(text, encoding="utf-8")
    assert str(file) in refusal(file)


def test_an_empty_file_is_all_defaults(file: Path) -> None:
    file.write_text("", encoding="utf-8")
    assert load_config(Config, file) == Config()


def test_a_missing_file_names_the_shipped_ones(tmp_path: Path) -> None:
    assert "quickstart" in refusal(tmp_path / "nothing.yaml")
    refusal(tmp_path / "quickstart.yaml")  # another folder's file is not the shipped one of that name


@pytest.mark.parametrize("name", ["quickstart", "quickstart.yaml", "configs/quickstart.yaml"])
def test_shipped_ones_are_found_by_name_anywhere(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert load_config(Config, name).name == "quickstart"


@pytest.mark.parametrize("key", ["teacher", "teachers"])
def test_several_teachers(key: str, file: Path, tmp_path: Path) -> None:
    given = f"{key}=[{{name: words-small}}, {{name: tiny, kind: student, weight: 0.5}}]"
    teachers = load_config(Config, file, [given]).teachers
    assert [(teacher.name, teacher.kind, teacher.weight) for teacher in teachers] == [
        ("words-small", "auto", 1.0), ("tiny", "student", 0.5),
    ]  # fmt: skip
    written = tmp_path / "several.yaml"
    written.write_text(f"{key}: [{{name: words-small}}, {{name: tiny, kind: student, weight: 0.5}}]", encoding="utf-8")
    assert load_config(Config, written).teachers == teachers
    with pytest.raises(UserError, match=r"nearest known one is 'teachers\[\].name'"):
        load_config(Config, file, [f"{key}=[{{nam: tiny}}]"])


def test_what_is_saved_loads_as_it_was(file: Path, tmp_path: Path) -> None:
    config = load_config(Config, file, ["data.train=[{path: a}]", "optim.lr=3e-5", "eval.benchmarks=all"])
    save_config(config, tmp_path / "config.yaml")
    assert load_config(Config, tmp_path / "config.yaml") == config
    assert sorted(path.name for path in tmp_path.iterdir()) == ["config.yaml", "run.yaml"]


def test_there_are_shipped_ones() -> None:
    assert {"quickstart", "teacher_words"} <= {path.stem for path in SHIPPED}


@pytest.mark.parametrize("kind", ["parallel", "ctc"])
def test_kinds_of_students_differ_from_the_quick_start_in_how_they_read_only(kind: str) -> None:
    quick, other = load_config(Config, "quickstart"), load_config(Config, kind)
    assert (quick.student.decoding, other.student.decoding) == (None, {"parallel": "nar", "ctc": "ctc"}[kind])
    same = dataclasses.replace(other.student, decoding=None, refine_iters=None)
    assert dataclasses.replace(other, name=quick.name, out=quick.out, student=same) == quick


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_shipped_ones_load_are_short_and_open_with_their_command(path: Path) -> None:
    lines = path.read_text(encoding="utf-8").splitlines()
    assert len(lines) <= 60
    opening = " ".join(itertools.takewhile(lambda line: line.startswith("#"), lines))
    assert f"--config configs/{path.name}" in opening
    schema = TeacherConfig if "tools/train_teacher.py" in opening else Config
    assert schema is TeacherConfig or "tools/distill.py" in opening
    load_config(schema, path)


def test_values_from_python_are_merged_as_those_of_a_file() -> None:
    overrides = {"train": {"steps": 50}, "data.synthetic": {"words": 400}, "out": "2024_11_25", "eval.baseline": False}
    config = load_config(Config, "quickstart", overrides)
    shipped = load_config(Config, "quickstart")
    assert (config.train.steps, config.data.synthetic.words, config.out) == (50, 400, "2024_11_25")
    assert config.train.batch_size == shipped.train.batch_size, "the rest of a section stays"
    assert config.data.synthetic.test_words == shipped.data.synthetic.test_words
    assert load_config(Config, {"name": "mine", "train": {"steps": 3}}).train.steps == 3


@pytest.mark.parametrize("overrides", [{"train": {"stepz": 1}}, {"train.stepz": 1}])
def test_an_unknown_key_from_python_names_the_nearest(overrides: dict[str, object]) -> None:
    with pytest.raises(UserError, match=r"unknown key 'train\.stepz'; the nearest known one is 'train\.steps'"):
        load_config(Config, {}, overrides)
