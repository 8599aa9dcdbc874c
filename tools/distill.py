"""Distil a frozen CLIP into a small reader: `accelerate launch tools/distill.py --config configs/quickstart.yaml`."""

import sys
from pathlib import Path

sys.path[0] = str(Path(__file__).resolve().parent.parent)  # tools/ would hide the package distill behind distill.py

from distill.commands.distill import main

if __name__ == "__main__":
    sys.exit(main())
