"""A reader in a web page: what is written, and that Chromium reads with it as onnxruntime does, asking nobody else."""

from __future__ import annotations

import base64
import csv
import dataclasses
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageCms

from distill.commands.export import main
from distill.data.trees import open_sets
from distill.deployment import folder as folders
from distill.deployment.card import Card
from distill.deployment.comparison_words import ComparisonWord, draw_pictures
from distill.deployment.folder import save_folder
from distill.deployment.onnx_reader import OnnxReader
from distill.deployment.web_runtime import BESIDE, WebRuntime, find_runtime
from students.charset import Charset
from students.decoding import decode_ctc
from students.errors import UserError
from students.language_model import OWN, SHIPPED, LanguageModel, WordList
from students.pictures import decode_picture, fitted_size, normalize, resize
from teachers.registry import load_reader
from tests.browsing import Browser, Tab, serve
from tests.distill.deployment.test_onnx_kinds import make
from tests.distill.deployment.test_targets import make_free

PAGE_FILES = {
    "index.html", "page.css", "page.js", "reader.js", "pictures.js", "ctc.js", "beam_search.js", "language_model.js",
    "reader.json", "reader.onnx",
}  # fmt: skip
EUROPEAN = WordList("european", SHIPPED["european"])
OWN_COUNTS = {"gross": 3, "koln": 1, "ab12cd": 2, "tm": 1, "x1": 5, "\u0131i": 1, "4b": 1, "d": 1, "dc1": 2}
OWN_LIST = WordList(OWN, OWN_COUNTS)
ELSEWHERE = WebRuntime(None, "https://example.org/ort/")
READ = """
async (encoded) => {
  const { openReader } = await import("./reader.js");
  window.reader ??= await openReader();
  const readings = [];
  for (const bytes of encoded) {
    const blob = new Blob([Uint8Array.from(atob(bytes), (char) => char.charCodeAt(0))]);
    const { text, confidence, characters, turned, picture } = await window.reader.read(blob);
    readings.push({ text, confidence, characters, turned, width: picture.width, pixels: [...picture.pixels] });
  }
  return readings;
}"""

DECODE = """
async ([charset, lists, logits]) => {
  const { decodeCtc } = await import("./ctc.js");
  const { LanguageModel } = await import("./language_model.js");
  const model = new LanguageModel(lists);
  return logits.map((values) => decodeCtc(new Float32Array(values), [...charset], model));
}"""
PRIORS = """
async ([lists, texts]) => {
  const { LanguageModel } = await import("./language_model.js");
  const model = new LanguageModel(lists);
  return texts.map((text) => model.prior(text));
}"""


