"""Measurements of time and memory: each table is a function that yields rows; the command `bench` runs them."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from distill.benchmarking.consistency import chunked_over_dense_lcl, lcl_by_rows
from distill.benchmarking.decoding import decode_over_encoder, decoding_ms, kinds_ms
from distill.benchmarking.exported import onnx_ms
from distill.benchmarking.loader import loader_words_per_s
from distill.benchmarking.measuring import Row, Setup
from distill.benchmarking.startup import startup_s
from distill.benchmarking.steps import bf16_over_float32_step, distil_over_plain_step, training_step

__all__ = ["TABLES", "Row", "Setup"]

TABLES: dict[str, Callable[[Setup], Iterator[Row]]] = {
    "decode_over_encoder": decode_over_encoder,
    "decoding_ms": decoding_ms,
    "kinds_ms": kinds_ms,
    "training_step": training_step,
    "distil_over_plain_step": distil_over_plain_step,
    "bf16_over_float32_step": bf16_over_float32_step,
    "chunked_over_dense_lcl": chunked_over_dense_lcl,
    "lcl_by_rows": lcl_by_rows,
    "loader_words_per_s": loader_words_per_s,
    "onnx_ms": onnx_ms,
    "startup_s": startup_s,
}
"""Every table by name."""
