"""CLIP-OCR on one batch: every stage, both sides of the seven calls, losses, gradients and greedy readings."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from distill.conversion.checkpoints import read_checkpoint
from distill.conversion.clipocr import convert
from distill.conversion.layout import ConversionOptions
from distill.training.distillation import DistillationTask
from losses.labels import character_loss
from students.decoding import decode_probabilities
from students.encoders import TimmEncoder
from students.student import Student
from teachers.clip import ClipTeacher
from tests.reference.cases import Case, Converted, cases, close, near
from tests.reference.clipocr_cases import (
    TERMS,
    Step,
    batch_of,
    load_task,
    owner,
    published,
    same_calls,
    same_gradients,
    same_losses,
    same_norms,
    same_readings,
    sources,
    step,
    task_folder,
    teacher_of,
    total_norm,
)


@dataclass(frozen=True)
class Computed:
    """A case and what our task makes of it, each computed once."""

    case: Case
    task: DistillationTask

    @property
    def student(self) -> Student:
        return self.task.student

    @property
    def teacher(self) -> ClipTeacher:
        return teacher_of(self.task)

    @property
    def labels(self) -> list[str]:
        return list(self.case.numbers["labels"])

    @property
    def images(self) -> Tensor:
        return batch_of(self.case.arrays["images_uint8"], self.labels).images

    @cached_property
    def step(self) -> Step:
        return step(self.task, batch_of(self.case.arrays["images_uint8"], self.labels))

    @cached_property
    def sides(self) -> tuple[Any, Any]:
        self.task.train()
        ids = self.student.charset.encode(self.labels)
        return self.student.stages(self.images, ids), self.teacher(self.images, self.labels)


@pytest.fixture(scope="module")
def computed(converted: Converted) -> Any:
    """Compute a case with the teacher of one source, once."""
    by_case: dict[tuple[str, str], Computed] = {}

    def compute(case: Case, source: str) -> Computed:
        key = (case.name, source)
        if key not in by_case:
            by_case[key] = Computed(case, load_task(task_folder(case, converted, source)))
        return by_case[key]

    return compute


by_source = pytest.mark.parametrize(("case", "source"), cases("clipocr step", sources))
"""With a teacher from the CLIP's own file, and with the one in the checkpoint."""
once = pytest.mark.parametrize(("case", "source"), cases("clipocr step", lambda case: sources(case)[:1]))


@once
def test_sizes_are_those_of_the_file(case: Case, source: str, computed: Any) -> None:
    computed_case: Computed = computed(case, source)
    trained = published(computed_case.task)
    shapes = {name: list(weight.shape) for name, weight in trained.items()}
    assert shapes == {name: case.numbers["state_dict_keys"][name] for name in case.numbers["trainable"]}
    clip, derived = case.numbers["clip"], case.numbers["derived"]
    assert isinstance(computed_case.student.encoder, TimmEncoder)
    assert list(computed_case.student.encoder.taps) == derived["encoder_taps_after_block"][:3]
    assert list(computed_case.teacher.image_taps) == derived["image_tower_taps_after_block"][:3]
    assert list(computed_case.teacher.text_taps) == derived["text_tower_taps_after_block"][:3]
    assert computed_case.student.shape.tokens == derived["student_rows"]
    shape = computed_case.teacher.shape
    assert shape.image_tokens == derived["image_token_rows_for_teacher"]
    assert (shape.image_width, shape.text_width) == (clip["image_width"], clip["text_width"])
    assert shape.joint_width == clip["joint_dim"]
    towers = computed_case.teacher.clip.visual.transformer, computed_case.teacher.clip.transformer
    for tower, heads in zip(towers, (clip["image_heads"], clip["text_heads"]), strict=True):
        assert {block.attn.heads for block in tower.resblocks} == {heads}


@by_source
def test_inputs(case: Case, source: str, computed: Any) -> None:
    computed_case: Computed = computed(case, source)
    torch.testing.assert_close(computed_case.images, case.tensor("images"), rtol=0, atol=1e-6)
    close(computed_case.teacher.normalize(computed_case.images), case.tensor("clip_images"), least=2e-6)
    assert torch.equal(computed_case.teacher.tokens(computed_case.labels), case.tensor("text_ids").long())
    assert torch.equal(computed_case.student.charset.encode(computed_case.labels), case.tensor("target_ids"))


@once
def test_stages_of_the_student(case: Case, source: str, computed: Any) -> None:
    computed_case: Computed = computed(case, source)
    stages, _ = computed_case.sides
    memory = computed_case.student.encode(computed_case.images)
    close(memory, case.tensor("encoder_tap3"))
    close(stages.word, case.tensor("encoder_tap3")[:, 0])
    close(stages.logits, case.tensor("logits_train"))
    close(stages.logits, computed_case.student.head(case.tensor("decoder_tap3")))
    for k in range(3):
        close(stages.encoder[k], case.tensor(f"encoder_tap{k}"))
        close(stages.decoder[k], case.tensor(f"decoder_tap{k}"))


