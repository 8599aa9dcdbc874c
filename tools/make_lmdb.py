"""Write an LMDB from a folder of pictures with labels: `python tools/make_lmdb.py FOLDER OUT`."""

import sys
from pathlib import Path

sys.path[0] = str(Path(__file__).resolve().parent.parent)  # tools/ would hide the package distill behind distill.py

from distill.commands.make_lmdb import main

if __name__ == "__main__":
    sys.exit(main())
