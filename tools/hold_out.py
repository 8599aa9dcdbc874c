"""Hold labels out of training: `python tools/hold_out.py DATA OUT`."""

import sys
from pathlib import Path

sys.path[0] = str(Path(__file__).resolve().parent.parent)  # tools/ would hide the package distill behind distill.py

from distill.commands.hold_out import main

if __name__ == "__main__":
    sys.exit(main())
