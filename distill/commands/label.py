"""Let readers label pictures: an LMDB of labels, confidences, distributions over characters, and what is doubtful."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from pathlib import Path

from distill.commands import CommandParser, add_language_model_option, add_plugin_option, integer, number
from distill.errors import exit_on_user_error
from students.errors import UserError


def parser() -> argparse.ArgumentParser:
    """Build the command's arguments."""
    command = CommandParser(prog="label", description=__doc__)
    add = command.add_argument
    add("data", type=Path, help="pictures of a word each: a folder, an LMDB, or a tree of both, with labels or without")
    add("out", type=Path, help="folder of the LMDB to write")
    add(
        "--reader", action="append", default=[], metavar="R",
        help="who reads: shipped name, folder, or ONNX file; several with --reader again (tiny)",
    )  # fmt: skip
    add("--threshold", type=number(0, 1), default=0.9, metavar="P", help="least confidence of a label (%(default)s)")
    add("--agree", type=integer(1), metavar="N", help="readers that have to read the same (default: all of them)")
    add("--charset", help="36, 62, 94, 95 or a text file: the labels' alphabet (default: the first reader's, or 94)")
    add("--max-length", type=integer(1), default=25, metavar="N", help="longest label in characters (%(default)s)")
    add("--likeliest", type=integer(0), default=8, metavar="K", help="classes stored a character (%(default)s)")
    add("--relabel", action="store_true", help="label pictures anew that have a label (default: it stays)")
    add("--drop-mistakes", action="store_true", help="leave out words whose own label the readers surely contradict")
    add("--workers", type=integer(0), default=1, metavar="N", help="processes that read; 0: one a core (%(default)s)")
    add_language_model_option(command)
    add_plugin_option(command)
    add("--overwrite", action="store_true", help="replace an LMDB that is there")
    return command


@exit_on_user_error
def main(argv: Sequence[str]) -> int:
    """Run the command; see `parser`. A run that was killed goes on when it is started again."""
    given = parser().parse_args(argv)
    names = given.reader or ["tiny"]
    agree = len(names) if given.agree is None else given.agree
    if agree > len(names):
        raise UserError(f"--agree {agree}: {len(names)} can read the same at most; give 1 to {len(names)}")
    if len(set(names)) < len(names):
        raise UserError(f"--reader {max(names, key=names.count)} is given twice; name each reader once")
    if given.relabel and given.drop_mistakes:
        raise UserError("--drop-mistakes looks at labels that stay, and --relabel makes all anew; leave one out")
    if not given.data.exists():
        raise UserError(f"{given.data}: no such folder; give one of pictures, or an LMDB")

    from distill.data.folders import PictureRecords, list_names, walk_files
    from distill.data.lmdb_reader import describe_unread
    from distill.data.progress import followed
    from distill.data.trees import may_hold_labels
    from distill.data.writing import check_lmdb_folder, check_outside
    from distill.labelling.job import LabelRequest, open_job, split, work
    from distill.labelling.readers import check_charset, labels_charset, open_readers
    from distill.labelling.results import describe_counts, write_results
    from distill.locks import acquire_lock
    from distill.plugins import import_plugins
    from students.files import remove

    check_outside(given.out, given.data)
    check_lmdb_folder(given.out, given.overwrite)
    import_plugins(given.plugin)
    opened = open_readers(names, given.language_model)
    charset = labels_charset(given.charset, opened[0])
    check_charset(opened, charset)
    likeliest = min(given.likeliest, len(charset.characters) + 1)
    request = LabelRequest(
        str(given.data), tuple(names), charset.characters, given.max_length, given.threshold, agree, likeliest,
        given.relabel, given.drop_mistakes, given.language_model, tuple(given.plugin),
    )  # fmt: skip
    sets = request.open_records()
    for records in sets if not given.relabel else ():
        if lost := records.count_undecodable():
            raise UserError(
                f"{records.path}: {lost} labels are no UTF-8, and would be replaced by what is read; mend them, or "
                "make all labels anew with --relabel"
            )
    others = walk_files(given.data, [each.path for each in sets if not isinstance(each, PictureRecords)]).others
    if unused := [*filter(may_hold_labels, others)]:
        print(f"not used, for these are no names of label files: {list_names(unused)}", flush=True)
    others = [other for other in others if other not in unused]
    parts, folder = split(sets), given.out.absolute().with_name(f".{given.out.name}.labelling")
    folder.mkdir(parents=True, exist_ok=True)
    lock = acquire_lock(folder / "lock", patience=0)
    if lock is None:
        raise UserError(f"{given.out} is being labelled by another process; wait for it, or give another folder")
    open_job(request, sets, folder)
    done = sum(part.file(folder).is_file() for part in parts)
    if done:
        print(f"going on where it was stopped: {done} of {len(parts)} parts are done", flush=True)
    for _ in followed(work(request, parts, folder, given.workers or os.cpu_count() or 1), len(parts), "labelling"):
        pass
    names = [reader.name for reader in opened]
    try:
        counts = write_results(request, names, sets, parts, folder, given.out, given.overwrite)
    except UserError:  # nothing is left to write, so there is nothing to go on with
        lock.close()
        remove(folder)
        raise
    lock.close()
    remove(folder)
    print("\n".join(describe_counts(counts, request, names, given.out)))
    if others and any(isinstance(records, PictureRecords) for records in sets):
        print(f"  passed over, no pictures by their names: {list_names(others)}")
    for line in describe_unread(sets):
        print(line)
    return 0
