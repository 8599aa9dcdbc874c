"""Students that read all at once, and off columns: trained, guided, resumed, saved, read, compared like any other."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from distill.commands.distill import main
from distill.commands.evaluate import main as evaluate
from distill.commands.read import main as read
from distill.data.batch import Batch
from distill.training.building import build_student
from distill.training.distillation import DistillationTask
from distill.training.sections import AuxSection, GuidanceSection, StudentSection
from losses.heads import TERMS
from students.ctc import CtcLearner, CtcReader
from students.errors import UserError
from students.student import Student
from teachers import load_teacher
from teachers.registry import load_reader

KINDS = {
    "parallel": ["student.decoding=nar", "student.refine_iters=1"],
    "ctc": ["student.decoding=ctc"],
    "ctc alone": ["student.decoding=ctc", "student.decoder=false"],
    "ctc free width": ["student.decoding=ctc", "student.keep_aspect=true"],
    "ctc alone, free width": ["student.decoding=ctc", "student.keep_aspect=true", "student.decoder=false"],
}  # fmt: skip
STEPS = ["train.steps=5", "train.checkpoint_every=3", "data.workers=0", "guidance.interval=2", "student.dropout=0.2"]


def rows(run: Path) -> list[dict[str, Any]]:
    """What was logged of steps and validations, but what a clock says."""
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    return [
        {name: line[name] for name in line if name not in ("seconds", "words_per_second")}
        for line in lines if line["group"] != "gradient_share"
    ]  # fmt: skip


@pytest.fixture(scope="module", params=list(KINDS))
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def arguments(kind: str, write_config: Callable[[Path], Path], tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    return ["--config", str(write_config(tmp_path_factory.mktemp(kind))), *STEPS, *KINDS[kind]]


@pytest.fixture(scope="module")
def run(arguments: list[str]) -> Path:
    """The folder of a run to its end."""
    assert main(arguments) == 0
    return Path(arguments[1]).parent / "run"


def test_all_stages_that_it_has_are_guided(run: Path, kind: str) -> None:
    first, second = rows(run)[:2]
    decoded = {"characters", "linguistic1", "linguistic2", "linguistic3"}
    assert {*TERMS, "ctc", "columns"} - decoded <= set(first)
    assert decoded & set(first) == (set() if "alone" in kind else decoded)
    assert not set(TERMS) & set(second), "guided every second step"


def test_resumed_is_unbroken(run: Path, kind: str, arguments: list[str]) -> None:
    logged, exported = rows(run), load_file(run / "student" / "model.safetensors")
    state = load_file(run / "checkpoints" / "step-00000005" / "model.safetensors")
    (run / "checkpoints" / "step-00000005" / "complete.json").unlink()
    assert main([*arguments, "--resume", "auto"]) == 0
    assert rows(run) == logged
    again = load_file(run / "checkpoints" / "step-00000005" / "model.safetensors")
    decoder = any(name.startswith("student.decoder.") for name in state)
    assert decoder == ("alone" not in kind), "a decoder that is there goes on learning"
    for one, other in ((state, again), (exported, load_file(run / "student" / "model.safetensors"))):
        assert one.keys() == other.keys()
        assert all(torch.equal(one[name], other[name]) for name in one)


def test_its_folder_says_how_it_reads(run: Path, kind: str) -> None:
    reader = load_reader(run / "student")
    stored = json.loads((run / "student" / "config.json").read_text(encoding="utf-8"))
    assert (stored["decoding"], stored["refine_iters"]) == (reader.config.decoding, reader.config.refine_iters)
    names = {name.partition(".")[0] for name in load_file(run / "student" / "model.safetensors")}
    if kind.startswith("ctc"):
        assert names == {"encoder", "column_head"}, "nothing of the decoder is left"
        assert isinstance(reader, CtcReader)
    else:
        assert {"decoder", "pos_queries", "text_embed", "head"} <= names
        assert stored["decoding"] == "nar"
    (scored,) = json.loads((run / "report.json").read_text(encoding="utf-8"))["readers"]
    assert scored["params"] == reader.parameters_count
    assert scored["ms_per_word"] > 0


def test_commands_need_no_further_arguments(
    run: Path, material: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    student, picture = str(run / "student"), str(tmp_path / "word.png")
    Image.linear_gradient("L").resize((90, 30)).save(picture)
    assert read(["--student", student, picture]) == 0
    (reading,) = load_reader(student).read([picture])
    assert capsys.readouterr().out == f"{picture}\t{reading.text}\t{reading.confidence:.4f}\n"
    out = tmp_path / "compared"
    words = ["--student", student, "--data", str(material / "validation"), "--out", str(out), "--device", "cpu"]
    assert evaluate([*words, "--threads", "1"]) == 0
    (scored,) = json.loads((out / "report.json").read_text(encoding="utf-8"))["readers"]
    assert scored["benchmarks"]["validation"]["words"] == 7
    assert scored["params"] == load_reader(student).parameters_count


def test_a_run_starts_from_it(run: Path, kind: str) -> None:
    restarted = build_student(StudentSection(init=str(run / "student")), 0)
    again = build_student(StudentSection(init=str(run / "student")), 0)
    torch.testing.assert_close(restarted.state_dict(), again.state_dict(), rtol=0, atol=0)
    assert restarted.training
    assert type(restarted) is (CtcLearner if kind.startswith("ctc") else Student)
    torch.testing.assert_close(
        restarted.exported_model().state_dict(), load_reader(run / "student").state_dict(), rtol=0, atol=0
    )
    for wrong in ({"keep_aspect": "free width" not in kind}, {"max_width": 512} if "free width" not in kind else {}):
        if wrong:
            with pytest.raises(UserError, match=f"student.{next(iter(wrong))}"):
                build_student(StudentSection(init=str(run / "student"), **wrong), 0)  # type: ignore[arg-type]
    section = StudentSection(init=str(run / "student"), charset="94", remap=True, decoding="ar")
    if "free width" in kind:
        wider = StudentSection(init=str(run / "student"), keep_aspect=True, max_width=512)
        assert build_student(wider, 0).image_size == (32, 512), "nothing depends on the widest picture"
        with pytest.raises(UserError, match="pictures that keep their aspect are read by CTC"):
            build_student(section, 0)
        return
    other = build_student(section, 0)
    assert (type(other), other.config.decoding, other.config.refine_iters) == (Student, "ar", 0)


def test_as_a_teacher(run: Path, kind: str) -> None:
    guidance = load_teacher(str(run / "student"))(torch.zeros(2, 3, 32, 128), ["ab", "c"])
    assert guidance.characters is not None
    assert guidance.characters.shape == (2, 3, 37)
    assert (guidance.columns is not None) == kind.startswith("ctc")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"decoding": "ctc", "encoder": "vit", "width": 32}, "column head of encoder conv"),
        ({"decoding": "ctc", "refine_iters": 1}, "refine_iters of decoding ctc"),
        ({"refine_iters": 1}, "refine_iters of decoding ar"),
        ({"decoder": False}, "decoding ar reads with its decoder"),
        (
            {"init": "tiny", "decoding": "ar", "keep_aspect": None},
            "keep their aspect are read by CTC",
        ),
        ({"init": "tiny", "refine_iters": 2}, "refine_iters of decoding ctc"),
    ],
)
def test_students_that_can_not_be_built(change: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        build_student(StudentSection(**change), 0)


def test_a_shipped_reader_made_wider_keeps_the_size_of_its_heads() -> None:
    lines: list[str] = []
    section = StudentSection(init="tiny-free", width=256, depth=6, decoder=False)
    student = build_student(section, 0, log=lines.append)
    assert (student.config.heads, student.config.depth) == (8, 6)
    assert "made wider are encoder.cls_token" in lines[-1]
    assert "drawn anew" not in lines[-1]


def test_a_ctc_student_can_not_do_without_ctc() -> None:
    student = build_student(StudentSection(width=32, depth=4, decoding="ctc"), 0)
    with pytest.raises(UserError, match=r"aux\.ctc"):
        DistillationTask(student, None, GuidanceSection(), AuxSection(ctc=0.0))


def test_without_a_decoder_encoder_and_columns_learn_the_same() -> None:
    """One step's `ctc`, `columns` and their gradients are those of the same student beside a decoder."""
    beside = build_student(StudentSection(init="tiny-free", decoding="ctc"), 0)
    alone = build_student(StudentSection(init="tiny-free", decoding="ctc", decoder=False), 0)
    assert type(alone) is CtcReader
    assert alone.training
    assert alone.no_weight_decay() == beside.no_weight_decay() & {name for name, _ in alone.named_parameters()}
    images, labels = torch.rand(4, 3, 32, 128, generator=torch.Generator().manual_seed(1)), ["ab", "q", "7up", "zzz"]
    columns = torch.arange(4 * 32).view(4, 32) % 37
    batch = Batch(images, labels, columns, torch.arange(4), versions=(0,) * 4)
    found = []
    for student in (beside, alone):
        task = DistillationTask(student, None, GuidanceSection(), AuxSection())
        terms = task(task.prepare(batch, 0, 0.0))
        (terms["ctc"] + terms["columns"]).backward()
        found.append((terms, {name: weight.grad for name, weight in student.named_parameters()}))
    (terms, gradients), (own, alone_gradients) = found
    assert set(terms) - set(own) == {"characters"}
    torch.testing.assert_close({name: terms[name] for name in own}, own, rtol=0, atol=0)
    torch.testing.assert_close({name: gradients[name] for name in alone_gradients}, alone_gradients, rtol=0, atol=0)


