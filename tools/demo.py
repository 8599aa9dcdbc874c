"""Show a page for trying readers: `python tools/demo.py --student tiny`."""

import sys
from pathlib import Path

sys.path[0] = str(Path(__file__).resolve().parent.parent)  # tools/ would hide the package distill behind distill.py

from distill.commands.demo import main

sys.exit(main())
