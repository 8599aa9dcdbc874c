"""Draw accuracy against time: `python tools/frontier.py REPORT`."""

import sys
from pathlib import Path

sys.path[0] = str(Path(__file__).resolve().parent.parent)  # tools/ would hide the package distill behind distill.py

from distill.commands.frontier import main

sys.exit(main())
