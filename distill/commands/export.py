"""Export a reader: its folder with a card, and ONNX files for other programs that are compared with PyTorch."""

from __future__ import annotations

import argparse
import dataclasses
import math
import sys
from collections.abc import Sequence
from pathlib import Path

from distill.commands import (
    CommandParser,
    add_decoding_options,
    add_language_model_option,
    add_plugin_option,
    chosen_decoding,
    integer,
    number,
)
from distill.deployment.snippets import FILES, FLOAT_ONLY
from distill.errors import exit_on_user_error
from students.errors import UserError


def parser() -> argparse.ArgumentParser:
    """Build the command's arguments."""
    command = CommandParser(prog="export", description=__doc__)
    add = command.add_argument
    add("--student", required=True, metavar="S", help="shipped name (tiny) or folder of a reader")
    add("--out", required=True, metavar="DIR", help="folder to write")
    add(
        "--target", nargs="+", default=[], choices=list(FILES), metavar="T",
        help=f"write ONNX files too, for {', '.join(FILES)}, and compare them with PyTorch (`onnx` is student.onnx, "
        "`web` a page that reads in the browser)",
    )  # fmt: skip
    add(
        "--web-runtime", metavar="PLACE",
        help="folder of onnxruntime-web for the page, or its address (default: fetched once with npm)",
    )  # fmt: skip
    add("--onnx", action="store_true", help="the same as --target onnx")
    add(
        "--verify", nargs="+", default=[], metavar="DATA",
        help="pictures to compare on: LMDBs or trees of them, picture files, folders (default: drawn words)",
    )  # fmt: skip
    add("--int8", action="store_true", help="write files with 8-bit weights too, measured on --verify")
    add(
        "--int8-limit", type=number(0, 100), default=0.5, metavar="P",
        help="percentage of words that 8-bit weights may change (%(default)s)",
    )  # fmt: skip
    add(
        "--round-weights", action="store_true",
        help="round weights to 8 bits in all files, so that those of --int8 read as the others",
    )  # fmt: skip
    add(
        "--mix", nargs=2, metavar=("READER", "SHARE"),
        help="mix in the weights of the reader that it started from, such as tiny 0.25: it forgets less then",
    )  # fmt: skip
    add("--words", type=integer(1), default=512, metavar="N", help="how many of them, evenly spread (%(default)s)")
    add("--visual-branch", action="store_true", help="CLIP4STR: export its visual branch alone")
    add("--dtype", choices=["float32", "float16"], default="float32", help="how weights are stored")
    add("--name", help="name on the card (default: the student's own)")
    add("--report", metavar="FILE", help="report.json whose scores go on the card")
    add("--training", metavar="TEXT", help="what it was trained on, for the card")
    add("--terms", metavar="TEXT", help="terms that follow from the training data, for the card")
    add_decoding_options(command)
    add_language_model_option(command)
    add_plugin_option(command)
    add("--overwrite", action="store_true", help="replace the student in DIR")
    return command


@exit_on_user_error
def main(argv: Sequence[str]) -> int:
    """Run the command; 1 when ONNX and PyTorch differ. See `parser`."""
    given = parser().parse_args(argv)
    targets = [name for name in FILES if name in given.target or (name == "onnx" and given.onnx)]
    check_options(given, targets)
    share = chosen_share(given.mix)
    decoding, refine_iters = chosen_decoding(given)
    # torch takes seconds to import: what the arguments alone tell is checked before.
    from distill.data.language_models import open_language_model
    from distill.deployment.card import UNKNOWN, fill_card
    from distill.deployment.comparison_words import load_words
    from distill.deployment.folder import check_folder, mix_in, save_folder
    from distill.deployment.parity import ParityError
    from distill.deployment.web_runtime import find_runtime
    from distill.plugins import import_plugins
    from teachers.clip4str import Clip4Str
    from teachers.registry import load_reader

    check_folder(Path(given.out), given.overwrite, keeps_parts=True)
    runtime = find_runtime(given.web_runtime) if "web" in targets else None
    import_plugins(given.plugin)
    if Path(given.student).is_file():
        raise UserError(f"{given.student} is a file; give the folder of the student, which holds its weights")
    student = load_reader(given.student)
    if given.visual_branch:
        if not isinstance(student, Clip4Str):
            raise UserError(f"{given.student} is no CLIP4STR, which alone has a visual branch; leave it out")
        student = student.visual_branch()
    student.choose_decoding(decoding, refine_iters)
    if given.language_model is not None:
        student.language_model = open_language_model(given.language_model, charset=student.charset)
    card = fill_card(given.student, given.name, given.training, given.terms, given.report, student.parameters_count)
    otherwise = (
        given.language_model, decoding, refine_iters, given.visual_branch or None, given.round_weights or None
    )  # fmt: skip
    if given.report is None and any(choice is not None for choice in otherwise):
        card = dataclasses.replace(card, scores=UNKNOWN)  # those it had are of other readings
    if share is not None:
        card = mix_in(student, card, given.mix[0], share, scored=given.report is not None)
    words = load_words(given.verify, given.words) if given.verify else None
    try:
        done = save_folder(
            student, given.out, card, targets=targets, words=words,
            int8_limit=given.int8_limit if given.int8 else None, round_weights=given.round_weights, runtime=runtime,
            dtype=given.dtype, overwrite=given.overwrite,
        )  # fmt: skip
    except ParityError as error:
        print(f"{error}; nothing was written", file=sys.stderr)
        return 1
    print(f"{done.folder}: " + ", ".join(f"{name} ({size / 2**10:,.0f} KiB)" for name, size in done.files.items()))
    if done.parity is not None:
        print(f"ONNX and PyTorch: {done.parity}")
    for parity in done.targets.values():
        print(parity)
    for line in done.int8:
        print(line)
    if given.int8 and (without := [name for name in targets if name in FLOAT_ONLY]):
        print(f"no 8-bit weights for {', '.join(without)}, which runs none")
    return 0


def check_options(given: argparse.Namespace, targets: Sequence[str]) -> None:
    """Refuse options that don't go with each other or with the targets; raises `UserError`."""
    if given.verify and not (targets or given.round_weights):
        raise UserError("--verify compares ONNX files with PyTorch; add --onnx or --target")
    if given.round_weights and not given.verify:
        raise UserError("what --round-weights changes is measured on real words; add --verify with pictures of words")
    if given.words != parser().get_default("words") and not given.verify:
        raise UserError("--words says how many of --verify; add --verify with pictures of words, or leave --words out")
    if given.int8 and not (targets and given.verify):
        raise UserError("--int8 is measured on real words; add --target and --verify with pictures of words")
    if given.int8 and set(targets) <= set(FLOAT_ONLY):
        raise UserError(f"{', '.join(targets)} runs no 8-bit weights; leave --int8 out, or add another --target")
    if given.int8_limit != parser().get_default("int8_limit") and not given.int8:
        raise UserError("--int8-limit is for --int8; add it, or leave --int8-limit out")
    if given.web_runtime is not None and "web" not in targets:
        raise UserError("--web-runtime is for pages; add --target web")


def chosen_share(mix: Sequence[str] | None) -> float | None:
    """Return the share of the reader to mix in; None without one.

    Raises:
        UserError: when it is no number from 0 to 1.
    """
    if mix is None:
        return None
    try:
        share = float(mix[1])
    except ValueError:
        share = math.nan
    if not 0 <= share <= 1:
        raise UserError(f"--mix {mix[0]} {mix[1]}: the share is a number from 0 to 1, such as 0.25")
    return share
