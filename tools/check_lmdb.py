"""Check data sets of words: `python tools/check_lmdb.py DATA [--against TRAIN]`."""

import sys
from pathlib import Path

sys.path[0] = str(Path(__file__).resolve().parent.parent)  # tools/ would hide the package distill behind distill.py

from distill.commands.check_lmdb import main

if __name__ == "__main__":
    sys.exit(main())
