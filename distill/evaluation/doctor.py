"""Report what teachers can't teach: for the terminal, as Markdown and as JSON."""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from dataclasses import asdict

from rich.console import Console
from rich.text import Text

from distill.deployment.readers import open_without_torch
from distill.evaluation.report import check_report_folder, versions
from distill.evaluation.tables import grid
from students.charset import Charset
from students.files import write_file
from teachers.doctor import Checkup, examine, examine_reader, is_case

SCHEMA = 2
FINDINGS, TABLE = "doctor.json", "doctor.md"
NOTHING = "nothing: it has guidance for every character and word"


def run_doctor(names: Sequence[str], alphabet: str, words: Sequence[str], out: str | None, overwrite: bool) -> None:
    """Examine teachers, print the findings, and write them where that is asked for.

    Args:
        names: teachers, as for `--teacher`.
        alphabet: the student's, as for `--charset`.
        words: the command's arguments.
        out: folder for doctor.json and doctor.md.
        overwrite: whether the findings in a folder that exists may be replaced.

    Raises:
        UserError: for an unknown teacher or alphabet, or a folder that may not be written to.
    """
    folder = check_report_folder(out, overwrite, FINDINGS) if out is not None else None
    charset = Charset.load(alphabet)
    checkups = [examine_any(name, charset) for name in dict.fromkeys(names)]
    console = Console(highlight=False)
    for checkup in checkups:
        console.print(Text(f"{checkup.teacher}, for {len(checkup.charset)} characters", style="bold underline"))
        console.print(Text(checkup.description))
        for title, value in findings(checkup):
            console.print(Text(f"{title}: {value}"), soft_wrap=True)
        console.print(Text("The student will not be taught:", style="bold"))
        for line in checkup.untaught or [NOTHING]:
            console.print(Text(f"- {line}"), soft_wrap=True)
        console.print()
    if folder is not None:
        command = shlex.join(["symdistill", "evaluate", *words])
        folder.mkdir(parents=True, exist_ok=True)
        report = {
            "schema": SCHEMA, "command": command, "versions": versions(), "charset": charset.characters,
            "teachers": [asdict(checkup) | {"untaught": checkup.untaught} for checkup in checkups],
        }  # fmt: skip
        write_file(folder / FINDINGS, json.dumps(report, indent=2, allow_nan=False) + "\n")
        write_file(folder / TABLE, to_markdown(command, checkups))
        print(f"wrote {folder / FINDINGS}")


def examine_any(name: str, charset: Charset) -> Checkup:
    """Examine a teacher by name, an ONNX file or a peer; raises `UserError` when there is none."""
    reader = open_without_torch(name)
    if reader is None:
        return examine(name, charset)
    return examine_reader(reader.name, reader.description, charset, reader.charset, reader.max_length)


def findings(checkup: Checkup) -> list[tuple[str, str]]:
    """List the findings on a teacher, those that are none left out."""
    groups = [" ".join(group) for group in checkup.same if not is_case(group)]
    cases = " ".join(group for group in checkup.same if is_case(group))
    rows = [
        ("not taken", ", ".join(f"{char} ({why})" for char, why in checkup.unguided.items())),
        ("not in its alphabet", " ".join(checkup.outside)),
        ("both cases alike", cases),
        ("alike", ", ".join(groups)),
        ("longest word", "" if checkup.longest is None else f"{checkup.longest} characters"),
    ]
    return [(title, value) for title, value in rows if value]


def to_markdown(command: str, checkups: Sequence[Checkup]) -> str:
    """Write the findings as Markdown."""
    blocks = ["# Teacher doctor", f"```text\n{command}\n```"]
    for checkup in checkups:
        blocks += [f"## {checkup.teacher}, for {len(checkup.charset)} characters", checkup.description]
        blocks += [grid(("finding", "characters"), findings(checkup)), "The student will not be taught:"]
        blocks += ["\n".join(f"- {line}" for line in checkup.untaught or [NOTHING])]
    return "\n\n".join(blocks) + "\n"
