"""Compare readers: `python tools/evaluate.py --student tiny --data DIR`."""

import sys
from pathlib import Path

sys.path[0] = str(Path(__file__).resolve().parent.parent)  # tools/ would hide the package distill behind distill.py

from distill.commands.evaluate import main

sys.exit(main())
