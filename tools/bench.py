"""Measure time and memory: `python tools/bench.py --tables decode_over_encoder`."""

import sys
from pathlib import Path

sys.path[0] = str(Path(__file__).resolve().parent.parent)  # tools/ would hide the package distill behind distill.py

from distill.commands.bench import main

if __name__ == "__main__":  # worker processes import this file too
    sys.exit(main())
