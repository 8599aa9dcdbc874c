"""The configuration: mistakes are refused in one line that names what would work; shipped files load and are short."""

from __future__ import annotations

import dataclasses
import itertools
from pathlib import Path

import numpy as np
import pytest

from distill.commands.distill import main
from distill.config import known_keys, load_config, save_config
from distill.config_help import explain
from distill.data.sections import SourceSection
from distill.fields import type_at
from distill.old_keys import OLD_KEYS, OLD_VALUES
from distill.schema import Config, TeacherConfig
from distill.training.sections import LossSection
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
    ("wrong", "reason"),
    [
        ("train.steps=many", "train.steps"),
        ("train.steps=1.5", "train.steps takes whole number"),
        ("train.steps=null", "train.steps takes whole number"),
        ("train.steps=", "train.steps= has no value; perhaps a variable isn't set"),
        ("eval.test= ", "eval.test=null"),
        ("train=5", "train is a section with the keys steps, batch"),
        ("train=[1]", "train is a section with the keys steps, batch"),
        ("data.synthetic=[a]", "data.synthetic is a section with the keys words, live"),
        ("data.train=5", "data.train is a list"),
        ("data.train={path: a}", "data.train is a list"),
        ("student.size=big", "student.size takes one of tiny, small, paper"),
        ("name=null", "name takes text"),
        ("student.width=wide", "student.width takes whole number or null"),
        ("name.first=x", "name"),
        ("data.train=a", "data.train is a list"),
        ("data.train=[{path:a}]", "a colon has a space behind it"),
        ("data.train[0].path=a", "data.train[0]"),
        ("teacher=null", "teacher"),
        ("train.steps=[", "the value can't be read"),
        ("out=${", "the value can't be read"),
        ("name=${nobody}", "nobody"),
        ("name=${oc.env:SYMDISTILL_NOT_SET}", "SYMDISTILL_NOT_SET"),
        ("train.steps", "key=value"),
        ("=1", "key=value"),
    ],
)
def test_a_wrong_override(file: Path, wrong: str, reason: str) -> None:
    assert reason in refusal(file, wrong)


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
        ("teacher=words-small", "teacher is a section; write teacher.name=words-small"),
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
    assert not any("{" in line or "[" in line for line in lines[1:] if not line.startswith("#")), "a key a line"
    load_config(TeacherConfig if " train_teacher " in opening else Config, path)


def test_texts_are_taken_as_they_stand(file: Path) -> None:
    """To YAML `no` is false, `2024_11_25` a number, and so is `1e5`; none of them is in a text field."""
    given = ["train.precision=no", "out=2024_11_25", "name=no", "student.charset=1e5", "student.init=null"]
    config = load_config(Config, file, given)
    assert (config.train.precision, config.out, config.name) == ("no", "2024_11_25", "no")
    assert (config.student.charset, config.student.init) == ("1e5", None)
    text = "name: on\nout: 2024_11_25\ntrain: {precision: no, steps: 1_0}\ndata: {train: [{path: 007}], root: 1.0}\n"
    file.write_text(text + "plugins: [yes, 1e3]\nteacher: {name: ~}\n", encoding="utf-8")
    config = load_config(Config, file)
    assert (config.name, config.out, config.train.precision, config.train.steps) == ("on", "2024_11_25", "no", 10)
    assert (config.data.train[0].path, config.data.root) == ("007", "1.0")
    assert (config.plugins, config.teacher.name) == (["yes", "1e3"], None)
    saved = file.with_name("saved.yaml")
    save_config(config, saved)
    assert load_config(Config, saved) == config


