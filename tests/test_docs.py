"""The documentation is true: its commands parse, its configurations load, its examples run, its names resolve.

Every fenced `bash` block of README.md, CONTRIBUTING.md and docs/ is read. Each command's arguments go through that
command's own parser and its configuration is loaded with its overrides. Blocks under an HTML comment `<!-- run -->`
are executed, in order, in one empty folder a page; so are `python` blocks under that mark. Blocks under
`<!-- run: slow -->` are executed by `make test-all` only.
"""

from __future__ import annotations

import argparse
import ast
import importlib
import os
import re
import shlex
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from PIL import Image, ImageDraw, ImageFont

from distill.config import load_config
from distill.schema import Config, TeacherConfig
from distill.training.optim import learning_rate

INTERNAL = ("distill", "losses", "teachers", "students")
PACKAGES = "|".join(("symdistill", *INTERNAL))
ROOT = Path(__file__).resolve().parent.parent
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
FENCE = re.compile(
    r"^(?:<!-- run(?P<slow>: slow)? -->(?P<mark>\n))?```(?P<language>\w*)\n(?P<body>.*?)^```$", re.MULTILINE | re.DOTALL
)
ELSEWHERE = {"git", "sbatch", "cd", "pip", "source", "tensorboard", "kill", "ls", "cat", "unzip"}
"""Programs whose commands are left to the reader."""
MODULES = (["-m", "venv"], ["-m", "pip"], ["-m", "http.server"])
"""Modules of Python's own that are started as programs."""
SCHEMAS = {"distill": Config, "train_teacher": TeacherConfig}


@dataclass(frozen=True)
class Block:
    page: Path
    language: str
    body: str
    run: bool
    slow: bool

    def commands(self) -> Iterator[list[str]]:
        """Each line as words, without comments, continuation lines joined, environment settings dropped."""
        for line in self.body.replace("\\\n", " ").splitlines():
            words = shlex.split(line, comments=True)
            while words and re.fullmatch(r"[A-Z_]+=\S*", words[0]):
                words = words[1:]
            if words:
                yield words


def blocks(page: Path) -> list[Block]:
    text = page.read_text(encoding="utf-8")
    return [Block(page, m["language"], m["body"], bool(m["mark"]), bool(m["slow"])) for m in FENCE.finditer(text)]


def launched(words: list[str]) -> list[str] | None:
    """Cut a launcher and its options off: the words that start with the command's name, or None for another program."""
    program = words[0].rsplit("/", 1)[-1]
    if program == "accelerate" and words[1] == "launch":
        from accelerate.commands.launch import launch_command_parser

        options = launch_command_parser().parse_args(words[2:])
        return named([*(["-m"] if options.module else []), options.training_script, *options.training_script_args])
    if program == "torchrun":
        from torch.distributed.run import get_args_parser

        options = get_args_parser().parse_args(words[1:])
        return named([*(["-m"] if options.module else []), options.training_script, *options.training_script_args])
    if program in ("python", "python3"):
        return named(words[1:])
    return words[1:] if program == "symdistill" else None


def named(words: list[str]) -> list[str] | None:
    """`tools/NAME.py ...` or `-m symdistill NAME ...` as `NAME ...`."""
    if words[:2] == ["-m", "symdistill"]:
        return words[2:]
    if words[0].startswith("tools/"):
        assert (ROOT / words[0]).is_file(), f"no {words[0]}"
        return [Path(words[0]).stem, *words[1:]]
    return None


