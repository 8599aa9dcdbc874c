"""The card of a student: what it reads, how large it is, what it learned from and on which terms, how to use it."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from distill.deployment.example import onnx_example
from students.charset import LogitsKind
from students.errors import UserError
from students.reading import Reader
from students.student import Student

UNKNOWN = "Not recorded."
CONFIDENCES: dict[LogitsKind, str] = {
    "attention": "the product of the token probabilities",
    "ctc": "the probability of the word, summed over all its alignments with the columns,",
}
"""What a card says of the confidence."""


@dataclass(frozen=True)
class Card:
    """What a card says that the weights can't tell."""

    name: str
    """What the student is called."""
    training: str = UNKNOWN
    """Data, steps, seed and teacher it learned from; Markdown."""
    terms: str = UNKNOWN
    """Terms of use that follow from the training data; Markdown."""
    scores: str = UNKNOWN
    """Its scores, as `scores_from_report` writes them; Markdown."""

    def write(self, student: Reader, onnx: bool = False) -> str:
        """Write the card of `student` as Markdown; `onnx` says whether student.onnx lies beside it."""
        sections = {"Training": self.training, "Terms": self.terms, "Scores": self.scores}
        parts = [
            "---\ntags: [scene-text-recognition, ocr]\nlibrary_name: symdistill\n---",
            f"# {self.name}\n\nReads the word in a picture of one word. The picture is resized to "
            f"{student.image_size[0]} x {student.image_size[1]} pixels without keeping its aspect.\n\n{facts(student)}",
            *(f"## {title}\n\n{text.strip() or UNKNOWN}" for title, text in sections.items()),
            f"## Use\n\n{use(student, onnx)}",
            f"## Limits\n\n{limits(student)}",
        ]
        return "\n\n".join(parts) + "\n"


def facts(student: Reader) -> str:
    """Give the table of what is known from the reader itself."""
    charset = student.charset
    shown = charset.characters.replace("`", "\\`").replace("|", "\\|")
    rows = {
        "characters": f"{len(charset.characters)}: <code>{html(shown)}</code>",
        "longest word": f"{student.config.max_length} characters",
        "parameters": f"{student.parameters_count / 1e6:.2f} M",
        **student.summary(),
    }
    return "| | |\n| --- | --- |\n" + "\n".join(f"| {key} | {value} |" for key, value in rows.items())


def html(text: str) -> str:
    """Escape what would be taken for markup inside <code>."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def use(student: Reader, onnx: bool) -> str:
    """Say how to read with the folder, and with the ONNX file when there is one."""
    shell = "symdistill read --student THIS_FOLDER word.png" + (
        "\nsymdistill read --student THIS_FOLDER/student.onnx word.png" if onnx else ""
    )
    if isinstance(student, Student):
        python = 'from students import Student\n\nprint(Student.from_pretrained("THIS_FOLDER").read(["word.png"]))'
    else:
        python = 'from teachers.registry import load_reader\n\nprint(load_reader("THIS_FOLDER").read(["word.png"]))'
    parts = [f"```text\n{shell}\n```", f"```python\n{python}\n```"]
    if onnx:
        example = onnx_example(student.LOGITS)
        parts.append(f"student.onnx needs onnxruntime, numpy and Pillow only:\n\n```python\n{example}```")
    return "\n\n".join(parts)


def limits(student: Reader) -> str:
    """Say what the student can't do."""
    charset = student.charset
    folded = charset.apply_case("aA")
    case = {"aa": "Letters are read as lower case. ", "AA": "Letters are read as upper case. "}.get(folded, "")
    return (
        f"{case}One word a picture: it finds no words in a larger picture. Characters outside its alphabet are left "
        f"out or mistaken for others. The confidence is {CONFIDENCES[student.LOGITS]} and is not calibrated."
    )


def read_sections(folder: str | Path) -> dict[str, str]:
    """Read the sections of the card in `folder`, so that a student exported again keeps them; empty without a card."""
    try:
        text = (Path(folder) / "README.md").read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return {}
    pieces = re.split(r"^## (.+)\n", text, flags=re.MULTILINE)
    return {title.strip(): body.strip() for title, body in zip(pieces[1::2], pieces[2::2], strict=True)}


def scores_from_report(file: str | Path, name: str) -> str:
    """Write the scores of the student `name` in a report.json as a Markdown table.

    Raises:
        UserError: when the file is no report, or has no such student in it.
    """
    report = load_report(Path(file))
    students = {
        reader["name"]: reader
        for reader in report["readers"]
        if reader.get("role") == "student" and reader.get("reading") != "closed-lexicon"
    }
    if name not in students and len(students) != 1:
        raise UserError(
            f"{file} has no student {name!r}; give --name with one of: {', '.join(students) or 'none in it'}"
        )
    reader = students.get(name) or next(iter(students.values()))
    lines = [
        "| set | words | right | accuracy % | 95% interval | 1-NED % |",
        "| --- | ---: | ---: | ---: | --- | ---: |",
    ]
    try:
        for title, score in reader["benchmarks"].items():
            lines.append(
                f"| {title} | {score['words']} | {score['hits']} | {score['accuracy']:.2f} | "
                f"{score['interval'][0]:.1f} to {score['interval'][1]:.1f} | {score['one_minus_ned']:.2f} |"
            )
        averages = f"Average by word {reader['average_by_word']:.2f}%, average by set {reader['average_by_set']:.2f}%."
    except (KeyError, TypeError, IndexError, ValueError, AttributeError) as error:
        raise UserError(f"{file} is no report of this version ({error!r}); evaluate again") from None
    return "\n".join(lines) + f"\n\n{averages}"


def load_report(path: Path) -> Mapping[str, Any]:
    """Read a report.json; raises `UserError` when it is none."""
    try:
        report = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"{path}: {error.strerror or error}; give the report.json of an evaluation") from None
    except ValueError:
        raise UserError(f"{path} is no JSON; give the report.json of an evaluation") from None
    readers = report.get("readers") if isinstance(report, dict) else None
    if isinstance(readers, list) and all(isinstance(reader, dict) and "name" in reader for reader in readers):
        return dict(report)
    raise UserError(f"{path} is no report of an evaluation; give the report.json of one")
