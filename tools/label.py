"""Let readers label pictures: `python tools/label.py PICTURES OUT --reader tiny`."""

import sys
from pathlib import Path

sys.path[0] = str(Path(__file__).resolve().parent.parent)  # tools/ would hide the package distill behind distill.py

from distill.commands.label import main

if __name__ == "__main__":
    sys.exit(main())
