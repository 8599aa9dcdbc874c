"""Convert a checkpoint of CLIP-OCR, CLIP4STR or PARSeq into a folder that every command takes."""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from distill.commands import CommandParser
from distill.conversion import LAYOUTS, UNKNOWN, converter
from distill.errors import exit_on_user_error
from students.errors import UserError

if TYPE_CHECKING:
    from distill.conversion.layout import Converted


def parser() -> argparse.ArgumentParser:
    """Build the command's arguments."""
    command = CommandParser(prog="convert", description=__doc__)
    layouts = "; ".join(f"{name}: {description}" for name, description in LAYOUTS.items())
    command.add_argument("layout", choices=list(LAYOUTS), help=layouts)
    command.add_argument("checkpoint", metavar="CKPT", help="Lightning checkpoint, bare state dict or safetensors file")
    command.add_argument("--out", required=True, metavar="DIR", help="folder to write")
    command.add_argument(
        "--clip", metavar="FILE",
        help="clipocr: weights of the CLIP it was trained with, for a checkpoint without them; implies --guidance",
    )  # fmt: skip
    command.add_argument(
        "--charset", metavar="C", help="36, 62, 94, 95 or a text file, for a checkpoint that doesn't say"
    )
    command.add_argument("--heads", metavar="E,D", help="attention heads of encoder and decoder, likewise")
    command.add_argument("--image", metavar="H,W", help="height and width of its pictures in pixels, likewise")
    command.add_argument(
        "--guidance", action="store_true", help="clipocr: convert heads and teacher too, to go on with the distillation"
    )
    command.add_argument("--name", help="name on the card (default: the checkpoint's)")
    command.add_argument("--terms", metavar="TEXT", help="terms that follow from its training data, for the card")
    command.add_argument("--dtype", choices=["float32", "float16"], default="float32", help="how weights are stored")
    command.add_argument("--overwrite", action="store_true", help="replace the reader in DIR")
    return command


@exit_on_user_error
def main(argv: Sequence[str]) -> int:
    """Run the command; see `parser`. Nothing is written unless every weight of the reader is there."""
    given = parser().parse_args(argv)
    if given.layout == "parseq" and given.clip:
        raise UserError("a PARSeq has no CLIP; leave --clip out")
    if given.layout == "clip4str" and given.clip:
        raise UserError("a CLIP4STR trains its CLIP, which is in its checkpoint and nowhere else; leave --clip out")
    if given.layout != "clipocr" and given.guidance:
        raise UserError(f"--guidance is for clipocr, {given.layout} was trained without a teacher; leave it out")
    heads = parse_pair("--heads", given.heads, "encoder and decoder", "6,12")
    image = parse_pair("--image", given.image, "height and width", "32,128")
    # torch takes seconds to import: what the arguments alone tell is checked before.
    from distill.conversion.checkpoints import read_checkpoint
    from distill.conversion.layout import ConversionOptions
    from distill.deployment.card import UNKNOWN as NOT_RECORDED
    from distill.deployment.card import Card
    from distill.deployment.folder import check_folder, save_folder

    check_folder(Path(given.out), given.overwrite)
    checkpoint = read_checkpoint(given.checkpoint)
    clip = Path(given.clip) if given.clip else None
    options = ConversionOptions(given.charset, heads, image, clip, given.guidance)
    converted = converter(given.layout)(checkpoint, options)
    steps = "" if checkpoint.steps is None else f", after {checkpoint.steps} steps of the reference implementation"
    training = f"Converted from `{checkpoint.path.name}` ({given.layout}{steps}). Not trained here."
    card = Card(given.name or checkpoint.path.stem, training, given.terms or NOT_RECORDED)
    done = save_folder(
        converted.reader, given.out, card, dtype=given.dtype, overwrite=given.overwrite, parts=converted.parts
    )
    print("\n".join(account(converted)))
    print(f"{done.folder}: " + ", ".join(f"{name} ({size / 2**10:,.0f} KiB)" for name, size in done.files.items()))
    return 0


def parse_pair(option: str, given: str | None, what: str, example: str) -> tuple[int, int] | None:
    """Read two whole numbers with a comma; raises `UserError` for anything else."""
    if given is None:
        return None
    match = re.fullmatch(r"([1-9]\d*),([1-9]\d*)", given)
    if match is None:
        raise UserError(f"{option} {given}: give {what} with a comma, such as {example}")
    return int(match[1]), int(match[2])


def account(converted: Converted) -> list[str]:
    """Report in lines what was converted, what was assumed, and every weight that is unused or missing."""
    reader = converted.reader
    height, width = reader.image_size
    lines = [
        f"{type(reader).__name__}: {reader.parameters_count:,} weights, {len(reader.charset.characters)} characters, "
        f"words of up to {reader.config.max_length}, pictures of {height}x{width}"
    ]
    lines += [f"not in the file, assumed: {what}" for what in converted.assumed]
    for what, names in converted.unused.items():
        if names:  # unknown ones are listed in full
            listed = ", ".join(names) if what == UNKNOWN else grouped(names)
            lines.append(f"in the file, left out ({what}): {listed}")
    lines += [f"not in the file, not needed to read: {grouped(converted.missing)}"] if converted.missing else []
    return lines


def grouped(names: Iterable[str]) -> str:
    """List names, those of one part together: `norm_head0.* (2)`."""
    parts: dict[str, list[str]] = {}
    for name in names:
        parts.setdefault(name.partition(".")[0], []).append(name)
    return ", ".join(own[0] if len(own) == 1 else f"{part}.* ({len(own)})" for part, own in parts.items())
