"""The section `eval` of a configuration: what a finished student is compared with."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class EvalSection:
    """The comparison and export at the end of a run."""

    baseline: bool = False
    """Train the same student without a teacher too, side by side, and compare."""
    teacher: bool = True
    """Score the teachers too: readers openly, a CLIP by closed lexicon."""
    test: str | None = None
    """Folder of benchmarks, or one set (relative paths start at data.root); null takes the validation words."""
    benchmarks: str = "six"
    """`six`, `all`, or names with commas."""
    charset: str | None = None
    """Alphabet that is scored, such as 36; null takes the student's own."""
    train_root: str | None = None
    """Training words that are searched for test words, beside those that are learned from (relative paths start at
    data.root); null searches none."""
    onnx: bool = True
    """Export the student to ONNX too."""
