"""Where and with what a result was made: part of every report."""

from __future__ import annotations

import os
import platform
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

PACKAGES = ("symdistill", "torch", "timm", "open_clip_torch", "onnxruntime", "Pillow", "rapidfuzz")
"""Packages whose versions can change a number."""


def describe_machine(device: str = "cpu") -> dict[str, Any]:
    """Give platform, processor, cores that may be used, threads, and the device that reads."""
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    gpu = torch.cuda.get_device_name() if device.startswith("cuda") else None
    return {
        "platform": f"{platform.system()} {platform.machine()}", "processor": processor(), "cores": usable,
        "threads": torch.get_num_threads(), "device": f"{device} ({gpu})" if gpu else device,
    }  # fmt: skip


def processor() -> str:
    """Name the processor."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    named = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")
    return named or platform.processor() or platform.machine()


def versions() -> dict[str, str]:
    """Give the versions of Python and of the packages that are installed."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    found["torch"] = torch.__version__
    return found
