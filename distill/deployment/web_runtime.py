"""onnxruntime-web, which computes a reader inside a page: from a folder, from an address, or fetched once by npm.

It is 14 MB of WebAssembly under the MIT licence, and no part of this project.
"""

from __future__ import annotations

import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from distill.deployment.npm import NpmFiles
from students.errors import UserError

VERSION = "1.30.0"
"""The version that npm is asked for, and that the tests run."""
SCRIPT, WASM = "ort.wasm.bundle.min.mjs", "ort-wasm-simd-threaded.wasm"
"""The files of its folder `dist` that a page needs."""
SHA256 = {
    SCRIPT: "11e64bd8ffe11bd1a2a2f0d6275fdfbbba7262f0b76b99b53d228a8a22ef3d90",
    WASM: "3398c10d07d229bd91b364548e130e0e51a8e5704b88c7c083ebbeb78842dee2",
}
"""SHA-256 of each file of that version."""
WITHIN = (".", "dist", "package/dist", "node_modules/onnxruntime-web/dist")
"""Where they may be in a folder that a user gives."""
BESIDE = {SCRIPT: "onnxruntime.js", WASM: "onnxruntime.wasm"}
"""Their names beside a page; servers of some age call no .mjs JavaScript."""


@dataclass(frozen=True)
class WebRuntime:
    """Where a page gets onnxruntime-web from."""

    files: Path | None
    """The folder that its two files are copied from; None leaves them where they are."""
    address: str = ""
    """The address, with a slash at its end, of the folder that has them, when they aren't copied."""

    @property
    def script(self) -> str:
        """Where the page finds the script."""
        return f"{self.address}{SCRIPT}" if self.address else BESIDE[SCRIPT]

    @property
    def wasm(self) -> str:
        """Where the page finds the WebAssembly."""
        return f"{self.address}{WASM}" if self.address else BESIDE[WASM]

    @property
    def origin(self) -> str:
        """The host that the page may ask besides its own, as `https://host`; empty for none."""
        parts = urlsplit(self.address)
        return f"{parts.scheme}://{parts.netloc}" if self.address else ""

    def copy_to(self, folder: Path) -> None:
        """Copy the two files beside a page, unless they stay where they are."""
        if self.files is not None:
            for name, own in BESIDE.items():
                shutil.copyfile(self.files / name, folder / own)


def find_runtime(place: str | Path | None = None) -> WebRuntime:
    """Find onnxruntime-web.

    Args:
        place: a folder that holds it (the npm package, its `dist`, or what it was installed into); or an address
            (`https://...`) that pages load it from. None takes the copy that npm fetched earlier, or fetches it.

    Raises:
        UserError: when it isn't there, or can't be fetched.
    """
    if place is None:
        instead = f"unpack what `npm pack onnxruntime-web@{VERSION}` fetches elsewhere, and give its folder"
        files = NpmFiles("onnxruntime-web", VERSION, "dist/", SHA256)
        return WebRuntime(files.find(f"{instead}: --web-runtime DIR"))
    if re.match("[a-z]+:", str(place)):
        return WebRuntime(None, check_address(str(place)))
    for folder in (Path(place) / name for name in WITHIN):
        if all((folder / file).is_file() for file in SHA256):
            return WebRuntime(folder)
    raise UserError(
        f"{place} has no {SCRIPT} and {WASM} in it; `npm pack onnxruntime-web@{VERSION}` fetches them, in an archive "
        "to unpack"
    )


def check_address(address: str) -> str:
    """Return the address of a folder with a slash at its end; raises `UserError` for what is none."""
    if not re.fullmatch(r"https?://[\w.:\[\]-]+(/[\w.~@%+-]+)*/?", address, re.ASCII):
        raise UserError(f"--web-runtime {address}: no address of a folder; give one such as https://host/folder/")
    return address.rstrip("/") + "/"
