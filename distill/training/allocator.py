"""Keep glibc from handing large tensors back to the system at every step.

Training allocates the same large buffers again and again. With glibc's defaults each of them is mapped and unmapped,
and its pages are cleared by the kernel every time: on a CPU large operations were 1.5 to 2.7 times slower for it.
"""

from __future__ import annotations

import ctypes
import sys

M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_MAX = -1, -2, -4
"""Parameter numbers of mallopt(3)."""

TOP_PAD_BYTES = 256 * 2**20
"""How much the heap grows at a time."""


def tune_allocator() -> bool:
    """Tell glibc to serve large blocks from the heap and to keep the heap.

    Call it before torch allocates much, best before torch is imported. The memory of a process then stays at its peak.

    Returns:
        True when all three settings were taken; False where there is no glibc, which changes nothing.
    """
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL("libc.so.6").mallopt
    except (OSError, AttributeError):
        return False
    mallopt.argtypes = [ctypes.c_int, ctypes.c_int]
    mallopt.restype = ctypes.c_int
    settings = ((M_MMAP_MAX, 0), (M_TRIM_THRESHOLD, 2**31 - 1), (M_TOP_PAD, TOP_PAD_BYTES))
    taken = [mallopt(name, value) == 1 for name, value in settings]
    return all(taken)