def test_paths_of_the_home_folder(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A shell leaves the ~ in `out=~/runs` as it is; a folder of that name was made."""
    monkeypatch.setenv("HOME", "/home/somebody")
    given = ["out=~/runs", "data.train=[{path: ~/words}]", "data.synthetic.fonts=[~/fonts, ~]", "name=~x", "seed=2"]
    for config in (load_config(Config, file, given), load_config(Config, {"out": "~/runs", "name": "~x"}, given[1:3])):
        assert (config.out, config.data.train[0].path) == ("/home/somebody/runs", "/home/somebody/words")
        assert config.data.synthetic.fonts[0] == "/home/somebody/fonts"
        assert config.name == "~x"


def test_a_file_may_be_based_on_others(tmp_path: Path) -> None:
    (tmp_path / "more").mkdir()
    (tmp_path / "one.yaml").write_text("base: quickstart\ntrain: {steps: 5}\nname: one\n", encoding="utf-8")
    two = tmp_path / "more" / "two.yaml"
    two.write_text("base: ../one.yaml\nname: two\nstudent: {stem: [8, 8, 8]}\n", encoding="utf-8")
    config = load_config(Config, two, ["train.batch_size=7"])
    assert (config.name, config.train.steps, config.train.batch_size) == ("two", 5, 7)
    assert (config.student.stem, config.student.width, config.optim.ema) == ([8, 8, 8], 128, 0.998)
    assert "give another --config" in refusal(two, "base=x")
    (tmp_path / "one.yaml").write_text("base: more/two.yaml\n", encoding="utf-8")
    assert "is based on itself" in refusal(two)
    two.write_text("base: none.yaml\n", encoding="utf-8")
    assert f"{two}: base: none.yaml: no such configuration" in refusal(two)
    two.write_text("base: [a]\n", encoding="utf-8")
    assert "give the name of a shipped configuration" in refusal(two)
    two.write_text("base: ../three.yaml\n", encoding="utf-8")
    (tmp_path / "three.yaml").write_text("train: {stepz: 1}\n", encoding="utf-8")
    assert "three.yaml: unknown key 'train.stepz'" in refusal(two), "the file that it stands in"


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("guidance.every=2", "guidance.every is guidance.interval now"),
        ("aids.ctc=1", "aids.ctc is aux.ctc now"),
        ("compare={sets: all}", "compare.sets is eval.benchmarks now"),
        ("compare.test=x", "compare.test is eval.test now"),
        ("train.batch=2", "train.batch is train.batch_size now"),
        ("optim.clip=2", "optim.clip is optim.grad_clip now"),
        ("guidance.schedules.soft.warmup=0.1", "is guidance.schedules.kd.warmup now"),
        ("guidance.padding=drop", "guidance.padding: drop is guidance.include_padding: false now"),
        ("guidance.normalization=clamped", "is guidance.norm: standard now"),
        ("student.decoding=one-shot", "student.decoding: one-shot is student.decoding: nar now"),
        ("student.refinements=1", "student.refinements is student.refine_iters now"),
        ("data.train=[{path: a, share: 1}]", "data.train[].share is data.train[].ratio now"),
        ("data.train=[{path: a, labels: teacher}]", "is data.train[].labels: pseudo now"),
        ("data.render={words: 5}", "data.render.words is data.synthetic.words now"),
        ("data.rendered.share=1", "data.rendered.share is data.synthetic.ratio now"),
        ("teacher.text_store=x", "teacher.text_store is gone"),
    ],
)
def test_a_key_of_version_0_1_is_answered_with_that_of_now(file: Path, old: str, new: str) -> None:
    assert new in refusal(file, old)
    key, _, value = old.partition("=")
    for part in reversed(key.split(".")):
        value = f"{{{part}: {value}}}"
    file.write_text(value, encoding="utf-8")
    assert new in refusal(file)
    assert str(file) in refusal(file)


def test_every_old_key_leads_to_one_that_exists() -> None:
    schemas = {*known_keys(Config), *known_keys(TeacherConfig)}
    for old, new in OLD_KEYS.items():
        assert type_at(Config, new) is not None or type_at(TeacherConfig, new) is not None, old
        assert old not in schemas
    for old in OLD_VALUES:
        assert old in OLD_KEYS or old in schemas


@pytest.mark.parametrize("schema", [Config, TeacherConfig])
def test_every_key_is_explained(schema: type) -> None:
    for key in known_keys(schema):
        lines = explain(schema, key).splitlines()
        assert lines[0].startswith(key), key
        assert len(lines) > 1, key


def test_a_key_is_explained_from_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--help-config", "optim.warmup"])
    assert ended.value.code == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines == ["optim.warmup: 0.075", "  Share of the run that warms up.", "  takes number, at least 0, below 1"]
    with pytest.raises(SystemExit):
        main(["--help-config"])
    assert "  train: ..." in capsys.readouterr().out
    assert main(["--help-config", "guidance.evry"]) == 2
    assert main(["--help-config", "guidance.every"]) == 2
    assert capsys.readouterr().err.splitlines()[1] == "error: guidance.every is guidance.interval now"


def test_values_from_python_are_merged_as_those_of_a_file() -> None:
    given = {"train": {"steps": 5, "precision": "no"}, "student.width": 64, "losses": {"mine": 0.5}, "out": Path("a/b")}
    config = load_config(Config, "quickstart", {**given, "data.train": [{"path": "x"}], "student.stem": (8, 8, 8)})
    assert (config.train.steps, config.train.batch_size, config.student.width) == (5, 16, 64)
    assert (config.out, config.student.stem, config.data.train) == ("a/b", [8, 8, 8], [SourceSection("x")])
    assert config.losses == {"mine": LossSection(0.5)}
    assert load_config(Config, {}) == Config()
    assert load_config(Config, {"out": "2024_11_25", "train": {"steps": 3}}, {"train.steps": 4}).train.steps == 4
    based = load_config(Config, {"base": "quickstart", "train": {"steps": 3}})
    assert (based.train.steps, based.student.width) == (3, 128)


@pytest.mark.parametrize("overrides", [{"train": {"stepz": 1}}, {"train.stepz": 1}])
def test_an_unknown_key_from_python_names_the_nearest(overrides: dict[str, object]) -> None:
    for given in ({}, overrides):
        with pytest.raises(UserError, match=r"unknown key 'train\.stepz'; the nearest known one is 'train\.steps'"):
            load_config(Config, given, overrides)


@pytest.mark.parametrize(
    ("given", "section"),
    [
        ("losses.mine=0.5", LossSection(0.5)),
        ("losses={mine: 0.5}", LossSection(0.5)),
        ("losses.mine={weight: 2, until: 0.5, options: {k: [1, no]}}", LossSection(2.0, 0, 0.5, 0, {"k": [1, False]})),
        ("losses.mine.options.k.a=1", LossSection(options={"k": {"a": 1}})),
        ("losses.mine.warmup=0.1", LossSection(1.0, 0.1)),
    ],
)
def test_a_loss_is_a_weight_or_a_section(file: Path, given: str, section: LossSection) -> None:
    assert load_config(Config, file, [given]).losses == {"mine": section}


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        ("losses.mine.weigth=1", "'losses.NAME.weight'"),
        ("losses.mine=-1", "losses.mine.weight=-1.0 is too small; give 0 or more"),
        ("guidance.schedules.kd.wramup=1", "'guidance.schedules.NAME.warmup'"),
        ("losses.mine.until=2", "losses.mine.until=2.0 is too large; give 1 or less"),
        ("losses=3", "losses holds entries by name"),
        ("guidance.temperature=0", "give more than 0"),
        ("optim.ema=1", "give less than 1"),
        ("optim.lr=nan", "optim.lr=nan"),
        ("teachers=[{name: tiny, weight: -1}]", "teachers[0].weight=-1.0"),
        ("teacher.text_cache_mb=-1", "teacher.text_cache_mb=-1"),
        ("data.train[0].ratio=1", "the list has 0 entries"),
    ],
)
def test_values_out_of_bounds(file: Path, wrong: str, reason: str) -> None:
    assert reason in refusal(file, wrong)


def test_numbers_and_arrays_of_numpy_are_numbers() -> None:
    losses = {"mine": {"options": {"k": {"a": np.arange(2)}}}}
    config = load_config(Config, {"optim": {"lr": np.float64(5e-4)}, "losses": losses}, {"train.steps": np.int64(5)})
    assert (config.optim.lr, config.train.steps) == (5e-4, 5)
    assert type(config.train.steps) is int
    assert config.losses["mine"].options == {"k": {"a": [0, 1]}}
