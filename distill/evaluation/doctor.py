"""What the teacher doctor found, as tables: for the terminal, as Markdown and as JSON."""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from distill.deployment.onnx_reader import OnnxReader
from distill.deployment.readers import is_onnx
from distill.evaluation.report import check_output, versions
from distill.evaluation.tables import grid
from students.charset import Charset
from students.files import write_file
from students.pretrained import name_of
from teachers.clip4str import Clip4Str
from teachers.doctor import Checkup, examine_clip, examine_clip4str, examine_reader
from teachers.registry import is_reader, load_reader

SCHEMA = 1
FINDINGS, TABLE = "doctor.json", "doctor.md"
NUMBERS = {"pairs", "same tokens", "low", "median", "high"}
"""Columns that stand to the right."""


@dataclass(frozen=True)
class Part:
    """A table of the findings."""

    title: str
    head: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]


def run_doctor(names: Sequence[str], alphabet: str, words: Sequence[str], out: str | None, overwrite: bool) -> None:
    """Examine teachers, print what was found, and write it where that is asked for.

    Args:
        names: teachers, as for `--teacher`.
        alphabet: the student's, as for `--charset`.
        words: the command's arguments.
        out: folder for doctor.json and doctor.md.
        overwrite: whether the findings in a folder that exists may be replaced.

    Raises:
        UserError: for an unknown teacher or alphabet, or a folder that may not be written to.
    """
    folder = check_output(out, overwrite, FINDINGS) if out is not None else None
    charset = Charset.load(alphabet)
    found = [examine(name, charset) for name in dict.fromkeys(names)]
    console = Console(highlight=False)
    for checkup in found:
        print_checkup(checkup, console)
    if folder is not None:
        command = shlex.join(["symdistill", "evaluate", *words])
        folder.mkdir(parents=True, exist_ok=True)
        report = {
            "schema": SCHEMA, "command": command, "versions": versions(), "charset": charset.characters,
            "teachers": [to_dict(checkup) for checkup in found],
        }  # fmt: skip
        write_file(folder / FINDINGS, json.dumps(report, indent=2, allow_nan=False) + "\n")
        write_file(folder / TABLE, to_markdown(command, found))
        print(f"wrote {folder / FINDINGS}")


def examine(name: str, charset: Charset) -> Checkup:
    """Examine a teacher, whether it reads or chooses; raises `UserError` when there is none."""
    if is_onnx(name):
        stored = OnnxReader(name)
        return examine_reader(stored.name, "ONNX file", stored.charset, stored.max_length, charset)
    if not is_reader(name):
        return examine_clip(name, charset)
    reader = load_reader(name)
    kind = f"{type(reader).__name__}, {reader.parameters_count / 1e6:.2f} M parameters"
    if isinstance(reader, Clip4Str):
        return examine_clip4str(name_of(name), kind, reader, charset)
    return examine_reader(name_of(name), kind, reader.charset, reader.max_length, charset)


def parts(checkup: Checkup) -> list[Part]:
    """Lay out what was found as tables."""
    laid: list[Part] = []
    tokens, reading = checkup.tokens, checkup.reading
    if tokens is not None:
        counts = [(str(count), str(characters)) for count, characters in tokens.counts.items()]
        laid.append(Part("Tokens of a character", ("tokens", "characters"), counts))
        laid.append(Part("Characters that are not one token", ("character", "why"), list(tokens.broken.items())))
        case = [group for group in tokens.same if len(group) == 2 and group[0].swapcase() == group[1]]
        groups = [(" ".join(group),) for group in tokens.same if group not in case]
        folded = f"upper and lower case of {tokens.letters_collapsed} of {tokens.letters} letters"
        laid.append(Part("One token for", ("characters",), [*([(folded,)] if case else []), *groups]))
    if checkup.contrasts:
        rows = [
            (
                contrast.kind, " / ".join(contrast.example), str(contrast.pairs), str(contrast.identical),
                *(f"{value:.3f}" for value in (contrast.low, contrast.median, contrast.high)),
            )
            for contrast in checkup.contrasts
        ]  # fmt: skip
        head = ("words differ in", "for example", "pairs", "same tokens", "low", "median", "high")
        laid.append(Part("Cosine of two words' text embeddings", head, rows))
    if reading is not None:
        rows = [
            ("its alphabet", f"{len(reading.characters)}: {reading.characters}"),
            ("it can't read", " ".join(reading.outside)),
            ("it has the other case only", " ".join(reading.other_case)),
            ("its longest word", f"{reading.longest} characters"),
        ]
        laid.append(Part("A teacher that reads", ("asked", "found"), [row for row in rows if row[1]]))
    if checkup.captions is not None:
        captions = checkup.captions
        split = [f"{char} ({count})" for char, count in captions.broken.items()]
        rows = [
            ("their alphabet", f"{len(captions.characters)}: {captions.characters}"),
            ("they leave out", " ".join(captions.dropped)),
            ("not one token each", " ".join(split)),
            ("written alike", " ".join(captions.same)),
            ("room", f"{captions.tokens} tokens; words of up to {captions.fits} characters fit in any case"),
        ]
        laid.append(Part("Captions for its text tower", ("asked", "found"), [row for row in rows if row[1]]))
    return [part for part in laid if part.rows]


def conclusions(checkup: Checkup) -> dict[str, list[str]]:
    """Give what follows, by heading."""
    nothing = ["nothing that these checks could find"] if not checkup.unknown else []
    told = {
        "The student will not be taught": list(checkup.untaught) or nothing,
        "Its captions lose": [] if checkup.captions is None else list(checkup.captions.lost),
        "Not examined": list(checkup.unknown),
    }
    return {heading: lines for heading, lines in told.items() if lines}


def print_checkup(checkup: Checkup, console: Console) -> None:
    """Print what was found about one teacher."""
    console.print(Text(f"{checkup.teacher}, for {len(checkup.alphabet)} characters", style="bold underline"))
    console.print(Text(checkup.description))
    for part in parts(checkup):
        console.print(Text(part.title, style="bold"))
        table = Table(box=SIMPLE_HEAD, pad_edge=False)
        for title in part.head:
            table.add_column(title, justify="right" if title in NUMBERS else "left", overflow="fold")
        for row in part.rows:
            table.add_row(*map(Text, row))
        console.print(table)
    for heading, lines in conclusions(checkup).items():
        console.print(Text(f"{heading}:", style="bold"))
        for line in lines:
            console.print(Text(f"- {line}"), soft_wrap=True)
    console.print()


def to_markdown(command: str, found: Sequence[Checkup]) -> str:
    """Write what was found as Markdown."""
    blocks = ["# Teacher doctor", f"```text\n{command}\n```"]
    for checkup in found:
        blocks += [f"## {checkup.teacher}, for {len(checkup.alphabet)} characters", checkup.description]
        for part in parts(checkup):
            blocks += [f"### {part.title}", grid(part.head, part.rows)]
        for heading, lines in conclusions(checkup).items():
            blocks += [f"### {heading}", "\n".join(f"- {line}" for line in lines)]
    return "\n\n".join(blocks) + "\n"


def to_dict(checkup: Checkup) -> dict[str, Any]:
    """Give the findings as plain data; figures are rounded, characters stand in strings."""
    found: dict[str, Any] = asdict(checkup)
    for contrast in found["contrasts"]:
        contrast |= {key: round(contrast[key], 4) for key in ("low", "median", "high")}
    if checkup.captions is not None:
        found["captions"]["lost"] = list(checkup.captions.lost)
    return found | {"untaught": list(checkup.untaught)}
