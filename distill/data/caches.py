"""Choose the folder of files that are computed from a set and read again: the set's own, or the user's cache."""

from __future__ import annotations

import os
from pathlib import Path

from distill.data.records import Records


def user_cache() -> Path:
    """Return the folder for caches of this user, which may not exist yet."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "symdistill"


def cache_folder(records: Records) -> Path:
    """Return the set's own folder, or the user's cache when that is read-only."""
    home = records.path if records.path.is_dir() else records.path.parent
    return home if os.access(home, os.W_OK) else user_cache()
