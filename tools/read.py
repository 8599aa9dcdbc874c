"""Read pictures of words: `python tools/read.py --student tiny word.png`."""

import sys
from pathlib import Path

sys.path[0] = str(Path(__file__).resolve().parent.parent)  # tools/ would hide the package distill behind distill.py

from distill.commands.read import main

sys.exit(main())
