"""The layer map: which stage of the student is guided by which stage of the teacher, for --dry-run."""

from __future__ import annotations

import torch
from rich.table import Table

from distill.data.batch import Batch
from distill.training.distillation import DistillationTask


def layer_map(task: DistillationTask, batch: Batch, number: int = 0) -> Table:
    """Lay out the comparisons with one teacher, with shapes and row counts on one batch.

    Args:
        task: with teachers.
        batch: words with labels.
        number: which of the teachers.

    Raises:
        ValueError: when the task has no teacher.
    """
    if not task.guides:
        raise ValueError("a task without a teacher has no layer map")
    student, guide, switches = task.student, task.guides[number], task.guidance
    with torch.no_grad():
        stages = student.stages(batch.images, student.charset.encode(batch.labels).to(batch.images.device))
        guidance = guide.teacher(batch.images, batch.labels)
    words, positions = stages.logits.shape[:2]
    spoken = int(guidance.mask.sum())
    texts = spoken if not switches.include_padding else words * positions
    title = f"{guide.teacher.name}, {words} words, {positions} positions: student stage <- teacher stage"
    table = Table(title=title)
    for column in ("term", "student", "shape", "teacher", "shape", "rows"):
        table.add_column(column)

    def rows(count: int) -> str:
        return (
            str(count) if switches.max_rows is None or count <= switches.max_rows else f"{switches.max_rows} of {count}"
        )

    for k, tap in enumerate(guidance.text or ()):
        table.add_row(
            f"linguistic{k + 1}", f"decoder tap {k + 1} (layer {student.decoder_taps[k]})", _shape(stages.decoder[k]),
            guide.teacher.text_stages[k], _shape(tap), rows(texts),
        )  # fmt: skip
    for k, tap in enumerate(guidance.image or ()):
        table.add_row(
            f"visual{k + 1}", f"encoder tap {k + 1} (block {student.encoder.taps[k]})", _shape(stages.encoder[k]),
            f"image tap {k + 1}", _shape(tap), rows(tap.shape[:-1].numel()),
        )  # fmt: skip
    if guidance.word is not None:
        table.add_row(
            "bridge", "class token", _shape(stages.word), guide.teacher.word_stage, _shape(guidance.word), rows(words)
        )
    for kind in ("kd", "dkd"):
        if guidance.characters is not None and kind in guide.kinds(switches):
            table.add_row(kind, "logits", _shape(stages.logits), "characters", _shape(guidance.characters), str(spoken))
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
