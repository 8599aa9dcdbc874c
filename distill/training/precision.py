"""Precision: which mixed precision a machine computes in."""

from __future__ import annotations

from typing import Literal

import torch

Precision = Literal["no", "bf16", "fp16"]


def choose_precision(wanted: Literal["auto", "no", "bf16", "fp16"]) -> Precision:
    """Turn `auto` into bf16 where the GPU or the processor has bf16 arithmetic, into no elsewhere."""
    if wanted != "auto":
        return wanted
    if torch.cuda.is_available():
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp16"
    capabilities = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    return "bf16" if capabilities.get("avx512_bf16") or capabilities.get("amx_bf16") else "no"
