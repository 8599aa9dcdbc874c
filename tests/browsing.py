"""Pages in a real Chromium: what they log, and whom they ask for something, is written down."""

from __future__ import annotations

import functools
import http.server
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeAlias
from urllib.parse import urlsplit

from students.errors import UserError

Browser: TypeAlias = Any
"""Playwright's; it is no part of what every test needs."""
NAMES = ("chromium", "chromium-browser", "google-chrome")
QUIET = (
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
)  # fmt: skip
"""Chromium runs as root, and asks nobody for anything on its own account."""


class NoBrowserError(UserError):
    """There is no Chromium here, or nothing to drive it with."""


@contextmanager
def open_browser() -> Iterator[Browser]:
    """Start Chromium; raises `NoBrowserError` where there is none."""
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        raise NoBrowserError("no Playwright here; pip install playwright") from None
    program = next(filter(None, map(shutil.which, NAMES)), None)
    if program is None:
        raise NoBrowserError("no Chromium here; install one (Debian: apt install chromium)")
    with sync_playwright() as driver:
        opened = driver.chromium.launch(executable_path=program, args=list(QUIET))
        try:
            yield opened
        finally:
            opened.close()


class Tab:
    """A page, with what went wrong in it and which hosts it asked.

    Args:
        browser: Chromium.
        width: of the window, in pixels.
        options: of Playwright's `new_context`.
    """

    def __init__(self, browser: Browser, width: int = 1280, **options: Any) -> None:
        self.context = browser.new_context(viewport={"width": width, "height": 800}, **options)
        self.page = self.context.new_page()
        self.problems: list[str] = []
        self.hosts: set[str] = set()
        self.page.on("console", self._log)
        self.page.on("pageerror", lambda error: self.problems.append(str(error)))
        self.page.on("request", lambda request: self.hosts.add(urlsplit(request.url).netloc))

    def _log(self, message: Any) -> None:
        if message.type in ("error", "warning"):
            self.problems.append(message.text)

    def paste(self, data: bytes) -> None:
        """Paste a PNG from the clipboard with the keyboard, as a person would."""
        self.context.grant_permissions(["clipboard-read", "clipboard-write"])
        self.page.evaluate(
            """async (bytes) => navigator.clipboard.write([
                 new ClipboardItem({"image/png": new Blob([Uint8Array.from(bytes)], {type: "image/png"})})])""",
            list(data),
        )
        self.page.keyboard.press("Control+V")

    def overflow(self) -> int:
        """Measure by how many pixels the page is wider than its window."""
        return int(self.page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth"))


class QuietHandler(http.server.SimpleHTTPRequestHandler):
    """Serves files to pages of any origin."""

    def end_headers(self) -> None:
        self.send_header("Access-Control-Allow-Origin", "*")
        super().end_headers()

    def log_message(self, *_: Any) -> None:
        pass


@contextmanager
def serve(folder: Path) -> Iterator[str]:
    """Serve a folder on loopback, and yield its address."""
    handler = functools.partial(QuietHandler, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/"
        finally:
            server.shutdown()
