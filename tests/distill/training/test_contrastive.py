from __future__ import annotations

import json
import platform
import random
import re
from pathlib import Path

import pytest
import torch
from rapidfuzz.distance import DamerauLevenshtein
from torch.nn import functional as F

from distill.commands.train_teacher import main
from distill.config import load_config
from distill.data.batch import Batch
from distill.schema import TeacherConfig
from distill.training.allocator import tune_allocator
from distill.training.contrastive import (
    ContrastiveTask,
    TextQueue,
    hard_negatives,
    score_teacher,
    word_to_image,
)
from distill.training.teacher_run import load_small, train_teacher
from distill.training.teacher_sections import ContrastiveSection
from students.errors import UserError
from teachers import load_teacher
from teachers.small import LOWER_CASE_94, SmallTeacher, SmallTeacherConfig
from tests.runs import rows

TINY = SmallTeacherConfig(
    stem=(8, 8, 16), image_width=32, image_layers=4, image_heads=2, text_width=32, text_layers=4, text_heads=2,
    joint_width=16,
)  # fmt: skip


def batch_of(labels: list[str], columns: int = -1, first: int = 0) -> Batch:
    """Make a batch whose pictures show their label: bright stripes at the codes of its characters."""
    images = torch.full((len(labels), 3, 32, 128), -1.0)
    for image, label in zip(images, labels, strict=True):
        for position, character in enumerate(label.lower()):
            row = ord(character) % 32
            image[:, row, 16 * position : 16 * position + 16] = 1.0
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
    task.eval()
    batch = batch_of(["cat", "dog", "Cat", "x1"], columns=3)
    start = task(task.prepare(batch, 0, 0.0))
    assert list(start) == ["image_to_word", "word_to_image", "columns", "spelling"]
    torch.testing.assert_close(task.total(start), torch.stack(list(start.values())).sum())
    middle = task(task.prepare(batch, 0, 0.2))
    end = task(task.prepare(batch, 0, 0.4))
    torch.testing.assert_close(middle["columns"], start["columns"] / 2)
    torch.testing.assert_close(middle["ctc"], end["ctc"] / 2)
    assert "columns" not in end


def test_every_weight_gets_a_gradient(task: ContrastiveTask) -> None:
    task.total(task(task.prepare(batch_of(["cat", "doge"], columns=1), 0, 0.0))).backward()
    assert [name for name, p in task.named_parameters() if p.grad is None] == []
    assert task.no_weight_decay() <= {name for name, _ in task.named_parameters()}


def test_equal_words_share_a_text_and_are_no_negatives(task: ContrastiveTask) -> None:
    inputs = task.prepare(batch_of(["cat", "dog", "CAT"]), 0, 0.0)
    assert inputs.targets.tolist() == [0, 1, 0]
    assert [len(task.prepare(batch_of(["cat"]), 0, p).text_ids) for p in (0.0, 0.2, 0.4, 1.0)] == [2, 3, 4, 4]
    assert len(torch.unique(inputs.text_ids, dim=0)) == len(inputs.text_ids)
    similarity = torch.randn(3, 5)
    value = word_to_image(similarity, torch.tensor([0, 1, 0]))
    first = F.cross_entropy(similarity[:2, 0][None], torch.tensor([0]))
    second = F.cross_entropy(similarity[:, 1][None], torch.tensor([1]))
    third = F.cross_entropy(similarity[1:, 0][None], torch.tensor([1]))
    torch.testing.assert_close(value, (first + second + third) / 3)


