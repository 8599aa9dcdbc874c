"""Files of npm packages that pages need: fetched once into the cache, and compared with their known SHA-256."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from distill.data.records import user_cache
from students.errors import UserError
from students.files import replacing, write_file

FETCH_SECONDS = 600


class NpmUnavailableError(UserError):
    """There is no npm, or it can't reach what it is asked for: no fault of what was asked."""


@dataclass(frozen=True)
class NpmFiles:
    """Some files of a version of a package."""

    package: str
    version: str
    folder: str
    """Where they are in the package, with a slash at its end; empty for its root."""
    sha256: Mapping[str, str]
    """SHA-256 of each file, by its path in `folder`."""

    @property
    def name(self) -> str:
        """Package and version, as npm takes them."""
        return f"{self.package}@{self.version}"

    @property
    def cached(self) -> Path:
        """The folder that holds them once they are fetched."""
        return user_cache() / f"{self.package}-{self.version}"

    def find(self, instead: str) -> Path:
        """Return the folder that has them, fetched now unless it has.

        Args:
            instead: what a user can do where npm can't fetch them, for the error.

        Raises:
            NpmUnavailableError: when there is no npm, or it can't fetch.
            UserError: when there is no such version, or npm fetches something else.
        """
        if not self.is_intact(self.cached):
            self._fetch(instead)
        return self.cached

    def is_intact(self, folder: Path) -> bool:
        """Tell whether a folder has the files, undamaged."""
        return all(
            (folder / name).is_file() and hashlib.sha256((folder / name).read_bytes()).hexdigest() == sha256
            for name, sha256 in self.sha256.items()
        )

    def _fetch(self, instead: str) -> None:
        npm = shutil.which("npm")
        if npm is None:
            raise NpmUnavailableError(
                f"a page needs {self.package}, and there is no npm here to fetch it with; {instead}"
            )
        with tempfile.TemporaryDirectory() as scratch:
            command = [npm, "pack", "--loglevel=error", "--ignore-scripts", self.name]
            try:
                done = subprocess.run(
                    command, cwd=scratch, capture_output=True, encoding="utf-8", errors="replace", timeout=FETCH_SECONDS
                )
            except subprocess.TimeoutExpired:
                raise NpmUnavailableError(
                    f"npm didn't fetch {self.package} in {FETCH_SECONDS} seconds; {instead}"
                ) from None
            archive = next(Path(scratch).glob("*.tgz"), None)
            if done.returncode or archive is None:
                reason = (done.stderr.strip().splitlines() or ["no word why"])[0]
                if "ETARGET" in reason:  # npm's code for a version that it looked for and that doesn't exist
                    raise UserError(f"npm knows no {self.package} {self.version}; {instead}")
                raise NpmUnavailableError(f"npm can't fetch {self.package} ({reason}); {instead}")
            self.cached.parent.mkdir(parents=True, exist_ok=True)
            with replacing(self.cached) as beside, tarfile.open(archive) as packed:
                beside.mkdir()
                for entry in packed:
                    # Only names that are asked for, so that no path inside the archive is followed.
                    name = entry.name.removeprefix(f"package/{self.folder}")
                    if name in self.sha256 and (content := packed.extractfile(entry)) is not None:
                        (beside / name).parent.mkdir(parents=True, exist_ok=True)
                        write_file(beside / name, content.read())
                if not self.is_intact(beside):
                    raise UserError(f"what npm fetched isn't {self.package} {self.version}; {instead}")
