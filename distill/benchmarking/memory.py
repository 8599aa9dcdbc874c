"""Memory of this process, or of its GPU: the peak since a moment, and what is held."""

from __future__ import annotations

import resource
from pathlib import Path

import torch

STATUS, RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def forget_peak(device: str = "cpu") -> int:
    """Start to look for the peak anew, and give what is held now in bytes."""
    if device != "cpu":
        torch.cuda.reset_peak_memory_stats()
        return peak_bytes(device)
    if RESET.exists():
        RESET.write_text("5")
    return peak_bytes(device)


def peak_bytes(device: str = "cpu") -> int:
    """Give the most bytes held since `forget_peak`, pages of mapped files among them."""
    if device != "cpu":
        torch.cuda.synchronize()
        return torch.cuda.max_memory_allocated()
    found = _field("VmHWM")
    # Elsewhere than on Linux the peak can't be forgotten, and is in bytes.
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss if found is None else found


def held_bytes() -> int:
    """Give the bytes that this process holds for itself, mapped files left out; 0 where nothing tells."""
    return _field("RssAnon") or 0


def _field(name: str) -> int | None:
    """Read a field of /proc/self/status, in bytes; None where there is none."""
    if not STATUS.exists():
        return None
    lines = (line.split() for line in STATUS.read_text().splitlines())
    return next((1024 * int(words[1]) for words in lines if words[0] == f"{name}:"), None)
