"""Recognisers of other programs are read as those read them, and what a file doesn't tell is asked for."""

from __future__ import annotations

import pickle
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnx
import pytest
from PIL import Image

from students.errors import UserError
from students.language_model import load_language_model
from students.onnx_files import count_weights, read_properties
from teachers.onnx_ctc import MAX_WIDTH, OnnxCtcReader
from teachers.onnx_options import parse_options, read_dictionary
from teachers.peers import open_peer
from tests.teachers.stripes import HEIGHT, draw, save_recogniser

CHARACTERS = "abcde"
METADATA = {"character": "\n".join(CHARACTERS)}


def spelt(text: str, first: int = 1) -> list[int]:
    return [CHARACTERS.index(char) + first for char in text]


@pytest.mark.parametrize("softmax", [True, False])
@pytest.mark.parametrize(
    ("spaces", "time_major", "batch"), [(0, False, "N"), (1, False, 1), (1, True, "N"), (0, True, 3)]
)
def test_a_file_with_a_dictionary_needs_nothing_else(
    spaces: int, time_major: bool, batch: int | str, softmax: bool, tmp_path: Path
) -> None:
    shades = save_recogniser(
        tmp_path / "rec.onnx", CHARACTERS, spaces=spaces, softmax=softmax, time_major=time_major,
        shape=(batch, 3, HEIGHT, "W"), metadata=METADATA,
    )  # fmt: skip
    reader = open_peer(str(tmp_path / "rec.onnx"), threads=1)
    assert isinstance(reader, OnnxCtcReader)
    assert (reader.name, reader.probabilities, reader.image_size) == ("rec", softmax, (HEIGHT, 320))
    assert reader.charset.characters == CHARACTERS + " " * spaces
    words = ["abba", "e", "dead", "cabbed"]
    pictures = [draw(shades, spelt(word)) for word in words]
    readings = reader.read(pictures)
    assert [reading.text for reading in readings] == words
    assert min(reading.confidence for reading in readings) > 0.9
    if spaces:
        assert reader.read(draw(shades, [1, 6, 2])).text == "a b"


def test_no_reading_depends_on_its_batch(tmp_path: Path) -> None:
    shades = save_recogniser(tmp_path / "rec.onnx", CHARACTERS, metadata=METADATA)
    reader = OnnxCtcReader(tmp_path / "rec.onnx", threads=1)
    words = ["ab", "cabbed" * 9, "e", "decade" * 5, "bad"] * 8
    pictures = [draw(shades, spelt(word)) for word in words]
    together = reader.read(pictures)
    assert [reading.text for reading in together] == words
    assert together[:5] == [reader.read(picture) for picture in pictures[:5]]
    start, end = together[2].characters[0].start, together[2].characters[0].end
    assert (start, end) == (pytest.approx(1 / 3), pytest.approx(2 / 3)), "of the picture, without its padding"


def test_a_picture_of_absurd_width_is_squeezed(tmp_path: Path) -> None:
    save_recogniser(tmp_path / "rec.onnx", CHARACTERS, metadata=METADATA)
    reader = OnnxCtcReader(tmp_path / "rec.onnx", threads=1)
    assert reader._run(reader._prepare(Image.new("RGB", (90_000, 2)), MAX_WIDTH)[None]).shape[1] == MAX_WIDTH
    assert reader.read(Image.new("RGB", (90_000, 2), (128, 128, 128))).text == ""


@pytest.mark.parametrize(("colour", "expected"), [("", "abc"), (":colour=rgb", ""), (":color=bgr", "abc")])
def test_channels_come_in_the_order_of_the_program(colour: str, expected: str, tmp_path: Path) -> None:
    shades = save_recogniser(tmp_path / "rec.onnx", CHARACTERS, metadata=METADATA)
    reader = open_peer(f"{tmp_path / 'rec.onnx'}{colour}")
    assert reader.read(draw(shades, spelt("abc"), channel=2)).text == expected


