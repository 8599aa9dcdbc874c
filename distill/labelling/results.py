"""Write a labelling's LMDB, its lists and sheets of doubtful pictures and of likely mistakes, and its counts."""

from __future__ import annotations

import dataclasses
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from distill.data.distributions import StoredDistributions
from distill.data.records import Records
from distill.data.sampling import spread
from distill.data.sheets import INK, SheetItem, reading_line, record_item, write_sheet
from distill.data.writing import LmdbWriter
from distill.labelling.job import LabelledPicture, LabelRequest, Part, read_part
from students.errors import UserError
from students.files import write_file

SHEET_WORDS = 24
"""Pictures of each reason on a sheet."""
REPORT, DOUBTFUL, MISTAKES = "label.json", "doubtful", "mistakes"


@dataclass
class Counts:
    """Counts of a labelling."""

    pictures: int = 0
    """All pictures."""
    written: int = 0
    """Words in the LMDB."""
    own: int = 0
    """Those of them that keep a label of their own."""
    distributions: int = 0
    """Those of them that have distributions."""
    left_out: Counter[str] = field(default_factory=Counter)
    """Pictures that are left out, by reason."""
    compared: int = 0
    """Words with a label of their own that the alphabet can write."""
    sure: int = 0
    """Of `compared`: read with enough confidence and agreement."""
    agreeing: int = 0
    """Of `sure`: read as the label says."""
    mistakes: Counter[str] = field(default_factory=Counter)
    """Of `sure`: read otherwise, by kind of difference."""

    def add(self, word: LabelledPicture) -> None:
        """Count one picture."""
        verdict = word.verdict
        self.pictures += 1
        self.written += verdict.label is not None
        self.own += verdict.label is not None and word.own is not None
        self.distributions += word.distribution is not None
        if verdict.reason is not None:
            self.left_out[verdict.reason] += 1
        if word.own is not None and (verdict.reason is None or verdict.reason == "likely a wrong label"):
            self.compared += 1
            self.sure += verdict.sure
            self.agreeing += verdict.sure and verdict.mistake is None
            if verdict.sure and verdict.mistake is not None:
                self.mistakes[verdict.mistake] += 1


@dataclass(frozen=True)
class Finding:
    """One picture that somebody should look at."""

    records: Records
    position: int
    word: LabelledPicture

    @property
    def row(self) -> list[str]:
        """Its line in a table: picture, why, own label, and what each reader read, with confidence."""
        verdict = self.word.verdict
        readings = [part for text, confidence in self.word.readings for part in (text, f"{confidence:.4f}")]
        why = verdict.reason if verdict.label is None else verdict.mistake
        cells = [self.records.describe(self.position), why or "", self.word.own or "", f"{verdict.confidence:.4f}"]
        return [" ".join(cell.split()) for cell in [*cells, *readings]]

    @property
    def drawn(self) -> SheetItem:
        """Its picture above its own label and what each reader read."""
        own = self.word.own
        lines = [] if own is None else [(f"label: {own}", INK)]
        lines += [reading_line(text, confidence, own) for text, confidence in self.word.readings]
        return record_item(self.records, self.position, lines)


