"""The layer map of a dry run: which stage of the student is compared with which stage of the teacher."""

from __future__ import annotations

import torch
from rich.table import Table

from distill.data.batch import Batch
from distill.training.branches import select_words
from distill.training.distillation import DistillationTask
from losses.registry import BUILT_IN
from students.student import Student
from teachers.guidance import FeatureRequest


def layer_map(task: DistillationTask, batch: Batch, number: int = 0) -> Table:
    """Lay out the comparisons with one teacher, with shapes and row counts on one batch.

    Args:
        task: with teachers.
        batch: words with labels.
        number: which of the teachers.

    Raises:
        ValueError: when the task has no teacher.
    """
    if not task.branches:
        raise ValueError("a task without a teacher has no layer map")
    student, branch, options = task.student, task.branches[number], task.guidance
    with torch.no_grad():
        stages = student.stages(batch.images, student.charset.encode(batch.labels).to(batch.images.device))
        shown = task.pictures_for(batch.images, branch.teacher)
        guidance, chosen = branch.extract(shown, batch.labels, FeatureRequest(), 0)
    if chosen is not None:
        stages = select_words(stages, chosen if len(chosen) else chosen.new_zeros(1), guidance.mask.shape[1])
    words, positions = guidance.mask.shape
    aligned = int(guidance.mask.sum())
    texts = aligned if not options.include_padding else words * positions
    title = f"{branch.teacher.name}, {words} words, {positions} positions: student stage <- teacher stage"
    table = Table(title=title)
    for column in ("term", "student", "shape", "teacher", "shape", "rows"):
        table.add_column(column)

    def rows(count: int) -> str:
        return str(count) if options.max_rows is None or count <= options.max_rows else f"{options.max_rows} of {count}"

    names = branch.losses
    layers = student.decoder_taps if isinstance(student, Student) else ()
    decoded = zip(layers, stages.decoder or (), guidance.text or (), strict=False) if "linguistic" in names else ()
    for k, (layer, own, tap) in enumerate(decoded):
        table.add_row(
            f"linguistic{k + 1}", f"decoder tap {k + 1} (layer {layer})", _shape(own), branch.teacher.text_stages[k],
            _shape(tap), rows(texts),
        )  # fmt: skip
    for k, tap in enumerate(guidance.image or () if "visual" in names else ()):
        table.add_row(
            f"visual{k + 1}", f"encoder tap {k + 1} (block {student.encoder.taps[k]})", _shape(stages.encoder[k]),
            f"image tap {k + 1}", _shape(tap), rows(tap.shape[:-1].numel()),
        )  # fmt: skip
    if guidance.word is not None and "bridge" in names:
        table.add_row(
            "bridge", "class token", _shape(stages.word), branch.teacher.word_stage, _shape(guidance.word), rows(words)
        )
    for name, loss in names.items():
        if name in ("kd", "dkd") and guidance.characters is not None:
            characters, head = ("characters", _shape(guidance.characters)), loss.options["head"]
            if head != "columns" and stages.logits is not None:
                table.add_row(name, "logits", _shape(stages.logits), *characters, str(aligned))
            if head != "decoder" and stages.columns is not None:
                pooled = str(int(guidance.mask[:, :-1].sum()))
                table.add_row(f"{name}_columns", "columns", _shape(stages.columns), *characters, pooled)
        elif name not in BUILT_IN:
            table.add_row(name, "", "", ", ".join(loss.loss.needs), "", "")
    return table


def _shape(tensor: torch.Tensor) -> str:
    return "x".join(map(str, tensor.shape))


def gradient_shares(task: DistillationTask, terms: dict[str, torch.Tensor]) -> dict[str, tuple[float, float]]:
    """Compute each term's value and its share of the student's gradient: its norm over the sum of all terms' norms."""
    weights = [weight for weight in task.student.parameters() if weight.requires_grad]
    norms = {}
    for name, term in terms.items():
        if not term.requires_grad:  # as a loss of one's own that finds nothing to compare in this batch
            norms[name] = 0.0
            continue
        gradients = torch.autograd.grad(term, weights, retain_graph=True, allow_unused=True)
        norms[name] = sum(float(part.float().square().sum()) for part in gradients if part is not None) ** 0.5
    total = sum(norms.values()) or 1.0
    return {name: (float(terms[name].detach()), norms[name] / total) for name in terms}