def test_a_file_in_the_manner_of_onnxtr(tmp_path: Path) -> None:
    shades = save_recogniser(
        tmp_path / "crnn.onnx", CHARACTERS, blank="last", softmax=False, shape=("N", 3, HEIGHT, 256), mean=0.694,
        std=0.299,
    )  # fmt: skip
    (tmp_path / "vocab.txt").write_text(CHARACTERS, encoding="utf-8")
    reader = open_peer(f"{tmp_path / 'crnn.onnx'}:preset=onnxtr,dict={tmp_path / 'vocab.txt'},blank=last")
    assert isinstance(reader, OnnxCtcReader)
    assert (reader.probabilities, reader.image_size) == (False, (HEIGHT, 256))
    picture = draw(shades, spelt("decade", first=0))
    assert picture.width < 256
    prepared = reader._prepare(picture, 256)
    assert prepared[:, :, picture.width :] == pytest.approx(np.broadcast_to(
        -np.array([0.694, 0.695, 0.693])[:, None, None] / np.array([0.299, 0.296, 0.301])[:, None, None],
        (3, HEIGHT, 256 - picture.width),
    ), abs=1e-5)  # fmt: skip
    tall = reader._prepare(Image.new("RGB", (40, 80), "white"), 256)
    assert (tall[0] > 0).sum() == HEIGHT * (HEIGHT // 2), "the whole picture fits inside, in its own aspect"
    assert reader.read(picture).text.startswith("decade")


def test_a_folder_of_paddleocr_needs_nothing_else(tmp_path: Path) -> None:
    shades = save_recogniser(tmp_path / "inference.onnx", CHARACTERS, spaces=1)
    settings = """
        PreProcess:
          transform_ops:
          - DecodeImage: {channel_first: false, img_mode: BGR}
          - MultiLabelEncode: {gtc_encode: NRTRLabelEncode}
          - RecResizeImg: {image_shape: [3, 8, 160]}
          - KeepKeys:
        PostProcess:
          name: CTCLabelDecode
          character_dict: [a, b, c, d, e]
        """
    (tmp_path / "inference.yml").write_text(settings, encoding="utf-8")
    reader = OnnxCtcReader(tmp_path / "inference.onnx", threads=1)
    assert (reader.image_size, reader.options.colour) == ((HEIGHT, 160), "bgr")
    assert reader.read(draw(shades, spelt("decade"))).text == "decade"
    (tmp_path / "inference.yml").write_text("PostProcess: {}", encoding="utf-8")
    assert "doesn't tell how a recogniser of PaddleOCR reads" in refused(str(tmp_path / "inference.onnx"))


def test_it_can_be_sent_to_another_process(tmp_path: Path) -> None:
    shades = save_recogniser(tmp_path / "rec.onnx", CHARACTERS, metadata=METADATA)
    reader = OnnxCtcReader(tmp_path / "rec.onnx", threads=1, name="rec of mine")
    reader.language_model = load_language_model("european")
    again = pickle.loads(pickle.dumps(reader))  # noqa: S301 - made here
    assert (again.name, again.threads) == ("rec of mine", 1)
    assert again.language_model is not None
    assert again.language_model.name == "european"
    assert again.read(draw(shades, spelt("bead"))) == reader.read(draw(shades, spelt("bead")))


def test_characters_stand_within_the_picture(tmp_path: Path) -> None:
    shades = save_recogniser(tmp_path / "rec.onnx", CHARACTERS, shape=("N", 3, HEIGHT, 96), metadata=METADATA)
    for word in ("bead", "e"):
        picture = draw(shades, spelt(word))
        for width in (picture.width, picture.width - 3):
            for char in (
                OnnxCtcReader(tmp_path / "rec.onnx").read(picture.crop((0, 0, width, picture.height))).characters
            ):
                assert char.start is not None
                assert char.end is not None
                assert 0 <= char.start < char.end <= 1


def test_a_file_of_ours_that_reads_by_columns(tmp_path: Path) -> None:
    ours = {"format": "symdistill-student", "charset": '"abcde"', "logits": '"ctc"'}
    save_recogniser(tmp_path / "own.onnx", CHARACTERS, shape=("N", 3, HEIGHT, 96), softmax=False, metadata=ours)
    reader = OnnxCtcReader(tmp_path / "own.onnx")
    assert (reader.options.preset, reader.image_size, reader.charset.characters) == ("symdistill", (8, 96), CHARACTERS)
    ((_, probabilities, columns),) = reader.columns([Image.new("RGB", (24, 8))])
    assert columns == [probabilities.shape[1]], "our graphs remove the padding themselves"
    save_recogniser(tmp_path / "own.onnx", CHARACTERS, metadata=ours | {"logits": '"attention"'})
    assert "decodes character by character" in refused(str(tmp_path / "own.onnx"))


def test_grey_recognisers_get_one_channel(tmp_path: Path) -> None:
    shades = save_recogniser(tmp_path / "rec.onnx", CHARACTERS, shape=("N", 1, HEIGHT, "W"), metadata=METADATA)
    assert OnnxCtcReader(tmp_path / "rec.onnx").read(draw(shades, spelt("bead"))).text == "bead"


def test_only_what_is_allowed_is_read(tmp_path: Path) -> None:
    shades = save_recogniser(tmp_path / "rec.onnx", CHARACTERS, metadata=METADATA)
    reader = OnnxCtcReader(tmp_path / "rec.onnx")
    text = reader.read(draw(shades, spelt("abcd")), allow="ac").text
    assert set(text) <= set("ac")
    assert text.startswith("a")


def test_characters_that_are_alike_when_composed_share_a_place_in_the_alphabet(tmp_path: Path) -> None:
    shades = save_recogniser(tmp_path / "rec.onnx", "a\u212bc", metadata={"character": "a\n\u212b\n\u00c5"})
    reader = OnnxCtcReader(tmp_path / "rec.onnx")
    assert reader.charset.characters == "a\u00c5"
    assert reader.read(draw(shades, [1, 2, 3])).text == "a\u212b\u00c5"


def refused(name: str) -> str:
    with pytest.raises(UserError) as error:
        open_peer(name, threads=1)
    return str(error.value)


def test_a_dictionary_of_another_length_is_named_with_both_counts(tmp_path: Path) -> None:
    save_recogniser(tmp_path / "rec.onnx", CHARACTERS, metadata={"character": "a\nb"})
    message = refused(str(tmp_path / "rec.onnx"))
    assert "6 classes" in message
    assert "has 2 characters" in message
    (tmp_path / "vocab.txt").write_text("a\nb\nc\n \n", encoding="utf-8")
    assert "has 4 characters" not in refused(f"{tmp_path / 'rec.onnx'}:dict={tmp_path / 'no.txt'}")
    assert open_peer(f"{tmp_path / 'rec.onnx'}:dict={tmp_path / 'vocab.txt'}").charset.characters == "abc "


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("", "give its characters, one a line"),
        (":dict=VOCAB", r"doesn't tell its colour, mean, std, fit; give .*preset=ppocr\|onnxtr\|symdistill"),
        (":dict=VOCAB,colour=rgb,mean=0,std=1,fit=squeeze", "takes any width, and fit=squeeze needs one; give width="),
        (":dict=VOCAB,preset=onnxtr", "class 0 in an empty picture.*blank last; give blank=first or blank=last"),
        (":dict=VOCAB,preset=ppocr,height=48", f"reads at a height of {HEIGHT}; leave height=48 out"),
        (":dict=VOCAB,presets=ppocr", "did you mean preset="),
        (":dict=VOCAB,preset=paddle", "preset=paddle is unknown; choose ppocr or onnxtr or symdistill"),
        (":dict=VOCAB,preset=ppocr,mean=a", "mean=a can't be used"),
        (":dict=VOCAB,preset=ppocr,min_width=1", "min_width=1 is no number of pixels; give 8 or more"),
    ],
)
def test_what_is_unclear_is_asked_for(options: str, message: str, tmp_path: Path) -> None:
    save_recogniser(tmp_path / "rec.onnx", CHARACTERS)
    (tmp_path / "vocab.txt").write_text("\n".join(CHARACTERS) + "\n", encoding="utf-8")
    with pytest.raises(UserError, match=message):
        open_peer(f"{tmp_path / 'rec.onnx'}{options.replace('VOCAB', str(tmp_path / 'vocab.txt'))}")


