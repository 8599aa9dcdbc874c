"""Write the folder of a reader: config.json, model.safetensors, README.md and ONNX files when asked for."""

from __future__ import annotations

import copy
import json
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal, get_args

import torch

from distill.deployment.card import UNKNOWN, Card, fill_card
from distill.deployment.comparison_words import ComparisonWord, count_right, draw_pictures
from distill.deployment.onnx_reader import OnnxReader
from distill.deployment.parity import Parity, ParityError, TargetParity, check_parity
from distill.deployment.snippets import FILES, FLOAT_ONLY, TargetName, int8_file
from distill.deployment.web_page import holds_page, write_page
from distill.deployment.web_runtime import WebRuntime, find_runtime
from students import rounding
from students.errors import UserError
from students.extras import check_extra
from students.files import check_output, replacing
from students.language_model import OWN_FILE
from students.mixing import mix_weights
from students.pictures import to_tensor
from students.pretrained import check_finite
from students.reading import Reader
from teachers.registry import READERS, load_reader

WeightType = Literal["float32", "float16"]
"""How weights may be stored."""
LOG = logging.getLogger(__name__)
GUIDANCE_FOLDERS = ("guidance",)
"""Folders that may be part of a student's: what a converted one needs to be distilled on. Export leaves them out."""


@dataclass(frozen=True)
class Exported:
    """The folder that was written."""

    folder: Path
    files: dict[str, int]
    """Bytes of each file."""
    parity: Parity | None
    """How student.onnx and PyTorch compare; None without it."""
    targets: dict[TargetName, TargetParity] = field(default_factory=dict)
    """How each file for another program was checked."""
    int8: Sequence[object] = ()
    """What 8-bit weights change and save, a line a file."""


def save_folder(
    student: Reader,
    folder: str | Path,
    card: Card,
    *,
    targets: Sequence[TargetName] = (),
    words: Sequence[ComparisonWord] | None = None,
    int8_limit: float | None = None,
    round_weights: bool = False,
    runtime: WebRuntime | None = None,
    dtype: WeightType = "float32",
    overwrite: bool = False,
    parts: Mapping[str, Callable[[Path], None]] | None = None,
) -> Exported:
    """Write a student's folder, checked before it gets its name.

    The student is loaded back from what was written, and ONNX files are exported from that and compared with it, so
    that what is checked is what is handed out.

    Args:
        student: the student; neither its device nor its mode is changed.
        folder: where to write; must not exist unless `overwrite`, and then hold a student.
        card: what its README.md says beside the facts.
        targets: what to write ONNX files for too.
        words: what to compare these on; drawn words when None.
        int8_limit: write files with 8-bit weights too, which may change the readings of this percentage of `words`.
        round_weights: round the weights to 8 bits first, see `students.rounding`, and compare readings of `words`.
        runtime: where the page of the target `web` gets onnxruntime-web from; None as `find_runtime` finds it.
        dtype: how weights are stored.
        overwrite: replace the student that is there.
        parts: further folders in it, of `GUIDANCE_FOLDERS`, and what writes each.

    Raises:
        UserError: when `folder` exists and may not be replaced, weights are NaN or infinite, or there is no ONNX of
            such a reader.
        ParityError: when a file reads differently than PyTorch, or 8-bit weights change more readings than
            `int8_limit`; nothing is left behind then.
    """
    folder = Path(folder)
    check_folder(folder, overwrite)
    check_finite(student.state_dict(), card.name)
    if targets:
        check_targets(student, targets)
    if "web" in targets and runtime is None:
        runtime = find_runtime()
    # A page shows the file of `onnx`.
    graphs = [name for name in FILES if name in targets or (name == "onnx" and "web" in targets) if name != "web"]
    small: list[object] = []
    if round_weights:
        student, change = rounded(student, words)
        small.append(change)
    with replacing(folder) as beside:
        student.save_pretrained(beside, dtype)
        parity, checked = export_checked(beside, card.name, graphs, words) if graphs else (None, {})
        if int8_limit is not None:
            small += export_int8(beside, graphs, words, int8_limit)
        if "web" in targets and runtime is not None:
            small = add_page(student, card.name, beside, runtime, "onnx" in targets, small)
        (beside / "README.md").write_text(card.write(student, targets, checked, small), encoding="utf-8")
        for name, write in (parts or {}).items():
            write(beside / name)
        for file in filter(Path.is_file, beside.rglob("*")):
            # safetensors lets nobody else read what it writes; a folder is made to be handed on.
            file.chmod((beside / "README.md").stat().st_mode)
    files = {str(file.relative_to(folder)): file.stat().st_size for file in sorted(folder.rglob("*")) if file.is_file()}
    return Exported(folder, files, parity, checked, small)


