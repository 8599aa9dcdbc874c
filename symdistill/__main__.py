"""Run a command: `symdistill NAME ...`, which is the same as `python -m symdistill NAME ...`."""

from __future__ import annotations

import sys

from distill.__main__ import main

__all__ = ["main"]

if __name__ == "__main__":
    sys.exit(main())
