from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from students.charset import Charset
from students.ctc import CtcReader
from students.errors import UserError
from students.language_model import load_language_model
from students.parseq import Parseq, ParseqConfig
from students.reading import Reader
from students.student import Student, StudentConfig
from teachers import names, registry
from teachers.clip import ClipTeacher
from teachers.clip4str import Clip4Str, Clip4StrConfig
from teachers.guidance import Guidance, TeacherShape
from teachers.names import resolve
from teachers.reading import ParseqTeacher
from teachers.registry import READERS, load_model, load_reader, load_teacher, register_reader, register_teacher
from teachers.small import SmallTeacher, SmallTeacherConfig
from teachers.teacher import Teacher

CLIP = SmallTeacherConfig(
    stem=(8, 8, 16), image_width=32, image_layers=4, image_heads=2, text_width=16, text_layers=4, text_heads=2,
    joint_width=16,
)  # fmt: skip
SMALL_PARSEQ = ParseqConfig(width=32, depth=4, heads=2, patch=(16, 32), decoder_heads=2)


def make(kind: str) -> Reader:
    if kind == "student":
        sizes = {"width": 32, "depth": 3, "heads": 2, "stem": (8, 8, 16), "decoder_depth": 3, "decoder_heads": 2}
        return Student(StudentConfig(encoder="conv", taps="even", **sizes))  # type: ignore[arg-type]
    if kind == "parseq":
        return Parseq(SMALL_PARSEQ)
    return Clip4Str(Clip4StrConfig(clip=CLIP, decoder_heads=2, context=12))


@pytest.fixture(autouse=True)
def own_registries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "TEACHERS", dict(registry.TEACHERS))
    monkeypatch.setattr(registry, "READERS", READERS.copy())


@pytest.mark.parametrize("kind", ["student", "parseq", "clip4str"])
def test_a_reader_is_loaded_by_the_format_in_its_folder(kind: str, tmp_path: Path) -> None:
    reader = make(kind).eval()
    reader.save_pretrained(tmp_path / "reader")
    assert not resolve(tmp_path / "reader").is_clip
    again = load_reader(tmp_path / "reader")
    assert type(again) is type(reader) is READERS[reader.FORMAT].model
    assert not again.training
    images = torch.rand(2, 3, *reader.image_size) * 2 - 1
    with torch.inference_mode():
        torch.testing.assert_close(again(images, 3), reader(images, 3))
    assert load_teacher(str(tmp_path / "reader"), kind=kind).shape.charset == reader.charset


def test_config_json_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make("parseq").save_pretrained(tmp_path / "parseq")
    SmallTeacher(CLIP).save(tmp_path / "clip", "card")
    opened: list[str] = []
    read = Path.read_text
    monkeypatch.setattr(Path, "read_text", lambda self, *a, **k: (opened.append(self.name), read(self, *a, **k))[1])
    load_teacher(str(tmp_path / "parseq"))
    load_teacher(str(tmp_path / "clip"))
    assert opened == ["config.json"] * 2


def test_readers_are_told_from_clips(tmp_path: Path) -> None:
    assert not resolve("tiny").is_clip
    assert isinstance(load_reader("tiny"), CtcReader)
    SmallTeacher(CLIP).save(tmp_path / "clip", "card")
    for name in ("words-small", "ViT-B-16/openai", str(tmp_path / "clip")):
        assert resolve(name).is_clip
        with pytest.raises(UserError, match="chooses from a lexicon but does not read"):
            load_reader(name)