def test_texts_of_earlier_steps_are_further_negatives() -> None:
    task = ContrastiveTask(SmallTeacher(TINY), ContrastiveSection(text_queue=8, hard_negatives=0, spelling=0))
    batch = batch_of(["cat", "dog", "emu"])
    inputs = task.prepare(batch, 0, 1.0)
    task(inputs)
    task(task.prepare(batch_of(["ox", "cat"]), 1, 1.0))
    task.eval()
    compared = task(inputs)
    # Each picture now meets the words of both steps, its own never as a negative.
    images = task.teacher.embed_images(batch.images)
    similarity = task.scale() * images @ task.teacher.embed_words(["cat", "dog", "emu", "ox"]).T
    weights = torch.tensor([[1, 2, 2, 1], [3, 1, 2, 1], [3, 2, 1, 1]])
    sums = (similarity.exp() * weights).sum(dim=1).log()
    torch.testing.assert_close(compared["word_to_image"], word_to_image(similarity, inputs.targets) / 2)
    torch.testing.assert_close(compared["image_to_word"], (sums - similarity.diagonal()).mean() / 2)


def test_the_oldest_texts_make_room() -> None:
    earlier, rows = TextQueue(5, 3), torch.randn(11, 3)
    images = torch.randn(2, 3, requires_grad=True)
    keys = torch.tensor([3, 10])
    assert earlier.compare(images, keys).shape == (2, 0)
    for first, last in ((0, 3), (3, 4), (4, 7)):
        earlier.add(rows[first:last], torch.arange(first, last))
    compared = earlier.compare(images, keys)
    own = [number for number in range(5) if compared[0, number] == float("-inf")]
    assert len(own) == 1
    torch.testing.assert_close(compared[1].sort().values, (images[1] @ rows[2:7].T).sort().values)
    earlier.add(rows, torch.arange(11))
    compared[1].sum().backward()
    assert images.grad is not None
    torch.testing.assert_close(images.grad[1], rows[2:7].sum(dim=0))
    last = earlier.compare(images, keys)[0]
    torch.testing.assert_close(last.sort().values, (images[0] @ rows[6:].T).sort().values)
    none = TextQueue(0, 3)
    none.add(rows, torch.arange(11))
    assert none.compare(images, keys).shape == (2, 0)


def test_texts_may_stay_where_they_are() -> None:
    task = ContrastiveTask(SmallTeacher(TINY), ContrastiveSection(text_queue=8, train_text=False))
    task.total(task(task.prepare(batch_of(["cat", "doge"], columns=1), 0, 0.2))).backward()
    text = ("token_embedding", "positional_embedding", "transformer", "ln_final", "text_projection")
    for name, weight in task.teacher.named_parameters():
        assert (weight.grad is None) == name.startswith(text), name
    assert task.state_dict()["queue.added"] == 6


def test_unknown_columns_are_ignored(task: ContrastiveTask) -> None:
    task.eval()
    batch = batch_of(["cat", "dog"])
    terms = task(task.prepare(batch, 0, 0.0))
    assert terms["columns"] == 0
    batch.columns[0] = 5
    known = task(task.prepare(batch, 0, 0.0))["columns"]
    assert task.column_head is not None
    readings = task.column_head(task.teacher.encode_columns(batch.images)[1])
    torch.testing.assert_close(known, F.cross_entropy(readings[0], batch.columns[0]))


def test_spelling_counts_from_both_ends() -> None:
    task = ContrastiveTask(SmallTeacher(TINY))
    classes, slots = len(LOWER_CASE_94) + 1, 25
    bias = torch.zeros(2, slots, classes)
    ids = task.teacher.tokens(["ab1"])
    for position, character in enumerate("ab1"):
        bias[0, position, LOWER_CASE_94.index(character) + 1] = 50.0
        bias[1, 2 - position, LOWER_CASE_94.index(character) + 1] = 50.0
    bias[:, 3, 0] = 50.0
    head = task.spelling_head
    assert head is not None
    with torch.no_grad():
        head.weight.zero_()
        head.bias.copy_(bias.flatten())
        assert task.spell(torch.randn(1, 16), ids).item() < 1e-6
        longer = torch.cat([ids, torch.zeros(1, 4, dtype=torch.long)], dim=1)
        assert task.spell(torch.randn(1, 16), longer).item() < 1e-6
        assert task.spell(torch.randn(1, 16), task.teacher.tokens(["a1b"])).item() > 10
        full = task.teacher.tokens(["x" * 25])
        assert torch.isfinite(task.spell(torch.randn(1, 16), full))


