"""Measurements of time and memory: each table is a function that yields rows; the command `bench` runs them."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from distill.benchmarking.decoding import decode_over_encoder, decoding_ms, kinds_ms, onnx_ms
from distill.benchmarking.loading import loader_words_per_s, startup_s
from distill.benchmarking.measuring import Row, Setup
from distill.benchmarking.training import (
    bf16_over_float32_step,
    chunked_over_dense_lcl,
    ctc_step,
    distil_over_plain_step,
    lcl_by_rows,
    training_step,
)

__all__ = ["TABLES", "Row", "Setup"]

TABLES: dict[str, Callable[[Setup], Iterator[Row]]] = {
    table.__name__: table
    for table in (
        decode_over_encoder, decoding_ms, kinds_ms, training_step, ctc_step, distil_over_plain_step,
        bf16_over_float32_step, chunked_over_dense_lcl, lcl_by_rows, loader_words_per_s, onnx_ms, startup_s,
    )
}  # fmt: skip
"""Every table by name."""