@pytest.fixture(scope="module")
def runtime() -> WebRuntime:
    """onnxruntime-web, which npm fetches once for all tests."""
    try:
        return find_runtime()
    except UserError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def page(runtime: WebRuntime, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of a CTC reader of one size, with random weights and a language model."""
    folder = tmp_path_factory.mktemp("web") / "mini"
    words = [ComparisonWord(picture) for picture in draw_pictures("0123456789abcd", 4)]
    reader = make("ctc")
    reader.language_model = LanguageModel([EUROPEAN, OWN_LIST])
    return save_folder(reader, folder, Card("mini"), targets=["web"], words=words, runtime=runtime).folder / "web"


@pytest.fixture(scope="module")
def tab(page: Path, browser: Browser) -> Iterator[Tab]:
    """The page in Chromium, with its reader loaded; nothing may have gone wrong at the end."""
    with serve(page) as address:
        opened = open_page(browser, address)
        yield opened
        assert not opened.problems
        assert opened.hosts == {address.split("/")[2], ""}, "no other host; blob: has none"


def open_page(browser: Browser, address: str, **options: Any) -> Tab:
    opened = Tab(browser, **options)
    opened.page.goto(address)
    opened.page.get_by_text("Ready.").wait_for(timeout=120_000)
    return opened


def encode(picture: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


LEVELS = 4
"""Levels by which a pixel may differ: the page resizes as Pillow 12 does, 13 rounds otherwise, and so do decoders."""


def check_readings(tab: Tab, reader: OnnxReader, encoded: list[bytes], int8: bool = False) -> None:
    """Compare what Chromium reads, and the picture that it reads from, with our own.

    What is read from the pixels that the page saw is the same. With 8-bit weights words are
    compared alone: a float that is rounded otherwise in its last bit may move an 8-bit activation by one step, and with
    it a confidence, or the column where a character ends.
    """
    actual = tab.page.evaluate(READ, [base64.b64encode(each).decode() for each in encoded])
    for data, found in zip(encoded, actual, strict=True):
        picture = decode_picture(data).rotate(found["turned"], expand=True)
        height, width = fitted_size(*picture.size, reader.image_size) if reader.keep_aspect else reader.image_size
        seen = np.array(found["pixels"], np.uint8).reshape(height, found["width"], 3)
        own_pixels = resize(picture, (height, width)).astype(int)
        np.testing.assert_allclose(seen, own_pixels, atol=LEVELS, rtol=0)
        (expected,) = reader.read_arrays(normalize(seen[None]))
        assert found["text"] == expected.text
        if int8:
            continue
        # In a picture of one colour, normalisation in the network divides last bits by almost nothing.
        close = 1e-3 if (seen == seen[0, 0]).all() else 1e-4
        assert found["confidence"] == pytest.approx(expected.confidence, abs=close)
        for char, own in zip(found["characters"], expected.characters, strict=True):
            assert (char["text"], char["start"], char["end"]) == (own.text, own.start, own.end)
            assert char["confidence"] == pytest.approx(own.confidence, abs=close)


def test_the_page_lies_beside_the_reader(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def export_checked(folder: Path, name: str, targets: list[str], words: object) -> tuple[None, dict[Any, Any]]:
        assert targets == ["onnx"]
        (folder / "student.onnx").write_bytes(b"whole")
        return None, {}

    def export_int8(folder: Path, *_: object) -> list[str]:
        (folder / "student.int8.onnx").write_bytes(b"small")
        return ["student.int8.onnx (onnxruntime): 0 of 9 words change"]

    monkeypatch.setattr(folders, "export_checked", export_checked)
    monkeypatch.setattr(folders, "export_int8", export_int8)
    for targets, limit, model in (
        (["web"], None, b"whole"), (["web"], 1.0, b"small"), (["onnx", "web"], 1.0, b"small"),
    ):  # fmt: skip
        done = save_folder(
            make("ctc"), tmp_path / "out", Card("<mini>"), targets=targets, int8_limit=limit, runtime=ELSEWHERE,
            overwrite=True,
        )  # fmt: skip
        assert {path.name for path in (done.folder / "web").iterdir()} == PAGE_FILES
        assert (done.folder / "web" / "reader.onnx").read_bytes() == model
        kept = {"student.onnx", "student.int8.onnx"} if "onnx" in targets else set()
        assert {path.name for path in done.folder.glob("*.onnx")} == kept
        card = (done.folder / "README.md").read_text(encoding="utf-8")
        assert "python -m http.server --directory THIS_FOLDER/web" in card
        file = "student.int8.onnx" if kept else "web/reader.onnx"
        assert (f"{file} (onnxruntime): 0 of 9 words change" in card) == (limit is not None)
    described = json.loads((done.folder / "web" / "reader.json").read_text(encoding="utf-8"))
    assert described["name"] == "<mini>"
    assert described["charset"] == "0123456789abcd"
    assert described["image_size"] == [32, 128]
    assert described["keep_aspect"] is False
    assert described["runtime"]["script"].startswith("https://example.org/ort/ort.")
    index = (done.folder / "web" / "index.html").read_text(encoding="utf-8")
    assert "script-src 'self' 'wasm-unsafe-eval' https://example.org; connect-src 'self' https://example.org;" in index


def test_mistakes_are_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make("nar").save_pretrained(tmp_path / "nar")
    out = ["--out", str(tmp_path / "out")]
    address = ["--web-runtime", "https://example.org/ort"]
    for words, message in (
        (["--student", str(tmp_path / "nar"), *out, "--target", "web", *address], "a web page runs CTC readers only"),
        (["--student", "tiny-free", *out, "--onnx", *address], "--web-runtime is for pages; add --target web"),
        (["--student", "tiny-free", *out, "--target", "web", "--web-runtime", str(tmp_path)], "npm pack"),
    ):
        assert main(words) == 2
        printed = capsys.readouterr()
        assert message in printed.err
        assert printed.err.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["nar"]


def test_words_are_as_likely_in_the_page(tab: Tab) -> None:
    texts = [
        "Harbour", "STRASSE", "straße", "Köln", "groß", "tax-free", "New York", "xqzv", "qq99qq", "ab99cd", "zb19yd",
        "X7", "№ 5", "TM", "™", "", "--", "a'b'c", "ﬁsh", "İI", "\u0131I",
    ]  # fmt: skip
    for lists in ([EUROPEAN], [OWN_LIST], [EUROPEAN, OWN_LIST]):
        found = tab.page.evaluate(PRIORS, [[each.text for each in lists], texts])
        assert found == pytest.approx([LanguageModel(lists).prior(text) for text in texts], rel=1e-9)


def test_columns_are_weighed_by_the_language_model_alike(tab: Tab) -> None:
    charset = Charset("0123456789" + "".join(map(chr, range(97, 123))) + "ABCDEFGHIJKLMNOPQRSTUVWXYZ-'ßöÖ")
    model = LanguageModel([EUROPEAN, OWN_LIST])
    drawn = np.random.default_rng(5)
    words = ["Harbour", "letters", "Groß", "AB12CD", "hello-world", "seen", "x7", "Köln", "oO", "book's", "Lloyd"]
    logits = []
    for word in words * 4:
        columns = drawn.normal(0, 1, (24, len(charset.characters) + 1))
        columns[:, 0] += 6
        apart = sorted(drawn.choice(12, len(word), replace=False) * 2)
        places = range(8, 13) if word == "Lloyd" else apart  # both cases of a letter, one beside the other
        for place, char in zip(places, word, strict=True):
            columns[place, charset.ids[char]] += 7
        logits.append(columns.astype(np.float32))
    expected = decode_ctc(charset, np.stack(logits), language_model=model)
    plain = decode_ctc(charset, np.stack(logits))
    assert sum(one.text != other.text for one, other in zip(expected, plain, strict=True)) > 5
    texts = [each.text for each in model.lists]
    found = tab.page.evaluate(DECODE, [charset.characters, texts, [each.ravel().tolist() for each in logits]])
    for one, own in zip(found, expected, strict=True):
        assert (one["text"], one["confidence"]) == (own.text, pytest.approx(own.confidence, rel=1e-5))
        assert [(char["text"], char["start"], char["end"]) for char in one["characters"]] == [
            (char.text, char.start, char.end) for char in own.characters
        ]
        confidences = [char["confidence"] for char in one["characters"]]
        assert confidences == pytest.approx([char.confidence for char in own.characters], rel=1e-5)


def test_a_readers_language_model_goes_with_its_page(tab: Tab, page: Path) -> None:
    assert {path.name for path in page.iterdir()} == {*PAGE_FILES, *BESIDE.values(), "european.tsv", "own.tsv"}
    assert "CC BY-SA 4.0" in (page / "european.tsv").read_text(encoding="utf-8")
    pictures = draw_pictures("0123456789abcd", count=8)
    reader = OnnxReader(page / "reader.onnx")
    check_readings(tab, reader, [encode(picture) for picture in pictures])
    weighed = [reading.text for reading in reader.read(pictures)]
    reader.language_model = None
    assert [reading.text for reading in reader.read(pictures)] != weighed


def test_pictures_of_every_kind_are_seen_alike(tab: Tab, page: Path) -> None:
    noise = np.random.default_rng(0)
    picture = Image.fromarray(noise.integers(0, 256, (9, 31, 3), np.uint8)).resize((93, 27))
    turned = Image.Exif()
    turned[0x0112] = 6
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()
    ink = Image.new("RGBA", (60, 20), (250, 250, 250, 255))
    ink.putalpha(Image.fromarray(np.repeat([[0, 255]], 30, axis=1).repeat(20, axis=0).astype(np.uint8)))
    encoded = [
        encode(picture, "JPEG", quality=60), encode(picture, "JPEG", exif=turned), encode(picture.convert("L")),
        encode(picture.convert("L"), "JPEG"), encode(picture.quantize(16)), encode(picture, icc_profile=profile),
        encode(picture, "WEBP", lossless=True), encode(picture, "BMP"), encode(ink),
        *(encode(picture.resize(size)) for size in ((1, 1), (3, 200), (3000, 5), (2100, 2100), (128, 32))),
        *(encode(Image.fromarray(noise.choice(np.uint8([0, 255]), size))) for size in ((65, 71), (54, 41), (40, 120))),
    ]  # fmt: skip
    check_readings(tab, OnnxReader(page / "reader.onnx"), encoded)


def test_the_page_reads_what_is_chosen_and_pasted_and_saves_a_table(tab: Tab, page: Path, tmp_path: Path) -> None:
    picture = draw_pictures("0123456789abcd", count=1)[0]
    word = OnnxReader(page / "reader.onnx").read(picture).text
    bomb = encode(Image.new("1", (8192, 8193)))
    tab.page.set_input_files("#files", [
        {"name": "<b>word</b>.png", "mimeType": "image/png", "buffer": encode(picture)},
        {"name": "notes.txt", "mimeType": "text/plain", "buffer": b"no picture"},
        {"name": "cut.png", "mimeType": "image/png", "buffer": encode(picture)[:60]},
        {"name": "bomb.png", "mimeType": "image/png", "buffer": bomb},
    ])  # fmt: skip
    tab.page.get_by_text("Ready.").wait_for(timeout=60_000)
    assert tab.page.locator("article").count() == 4
    assert [text.split(":")[1].strip() for text in tab.page.locator("article.failed .note").all_inner_texts()] == [
        "no picture that this browser knows", "damaged, or of no kind that this browser knows",
        "8192 × 8193 pixels; at most 67 million are read, of one word",
    ]  # fmt: skip
    tab.paste(encode(picture))
    tab.page.locator("article").nth(4).locator(".word span").first.wait_for(timeout=60_000)
    shown = tab.page.locator("article").nth(4)
    assert "".join(shown.locator("b").all_inner_texts()) == word
    assert len(shown.locator("small").all_inner_texts()) == shown.locator("i").count() == len(word)
    with tab.page.expect_download() as download:
        tab.page.get_by_text("save as table").click()
    download.value.save_as(tmp_path / "table.csv")
    table = list(csv.DictReader((tmp_path / "table.csv").open(encoding="utf-8", newline="")))
    assert [(row["file"], row["word"]) for row in table] == [("<b>word</b>.png", word), ("image.png", word)]
    tab.page.get_by_text("clear").click()
    assert tab.page.locator("article").count() == 0
    for width in (360, 768, 1280):
        tab.page.set_viewport_size({"width": width, "height": 800})
        assert tab.overflow() <= 0


def test_onnxruntime_from_another_place(page: Path, runtime: WebRuntime, browser: Browser, tmp_path: Path) -> None:
    assert runtime.files is not None
    for own in BESIDE.values():
        assert (page / own).is_file()
    with serve(runtime.files) as there, serve(tmp_path) as address:
        save_page_from(page, tmp_path, WebRuntime(None, there))
        opened = open_page(browser, address)
        assert opened.hosts == {address.split("/")[2], there.split("/")[2]}
        assert not opened.problems


def save_page_from(page: Path, folder: Path, runtime: WebRuntime) -> None:
    """Write a page whose runtime lies elsewhere, of the reader of another page."""
    from distill.deployment.web_page import write_page

    write_page(make("ctc"), "mini", page / "reader.onnx", runtime, folder / "web")
    for file in (folder / "web").iterdir():
        file.rename(folder / file.name)


def test_the_lines_of_the_how_to_read_in_a_page_of_ones_own(
    page: Path, browser: Browser, root: Path, tmp_path: Path
) -> None:
    how_to = (root / "docs" / "howto" / "web.md").read_text(encoding="utf-8")
    lines = how_to.partition("```js\n")[2].partition("```")[0]
    picture = draw_pictures("0123456789abcd", count=1)[0]
    picture.save(tmp_path / "word.png")
    opening = '<!doctype html><link rel="icon" href="data:,"><script type="module">'
    taking = 'const file = await (await fetch("word.png")).blob();'
    (tmp_path / "own.html").write_text(f"{opening}{lines.replace('const reading', taking + 'const reading')}</script>")
    (tmp_path / "web").symlink_to(page)
    with serve(tmp_path) as address:
        opened = Tab(browser)
        with opened.page.expect_console_message(timeout=60_000) as message:
            opened.page.goto(f"{address}own.html")
        assert message.value.text.startswith(OnnxReader(page / "reader.onnx").read(picture).text)
        assert not opened.problems


@pytest.mark.slow
def test_a_reader_of_any_width_reads_as_we_do(runtime: WebRuntime, browser: Browser, tmp_path: Path) -> None:
    pictures = draw_pictures("0123456789abcd", count=12)
    words = [ComparisonWord(picture) for picture in pictures]
    done = save_folder(make_free(), tmp_path / "free", Card("free"), targets=["web"], words=words, runtime=runtime)
    pictures += [pictures[0].resize(size) for size in ((7, 90), (800, 30), (193, 32), (194, 32), (195, 32))]
    encoded = [encode(picture) for picture in pictures]
    with serve(done.folder / "web") as address:
        check_readings(open_page(browser, address), OnnxReader(done.folder / "web" / "reader.onnx"), encoded)


@pytest.mark.slow
@pytest.mark.parametrize("int8", [False, True], ids=["float", "int8"])
def test_twenty_real_crops_are_read_as_we_do(
    int8: bool, shared: Path, runtime: WebRuntime, browser: Browser, tmp_path: Path
) -> None:
    assert runtime.files is not None
    test_sets = shared / "data" / "test"
    out = ["--out", str(tmp_path / "out"), "--target", "web", "--web-runtime", str(runtime.files)]
    small = ["--int8", "--int8-limit", "100", "--verify", str(test_sets), "--words", "20"] if int8 else []
    reader = load_reader("tiny-free")
    reader.config = dataclasses.replace(reader.config, turn_tall=True)
    reader.save_pretrained(tmp_path / "reader")
    assert main(["--student", str(tmp_path / "reader"), *out, *small]) == 0
    crops = [records.image(k * len(records) // 4) for records in open_sets(test_sets) for k in range(4)][:20]
    assert len(crops) == 20
    turned = [Image.open(io.BytesIO(crops[0])).rotate(degrees, expand=True) for degrees in (90, 270)]
    crops += [encode(picture.convert("RGB")) for picture in turned]
    assert [reading.turned for reading in reader.read(crops[20:])] == [270, 90]
    page = tmp_path / "out" / "web"
    with serve(page) as address:
        opened = open_page(browser, address)
        check_readings(opened, OnnxReader(page / "reader.onnx"), crops, int8)
        found = opened.page.evaluate(READ, [base64.b64encode(each).decode() for each in crops])
        own = OnnxReader(page / "reader.onnx").read(crops, batch_size=1)
        assert [(one["text"], one["turned"]) for one in found] == [(one.text, one.turned) for one in own]
        assert not opened.problems
        assert opened.hosts == {address.split("/")[2], ""}