def test_near_misses_are_near_and_repeatable() -> None:
    for word in ("a", "cat", "24/7", "x" * 25, "don't"):
        drawn = hard_negatives(word, 6, LOWER_CASE_94, random.Random(3))
        assert drawn == hard_negatives(word, 6, LOWER_CASE_94, random.Random(3))
        assert len(set(drawn)) == 6
        assert all(1 <= DamerauLevenshtein.distance(word, miss) <= 2 for miss in drawn)
        assert all(0 < len(miss) <= 25 and set(miss) <= set(LOWER_CASE_94) for miss in drawn)
    nearest = hard_negatives("cat", 20, "abc", random.Random(0), 1)
    assert all(DamerauLevenshtein.distance("cat", miss) == 1 for miss in nearest)


def test_more_near_misses_than_there_are_end_in_an_error() -> None:
    assert len(hard_negatives("a", 5, "abc", random.Random(0), 1)) == 5
    with pytest.raises(UserError, match=r"set contrastive\.hard_negatives lower"):
        hard_negatives("a", 40, "abc", random.Random(0), 1)


def test_scores_are_compared_in_float32_also_under_autocast(task: ContrastiveTask) -> None:
    words = ["cat", "dog", "bird", "fish"]
    batch = Batch(torch.rand(4, 3, 32, 128) * 2 - 1, words, torch.full((4, 32), -1), torch.arange(4))
    exact, einsum = score_teacher(task.teacher, [batch]), torch.einsum
    used: list[torch.dtype] = []

    def seen(equation: str, *tensors: torch.Tensor) -> torch.Tensor:
        used.append((result := einsum(equation, *tensors)).dtype)
        return result

    with pytest.MonkeyPatch.context() as patch, torch.autocast("cpu", torch.bfloat16):
        patch.setattr(torch, "einsum", seen)
        assert score_teacher(task.teacher, [batch]).words == exact.words
    assert used == [torch.float32]


def test_near_misses_of_a_sample_depend_on_its_index_and_the_step(task: ContrastiveTask) -> None:
    one = task.lexicon(["cat", "dog"], [7, 8], 5, 3)
    assert list(one)[:2] == ["cat", "dog"]
    assert len(one) == 8
    assert set(task.lexicon(["dog", "cat"], [8, 7], 5, 3)) == set(one)
    assert list(task.lexicon(["cat", "dog"], [7, 8], 6, 3)) != list(one)
    assert "cat" not in list(task.lexicon(["cut", "cat"], [1, 2], 0, 3))[2:]


def test_a_label_outside_the_vocabulary_is_named(task: ContrastiveTask) -> None:
    with pytest.raises(UserError, match="café"):
        task.prepare(batch_of(["cat", "café"]), 0, 0.0)


def test_a_few_steps_lower_every_term(task: ContrastiveTask) -> None:
    batch = batch_of(["a", "b", "abc", "cab", "dd", "ad"], columns=2)
    optimizer = torch.optim.AdamW(task.parameters(), 3e-3)
    seen = []
    for _ in range(25):
        seen.append(task(task.prepare(batch, 0, 0.2)))
        optimizer.zero_grad()
        task.total(seen[-1]).backward()
        optimizer.step()
    assert all(seen[-1][name] < 0.9 * seen[0][name] for name in seen[0])


def test_scores_count_right_words_once(monkeypatch: pytest.MonkeyPatch) -> None:
    teacher = SmallTeacher(TINY)
    known = {"cat": 0, "dog": 1, "emu": 2}

    def words_to_axes(words: list[str]) -> torch.Tensor:
        return torch.stack([F.one_hot(torch.tensor(known.get(word, 3)), 4).float() for word in words])

    monkeypatch.setattr(teacher, "embed_words", words_to_axes)
    monkeypatch.setattr(teacher, "embed_images", lambda images: images[:, 0, 0, :4])
    batch = batch_of(["cat", "dog", "CAT", "emu"])
    batch.images[:, 0, 0, :4] = torch.tensor([[1.0, 0, 0, 0], [1, 0.5, 0, 0], [0, 0, 0, 1], [0, 0, 0.5, 0.9]])
    scores = score_teacher(teacher.train(), [batch])
    assert scores.words == 3
    assert scores.closed_lexicon == pytest.approx(200 / 3)
    assert scores.hard_negative == pytest.approx(200 / 3)
    assert teacher.training


