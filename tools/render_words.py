"""Render synthetic scene words: `python tools/render_words.py --out words --words 20000 --sheet words.png`."""

import sys
from pathlib import Path

sys.path[0] = str(Path(__file__).resolve().parent.parent)  # tools/ would hide the package distill behind distill.py

from distill.commands.render_words import main

if __name__ == "__main__":  # worker processes import this file too
    sys.exit(main())
