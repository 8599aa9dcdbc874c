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
from distill.training.distillation import DistillationTask, character_loss
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
    made: dict[tuple[str, str], Computed] = {}

    def compute(case: Case, source: str) -> Computed:
        key = (case.name, source)
        if key not in made:
            made[key] = Computed(case, load_task(task_folder(case, converted, source)))
        return made[key]

    return compute


by_source = pytest.mark.parametrize(("case", "source"), cases("clipocr step", sources))
"""With a teacher from the CLIP's own file, and with the one in the checkpoint."""
once = pytest.mark.parametrize(("case", "source"), cases("clipocr step", lambda case: sources(case)[:1]))


@once
def test_sizes_are_those_of_the_file(case: Case, source: str, computed: Any) -> None:
    found: Computed = computed(case, source)
    trained = published(found.task)
    shapes = {name: list(weight.shape) for name, weight in trained.items()}
    assert shapes == {name: case.numbers["state_dict_keys"][name] for name in case.numbers["trainable"]}
    clip, derived = case.numbers["clip"], case.numbers["derived"]
    assert isinstance(found.student.encoder, TimmEncoder)
    assert list(found.student.encoder.taps) == derived["encoder_taps_after_block"][:3]
    assert list(found.teacher.image_taps) == derived["image_tower_taps_after_block"][:3]
    assert list(found.teacher.text_taps) == derived["text_tower_taps_after_block"][:3]
    assert found.student.shape.tokens == derived["student_rows"]
    shape = found.teacher.shape
    assert shape.image_tokens == derived["image_token_rows_for_teacher"]
    assert (shape.image_width, shape.text_width) == (clip["image_width"], clip["text_width"])
    assert shape.joint_width == clip["joint_dim"]
    towers = found.teacher.clip.visual.transformer, found.teacher.clip.transformer
    for tower, heads in zip(towers, (clip["image_heads"], clip["text_heads"]), strict=True):
        assert {block.attn.heads for block in tower.resblocks} == {heads}


@by_source
def test_inputs(case: Case, source: str, computed: Any) -> None:
    found: Computed = computed(case, source)
    torch.testing.assert_close(found.images, case.tensor("images"), rtol=0, atol=1e-6)
    close(found.teacher.normalize(found.images), case.tensor("clip_images"), least=2e-6)
    assert torch.equal(found.teacher.tokens(found.labels), case.tensor("text_ids").long())
    assert torch.equal(found.student.charset.encode(found.labels), case.tensor("target_ids"))


@once
def test_stages_of_the_student(case: Case, source: str, computed: Any) -> None:
    found: Computed = computed(case, source)
    stages, _ = found.sides
    memory = found.student.encode(found.images)
    close(memory, case.tensor("encoder_tap3"))
    close(stages.word, case.tensor("encoder_tap3")[:, 0])
    close(stages.logits, case.tensor("logits_train"))
    close(stages.logits, found.student.head(case.tensor("decoder_tap3")))
    for k in range(3):
        close(stages.encoder[k], case.tensor(f"encoder_tap{k}"))
        close(stages.decoder[k], case.tensor(f"decoder_tap{k}"))


@by_source
def test_stages_of_the_teacher(case: Case, source: str, computed: Any) -> None:
    found: Computed = computed(case, source)
    _, guidance = found.sides
    for k in range(3):
        close(guidance.image[k], case.tensor(f"clip_image_tap{k}"))
        close(guidance.text[2 - k], case.tensor(f"clip_text_tap{k}")[:, 1:])
    close(guidance.word, case.tensor("clip_text_embedding"))
    picture, word = (F.normalize(case.tensor(f"clip_{side}_embedding"), dim=1) for side in ("image", "text"))
    close(found.teacher.embed_images(found.images), picture)
    close(found.teacher.embed_words(found.labels), word)


@by_source
def test_both_sides_of_the_seven_calls(case: Case, source: str, computed: Any) -> None:
    found: Computed = computed(case, source)
    pairs = found.task.branches[0].heads(*found.sides)
    assert len(pairs) == len(TERMS)
    for told, ours in TERMS.items():
        for rows, side in zip(pairs[ours], ("student", "teacher"), strict=True):
            close(rows, case.tensor(f"lcl_{told}_{side}"))


@by_source
def test_losses(case: Case, source: str, computed: Any) -> None:
    found: Computed = computed(case, source)
    same_calls(found.step, case.numbers)
    same_losses(found.step, case.numbers)
    assert sorted(found.step.terms) == sorted(["characters", *TERMS.values()])


@by_source
def test_gradients(case: Case, source: str, computed: Any) -> None:
    found: Computed = computed(case, source)
    assert sorted(found.step.gradients) == sorted(case.numbers["trainable"])
    same_norms(found.step.gradients, case.numbers["grad_norm"])
    assert same_gradients(found.step.gradients, case) == len(case.numbers["full_gradients_in_npz"])
    assert total_norm(found.step.gradients) == near(case.numbers["grad_norm_total"], 2e-4)


@once
@torch.inference_mode()
def test_greedy_readings(case: Case, source: str, computed: Any) -> None:
    found: Computed = computed(case, source)
    student, images, numbers = found.student.eval(), found.images, case.numbers
    together = student(images)
    close(together, case.tensor("greedy_logits_batch"))
    same_readings(student, together, numbers["greedy_batch"])
    assert student.read_batch(images) == student.charset.decode(together.softmax(dim=-1))
    assert len(numbers["greedy_single"]) == len(images)
    for number, told in enumerate(numbers["greedy_single"]):
        alone = student(images[number : number + 1])
        close(alone, case.tensor(f"greedy_logits_single{number}"))
        same_readings(student, alone, told)
    for longest, told in numbers["greedy_max_length"].items():
        given = student(images, int(longest))
        close(given, case.tensor(f"greedy_logits_maxlen{longest}"))
        same_readings(student, given, told)


@once
@torch.inference_mode()
def test_validation_loss(case: Case, source: str, computed: Any) -> None:
    found: Computed = computed(case, source)
    student = found.student.eval()
    ids = student.charset.encode(found.labels)
    logits = student(found.images, ids.shape[1] - 2)
    assert int((ids[:, 1:] != student.charset.pad_id).sum()) == case.numbers["validation_loss_numel"]
    assert float(character_loss(logits, ids, student.charset.pad_id)) == near(case.numbers["validation_loss"])


def batches(case: Case) -> range:
    """Number the special batches of a file."""
    return range(len(case.numbers["cases"]))


@pytest.mark.parametrize(("case", "number"), cases("clipocr edges", batches))
def test_special_batches(case: Case, number: int, computed: Any) -> None:
    found: Computed = computed(Case(case.path), sources(case)[0])
    told = case.numbers["cases"][number]
    labels, prefix = told["labels"], f"case{told['case']}_"
    batch = batch_of(case.arrays[f"{prefix}images_uint8"], labels)
    assert torch.equal(found.teacher.tokens(labels), case.tensor(f"{prefix}text_ids").long())
    made = step(found.task, batch)
    same_calls(made, told)
    same_losses(made, told)
    same_norms(made.gradients, told["grad_norm"])
    assert total_norm(made.gradients) == near(told["grad_norm_total"], 2e-4)


@once
def test_what_the_published_program_leaves_out_is_told(case: Case, source: str) -> None:
    done = convert(read_checkpoint(owner(case).weights()), ConversionOptions())
    left = {name.partition(".")[0] for names in done.unused.values() for name in names}
    told = case.numbers["recogniser_loader"]
    assert sorted(left) == sorted(told["unexpected_key_prefixes"])
    assert told["missing_keys"] == []
    assert done.assumed == []
