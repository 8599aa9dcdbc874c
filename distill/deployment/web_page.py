"""Write a CTC reader as a web page: a folder that any server of files can show, and that reads in the browser."""

from __future__ import annotations

import json
import shutil
from importlib import resources
from pathlib import Path

from distill.deployment.web_runtime import BESIDE, WebRuntime
from students.files import write_file
from students.reading import Reader

PAGE_FILES = ("page.css", "page.js", "reader.js", "pictures.js", "ctc.js", "beam_search.js", "language_model.js")
"""Files that are the same in every folder; index.html has the runtime's host in it."""
MODEL = "reader.onnx"
"""The reader's ONNX file in the folder."""


def holds_page(folder: Path) -> bool:
    """Tell whether a folder holds what `write_page` writes, and nothing else."""
    own = {*PAGE_FILES, "index.html", "reader.json", MODEL, *BESIDE.values()}
    return all(path.name in own or path.suffix == ".tsv" for path in folder.iterdir())


def write_page(reader: Reader, name: str, model: Path, runtime: WebRuntime, folder: Path) -> None:
    """Write the page of a CTC reader.

    Args:
        reader: the reader.
        name: what the page calls it.
        model: its ONNX file, as `distill.deployment.onnx_reader` reads it.
        runtime: where the page gets onnxruntime-web from.
        folder: where to write; it doesn't exist yet.
    """
    folder.mkdir()
    sources = resources.files("distill.deployment") / "web"
    for part in PAGE_FILES:
        write_file(folder / part, (sources / part).read_bytes())
    index = (sources / "index.html").read_text(encoding="utf-8")
    write_file(folder / "index.html", index.replace("ORIGIN", f" {runtime.origin}" if runtime.origin else ""))
    lists = () if reader.language_model is None else reader.language_model.lists
    for each in lists:
        write_file(folder / f"{each.name}.tsv", each.text)
    described = {
        "name": name,
        "charset": reader.charset.characters,
        "image_size": reader.image_size,
        "keep_aspect": reader.keep_aspect,
        "turn_tall": reader.turn_tall,
        "language_model": [f"{each.name}.tsv" for each in lists],
        "model": MODEL,
        "runtime": {"script": runtime.script, "wasm": runtime.wasm},
    }
    write_file(folder / "reader.json", json.dumps(described, indent=2) + "\n")
    shutil.copyfile(model, folder / MODEL)
    runtime.copy_to(folder)