@by_source
def test_stages_of_the_teacher(case: Case, source: str, computed: Any) -> None:
    computed_case: Computed = computed(case, source)
    _, guidance = computed_case.sides
    for k in range(3):
        close(guidance.image[k], case.tensor(f"clip_image_tap{k}"))
        close(guidance.text[2 - k], case.tensor(f"clip_text_tap{k}")[:, 1:])
    close(guidance.word, case.tensor("clip_text_embedding"))
    picture, word = (F.normalize(case.tensor(f"clip_{side}_embedding"), dim=1) for side in ("image", "text"))
    close(computed_case.teacher.embed_images(computed_case.images), picture)
    close(computed_case.teacher.embed_words(computed_case.labels), word)


@by_source
def test_both_sides_of_the_seven_calls(case: Case, source: str, computed: Any) -> None:
    computed_case: Computed = computed(case, source)
    pairs = computed_case.task.branches[0].heads(*computed_case.sides)
    assert len(pairs) == len(TERMS)
    for expected, ours in TERMS.items():
        for rows, side in zip(pairs[ours], ("student", "teacher"), strict=True):
            close(rows, case.tensor(f"lcl_{expected}_{side}"))


@by_source
def test_losses(case: Case, source: str, computed: Any) -> None:
    computed_case: Computed = computed(case, source)
    same_calls(computed_case.step, case.numbers)
    same_losses(computed_case.step, case.numbers)
    assert sorted(computed_case.step.terms) == sorted(["characters", *TERMS.values()])


@by_source
def test_gradients(case: Case, source: str, computed: Any) -> None:
    computed_case: Computed = computed(case, source)
    assert sorted(computed_case.step.gradients) == sorted(case.numbers["trainable"])
    same_norms(computed_case.step.gradients, case.numbers["grad_norm"])
    assert same_gradients(computed_case.step.gradients, case) == len(case.numbers["full_gradients_in_npz"])
    assert total_norm(computed_case.step.gradients) == near(case.numbers["grad_norm_total"], 2e-4)


@once
@torch.inference_mode()
def test_greedy_readings(case: Case, source: str, computed: Any) -> None:
    computed_case: Computed = computed(case, source)
    student, images, numbers = computed_case.student.eval(), computed_case.images, case.numbers
    together = student(images)
    close(together, case.tensor("greedy_logits_batch"))
    same_readings(student, together, numbers["greedy_batch"])
    assert student.read_batch(images) == decode_probabilities(student.charset, together.softmax(dim=-1))
    assert len(numbers["greedy_single"]) == len(images)
    for number, expected in enumerate(numbers["greedy_single"]):
        alone = student(images[number : number + 1])
        close(alone, case.tensor(f"greedy_logits_single{number}"))
        same_readings(student, alone, expected)
    for longest, expected in numbers["greedy_max_length"].items():
        given = student(images, int(longest))
        close(given, case.tensor(f"greedy_logits_maxlen{longest}"))
        same_readings(student, given, expected)


@once
@torch.inference_mode()
def test_validation_loss(case: Case, source: str, computed: Any) -> None:
    computed_case: Computed = computed(case, source)
    student = computed_case.student.eval()
    ids = student.charset.encode(computed_case.labels)
    logits = student(computed_case.images, ids.shape[1] - 2)
    assert int((ids[:, 1:] != student.charset.pad_id).sum()) == case.numbers["validation_loss_numel"]
    assert float(character_loss(logits, ids, student.charset.pad_id)) == near(case.numbers["validation_loss"])


def batches(case: Case) -> range:
    """Number the special batches of a file."""
    return range(len(case.numbers["cases"]))


@pytest.mark.parametrize(("case", "number"), cases("clipocr edges", batches))
def test_special_batches(case: Case, number: int, computed: Any) -> None:
    actual: Computed = computed(Case(case.path), sources(case)[0])
    expected = case.numbers["cases"][number]
    labels, prefix = expected["labels"], f"case{expected['case']}_"
    batch = batch_of(case.arrays[f"{prefix}images_uint8"], labels)
    assert torch.equal(actual.teacher.tokens(labels), case.tensor(f"{prefix}text_ids").long())
    done = step(actual.task, batch)
    same_calls(done, expected)
    same_losses(done, expected)
    same_norms(done.gradients, expected["grad_norm"])
    assert total_norm(done.gradients) == near(expected["grad_norm_total"], 2e-4)


@once
def test_what_the_published_program_leaves_out_is_told(case: Case, source: str) -> None:
    done = convert(read_checkpoint(owner(case).weights()), ConversionOptions())
    left = {name.partition(".")[0] for names in done.unused.values() for name in names}
    expected = case.numbers["recogniser_loader"]
    assert sorted(left) == sorted(expected["unexpected_key_prefixes"])
    assert expected["missing_keys"] == []
    assert done.assumed == []
