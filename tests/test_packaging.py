"""What setup.cfg installs: every package, every configuration, and no package of an extra unless it is asked for."""

from __future__ import annotations

import subprocess
import sys
from configparser import ConfigParser
from pathlib import Path

import pytest

from distill.config import SHIPPED
from students.errors import UserError
from students.extras import EXTRAS, import_extra

ROOT = Path(__file__).resolve().parent.parent
TOP = ["symdistill", "distill", "losses", "teachers", "students"]
DISTRIBUTIONS = {"fontTools": "fonttools"}
"""Packages whose distribution has another name."""


@pytest.fixture(scope="module")
def settings() -> ConfigParser:
    """setup.cfg."""
    parser = ConfigParser()
    parser.read(ROOT / "setup.cfg", encoding="utf-8")
    return parser


def requirements(text: str) -> set[str]:
    """The names in a list of requirements."""
    return {line.split(">=")[0].strip() for line in text.splitlines() if line and not line.startswith("#")}


def test_every_package_is_listed(settings: ConfigParser) -> None:
    actual = {
        str(file.parent.relative_to(ROOT)).replace("/", ".") for top in TOP for file in (ROOT / top).rglob("*.py")
    }
    assert set(settings["options"]["packages"].split()) == actual | {"distill.configs"}
    assert settings["options"]["package_dir"].split() == ["distill.configs", "=", "configs"]


def test_the_shipped_configurations_are_those_of_the_folder() -> None:
    assert SHIPPED.resolve() == (ROOT / "configs").resolve()
    assert not list(SHIPPED.glob("*.py")), "configs is data, not a package"


@pytest.mark.parametrize("package", TOP)
def test_every_package_is_typed(package: str, settings: ConfigParser) -> None:
    # The front door's types are those of the other packages; a checker takes them from marked ones only.
    assert (ROOT / package / "py.typed").is_file()
    assert "py.typed" in settings["options.package_data"][package].split()


def test_an_extra_brings_each_optional_package(settings: ConfigParser) -> None:
    extras = settings["options.extras_require"]
    for package, extra in EXTRAS.items():
        assert DISTRIBUTIONS.get(package, package) in requirements(extras[extra])
    # Gradio needs an older Pillow than the one that all was tested with.
    assert requirements(extras["all"]) == {f"symdistill[{extra}]" for extra in set(EXTRAS.values()) - {"demo"}}
    assert "symdistill[all]" in requirements(extras["dev"])
    core = requirements(settings["options"]["install_requires"])
    assert not core & {DISTRIBUTIONS.get(package, package) for package in EXTRAS}


def test_a_missing_package_is_answered_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    assert import_extra("wordfreq", "rendering words").__name__ == "wordfreq"
    monkeypatch.setitem(sys.modules, "wordfreq", None)
    with pytest.raises(UserError) as refused:
        import_extra("wordfreq", "rendering words")
    assert str(refused.value) == 'rendering words needs wordfreq; pip install "symdistill[render]"'


def test_what_an_installed_package_lacks_itself_is_no_mistake_of_the_user(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "wordfreq.py").write_text("import no_such_package\n", encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "wordfreq", raising=False)
    with pytest.raises(ModuleNotFoundError, match="no_such_package"):
        import_extra("wordfreq", "rendering words")


def test_importing_the_front_door_imports_no_torch() -> None:
    program = (
        "import sys, symdistill; print(symdistill.__version__, sorted({'torch', 'timm', 'PIL'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=60, check=True
    )
    version, _, heavy = done.stdout.strip().partition(" ")
    assert version[0].isdigit()
    assert heavy == "[]"


def test_both_ways_to_start_a_command_are_one() -> None:
    from distill.__main__ import main
    from symdistill.__main__ import main as door

    assert door is main
