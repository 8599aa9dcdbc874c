"""Memory of this process, or of its GPU: the peak since a moment, and what is held."""

from __future__ import annotations

import resource
from pathlib import Path

import torch

RESET = Path("/proc/self/clear_refs")


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


def own_bytes(process: int) -> int:
    """Give the bytes that would be free if a process ended: what it shares with no other; 0 where nothing tells."""
    return sum(_field(name, f"{process}/smaps_rollup") or 0 for name in ("Private_Clean", "Private_Dirty"))


def mapped_bytes(process: int) -> int:
    """Give the bytes of files that a process has mapped and looked at, libraries among them; 0 where nothing tells."""
    return _field("RssFile", f"{process}/status") or 0


def _field(name: str, file: str = "self/status") -> int | None:
    """Read a field of a file of /proc, in bytes; None where there is none."""
    place = Path("/proc", file)
    if not place.exists():
        return None
    lines = (line.split() for line in place.read_text().splitlines())
    return next((1024 * int(words[1]) for words in lines if words[0] == f"{name}:"), None)
