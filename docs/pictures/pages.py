"""Pages as they look in Chromium: report.html of an evaluation, and the page of `symdistill demo`.

What they show is drawn by the project itself: rendered words, and the demo's examples.
"""

from __future__ import annotations

import io
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from PIL import Image

from distill.demo.examples import write_examples
from distill.demo.page import import_gradio, serve_page
from distill.demo.reading import Readers
from students.files import replacing
from tests.browsing import Tab, open_browser
from tests.launch import free_port

READERS = ("tiny", "tiny-free")
DIFFICULTIES = {"plain": 0.0, "harder": 0.5, "hard": 1.0}
"""Sets of words for the report, and how hard they are to read."""
SCALE, QUALITY = 1.5, 80
"""Pixels of a file for each of the page, and the quality of WebP, of 100."""


def draw_report(folder: Path) -> list[Path]:
    """Let the shipped readers read rendered words; write report.webp and report-words.webp into a folder.

    Raises:
        UserError: without Chromium.
    """
    files = [folder / "report.webp", folder / "report-words.webp"]
    with tempfile.TemporaryDirectory() as scratch, open_browser() as browser:
        page = Tab(browser, 1000, device_scale_factor=SCALE).page
        page.goto(write_report(Path(scratch)).as_uri())
        accuracy, words = (page.locator(f"#{section}").bounding_box() for section in ("accuracy", "galleries"))
        shoot(page, files[0], 0, accuracy["y"] + accuracy["height"])
        shoot(page, files[1], words["y"], words["y"] + words["height"])
    return files


def write_report(scratch: Path) -> Path:
    """Render words of three difficulties, let the shipped readers read them, and return the page about it."""
    for seed, (name, difficulty) in enumerate(DIFFICULTIES.items()):
        symdistill(
            scratch,
            f"render-words --out words/{name} --words 300 --split test --style street --difficulty {difficulty} "
            f"--seed {seed} --no-system-fonts --workers 1",
        )
    for reader in READERS:
        symdistill(scratch, f"export --student {reader} --out {reader} --onnx")
    students = " ".join(f"--student {reader}/student.onnx" for reader in READERS)
    symdistill(scratch, f"evaluate {students} --data words --sets all --threads 1 --no-overlap-check --out report")
    return scratch / "report" / "report.html"


def symdistill(folder: Path, words: str) -> None:
    """Run a command in a folder."""
    print(f"symdistill {words}", flush=True)
    command = [sys.executable, "-m", "symdistill", *words.split()]
    subprocess.run(command, cwd=folder, check=True, stdout=subprocess.DEVNULL)


def draw_demo(folder: Path) -> list[Path]:
    """Let two readers read examples in the demo's page, and write demo.webp into a folder.

    Raises:
        UserError: without Chromium or Gradio.
    """
    import_gradio()

    file = folder / "demo.webp"
    with tempfile.TemporaryDirectory() as scratch, open_browser() as browser:
        examples = write_examples(Path(scratch))
        with serve_page(Readers(READERS), "127.0.0.1", free_port()) as address:
            page = Tab(browser, 1100, device_scale_factor=SCALE).page
            page.goto(address)
            pictures = page.locator("#pictures input[type=file]").first
            pictures.wait_for(state="attached", timeout=120_000)
            pictures.set_input_files([str(example) for example in examples[1:3]])
            page.locator("#told").get_by_text("2 pictures read").wait_for(timeout=120_000)
            page.get_by_label("Beside it").click()
            page.get_by_role("option", name=READERS[1], exact=True).click()
            page.locator(".reader").nth(3).wait_for(timeout=120_000)
            page.wait_for_timeout(1000)  # until all has faded in
            boxes = [page.locator(part).last.bounding_box() for part in ("#table", "#examples")]
            shoot(page, file, 0, max(box["y"] + box["height"] for box in boxes) + 24)
    return [file]


def shoot(page: Any, file: Path, top: float, bottom: float) -> None:
    """Write what is between two heights of a page as WebP."""
    width = page.viewport_size["width"]
    taken = page.screenshot(full_page=True, clip={"x": 0, "y": top, "width": width, "height": bottom - top})
    with Image.open(io.BytesIO(taken)) as picture, replacing(file) as beside:
        picture.convert("RGB").save(beside, format="WEBP", quality=QUALITY, method=6)