def test_what_is_no_recogniser_is_refused(tmp_path: Path) -> None:
    save_recogniser(tmp_path / "class.onnx", CHARACTERS, columns_axis=False, metadata=METADATA)
    assert "is no CTC recogniser" in refused(str(tmp_path / "class.onnx"))
    (tmp_path / "text.onnx").write_text("no graph", encoding="utf-8")
    assert "is no ONNX file" in refused(str(tmp_path / "text.onnx"))
    assert "No such file" in refused(str(tmp_path / "none.onnx"))
    save_recogniser(tmp_path / "rec.onnx", CHARACTERS, metadata=METADATA, shape=("N", 4, HEIGHT, "W"))
    assert "takes 4 channels" in refused(str(tmp_path / "rec.onnx"))


def test_dictionaries_are_one_character_a_line_or_one_line(tmp_path: Path) -> None:
    file = tmp_path / "dict.txt"
    file.write_bytes("a\r\n \r\n\u00e9\r\n".encode())
    assert read_dictionary(file) == ["a", " ", "\u00e9"]
    file.write_bytes(b"\xef\xbb\xbfabc \n")
    assert read_dictionary(file) == ["a", "b", "c", " "]
    file.write_bytes(b"")
    with pytest.raises(UserError, match="is empty"):
        read_dictionary(file)
    assert parse_options("color=bgr,mean=0.5", "x") == {"colour": "bgr", "mean": "0.5"}


