"""Files for other programs: their scores are PyTorch's, and the programs themselves read them as they are meant."""

from __future__ import annotations

import copy
import re
import runpy
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from PIL import Image

from distill.commands.export import main
from distill.deployment import target_parity
from distill.deployment.card import Card
from distill.deployment.comparison_words import ComparisonWord, draw_pictures
from distill.deployment.fitting import Form
from distill.deployment.folder import Exported, save_folder
from distill.deployment.programs import PROGRAMS
from distill.deployment.snippets import FILES, SNIPPETS, TargetName, snippet
from distill.deployment.target_parity import check_target_file
from distill.deployment.targets import TARGETS, form_of
from students.charset import CHARSETS, Charset
from students.ctc import LEARNERS
from students.errors import UserError
from students.pictures import fitted_size
from students.reading import Reader
from students.student import StudentConfig
from tests.distill.deployment.test_onnx_kinds import make

CHARSET = "0123456789abcd"


@pytest.fixture(scope="module")
def pictures() -> list[Image.Image]:
    """Drawn words and noise of many shapes, among them very small and very wide ones."""
    noise = np.random.default_rng(0)
    shapes = [(8, 300), (12, 12), (31, 90), (100, 40), (64, 512), (48, 320)]
    return [
        Image.fromarray(noise.integers(0, 256, (max(height // 8, 2), max(width // 8, 2), 3), np.uint8)).resize(
            (width, height)
        )
        for height, width in shapes
    ] + draw_pictures(CHARSET, count=6)


def make_free() -> Reader:
    """A CTC reader that keeps the aspect, with random weights some way from their start."""
    torch.manual_seed(3)
    built = LEARNERS["ctc"](
        StudentConfig(
            charset=CHARSET, max_length=9, image_size=(32, 192), encoder="conv", keep_aspect=True, stem=(8, 8, 16),
            width=32, depth=3, heads=2, mlp_ratio=2.0, decoder_depth=3, decoder_heads=2, decoder_mlp_ratio=2.0,
            column_head=True, taps="even", decoding="ctc",
        )
    )  # fmt: skip
    with torch.no_grad():
        for weight in built.parameters():
            weight.add_(torch.randn_like(weight) * 0.3)
    return built.eval().exported_model()


MAKERS = {"one size": lambda: make("ctc"), "any width": make_free}


@pytest.fixture(scope="module", params=["one size", pytest.param("any width", marks=pytest.mark.slow)])
def reader(request: pytest.FixtureRequest) -> Reader:
    return MAKERS[request.param]()


@pytest.fixture(scope="module")
def exported(reader: Reader, pictures: list[Image.Image], tmp_path_factory: pytest.TempPathFactory) -> Exported:
    """The files for all programs, written and checked once."""
    folder = tmp_path_factory.mktemp("targets") / "mini"
    return save_folder(
        reader, folder, Card("mini"), targets=list(TARGETS), words=[ComparisonWord(each) for each in pictures]
    )


def kept_aspect(reader: Reader) -> tuple[int, int] | None:
    return reader.image_size if reader.keep_aspect else None


def test_every_target_has_its_file_and_its_program() -> None:
    assert ["onnx", *TARGETS, "web"] == ["onnx", *PROGRAMS, "web"] == ["onnx", *SNIPPETS, "web"] == list(FILES)


@pytest.mark.parametrize("name", TARGETS)
def test_file_and_program_agree(
    name: TargetName, reader: Reader, exported: Exported, pictures: list[Image.Image]
) -> None:
    parity = exported.targets[name]
    assert parity.agrees, parity
    assert parity.words == len(pictures)
    assert FILES[name] in exported.files
    assert parity.version == PROGRAMS[name].version()
    card = (exported.folder / "README.md").read_text(encoding="utf-8")
    assert str(parity) in card
    assert snippet(name, "THIS_FOLDER", CHARSET, kept_aspect(reader)) in card


@pytest.mark.parametrize("name", TARGETS)
def test_scores_are_what_the_program_wants(
    name: TargetName, reader: Reader, exported: Exported, pictures: list[Image.Image]
) -> None:
    file = exported.folder / FILES[name]
    session = onnxruntime.InferenceSession(file)
    batch = PROGRAMS[name].batch(pictures[-1:], form_of(reader))
    scores = session.run(None, {session.get_inputs()[0].name: batch})[0]
    own = reader.read(pictures[-1]).token_probs
    assert scores.shape == ((len(own), 1, 15) if name == "opencv" else (1, len(own), 15)), "as many columns as our own"
    if name != "onnxtr":
        np.testing.assert_allclose((np.exp(scores) if name == "opencv" else scores).sum(axis=-1), 1, atol=1e-5)
    assert session.get_modelmeta().custom_metadata_map["character"].splitlines() == list(CHARSET)
    assert b".py" not in file.read_bytes(), "no source lines, no paths"
    graph = onnx.load(file).graph
    used = {name for node in graph.node for name in node.input}
    assert {tensor.name for tensor in graph.initializer} <= used, "nothing that nobody needs"


def test_blank_is_where_the_program_looks_for_it() -> None:
    logits = torch.nn.functional.one_hot(torch.tensor([[0, 3]]), 5).float() * 9
    places = {name: target.finish(logits).argmax(dim=-1).flatten().tolist() for name, target in TARGETS.items()}
    assert places == {"rapidocr": [0, 3], "paddleocr": [0, 3], "onnxtr": [4, 2], "opencv": [0, 3]}
    for target in TARGETS.values():
        undone = torch.from_numpy(target.to_logits(target.finish(logits).numpy()))
        torch.testing.assert_close(undone.softmax(dim=-1), logits.softmax(dim=-1))


@pytest.mark.parametrize("name", TARGETS)
def test_lines_of_the_card_read_a_picture(
    name: TargetName, reader: Reader, exported: Exported, pictures: list[Image.Image], tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    pytest.importorskip(PROGRAMS[name].module, reason=f"{TARGETS[name].title} isn't installed")
    pictures[-1].save(tmp_path / "word.png")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "program.py").write_text(
        snippet(name, str(exported.folder), CHARSET, kept_aspect(reader)), encoding="utf-8"
    )
    runpy.run_path("program.py")
    expected = PROGRAMS[name].read(exported.folder / FILES[name], reader.charset, form_of(reader), pictures[-1:])[0]
    assert expected
    assert expected in capsys.readouterr().out


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda texts: [text[::-1] for text in texts], "read as"),
        (lambda texts: [*texts[:-1], texts[-1] + "0"], "1 words not as their scores say"),
    ],
)
def test_a_program_that_reads_otherwise_is_an_error(
    change: Callable[[list[str]], list[str]], message: str, reader: Reader, exported: Exported,
    pictures: list[Image.Image], monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    program = PROGRAMS["opencv"]
    wrong = type(program)(program.module, program.package, program.prepare, lambda *given: change(program.read(*given)))
    monkeypatch.setitem(target_parity.PROGRAMS, "opencv", wrong)
    parity = check_target_file(reader, exported.folder / FILES["opencv"], "opencv", pictures)
    assert not parity.agrees
    assert message in str(parity)


def test_other_weights_are_an_error(reader: Reader, exported: Exported, pictures: list[Image.Image]) -> None:
    other = copy.deepcopy(reader)
    with torch.no_grad():
        other.column_head.weight[3] += 0.1
    for name in TARGETS:
        parity = check_target_file(other, exported.folder / FILES[name], name, pictures[:4])
        assert parity.largest > 1e-3
        assert not parity.agrees


def test_an_attention_decoder_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(UserError, match="RapidOCR runs CTC readers only"):
        save_folder(make("nar"), tmp_path / "out", Card("mini"), targets=["rapidocr"])
    make("nar").save_pretrained(tmp_path / "nar")
    arguments = ["--student", str(tmp_path / "nar"), "--out", str(tmp_path / "out")]
    assert main([*arguments, "--target", "onnx", "opencv"]) == 2
    assert "OpenCV runs CTC readers only" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["nar"]


def test_the_how_to_shows_the_lines_of_the_card(root: Path) -> None:
    page = (root / "docs" / "howto" / "programs.md").read_text(encoding="utf-8")
    for name in SNIPPETS:
        assert f"```python\n{snippet(name, 'exported', CHARSETS['36'])}```" in page


def test_an_opencv_too_old_for_any_width_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cv2.__version__", "4.10.0")
    with pytest.raises(UserError, match=r"OpenCV 4\.10\.0 runs readers of one size only"):
        PROGRAMS["opencv"].read(tmp_path / "opencv.onnx", Charset("ab"), Form(32, 320, keep_aspect=True), [])


@pytest.mark.parametrize("size", [(100, 40), (12, 12), (31, 90), (1000, 20), (333, 32)])
def test_the_lines_for_opencv_set_the_size_that_the_reader_would(size: tuple[int, int]) -> None:
    sizes = re.search(r"columns = (.*)\nmodel.setInputSize\((.*), (.*)\)", snippet("opencv", "mini", "ab", (32, 192)))
    assert sizes is not None
    width, height = size
    columns = round(8 * width / height)
    assert sizes.groups() == (
        "round(8 * picture.shape[1] / picture.shape[0])",
        "8 * min(max(columns, 16), 48)",
        "64",
    )
    assert fitted_size(width, height, (32, 192)) == (32, 4 * min(max(columns, 16), 48))
