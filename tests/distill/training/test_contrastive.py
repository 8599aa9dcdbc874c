from __future__ import annotations

import random

import pytest
import torch
from rapidfuzz.distance import DamerauLevenshtein
from torch.nn import functional as F

from distill.data.batch import Batch
from distill.training.allocator import tune_allocator
from distill.training.contrastive import ContrastiveOptions, ContrastiveTask, score_teacher, word_to_image
from distill.training.near_misses import near_misses
from students.errors import UserError
from teachers.small import LOWER_CASE_94, SmallTeacher, SmallTeacherConfig

TINY = SmallTeacherConfig(
    stem=(8, 8, 16), image_width=32, image_layers=4, image_heads=2, text_width=32, text_layers=4, text_heads=2,
    joint_width=16,
)  # fmt: skip


def batch_of(labels: list[str], columns: int = -1, first: int = 0) -> Batch:
    """Make a batch whose pictures show their label: bright stripes at the codes of its characters."""
    images = torch.full((len(labels), 3, 32, 128), -1.0)
    for image, label in zip(images, labels, strict=True):
        for place, character in enumerate(label.lower()):
            row = ord(character) % 32
            image[:, row, 16 * place : 16 * place + 16] = 1.0
    return Batch(
        images=images,
        labels=labels,
        columns=torch.full((len(labels), 32), columns),
        indices=torch.arange(first, first + len(labels)),
    )


@pytest.fixture
def task() -> ContrastiveTask:
    return ContrastiveTask(SmallTeacher(TINY))


def test_terms_and_their_weights(task: ContrastiveTask) -> None:
    batch = batch_of(["cat", "dog", "Cat", "x1"], columns=3)
    terms = task(task.prepare(batch, 0, 0.0))
    assert list(terms) == ["image_to_word", "word_to_image", "ctc", "columns"]
    torch.testing.assert_close(task.total(terms), sum(terms.values()))
    halved = task(task.prepare(batch, 0, 0.2))["columns"]
    task.eval()
    torch.testing.assert_close(halved, terms["columns"] / 2, rtol=0.05, atol=0)
    assert "columns" not in task(task.prepare(batch, 0, 0.4))


def test_every_weight_gets_a_gradient(task: ContrastiveTask) -> None:
    task.total(task(task.prepare(batch_of(["cat", "doge"], columns=1), 0, 0.0))).backward()
    assert [name for name, p in task.named_parameters() if p.grad is None] == []
    assert task.no_weight_decay() <= {name for name, _ in task.named_parameters()}


def test_equal_words_share_a_text_and_are_no_negatives(task: ContrastiveTask) -> None:
    inputs = task.prepare(batch_of(["cat", "dog", "CAT"]), 0, 0.0)
    assert inputs.targets.tolist() == [0, 1, 0]
    assert len(torch.unique(inputs.text_ids, dim=0)) == len(inputs.text_ids)
    similarity = torch.randn(3, 5)
    value = word_to_image(similarity, torch.tensor([0, 1, 0]))
    first = F.cross_entropy(similarity[:2, 0][None], torch.tensor([0]))
    second = F.cross_entropy(similarity[:, 1][None], torch.tensor([1]))
    third = F.cross_entropy(similarity[1:, 0][None], torch.tensor([1]))
    torch.testing.assert_close(value, (first + second + third) / 3)


def test_unknown_columns_are_ignored(task: ContrastiveTask) -> None:
    task.eval()
    batch = batch_of(["cat", "dog"])
    terms = task(task.prepare(batch, 0, 0.0))
    assert terms["columns"] == 0
    batch.columns[0] = 5
    known = task(task.prepare(batch, 0, 0.0))["columns"]
    readings = task.column_head(task.teacher.encode_columns(batch.images)[1])
    torch.testing.assert_close(known, F.cross_entropy(readings[0], batch.columns[0]))


def test_near_misses_are_near_and_repeatable() -> None:
    for word in ("a", "cat", "24/7", "x" * 25, "don't"):
        drawn = near_misses(word, 6, LOWER_CASE_94, random.Random(3))
        assert drawn == near_misses(word, 6, LOWER_CASE_94, random.Random(3))
        assert len(set(drawn)) == 6
        assert all(1 <= DamerauLevenshtein.distance(word, miss) <= 2 for miss in drawn)
        assert all(0 < len(miss) <= 25 and set(miss) <= set(LOWER_CASE_94) for miss in drawn)
    assert all(DamerauLevenshtein.distance("cat", miss) == 1 for miss in near_misses("cat", 20, "abc", random.Random(0), 1))


def test_near_misses_of_a_sample_depend_on_its_index_and_the_step(task: ContrastiveTask) -> None:
    one = task.lexicon(["cat", "dog"], [7, 8], 5)
    assert list(one)[:2] == ["cat", "dog"]
    assert len(one) == 8
    assert set(task.lexicon(["dog", "cat"], [8, 7], 5)) == set(one)
    assert list(task.lexicon(["cat", "dog"], [7, 8], 6)) != list(one)
    assert "cat" not in list(task.lexicon(["cut", "cat"], [1, 2], 0))[2:]


def test_a_label_outside_the_vocabulary_is_named(task: ContrastiveTask) -> None:
    with pytest.raises(UserError, match="café"):
        task.prepare(batch_of(["cat", "café"]), 0, 0.0)


def test_it_learns_to_tell_words_apart() -> None:
    task = ContrastiveTask(SmallTeacher(TINY), ContrastiveOptions(ctc=0.2, near_misses=1))
    words = ["".join(random.choices("abcd", k=random.randint(1, 4))) for _ in range(24)]
    optimizer = torch.optim.AdamW(task.parameters(), 3e-3)
    losses = []
    for step in range(40):
        terms = task(task.prepare(batch_of(words), step, step / 40))
        losses.append(terms["word_to_image"].item())
        optimizer.zero_grad()
        task.total(terms).backward()
        optimizer.step()
    assert losses[-1] < 0.5 * losses[0]
    scores = score_teacher(task.teacher, [batch_of(words[:12]), batch_of(words[12:], first=12)])
    assert scores.words == len(set(words))
    assert scores.closed_lexicon > 60
    assert task.teacher.training
    assert score_teacher(task.teacher, [batch_of(words)]) == scores


def test_the_deliverable_has_no_reading_heads(task: ContrastiveTask) -> None:
    assert task.deliverable is task.teacher
    assert not any("head" in name for name in task.deliverable.state_dict())
    assert ContrastiveTask(SmallTeacher(TINY), ContrastiveOptions(ctc=0, columns=0)).ctc_head is None


def test_the_allocator_can_be_tuned_or_says_no() -> None:
    assert tune_allocator() in (True, False)
