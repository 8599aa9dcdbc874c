"""Show a page for trying readers: drop, paste or photograph pictures, and see what one reader or two say of them."""

from __future__ import annotations

import argparse
import threading
from collections.abc import Sequence
from contextlib import suppress

from distill.commands import CommandParser, add_plugin_option, integer
from distill.errors import exit_on_user_error
from students.extras import check_extra

LOOPBACK = ("127.0.0.1", "localhost", "::1")


def parser() -> argparse.ArgumentParser:
    """Build the command's arguments."""
    command = CommandParser(prog="demo", description=__doc__)
    command.add_argument(
        "--student", action="append", default=[], metavar="S",
        help="shipped name, folder of a reader, ONNX file, rapidocr or tesseract; may be given several times "
        "(default: all that are shipped, and rapidocr where it is installed)",
    )  # fmt: skip
    command.add_argument("--host", default=LOOPBACK[0], help="address to listen on (%(default)s: this machine alone)")
    command.add_argument(
        "--port", type=integer(1, 65535), default=7860, metavar="N", help="port to listen on (%(default)s)"
    )
    add_plugin_option(command)
    return command


@exit_on_user_error
def main(argv: Sequence[str]) -> int:
    """Run the command until it is interrupted; see `parser`."""
    given = parser().parse_args(argv)
    check_extra("demo", "the demo page")
    from distill.demo.page import serve_page
    from distill.demo.reading import Readers, default_names
    from distill.plugins import import_plugins

    import_plugins(given.plugin)
    readers = Readers(given.student or default_names())
    if given.host not in LOOPBACK:
        print(f"--host {given.host}: whoever reaches this machine on that address can use the page", flush=True)
    with serve_page(readers, given.host, given.port) as address, suppress(KeyboardInterrupt):
        print(f"reading with {', '.join(readers.opened)}\n{address} (Ctrl+C ends it)", flush=True)
        threading.Event().wait()
    return 0
