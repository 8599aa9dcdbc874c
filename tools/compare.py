"""Compare runs: `python tools/compare.py RUN RUN`."""

import sys
from pathlib import Path

sys.path[0] = str(Path(__file__).resolve().parent.parent)  # tools/ would hide the package distill behind distill.py

from distill.commands.compare import main

sys.exit(main())
