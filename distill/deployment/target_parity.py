"""Check an exported file in three steps: its scores, what its program reads with it, and what we read ourselves.

1. The file's scores equal those of PyTorch on the pictures as the program prepares them, at several batch sizes.
2. The program itself, where it is installed, reads exactly the words of these scores.
3. How many words are those that the reader reads by itself is counted. The rest is due to how the program resizes.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnxruntime
import torch
from PIL import Image

from distill.deployment.parity import BATCHES, ParityError, TargetParity, split_batches
from distill.deployment.programs import PROGRAMS
from distill.deployment.snippets import FILES, TargetName
from distill.deployment.targets import TARGETS, build_targets, form_of, inference_yml
from students.decoding import DECODERS
from students.files import write_file
from students.reading import Reader

PROBABILITY_TIE = 1e-4
"""Columns whose two best scores are this near may be read either way: another program sums in another order."""


@torch.inference_mode()
def check_target_file(reader: Reader, file: Path, name: TargetName, pictures: Sequence[Image.Image]) -> TargetParity:
    """Check the file that was exported for a program.

    Args:
        reader: the reader in PyTorch, eval mode, on the CPU.
        file: the file.
        name: key of `TARGETS`.
        pictures: RGB pictures of words.
    """
    target, program, form = TARGETS[name], PROGRAMS[name], form_of(reader)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(file.read_bytes(), options, providers=["CPUExecutionProvider"])
    fit = target.fit(form)
    largest, texts, margins = 0.0, [], []
    for start, size in split_batches(len(pictures), (1,) if target.columns_first else BATCHES):
        batch = program.batch(pictures[start : start + size], form)
        expected = target.finish(reader(fit(torch.from_numpy(batch)))).numpy()
        scores = session.run(None, {session.get_inputs()[0].name: batch})[0]
        difference = float(np.abs(scores - expected).max()) if scores.shape == expected.shape else float("inf")
        largest = max(largest, float("inf") if np.isnan(difference) else difference)
        logits = torch.from_numpy(target.to_logits(scores))
        texts += [reading.text for reading in DECODERS[reader.LOGITS](reader.charset, logits)]  # as programs do
        best = logits.softmax(dim=-1).topk(2, dim=-1).values
        margins += (best[..., 0] - best[..., 1]).amin(dim=-1).tolist()
    version = program.version()
    read = texts
    if version is not None:
        read = program.read(file, reader.charset, form, pictures)
    misread = [
        (ours, theirs) for ours, theirs, margin in zip(texts, read, margins, strict=True)
        if ours != theirs and margin > PROBABILITY_TIE
    ]  # fmt: skip
    own = [reading.text for reading in reader.read(list(pictures))]
    return TargetParity(
        target.title, version, len(pictures), largest, tuple(misread),
        sum(ours == theirs for ours, theirs in zip(own, read, strict=True)),
    )  # fmt: skip


def export_target_files(
    reader: Reader, folder: Path, names: Sequence[TargetName], title: str, pictures: Sequence[Image.Image]
) -> dict[TargetName, TargetParity]:
    """Write the files for some programs into a reader's folder, and check each.

    Args:
        reader: in eval mode, on the CPU.
        folder: where to write, see `FILES`.
        names: keys of `TARGETS`.
        title: the reader's name.
        pictures: RGB pictures of words to check on.

    Raises:
        ParityError: for the first file that computes other scores, or is read otherwise by its program.
    """
    checked = {}
    for name, model in build_targets(reader, names, title).items():
        file = folder / FILES[name]
        file.parent.mkdir(exist_ok=True)
        write_file(file, model.SerializeToString())
        if name == "paddleocr":
            write_file(file.with_name("inference.yml"), inference_yml(reader).encode())
        checked[name] = check_target_file(reader, file, name, pictures)
        if not checked[name].agrees:
            raise ParityError(f"{name}: {checked[name]}")
    return checked
