"""Convert a published checkpoint: `python tools/convert.py clipocr clipocr.ckpt --out reader`."""

import sys
from pathlib import Path

sys.path[0] = str(Path(__file__).resolve().parent.parent)  # tools/ would hide the package distill behind distill.py

from distill.commands.convert import main

sys.exit(main())
