"""Plugins are imported once, before anything is looked up; missing ones are refused in one line."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from distill.plugins import import_plugins
from students.errors import UserError

COUNTING = "import sys\nsys.symdistill_imports = getattr(sys, 'symdistill_imports', 0) + 1\n"


@pytest.fixture(autouse=True)
def counter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "symdistill_imports", 0, raising=False)
    monkeypatch.syspath_prepend(str(tmp_path))


def test_files_and_modules_are_imported_once(tmp_path: Path) -> None:
    (tmp_path / "my_counting_losses.py").write_text(COUNTING, encoding="utf-8")
    (tmp_path / "my_counting_package").mkdir()
    (tmp_path / "my_counting_package" / "inner.py").write_text(COUNTING, encoding="utf-8")
    for _ in range(2):
        import_plugins(["my_counting_losses.py", str(tmp_path / "my_counting_losses.py"), "my_counting_package.inner"])
    assert sys.symdistill_imports == 2  # type: ignore[attr-defined]
    import my_counting_losses  # type: ignore[import-not-found]  # noqa: F401  the script itself may import it too

    assert sys.symdistill_imports == 2  # type: ignore[attr-defined]


def test_what_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"plugins: none\.py: no such file"):
        import_plugins(["none.py"])
    with pytest.raises(UserError, match=r"no module 'nobodys_package\.losses'"):
        import_plugins(["nobodys_package.losses"])
    with pytest.raises(UserError, match=r"no module 'os\.nothing'"):
        import_plugins(["os.nothing"])
    (tmp_path / "lacking.py").write_text("import nobodys_package\n", encoding="utf-8")
    for name in ("lacking", "lacking.py"):
        with pytest.raises(ModuleNotFoundError, match="nobodys_package"):  # the plugin's own matter: its traceback
            import_plugins([name])
