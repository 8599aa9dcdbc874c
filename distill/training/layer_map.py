"""The layer map: which stage of the student is guided by which stage of the teacher, for --dry-run."""

from __future__ import annotations

import torch
from rich.table import Table

from distill.data.batch import Batch
from distill.training.distillation import DistillationTask


def layer_map(task: DistillationTask, batch: Batch) -> Table:
    """Lay out the seven comparisons with shapes and row counts on one batch.

    Raises:
        ValueError: when the task has no teacher.
    """
    if task.teacher is None:
        raise ValueError("a task without a teacher has no layer map")
    student = task.student
    with torch.no_grad():
        stages = student.stages(batch.images, student.charset.encode(batch.labels))
        guidance = task.teacher(batch.images, batch.labels)
    words, positions = stages.logits.shape[:2]
    tokens, budget = task.teacher.shape.image_tokens, task.guidance.rows
    texts = int(guidance.rows.sum()) if task.guidance.padding == "drop" else words * positions
    table = Table(title=f"{words} words, {positions} positions: student stage <- teacher stage")
    for column in ("term", "student", "shape", "teacher", "shape", "rows"):
        table.add_column(column)

    def rows(count: int) -> str:
        return str(count) if budget is None or count <= budget else f"{budget} of {count}"

    for k in range(3):
        deep = 3 - k
        table.add_row(
            f"linguistic{k + 1}", f"decoder tap {k + 1} (layer {student.decoder_taps[k]})", _shape(stages.decoder[k]),
            f"text tap {deep}", _shape(guidance.text[k]), rows(texts),
        )  # fmt: skip
    for k in range(3):
        table.add_row(
            f"visual{k + 1}", f"encoder tap {k + 1} (block {student.encoder.taps[k]})", _shape(stages.encoder[k]),
            f"image tap {k + 1}", _shape(guidance.image[k]), rows(words * tokens),
        )  # fmt: skip
    table.add_row("bridge", "class token", _shape(stages.word), "text embedding", _shape(guidance.word), rows(words))
    return table


def _shape(tensor: torch.Tensor) -> str:
    return "x".join(map(str, tensor.shape))


def gradient_shares(task: DistillationTask, terms: dict[str, torch.Tensor]) -> dict[str, tuple[float, float]]:
    """Give each term's value and its share of the student's gradient: its norm over the sum of all terms' norms."""
    weights = [weight for weight in task.student.parameters() if weight.requires_grad]
    norms = {}
    for name, term in terms.items():
        gradients = torch.autograd.grad(term, weights, retain_graph=True, allow_unused=True)
        norms[name] = sum(float(part.float().square().sum()) for part in gradients if part is not None) ** 0.5
    total = sum(norms.values()) or 1.0
    return {name: (float(terms[name].detach()), norms[name] / total) for name in terms}
