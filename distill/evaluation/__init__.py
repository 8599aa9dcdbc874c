"""Evaluation: benchmarks, metrics, the comparison of readers, its report, and validation during training."""
