"""The demo page in Chromium: an upload, a paste, two readers, limits; and that it asks nobody else for anything."""

from __future__ import annotations

import csv
import io
import os
import re
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from distill.commands.demo import main
from distill.demo.examples import EXAMPLES, draw_example
from distill.demo.page import serve_page
from distill.demo.reading import Readers
from students.errors import UserError
from tests.browsing import Browser, Tab
from tests.launch import free_port

ROOT = Path(__file__).resolve().parents[3]
GRADIO_ITSELF = "Method not implemented."
"""A warning of Gradio's gallery about itself."""


def encode(picture: Image.Image) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    return buffer.getvalue()


SIGN = encode(draw_example(EXAMPLES[0]))


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """A page of two readers."""
    pytest.importorskip("gradio", reason="Gradio isn't installed")
    with serve_page(Readers(["tiny-free", "tiny"]), "127.0.0.1", free_port()) as served:
        yield served


@pytest.fixture
def tab(address: str, browser: Browser) -> Iterator[Tab]:
    """The page in Chromium; nothing may have gone wrong at the end."""
    opened = Tab(browser)
    opened.page.goto(address)
    opened.page.locator("#pictures input[type=file]").first.wait_for(state="attached", timeout=120_000)
    yield opened
    assert not [problem for problem in opened.problems if problem != GRADIO_ITSELF]
    assert opened.hosts <= {address.split("/")[2], ""}, "no other host; blob: has none"
    opened.context.close()


def upload(tab: Tab, files: dict[str, bytes]) -> None:
    tab.page.locator("#pictures input[type=file]").first.set_input_files(
        [{"name": name, "mimeType": "image/png", "buffer": content} for name, content in files.items()]
    )


def wait_for(tab: Tab, text: str) -> None:
    tab.page.locator("#told").get_by_text(text).wait_for(timeout=120_000)


def words(tab: Tab) -> list[str]:
    return ["".join(word.locator("b").all_inner_texts()) for word in tab.page.locator(".card .word").all()]


def test_pictures_are_uploaded_pasted_and_read_by_two_readers(tab: Tab, tmp_path: Path) -> None:
    upload(tab, {"<b>sign</b>.png": SIGN})
    wait_for(tab, "1 picture read")
    assert words(tab) == ["museum"]
    assert tab.page.locator(".card .seen i").count() == 6, "columns are marked"
    tab.paste(encode(draw_example(EXAMPLES[3])))
    wait_for(tab, "2 pictures read")
    assert words(tab) == ["museum", "open"]
    tab.page.get_by_label("Beside it").click()
    tab.page.get_by_role("option", name="tiny", exact=True).click()
    tab.page.locator(".reader").nth(3).wait_for(timeout=60_000)
    assert words(tab) == ["museum", "museum", "open", "open"]
    with tab.page.expect_download() as download:
        tab.page.locator("#table").click()
    download.value.save_as(tmp_path / "table.csv")
    table = list(csv.DictReader((tmp_path / "table.csv").open(encoding="utf-8", newline="")))
    assert [(row["reader"], row["word"]) for row in table] == [
        ("tiny-free", "museum"), ("tiny", "museum"), ("tiny-free", "open"), ("tiny", "open"),
    ]  # fmt: skip
    for width in (360, 768, 1280):
        tab.page.set_viewport_size({"width": width, "height": 800})
        assert tab.overflow() <= 0


def test_an_allow_list_and_a_mistake_in_it(tab: Tab) -> None:
    upload(tab, {"sign.png": SIGN})
    wait_for(tab, "1 picture read")
    for allow, told in (
        ("9-0", "tiny-free: the range 9-0 of the allow-list runs backwards"),
        ("m-z", "1 picture read"),
    ):
        tab.page.get_by_label("Allowed characters").fill(allow)
        tab.page.keyboard.press("Enter")
        wait_for(tab, told)
    assert set(words(tab)[0]) <= set("mnopqrstuvwxyz")


def test_an_example_is_read(tab: Tab) -> None:
    tab.page.locator("#examples img").first.click()
    wait_for(tab, "1 picture read")
    assert words(tab) == ["museum"]


def test_bad_pictures_are_messages_and_the_page_goes_on(tab: Tab) -> None:
    huge = encode(Image.new("1", (20_000, 10_000)))
    upload(tab, {"notes.png": b"no picture", "cut.png": SIGN[:150], "huge.png": huge, "sign.png": SIGN})
    wait_for(tab, "1 picture read; 3 can't be")
    problems = tab.page.locator(".card.failed").all_inner_texts()
    assert [problem.split(":")[0] for problem in problems] == ["notes.png", "cut.png", "huge.png"]
    assert words(tab) == ["museum"]


def test_of_very_many_pictures_the_first_are_read(tab: Tab) -> None:
    small = encode(draw_example(EXAMPLES[0]).resize((60, 20)))
    upload(tab, {f"{number}.png": small for number in range(500)})
    wait_for(tab, "50 pictures read; 450 left out: at most 50 at once")
    assert len(words(tab)) == 50


def test_pages_are_told_no_more_than_they_need(address: str) -> None:
    page = urllib.request.urlopen(address).read().decode()
    assert "fonts.googleapis" not in page
    assert '"analytics_enabled":false' in page.replace(" ", "")
    with pytest.raises(urllib.error.HTTPError):
        urllib.request.urlopen(f"{address}gradio_api/file={ROOT / 'setup.cfg'}")


def test_a_port_that_is_taken_is_a_mistake(capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("gradio", reason="Gradio isn't installed")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with (
            pytest.raises(UserError, match=f"can't listen on 127.0.0.1:{port}"),
            serve_page(Readers(["tiny-free"]), "127.0.0.1", port),
        ):
            pass
    for arguments, message in (
        (["--port", "0"], "--port: 0 won't do; give a whole number"),
        (["--student", "tinny"], "did you mean tiny"),
    ):
        assert main(arguments) == 2
        assert message in capsys.readouterr().err


@pytest.mark.slow
def test_the_command_ends_without_a_trace(tmp_path: Path) -> None:
    pytest.importorskip("gradio", reason="Gradio isn't installed")
    port = free_port()
    command = [sys.executable, "-m", "symdistill", "demo", "--student", "tiny-free", "--port", str(port)]
    started = subprocess.Popen(
        command, cwd=ROOT, env={**os.environ, "TMPDIR": str(tmp_path)}, text=True, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )  # fmt: skip
    assert started.stdout is not None
    lines = [started.stdout.readline() for _ in range(2)]
    assert lines[0] == "reading with tiny-free\n"
    assert re.match(rf"http://127\.0\.0\.1:{port}/ ", lines[1])
    assert list(tmp_path.glob("symdistill-demo-*"))
    started.send_signal(signal.SIGINT)
    _, errors = started.communicate(timeout=60)
    assert started.returncode == 0
    assert errors == ""
    assert not list(tmp_path.glob("symdistill-demo-*"))