def test_the_file_is_looked_into_as_the_onnx_package_does(tmp_path: Path) -> None:
    save_recogniser(tmp_path / "rec.onnx", CHARACTERS, metadata=METADATA | {"other": "\u00e9"})
    data = (tmp_path / "rec.onnx").read_bytes()
    model = onnx.load(tmp_path / "rec.onnx")
    assert read_properties(data, tmp_path) == {entry.key: entry.value for entry in model.metadata_props}
    floats = [tensor for tensor in model.graph.initializer if tensor.data_type == onnx.TensorProto.FLOAT]
    assert count_weights(data) == sum(onnx.numpy_helper.to_array(tensor).size for tensor in floats)


def test_reading_needs_no_torch(root: Path, tmp_path: Path) -> None:
    shades = save_recogniser(tmp_path / "rec.onnx", CHARACTERS, metadata=METADATA)
    draw(shades, spelt("cab")).save(tmp_path / "word.png")
    script = f"""
import sys
import symdistill
from distill.__main__ import main

print(symdistill.load({str(tmp_path / "rec.onnx")!r}).read("word.png").text)
print(main(["read", "--student", {str(tmp_path / "rec.onnx")!r}, "word.png"]))
print(sorted({{"torch", "timm", "open_clip", "onnx"}} & set(sys.modules)))
"""
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, env={"PYTHONPATH": str(root)}, capture_output=True, text=True,
        timeout=60, check=True,
    )  # fmt: skip
    first, second, code, heavy = done.stdout.splitlines()
    assert (first, second.split("\t")[1], code, heavy) == ("cab", "cab", "0", "[]")


def test_pictures_are_prepared_as_rapidocr_prepares_them() -> None:
    recognizer = pytest.importorskip("rapidocr.ch_ppocr_rec.main", reason="rapidocr isn't installed").TextRecognizer
    reader, generator = open_peer("rapidocr", threads=1), np.random.default_rng(0)
    assert isinstance(reader, OnnxCtcReader)
    for width, height in [(31, 20), (100, 32), (320, 48), (400, 37), (7, 90)]:
        pixels = generator.integers(0, 256, (height, width, 3), dtype=np.uint8)
        picture, shape = Image.fromarray(pixels), SimpleNamespace(rec_image_shape=[3, 48, 320])
        expected = recognizer.resize_norm_img(shape, pixels[:, :, ::-1], max(320 / 48, width / height))
        assert np.array_equal(reader._prepare(picture, reader._width(picture)), expected)


def test_a_file_for_opencv_is_refused(tmp_path: Path) -> None:
    save_recogniser(tmp_path / "opencv.onnx", CHARACTERS, metadata={"character": "a", "program": "OpenCV"})
    with pytest.raises(UserError, match=r"is made for OpenCV alone; give student\.onnx"):
        open_peer(str(tmp_path / "opencv.onnx"))
