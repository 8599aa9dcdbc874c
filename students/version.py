"""The version of the package: as it is installed, or as setup.cfg says in a clone."""

from __future__ import annotations

from configparser import ConfigParser
from importlib import metadata
from pathlib import Path


def package_version() -> str:
    """Return the version, or `unknown`."""
    try:
        return metadata.version("symdistill")
    except metadata.PackageNotFoundError:  # a clone that was never installed
        settings = ConfigParser()
        settings.read(Path(__file__).parent.parent / "setup.cfg")
        return settings.get("metadata", "version", fallback="unknown")