def export(
    reader: str | Path | Reader,
    folder: str | Path,
    *,
    onnx: bool = False,
    targets: TargetName | Sequence[TargetName] = (),
    web_runtime: str | Path | None = None,
    mix: tuple[str | Path | Reader, float] | None = None,
    name: str | None = None,
    dtype: WeightType = "float32",
    overwrite: bool = False,
) -> Path:
    """Write the folder of a reader: config.json, model.safetensors, its card, and ONNX files when asked for.

    Args:
        reader: a reader, or its name as for `symdistill.load`; not an ONNX file.
        folder: where to write.
        onnx: write student.onnx, and compare what it reads with PyTorch; the same as the target `onnx`.
        targets: what to write ONNX files for: `onnx`, `rapidocr`, `paddleocr`, `onnxtr`, `opencv`, `web`.
        web_runtime: folder or address of onnxruntime-web, for the page of `web`; None lets npm fetch it once.
        mix: the reader that it started from, and the part of its weights to mix in, such as ("tiny", 0.25).
        name: what the card calls it.
        dtype: how weights are stored.
        overwrite: replace a reader in `folder`.

    Returns:
        The folder.

    Raises:
        UserError: for a folder that may not be replaced, or a reader that cannot be exported.
        ParityError: when a file reads differently than PyTorch; nothing is left behind then.
    """
    targets = [targets] if isinstance(targets, str) else list(targets or ())
    if not isinstance(folder, str | Path) or not str(folder):
        raise UserError(f"{folder!r} is no folder to export to; give its path")
    if mix is not None and (not isinstance(mix, tuple | list) or len(mix) != 2):
        raise UserError(f'mix is {mix!r}; give a reader and the part of its weights, such as ("tiny", 0.25)')
    if web_runtime is not None and "web" not in targets:
        raise UserError("web_runtime is for the page of the target web; add it to targets, or leave web_runtime out")
    if unknown := [target for target in targets if target not in FILES]:
        raise UserError(f"no target {unknown[0]!r}; there are {', '.join(FILES)}")
    if dtype not in get_args(WeightType):
        raise UserError(f"dtype {dtype!r}; weights are stored as {' or '.join(get_args(WeightType))}")
    check_folder(Path(folder), overwrite, keeps_parts=True)
    if onnx and "onnx" not in targets:
        targets = ["onnx", *targets]
    if not isinstance(reader, str | Path | Reader):  # an ONNX file, say
        raise UserError(f"{type(reader).__name__} has no weights to export; give the folder of the student")
    model = load_reader(reader) if isinstance(reader, str | Path) else reader
    if model.source is None or not model.source.is_dir():
        card = Card(name or type(model).__name__.lower())
        if model.source is not None:
            LOG.warning("%s is gone, and with it what its card said of training, terms and scores", model.source)
    else:
        card = fill_card(model.source, name)
        if not reads_as_stored(model):
            card = replace(card, scores=UNKNOWN)
    if mix is not None:
        model = copy.deepcopy(model)
        card = mix_in(model, card, *mix)
    runtime = find_runtime(web_runtime) if "web" in targets else None
    return save_folder(model, folder, card, targets=targets, runtime=runtime, dtype=dtype, overwrite=overwrite).folder


def reads_as_stored(reader: Reader) -> bool:
    """Tell whether a reader has configuration, words and weights of its folder, so that scores there are its own."""
    stored = load_reader(reader.source or "")
    own, before = reader.state_dict(), stored.state_dict()
    models = [each.language_model for each in (reader, stored)]
    words = [None if model is None else model.own_text for model in models]
    return (
        reader.config == stored.config
        and words[0] == words[1]
        and all(torch.equal(weight.cpu(), before[name]) for name, weight in own.items())
    )


def mix_in(student: Reader, card: Card, source: str | Path | Reader, share: float, scored: bool = False) -> Card:
    """Mix the weights of the reader that a student started from into it, in place; returns its card.

    Args:
        student: the student.
        card: its card.
        source: the other reader, or its name as for `load_reader`.
        share: part of the other's weights, 0 to 1.
        scored: whether the card's scores are of the mixed weights.

    Raises:
        UserError: when there is no such reader, or it is of another architecture or alphabet.
    """
    try:
        other = source if isinstance(source, Reader) else load_reader(source)
    except UserError as error:
        raise UserError(f"to mix in, weights are needed: {error}") from None
    mix_weights(student, other, share)
    home = other.source if isinstance(source, Reader) else source
    gone = home is None or (isinstance(source, Reader) and not Path(home).is_dir())
    origin = Card(type(other).__name__.lower()) if home is None or gone else fill_card(home)
    return card.mixed_with(origin, share, scored)


def check_folder(folder: Path, overwrite: bool, keeps_parts: bool = False) -> None:
    """Check that a student's folder may be written: it is new, or holds a student to be replaced.

    Args:
        folder: the folder.
        overwrite: replace the student that is there.
        keeps_parts: refuse to replace one with `GUIDANCE_FOLDERS`, which whoever asks can't write again.

    Raises:
        UserError: naming what is in the way.
    """
    check_output(folder, overwrite, "a student", holds_student, renamed=True)
    if keeps_parts and (lost := [name for name in GUIDANCE_FOLDERS if (folder / name).exists()]):
        raise UserError(f"{folder} holds {lost[0]}, which would be lost; give another --out, or move {lost[0]} away")