def test_folders_that_hold_neither(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no config\.json"):
        load_teacher(str(tmp_path))
    for stored, message in (({"width": 3}, "does not describe a reader"), ({"format": "strips"}, "'strips' as its")):
        (tmp_path / "config.json").write_text(json.dumps(stored), encoding="utf-8")
        for load in (load_teacher, load_reader):
            with pytest.raises(UserError, match=message):
                load(str(tmp_path))
    with pytest.raises(UserError, match="can be read with and learned from, but neither trained nor exported"):
        load_reader("student.onnx")
    with pytest.raises(UserError, match="No such file"):
        load_teacher("student.onnx")


def test_a_hub_repository_is_a_teacher_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make("parseq").save_pretrained(tmp_path)
    monkeypatch.setattr(names, "locate", lambda name: tmp_path)
    teacher = load_teacher("somebody/parseq-tiny")
    assert isinstance(teacher, ParseqTeacher)
    assert teacher.name == "somebody/parseq-tiny"
    assert isinstance(load_reader("somebody/parseq-tiny"), Parseq)


class Codes(Teacher):
    """Fixed codes for words."""

    def __init__(self, width: int = 4, image_size: tuple[int, int] = (1, 1)) -> None:
        super().__init__("codes")
        self.shape, self.image_size = TeacherShape(joint_width=width), image_size
        self.freeze()

    def forward(self, images: Tensor, labels: Any) -> Guidance:
        return Guidance(None, None, torch.zeros(len(labels), 4), torch.ones(len(labels), 2, dtype=torch.bool))


def test_a_registered_teacher_goes_by_its_name() -> None:
    assert register_teacher("codes")(Codes) is Codes
    teacher = load_teacher("codes", image_size=(48, 160))
    assert isinstance(teacher, Codes)
    assert teacher.image_size == (48, 160)
    assert isinstance(load_model("codes"), Codes)
    assert isinstance(load_model("tiny"), CtcReader)
    register_teacher("codes")(lambda: Codes(8))  # a notebook cell that is run again
    assert load_teacher("codes").shape.joint_width == 8
    with pytest.raises(UserError, match="takes no weights"):
        load_teacher("codes", weights="file.pt")
    with pytest.raises(UserError, match="does not read"):
        load_reader("codes")

    class Noisy(Codes):
        def __init__(self) -> None:
            super().__init__(4)
            self.later = torch.nn.Sequential(torch.nn.BatchNorm1d(4), torch.nn.Dropout(0.5))

    register_teacher("codes")(Noisy)
    teacher = load_teacher("codes")
    assert not any(module.training for module in teacher.modules()), "whatever it was built of, it is frozen"
    assert not any(weight.requires_grad for weight in teacher.parameters())
    register_teacher("codes")(lambda: 3)  # type: ignore[arg-type, return-value]
    with pytest.raises(UserError, match=r"made a int; return a teachers\.Teacher"):
        load_teacher("codes")
    with pytest.raises(UserError, match="comes with the package"):
        register_teacher("words-small")


def test_a_registered_reader_is_loaded_and_may_teach(tmp_path: Path) -> None:
    @register_reader("narrow", teacher=ParseqTeacher)
    class Narrow(Parseq):
        pass

    Narrow(SMALL_PARSEQ).save_pretrained(tmp_path)
    assert json.loads((tmp_path / "config.json").read_text(encoding="utf-8"))["format"] == "narrow"
    assert type(load_reader(tmp_path)) is Narrow
    assert isinstance(load_teacher(str(tmp_path), kind="narrow"), ParseqTeacher)
    register_reader("narrow")(Narrow)
    with pytest.raises(UserError, match="registered as a reader only"):
        load_teacher(str(tmp_path))
    with pytest.raises(UserError, match="is the format of Student"):
        register_reader(Student.FORMAT)


@dataclasses.dataclass(frozen=True)
class FreeConfig:
    charset: str = "abc"
    max_length: int = 4
    padding: tuple[int, int] = (1, 0)
    rate: float | None = None
    names: list[str] = dataclasses.field(default_factory=list)


@dataclasses.dataclass(frozen=True)
class NamedConfig(FreeConfig):
    language_model: str = "none"


def free_reader(config: FreeConfig) -> Reader:
    class Free(Reader):
        CONFIG, LOGITS = type(config), "ctc"

        def __init__(self, config: FreeConfig) -> None:
            super().__init__()
            self.config, self.charset, self.max_length = config, Charset(config.charset), config.max_length
            self.head = torch.nn.Linear(2, 4)

    return register_reader("free")(Free)(config)


def test_configurations_of_registered_readers_hold_what_they_like(tmp_path: Path) -> None:
    given = FreeConfig(padding=(0, 2), rate=0.1, names=["x"])
    free_reader(given).save_pretrained(tmp_path)
    loaded = load_reader(tmp_path).config
    assert (loaded.padding, loaded.rate, list(loaded.names)) == ((0, 2), 0.1, ["x"])


def test_a_language_model_that_could_not_be_stored_is_not_lost_in_silence(tmp_path: Path) -> None:
    for config, stored in ((FreeConfig(), False), (NamedConfig(), True)):
        reader = free_reader(config)
        reader.language_model = load_language_model("european")
        if stored:
            reader.save_pretrained(tmp_path)
            loaded = load_reader(tmp_path).language_model
            assert loaded is not None
            assert loaded.name == "european"
        else:
            with pytest.raises(UserError, match="Free: its configuration has no field `language_model`"):
                reader.save_pretrained(tmp_path)
            assert list(tmp_path.iterdir()) == []


def test_a_teacher_of_another_kind_is_refused(tmp_path: Path) -> None:
    for given, message in (
        ({"name": "words-small", "kind": "student"}, "words-small is of kind clip, not student"),
        ({"name": "tiny", "kind": "parseq"}, "tiny is of kind student, not parseq"),
        ({"name": "tiny", "weights": str(tmp_path / "no.pt")}, "no such file"),
        ({"name": "tiny", "kind": "reader"}, "choose one of auto, clip, student"),
    ):
        with pytest.raises(UserError, match=message):
            load_teacher(**given)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("tinny", "did you mean tiny"),
        ("nothing of the kind", "try words-small, small, tiny, tiny-free"),
        ("ViT-B16", "ViT-B-16"),
        ("ViT-B16/openai", "ViT-B-16"),
    ],
)
@pytest.mark.parametrize("load", [load_teacher, load_reader])
def test_an_unknown_name_gets_near_ones(name: str, near: str, load: Any) -> None:
    with pytest.raises(UserError, match=near) as caught:
        load(name)
    assert "\n" not in str(caught.value)


def test_the_shipped_teacher_is_a_clip() -> None:
    teacher = load_teacher("words-small")
    assert isinstance(teacher, ClipTeacher)
    assert teacher.name == "words-small"
    teacher.tokens([Charset.load("36").characters[:20]])


@pytest.mark.parametrize(
    ("give", "shape"),
    [
        (lambda x: torch.zeros(7, len(x), 4), r"\(7, 2, 4\)"), (lambda x: torch.zeros(len(x), 7, 5), r"\(2, 7, 5\)"),
        (lambda x: (torch.zeros(len(x), 7, 4),), "tuple"),
    ],
)  # fmt: skip
def test_logits_of_another_shape_are_refused(give: Any, shape: str) -> None:
    reader = free_reader(FreeConfig())
    reader.forward = give
    with pytest.raises(UserError, match=rf"free gives {shape} for logits; give a tensor \(2, steps, 4\)"):
        reader.read_batch(torch.zeros(2, 3, 32, 128))


def test_an_unknown_kind_of_logits_is_refused() -> None:
    with pytest.raises(UserError, match=r"Odd\.LOGITS is 'CTC'; give 'attention' or 'ctc'"):
        register_reader("odd")(type("Odd", (Parseq,), {"LOGITS": "CTC"}))
