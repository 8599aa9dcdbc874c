"""Plugins: Python files and modules, named in a configuration, that register losses, teachers and readers."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Sequence
from pathlib import Path

from students.errors import UserError

IMPORTED: set[str] = set()
"""Plugin files that this process has imported."""


def import_plugins(names: Sequence[str]) -> None:
    """Import plugins, each once in a process.

    Args:
        names: paths of files (`my_losses.py`, relative to the working folder) or names of modules (`package.module`).

    Raises:
        UserError: for a file or module that isn't there; what the plugin itself raises keeps its traceback.
    """
    for name in names:
        if name.endswith(".py") or "/" in name:
            _import_file(Path(name))
            continue
        try:
            importlib.import_module(name)
        except ModuleNotFoundError as error:
            if error.name is None or not f"{name}.".startswith(f"{error.name}."):
                raise  # something that the plugin imports is missing
            raise UserError(
                f"plugins: no module {name!r}; give a file such as my_losses.py, or a module that is installed"
            ) from None


def _import_file(path: Path) -> None:
    if not path.is_file():
        raise UserError(f"plugins: {path}: no such file in {Path.cwd()}; give the path of a Python file")
    file = str(path.resolve())
    if file in IMPORTED or any(getattr(module, "__file__", None) == file for module in list(sys.modules.values())):
        return
    spec = importlib.util.spec_from_file_location(path.stem, file)
    if spec is None or spec.loader is None:
        raise UserError(f"plugins: {path} is no Python file; give one that ends in .py")
    module = importlib.util.module_from_spec(spec)
    IMPORTED.add(file)
    sys.modules.setdefault(path.stem, module)  # so that the script that names it may import it too
    try:
        spec.loader.exec_module(module)
    except BaseException:
        IMPORTED.discard(file)
        if sys.modules.get(path.stem) is module:
            del sys.modules[path.stem]
        raise