def holds_student(folder: Path) -> bool:
    """Tell whether `folder` is a student's and holds nothing else."""
    exported = [*FILES.values(), *map(int8_file, FILES)]
    files = "config.json", "model.safetensors", "README.md", OWN_FILE
    own = {*files, *GUIDANCE_FOLDERS, *(file.split("/")[0] for file in exported)}
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    names = {path.name for path in folder.iterdir()}
    known = isinstance(config, dict) and config.get("format") in READERS and names <= own
    return known and ("web" not in names or holds_page(folder / "web"))


def check_targets(student: Reader, targets: Sequence[TargetName]) -> None:
    """Check that a reader can be exported for all these; raises `UserError`."""
    check_extra("onnx", "exporting to ONNX")
    from distill.deployment.onnx_export import check_exportable
    from distill.deployment.targets import check_target

    check_exportable(student)
    for target in targets:
        if target != "onnx":
            check_target(student, target)


def export_checked(
    folder: Path, name: str, targets: Sequence[TargetName], words: Sequence[ComparisonWord] | None
) -> tuple[Parity | None, dict[TargetName, TargetParity]]:
    """Export the student in `folder` for each target, and compare the files with it.

    Raises:
        ParityError: when a file differs from PyTorch, or its program reads it otherwise.
    """
    from distill.deployment.onnx_export import export_onnx
    from distill.deployment.target_parity import export_target_files

    student, parity = load_reader(folder), None
    pictures = [word.picture for word in words or ()] or draw_pictures(student.charset.characters)
    if "onnx" in targets:
        export_onnx(student, folder / FILES["onnx"], name)
        parity = check_parity(
            student, OnnxReader(folder / FILES["onnx"]), to_tensor(pictures, student.image_size, student.keep_aspect)
        )
        if not parity.agrees:
            raise ParityError(f"ONNX and PyTorch differ: {parity}")
    others = [target for target in targets if target != "onnx"]
    return parity, export_target_files(student, folder, others, name, pictures) if others else {}


def rounded(student: Reader, words: Sequence[ComparisonWord] | None) -> tuple[Reader, str]:
    """Return a copy of a reader with weights rounded to 8 bits, and a line about what that changes."""
    if not words:
        raise UserError("what rounded weights change is measured on real words; give pictures of some")
    after = copy.deepcopy(student)
    count = rounding.round_weights(after)
    texts = [[one.text for one in each.read([word.picture for word in words])] for each in (student, after)]
    (right_before, labelled), (right_after, _) = (count_right(student, words, read) for read in texts)
    changed = sum(one != other for one, other in zip(*texts, strict=True))
    accuracy = (
        f", word accuracy {100 * right_before / labelled:.2f} -> {100 * right_after / labelled:.2f}%"
        if labelled
        else ""
    )
    return after, (
        f"{count / 1e6:.2f} M weights rounded to 8 bits: {changed} of {len(words)} words change "
        f"({100 * changed / len(words):.2f}%){accuracy}"
    )


def add_page(
    student: Reader, name: str, folder: Path, runtime: WebRuntime, keep_onnx: bool, int8: list[object]
) -> list[object]:
    """Write the page of the target `web` into a reader's folder, which has the files of the target `onnx`.

    Args:
        student: the reader.
        name: what the page calls it.
        folder: the reader's.
        runtime: where the page gets onnxruntime-web from.
        keep_onnx: leave the files of `onnx` where they are.
        int8: what is told of 8-bit weights, a line a file.

    Returns:
        `int8` with the names that the files have now.
    """
    small, whole = folder / int8_file("onnx"), folder / FILES["onnx"]
    write_page(student, name, small if small.exists() else whole, runtime, (folder / FILES["web"]).parent)
    if keep_onnx:
        return int8
    for file in (small, whole):
        file.unlink(missing_ok=True)
    return [str(line).replace(small.name, FILES["web"]) for line in int8]


def export_int8(
    folder: Path, targets: Sequence[TargetName], words: Sequence[ComparisonWord] | None, limit: float
) -> Sequence[object]:
    """Write files with 8-bit weights beside the others in `folder`; raises `UserError` and `ParityError`."""
    from distill.deployment.int8 import write_int8

    if not words:
        raise UserError("what 8-bit weights change is measured on real words; give pictures of some")
    able = [target for target in targets if target not in FLOAT_ONLY]
    if not able:
        raise UserError(f"8-bit weights run in none of {', '.join(targets) or 'no target'}; take another target too")
    return write_int8(load_reader(folder), folder, able, words, limit)
