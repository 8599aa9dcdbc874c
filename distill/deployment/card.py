"""The card of a student: what it reads, its size, what it learned from and on which terms, how to use it."""

from __future__ import annotations

import html
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from distill.deployment.onnx_program import onnx_program
from distill.deployment.snippets import FILES, TargetName, snippet
from distill.evaluation.stored_reports import load_report
from distill.evaluation.tables import score_cells
from students.charset import show_characters
from students.decoding import LogitsKind
from students.errors import UserError
from students.pictures import NARROWEST
from students.pretrained import locate, name_of
from students.reading import Reader

UNKNOWN = "Not recorded."
CONFIDENCES: dict[LogitsKind, str] = {
    "attention": "the product of the token probabilities",
    "ctc": "the probability of the word, summed over all its alignments with the columns,",
}
"""What a confidence is, by how words are decoded."""

IN_A_PAGE = """\
The folder `web` is a page that reads in the browser; pictures don't leave it. Any server of files can show it:

```text
python -m http.server --directory THIS_FOLDER/web
```"""


@dataclass(frozen=True)
class Card:
    """What a card says that the weights don't tell."""

    name: str
    """The student's name."""
    training: str = UNKNOWN
    """Data, steps, seed and teacher it learned from; Markdown."""
    terms: str = UNKNOWN
    """Terms of use that follow from the training data; Markdown."""
    scores: str = UNKNOWN
    """Its scores, as `scores_from_report` formats them; Markdown."""

    def write(
        self,
        student: Reader,
        targets: Sequence[TargetName] = (),
        checked: Mapping[TargetName, object] | None = None,
        int8: Sequence[object] = (),
    ) -> str:
        """Write the card of `student` as Markdown.

        Args:
            student: the reader.
            targets: what ONNX files there are beside it.
            checked: how each file for another program was checked.
            int8: what 8-bit weights change and save, a line a file.
        """
        height, width = student.image_size
        size = f"is resized to {height} x {width} pixels without keeping its aspect"
        if student.keep_aspect:
            size = f"keeps its aspect at a height of {height} pixels, {NARROWEST * height} to {width} pixels wide"
        if student.turn_tall:
            size += "; one that is much higher than wide is read turned to either side too"
        sections = {"Training": self.training, "Terms": self.terms, "Scores": self.scores}
        parts = [
            "---\ntags: [scene-text-recognition, ocr]\nlibrary_name: symdistill\n---",
            f"# {self.name}\n\nReads the word in a picture of one word. The picture {size}.\n\n{properties(student)}",
            *(f"## {title}\n\n{below_a_title(text.strip()) or UNKNOWN}" for title, text in sections.items()),
            f"## Use\n\n{usage(student, 'onnx' in targets)}",
            *(["## In a web page\n\n" + IN_A_PAGE] if "web" in targets else []),
            *([f"## In other programs\n\n{elsewhere(student, checked)}"] if checked else []),
            *(["## 8-bit weights\n\n" + "\n".join(f"- {line}." for line in int8)] if int8 else []),
            f"## Limits\n\n{limits(student)}",
        ]
        return "\n\n".join(parts) + "\n"

    def mixed_with(self, other: Card, share: float, scored: bool) -> Card:
        """Return the card of a reader after weights of another were mixed in.

        Args:
            other: the other's card.
            share: part of the other's weights.
            scored: whether the scores on this card are of the mixed weights; they are left out otherwise.
        """
        origin = f"Its weights are {1 - share:g} of those that it learned and {share:g} of those of `{other.name}`."
        terms = self.terms
        if other.terms not in (UNKNOWN, terms):
            terms += f"\n\nOf `{other.name}`: {other.terms}"
        scores = self.scores if scored else UNKNOWN
        return Card(self.name, f"{self.training}\n\n{origin}", terms, scores)


def properties(student: Reader) -> str:
    """Format the table of what the reader itself tells."""
    charset = student.charset
    characters = html.escape(show_characters(charset.characters).replace("`", "\\`").replace("|", "\\|"), quote=False)
    rows = {
        "characters": f"{len(charset.characters)}: <code>{characters}</code>",
        "longest word": f"{student.config.max_length} characters",
        "parameters": f"{student.parameters_count / 1e6:.2f} M",
        **student.summary(),
    }
    return "| | |\n| --- | --- |\n" + "\n".join(f"| {key} | {value} |" for key, value in rows.items())


def usage(student: Reader, onnx: bool) -> str:
    """Explain how to read with the folder, and with the ONNX file when there is one."""
    shell = "symdistill read --student THIS_FOLDER word.png" + (
        "\nsymdistill read --student THIS_FOLDER/student.onnx word.png" if onnx else ""
    )
    python = 'import symdistill\n\nprint(symdistill.load("THIS_FOLDER").read("word.png"))'
    parts = [f"```text\n{shell}\n```", f"```python\n{python}\n```"]
    if onnx:
        program = onnx_program(student)
        parts.append(
            'Without PyTorch, `symdistill.load("THIS_FOLDER/student.onnx")` reads in the same way. Without symdistill, '
            f"onnxruntime, numpy and Pillow are enough:\n\n```python\n{program}```"
        )
    return "\n\n".join(parts)


