"""The commands: each module here is one, with its arguments and its `main(argv) -> int`."""

from __future__ import annotations

import ast
import pkgutil
from pathlib import Path


def commands() -> dict[str, str]:
    """Name every command, with the first line of its module's docstring; no command is imported for that."""
    folder = Path(__file__).parent
    found = {}
    for module in pkgutil.iter_modules([str(folder)]):
        source = (folder / f"{module.name}.py").read_text(encoding="utf-8")
        lines = (ast.get_docstring(ast.parse(source)) or "").splitlines()
        # A first line may open with the tool's own name (`tools/read.py`: ...), which the list says already.
        told = lines[0].rsplit("`: ", 1)[-1] if lines else ""
        found[module.name] = told[:1].upper() + told[1:]
    return found