def test_the_deliverable_has_no_reading_heads(task: ContrastiveTask) -> None:
    assert task.exported_model() is task.teacher
    assert not any("head" in name for name in task.exported_model().state_dict())
    bare = ContrastiveTask(SmallTeacher(TINY), ContrastiveSection(ctc=0, columns=0, spelling=0))
    assert list(bare(bare.prepare(batch_of(["a", "b"]), 0, 0.5))) == ["image_to_word", "word_to_image"]
    assert all(name.startswith("teacher.") for name, _ in bare.named_parameters())


def test_the_allocator_is_tuned_where_there_is_glibc(monkeypatch: pytest.MonkeyPatch) -> None:
    assert tune_allocator() == (platform.libc_ver()[0] == "glibc")
    monkeypatch.setattr("sys.platform", "win32")
    assert not tune_allocator()


def test_the_command_trains_a_small_clip_and_names_its_scores(
    material: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """The accuracy among hard negatives used to be logged, printed and plotted as 1-NED."""
    (tmp_path / "run.yaml").write_text(
        f"init: {material}/teacher\nout: {tmp_path}/run\ncontrastive: {{text_queue: 8}}\n"
        f"data: {{train: [{{path: {material}/train}}], validation: {material}/validation, workers: 0}}\n"
        "train: {steps: 2, batch_size: 6, threads: 1, validate_every: 2, log_every: 1}\n",
        encoding="utf-8",
    )
    assert main(["--config", str(tmp_path / "run.yaml")]) == 0
    lines = capfd.readouterr().out.splitlines()
    scored = next(line for line in lines if "closed-lexicon accuracy" in line)
    assert re.fullmatch(r"step 2/2  closed-lexicon accuracy [\d.]+%  hard negative accuracy [\d.]+%", scored)
    logged = rows(tmp_path / "run")
    assert [row["group"] for row in logged] == ["train", "train", "validation"]
    assert set(logged[2]) == {"step", "group", "accuracy", "hard_negative_accuracy", "words"}
    report = json.loads((tmp_path / "run" / "report.json").read_text(encoding="utf-8"))
    assert (report["words"], report["hard_negative"]) == (7, logged[2]["hard_negative_accuracy"])
    assert load_teacher(str(tmp_path / "run" / "teacher")).shape.text_width == 32


@pytest.mark.parametrize("texts", [0, 8])
def test_a_small_clip_goes_on_from_its_checkpoint(texts: int, material: Path, tmp_path: Path) -> None:
    """Buffers without an element were left out of checkpoints, so that no training of the shipped form went on."""
    given = {
        "init": f"{material}/teacher", "out": f"{tmp_path}/run", "contrastive.text_queue": texts,
        "data": {"train": [{"path": f"{material}/train"}], "validation": f"{material}/validation", "workers": 0},
        "train": {"batch_size": 6, "threads": 1, "validate_every": 4, "log_every": 1},
    }  # fmt: skip
    for steps, resume in ((1, None), (2, "auto")):
        result = train_teacher(load_config(TeacherConfig, given, {"train.steps": steps}), resume)
        assert result.finished
        assert result.step == steps


def test_pictures_are_moved_to_no_words_that_are_random(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="there is none; set init"):
        train_teacher(load_config(TeacherConfig, {"contrastive.train_text": False, "out": str(tmp_path / "run")}))


def test_the_clip_to_start_from_goes_by_its_name() -> None:
    assert load_small("words-small").tokens.accepts("street")
    with pytest.raises(UserError, match="init=tiny is no small CLIP of words"):
        load_small("tiny")