def elsewhere(student: Reader, checked: Mapping[TargetName, object]) -> str:
    """Explain how to read in other programs with the files for them, and how these were checked."""
    kept_aspect = student.image_size if student.keep_aspect else None
    return "\n\n".join(
        f"`{FILES[target]}`, checked: {parity}.\n\n"
        f"```python\n{snippet(target, 'THIS_FOLDER', student.charset.characters, kept_aspect)}```"
        for target, parity in checked.items()
    )


def limits(student: Reader) -> str:
    """List what the student can't do."""
    folded = student.charset.apply_case("aA")
    case = {"aa": "Letters are read as lower case. ", "AA": "Letters are read as upper case. "}.get(folded, "")
    weighed, elsewhere = "", ""
    if student.language_model is not None:
        weighed = " weighed by the language model,"
        elsewhere = " Programs other than symdistill and its web page read without the language model."
    return (
        f"{case}One word a picture: it finds no words in a larger picture. Characters outside its alphabet are left "
        f"out or mistaken for others. The confidence is {CONFIDENCES[student.LOGITS]}{weighed} and is not calibrated."
        f"{elsewhere}"
    )


def below_a_title(text: str) -> str:
    """Lower titles in a section's text below its own, which would end it where the card is read again."""
    return re.sub(r"^#{1,2}(?= )", "###", text, flags=re.MULTILINE)


def read_sections(folder: str | Path) -> dict[str, str]:
    """Read the sections of the card in `folder`, for a student that is exported again; empty without a card.

    Raises:
        UserError: for a card that is no UTF-8 text, whose terms would be lost.
    """
    file = Path(folder) / "README.md"
    try:
        text = file.read_text(encoding="utf-8")
    except OSError:
        return {}
    except UnicodeDecodeError:
        raise UserError(f"{file} is no UTF-8 text: save it as UTF-8, or its training and terms would be lost") from None
    pieces = re.split(r"^## (.+)\n", text, flags=re.MULTILINE)
    return {title.strip(): body.strip() for title, body in zip(pieces[1::2], pieces[2::2], strict=True)}


def fill_card(
    source: str | Path,
    name: str | None = None,
    training: str | None = None,
    terms: str | None = None,
    report: str | Path | None = None,
    params: int | None = None,
) -> Card:
    """Fill a card, by default with what the card in the folder of the reader says.

    Args:
        source: shipped name or folder of the reader.
        name: what the card calls it.
        training: data, steps, seed and teacher; Markdown.
        terms: terms of use that follow from the training data; Markdown.
        report: report.json that has its scores.
        params: number of the reader's weights, to tell a report of another one.

    Raises:
        UserError: for a reader that isn't there, or a report without it.
    """
    earlier = read_sections(locate(source))
    name = name or name_of(source)
    scores = scores_from_report(report, name, params) if report else earlier.get("Scores", UNKNOWN)
    return Card(name, training or earlier.get("Training", UNKNOWN), terms or earlier.get("Terms", UNKNOWN), scores)


def scores_from_report(file: str | Path, name: str, params: int | None = None) -> str:
    """Format the scores of the student `name`, of so many weights, in a report.json as a Markdown table.

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
    if name not in students and params is not None and reader.get("params") not in (None, params):
        raise UserError(
            f"{file} has scores of {reader['name']} alone, which has {reader['params']:,} weights, and {name} has "
            f"{params:,}; evaluate {name}"
        )
    lines = [] if name in students else [f"Evaluated as `{reader['name']}`.", ""]
    lines += [
        "| set | words | correct | word accuracy % | 95% interval | 1-NED % |",
        "| --- | ---: | ---: | ---: | --- | ---: |",
    ]
    try:
        for title, score in reader["benchmarks"].items():
            part, title = " (a part)" if score.get("partial") else "", title.replace("|", r"\|")
            cells = [title, f"{score['words']}{part}", str(score["hits"]), *score_cells(score)[:3]]
            lines.append(f"| {' | '.join(cells)} |")
        over = f", over {', '.join(report['averaged_sets'])}" if "averaged_sets" in report else ""
        how = f"{len(report['charset'])} characters are scored. " if "charset" in report else ""
        how += f"Read with the language model {reader['language_model']}. " if "language_model" in reader else ""
        averages = (
            f"{how}Average by word {reader['average_by_word']:.2f}%, average by set "
            f"{reader['average_by_set']:.2f}%{over}."
        )
    except (KeyError, TypeError, IndexError, ValueError, AttributeError) as error:
        raise UserError(f"{file} is no report of this version ({error!r}); evaluate again") from None
    return "\n".join(lines) + f"\n\n{averages}"