def test_a_new_student_without_a_decoder_and_another_alphabet() -> None:
    new = build_student(StudentSection(width=32, depth=4, decoding="ctc", decoder=False), 0)
    assert type(new) is CtcReader
    assert new.column_head.weight.std() < 0.03
    said: list[str] = []
    section = StudentSection(init="tiny-free", decoding="ctc", decoder=False, charset="94", max_length=30, remap=True)
    remapped = build_student(section, 0, said.append)
    before, now = load_reader("tiny-free"), remapped
    assert "positions" not in said[0], "a reader off columns has none"
    torch.testing.assert_close(
        now.column_head.weight[now.charset.ids["a"]],
        before.column_head.weight[before.charset.ids["a"]],  # type: ignore[union-attr,index]
    )


@pytest.mark.parametrize("loss", ["kd", "dkd"])
def test_what_would_teach_a_decoder_is_refused_without_one(loss: str, tmp_path: Path) -> None:
    student = build_student(StudentSection(width=32, depth=4, decoding="ctc", decoder=False), 0)
    build_student(StudentSection(width=32, depth=4), 0).save_pretrained(tmp_path / "reader")
    teacher = load_teacher(str(tmp_path / "reader"))
    for head in ("decoder", "both"):
        with pytest.raises(UserError, match=rf"guidance\.kd_head={head}: the student learns without a decoder"):
            DistillationTask(student, teacher, GuidanceSection(**{loss: 1.0, "kd_head": head}), AuxSection())  # type: ignore[arg-type]
    assert loss in DistillationTask(student, teacher, GuidanceSection(**{loss: 1.0}), AuxSection()).branches[0].losses
    task = DistillationTask(student, teacher, GuidanceSection(), AuxSection())
    assert "without the linguistic terms of teacher reader" in task.warnings()[-1]