def write_results(
    request: LabelRequest, names: Sequence[str], sets: Sequence[Records], parts: Sequence[Part], folder: Path,
    out: Path, overwrite: bool,
) -> Counts:  # fmt: skip
    """Write the LMDB, its lists and sheets from finished parts; they appear together.

    Args:
        request: what was asked for.
        names: the readers' names.
        sets: the sets of pictures.
        parts: their parts, all done.
        folder: the job's folder.
        out: the LMDB's folder.
        overwrite: replace an LMDB that is there.

    Raises:
        UserError: when nothing is left to write.
    """
    counts, doubtful, mistakes = Counts(), list[Finding](), list[Finding]()
    with LmdbWriter(out, overwrite) as writer:
        for records, position, word in _words(sets, parts, folder):
            counts.add(word)
            verdict, finding = word.verdict, Finding(records, position, word)
            if verdict.sure and verdict.mistake is not None:
                mistakes.append(finding)
            if verdict.label is None:
                if verdict.reason != "likely a wrong label":
                    doubtful.append(finding)
                continue
            confidence = verdict.confidence if word.own is None else None
            writer.add(records.image(position), verdict.label, records.columns(position), word.distribution, confidence)
        if writer.count == 0:
            reasons = ", ".join(f"{count} {reason}" for reason, count in counts.left_out.most_common())
            raise UserError(f"{request.data}: no picture is left to write ({reasons or 'there are none'})")
        if counts.distributions:
            stored = StoredDistributions(
                request.charset, request.likeliest, request.max_length, tuple(names), counts.distributions
            )
            writer.describe_distributions(stored.to_json())
        mistakes.sort(key=lambda finding: -finding.word.verdict.confidence)
        report = {"schema": 1, **dataclasses.asdict(request), "readers": list(names), **vars(counts)}
        write_file(writer.beside / REPORT, json.dumps(report, indent=1, ensure_ascii=True) + "\n")
        by_reason = {
            reason: [each for each in doubtful if each.word.verdict.reason == reason] for reason in counts.left_out
        }
        by_kind = {kind: [each for each in mistakes if each.word.verdict.mistake == kind] for kind in counts.mistakes}
        write_findings(writer.beside, DOUBTFUL, doubtful, by_reason, names)
        write_findings(writer.beside, MISTAKES, mistakes, by_kind, names)
    return counts


def write_findings(
    folder: Path, name: str, findings: Sequence[Finding], sections: dict[str, list[Finding]], readers: Sequence[str]
) -> None:
    """Write findings as a table (`NAME.tsv`) and some of each kind as a sheet (`NAME.png`); nothing when none."""
    if not findings:
        return
    of_readers = (part for reader in readers for part in (reader, "confidence"))
    columns = ["picture", "why", "label", "confidence", *of_readers]
    lines = ["\t".join(columns), *("\t".join(finding.row) for finding in findings)]
    write_file(folder / f"{name}.tsv", "\n".join(lines) + "\n")
    drawn = []
    for reason, found in sections.items():
        if found:  # mistakes are sorted, the likeliest first
            chosen = spread(found, SHEET_WORDS) if name == DOUBTFUL else found[:SHEET_WORDS]
            drawn.append((f"{reason}: {len(chosen)} of {len(found)}", [finding.drawn for finding in chosen]))
    write_sheet(folder / f"{name}.png", drawn)


def describe_counts(counts: Counts, request: LabelRequest, names: Sequence[str], out: Path) -> list[str]:
    """Describe what came out, in lines for people."""
    readers, total = ", ".join(names), max(counts.pictures, 1)
    lines = [f"{out}: {counts.written:,} of {counts.pictures:,} pictures written ({counts.written / total:.1%})"]
    if counts.own:
        lines.append(
            f"  {counts.own:,} keep their own labels, {counts.written - counts.own:,} are labelled by {readers}"
        )
    else:
        lines.append(f"  labelled by {readers}, confidence {request.threshold:g} or more")
    if request.likeliest:
        lines.append(
            f"  {counts.distributions:,} have distributions ({request.likeliest} likeliest classes a character)"
        )
    for reason, count in counts.left_out.most_common():
        lines.append(f"  left out: {count:,} {reason}")
    if counts.compared:
        share = counts.agreeing / max(counts.sure, 1)
        lines.append(
            f"  of {counts.compared:,} labels {counts.sure:,} ({counts.sure / counts.compared:.1%}) are read with "
            f"confidence {request.threshold:g} or more, and {counts.agreeing:,} of these ({share:.1%}) as they stand"
        )
        for kind, count in counts.mistakes.most_common():
            lines.append(f"  {count:,} of these are read otherwise: {kind}")
    files = [
        file.name
        for file in (out / f"{n}{end}" for n in (DOUBTFUL, MISTAKES) for end in (".tsv", ".png"))
        if file.is_file()
    ]
    if files:
        lines.append(f"  look at {', '.join(files)} in {out}")
    return lines


def _words(
    sets: Sequence[Records], parts: Sequence[Part], folder: Path
) -> Iterator[tuple[Records, int, LabelledPicture]]:
    for part in parts:
        for position, word in zip(range(part.start, part.stop), read_part(part, folder), strict=True):
            yield sets[part.set_number], position, word
