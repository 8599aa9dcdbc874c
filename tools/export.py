"""Export a student to a folder and ONNX: `python tools/export.py --student tiny --out exported --onnx`."""

import sys
from pathlib import Path

sys.path[0] = str(Path(__file__).resolve().parent.parent)  # tools/ would hide the package distill behind distill.py

from distill.commands.export import main

sys.exit(main())
