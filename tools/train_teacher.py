"""Train a small CLIP of words: `accelerate launch tools/train_teacher.py --config configs/teacher_words.yaml`."""

import sys
from pathlib import Path

sys.path[0] = str(Path(__file__).resolve().parent.parent)  # tools/ would hide the package distill behind distill.py

from distill.commands.train_teacher import main

if __name__ == "__main__":
    sys.exit(main())
