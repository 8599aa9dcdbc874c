"""The parser of a command's arguments, whose mistakes are told as all others are: in one line."""

from __future__ import annotations

import argparse
from typing import NoReturn


class CommandParser(argparse.ArgumentParser):
    """An `ArgumentParser` that leaves the usage to `--help`."""

    def error(self, message: str) -> NoReturn:
        """Say in one line on stderr what is wrong, and end with exit code 2."""
        self.exit(2, f"error: {' '.join(message.split())}; --help tells the arguments\n")