class Parsed(BaseException):
    """Raised in place of returning from a parser, so that a command stops where its arguments are known."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        self.arguments = arguments


def arguments_of(command: list[str], monkeypatch: pytest.MonkeyPatch) -> argparse.Namespace | None:
    """Let a command parse its arguments, and stop it there; None for one that only explains itself."""
    depth = 0

    def stopping(parse: Callable[..., Any]) -> Callable[..., Any]:
        def parser(self: argparse.ArgumentParser, *args: Any, **options: Any) -> Any:
            nonlocal depth
            depth += 1  # the parsers call each other; only the outermost call has the whole answer
            try:
                parsed = parse(self, *args, **options)
            finally:
                depth -= 1
            if depth == 0:
                raise Parsed(parsed[0] if isinstance(parsed, tuple) else parsed)
            return parsed

        return parser

    module = importlib.import_module("distill.commands." + command[0].replace("-", "_"))
    with monkeypatch.context() as patch:
        for name in ("parse_args", "parse_known_args", "parse_intermixed_args", "parse_known_intermixed_args"):
            patch.setattr(argparse.ArgumentParser, name, stopping(getattr(argparse.ArgumentParser, name)))
        with pytest.raises((Parsed, SystemExit)) as stop:
            module.main(command[1:])
    if isinstance(stop.value, SystemExit):
        assert stop.value.code == 0, command
        return None
    return stop.value.arguments


def check(words: list[str], here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Check one command as far as that goes without running it; `here` holds the files that its page shows."""
    program = words[0].rsplit("/", 1)[-1]
    if program == "make":
        for target in (word for word in words[1:] if "=" not in word):
            assert re.search(rf"^{re.escape(target)}:", (ROOT / "Makefile").read_text(), re.MULTILINE), f"make {target}"
        return
    command = launched(words)
    if command is None:
        assert program in ELSEWHERE or words[1:3] in MODULES, f"nothing checks {words}"
        return
    arguments = arguments_of(command, monkeypatch)
    schema = SCHEMAS.get(command[0].replace("-", "_"))
    if schema is not None and arguments is not None:
        given = next(
            (path for path in (here / arguments.config, ROOT / arguments.config) if path.is_file()), arguments.config
        )
        load_config(schema, given, arguments.overrides)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_commands_parse_and_their_configurations_load(
    page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for block in blocks(page):
        assert block.language, f"{page.name}: a fence without a language"
        if block.language == "yaml" and (name := re.match(r"# (\S+\.yaml)\n", block.body)):
            (tmp_path / name[1]).write_text(block.body, encoding="utf-8")
        if block.language == "bash":
            for words in block.commands():
                check(words, tmp_path, monkeypatch)


@pytest.mark.parametrize("file", sorted((ROOT / "configs").glob("*.yaml")), ids=lambda file: file.stem)
def test_shipped_configurations_open_with_their_command(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = file.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 60
    opening = "\n".join(line.lstrip("# ") for line in text.splitlines() if line.startswith("#"))
    command = opening.replace("\\\n", " ").splitlines()[0]
    assert f"configs/{file.name}" in command
    for words in Block(file, "bash", command, run=False, slow=False).commands():
        check(words, tmp_path, monkeypatch)


def runnable() -> Iterator[Any]:
    """The pages with examples to run, without and with their slow ones."""
    for page in PAGES:
        marked = [block for block in blocks(page) if block.run]
        if any(not block.slow for block in marked):
            yield pytest.param(page, False, id=page.stem)
        if any(block.slow for block in marked):
            yield pytest.param(page, True, id=f"{page.stem}-all", marks=pytest.mark.slow)


@pytest.mark.parametrize(("page", "slow"), runnable())
def test_marked_examples_run(page: Path, slow: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("TQDM_DISABLE", "1")
    names: dict[str, Any] = {"__name__": "__main__"}
    for block in (block for block in blocks(page) if block.run and (slow or not block.slow)):
        if block.language == "python":
            exec(compile(block.body, str(page), "exec"), names)  # noqa: S102  our own pages
            continue
        for words in block.commands():
            command = launched(words)
            assert command is not None, f"can't run {words}"
            assert importlib.import_module("symdistill.__main__").main(command) in (0, None), words


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.M | re.S), re.M)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
        if "://" in target:
            continue
        path, _, anchor = target.partition("#")
        file = page.parent / path if path else page
        assert os.path.exists(file), f"{page.name} links to {target}"
        assert not anchor or anchor in anchors(file), f"{page.name} links to {target}, which has no such heading"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_files_and_functions_exist_under_the_names_given(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for name in re.findall(rf"`((?:{PACKAGES}|tools|configs|tests|docs)/[\w/.-]+\.\w+)`", text):
        assert "NAME" in name or (ROOT / name).exists(), f"{page.name} names {name}"
    for dotted in re.findall(rf"`((?:{PACKAGES})(?:\.\w+)+)(?:\([^`]*\))?`", text):
        assert resolves(dotted), f"{page.name} names {dotted}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_python_examples_import_nothing_of_ours_but_the_front_door(page: Path) -> None:
    for block in (block for block in blocks(page) if block.language == "python"):
        for node in ast.walk(ast.parse(block.body)):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert not [name for name in names if name.split(".")[0] in INTERNAL], f"{page.name} imports {names}"


def test_the_five_lines_of_the_readme_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    picture = Image.new("RGB", (150, 40), "white")
    ImageDraw.Draw(picture).text((10, 4), "street", fill="black", font=ImageFont.load_default(28))
    picture.save("word.png")
    first = next(block for block in blocks(ROOT / "README.md") if block.language == "python")
    assert len([line for line in first.body.splitlines() if line]) <= 5
    exec(compile(first.body, "README.md", "exec"), {})  # noqa: S102  our own page
    assert capsys.readouterr().out.startswith("street ")


def test_the_script_of_ones_own_loss_and_teacher_is_short() -> None:
    first = next(block for block in blocks(ROOT / "docs" / "howto" / "extend.md") if block.language == "python")
    assert first.run
    assert len(first.body.splitlines()) < 30
    for name in ("register_teacher", "register_loss", "distill", "evaluate", "export"):
        assert f"symdistill.{name}(" in first.body


def test_the_table_of_learning_rates_is_right() -> None:
    rows = re.findall(
        r"^\| (\d+)[^|]*\| (\d+) \| (\d+) \| (\d+) \| ([\d.e-]+) \|$",
        (ROOT / "docs" / "howto" / "several-processes.md").read_text(encoding="utf-8"), re.MULTILINE,
    )  # fmt: skip
    assert len(rows) == 3
    for processes, batch, accumulation, words, rate in rows:
        count, size, steps = int(processes), int(batch), int(accumulation)
        assert count * size * steps == int(words)
        actual = learning_rate(1.4e-3, grad_accum=steps, devices=count, batch_per_device=size)
        assert actual == pytest.approx(float(rate), abs=5e-7)


def resolves(dotted: str) -> bool:
    """Whether a dotted name is that of a module, or of something in one."""
    parts = dotted.split(".")
    for cut in range(len(parts), 0, -1):
        try:
            value: Any = importlib.import_module(".".join(parts[:cut]))
        except ModuleNotFoundError:
            continue
        for number, name in enumerate(parts[cut:]):
            fields = getattr(value, "__dataclass_fields__", {})
            if name in fields and number == len(parts) - cut - 1:
                return True
            if not hasattr(value, name):
                return False
            value = getattr(value, name)
        return True
    return False
