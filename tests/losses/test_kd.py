"""KD and DKD against numpy, their limits, and what binds them together."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from losses.alphabets import SharedAlphabet
from losses.kd import dkd, dkd_loss, kd, kd_loss, pooled_scores
from losses.registry import LossContext
from students.charset import Charset
from students.stages import Stages
from teachers.guidance import Guidance
from tests.paths import every_path

ROWS, CLASSES = 6, 5


def softmax(scores: np.ndarray) -> np.ndarray:
    powers = np.exp(scores - scores.max(axis=-1, keepdims=True))
    return powers / powers.sum(axis=-1, keepdims=True)


def kl(p: np.ndarray, q: np.ndarray) -> np.ndarray:
    return (p * np.log(p / q)).sum(axis=-1)


def parts(student: Tensor, teacher: Tensor, targets: Tensor, temperature: float) -> tuple[np.ndarray, np.ndarray]:
    """TCKD and NCKD row by row, as equations 5 to 7 of the paper define them."""
    q, p = (softmax(scores.double().numpy() / temperature) for scores in (student, teacher))
    binary, others = [], []
    for row, target in enumerate(targets.tolist()):
        pt, qt = p[row, target], q[row, target]
        binary.append(kl(np.array([pt, 1 - pt]), np.array([qt, 1 - qt])))
        rest = [column for column in range(p.shape[1]) if column != target]
        others.append(kl(p[row, rest] / (1 - pt), q[row, rest] / (1 - qt)))
    return np.array(binary), np.array(others)


@pytest.fixture
def rows() -> tuple[Tensor, Tensor, Tensor]:
    return 2 * torch.randn(ROWS, CLASSES), 3 * torch.randn(ROWS, CLASSES), torch.randint(0, CLASSES, (ROWS,))


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_soft_targets_are_the_divergence_times_the_square(
    rows: tuple[Tensor, Tensor, Tensor], temperature: float
) -> None:
    student, teacher, _ = rows
    p, q = (softmax(scores.double().numpy() / temperature) for scores in (teacher, student))
    expected = temperature**2 * kl(p, q).mean()
    assert kd_loss(student, teacher, temperature).item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(("temperature", "target", "others"), [(4.0, 1.0, 8.0), (1.0, 0.3, 0.5), (2.0, 1.0, 0.0)])
def test_dkd_is_its_two_parts(
    rows: tuple[Tensor, Tensor, Tensor], temperature: float, target: float, others: float
) -> None:
    binary, rest = parts(*rows, temperature)
    expected = temperature**2 * (target * binary.mean() + others * rest.mean())
    value = dkd_loss(*rows, temperature, alpha=target, beta=others)
    assert value.item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("temperature", [1.0, 3.0])
def test_soft_targets_are_the_parts_weighted_by_what_the_teacher_leaves(
    rows: tuple[Tensor, Tensor, Tensor], temperature: float
) -> None:
    student, teacher, targets = rows
    left = 1 - softmax(teacher.double().numpy() / temperature)[np.arange(ROWS), targets.numpy()]
    for row in range(ROWS):
        one = slice(row, row + 1)
        whole = kd_loss(student[one], teacher[one], temperature)
        split = dkd_loss(student[one], teacher[one], targets[one], temperature, alpha=1.0, beta=left[row])
        torch.testing.assert_close(split, whole, rtol=1e-4, atol=1e-6)


def test_equal_scores_cost_nothing_and_pull_nowhere(rows: tuple[Tensor, Tensor, Tensor]) -> None:
    student, _, targets = rows
    scores = student.clone().requires_grad_()
    shifted = student + torch.randn(ROWS, 1)  # a constant for a row is no difference
    total = kd_loss(scores, shifted, 4.0) + dkd_loss(scores, shifted, targets)
    assert total.item() == pytest.approx(0, abs=1e-5)
    total.backward()
    assert scores.grad is not None
    assert scores.grad.abs().max() < 1e-5


def test_the_gradient_of_soft_targets_is_the_difference_of_probabilities(rows: tuple[Tensor, Tensor, Tensor]) -> None:
    student, teacher, _ = rows
    scores = student.clone().requires_grad_()
    kd_loss(scores, teacher, 2.0).backward()
    expected = 2.0 * ((student / 2).softmax(dim=-1) - (teacher / 2).softmax(dim=-1)) / ROWS
    torch.testing.assert_close(scores.grad, expected)


def test_high_temperatures_become_a_squared_distance(rows: tuple[Tensor, Tensor, Tensor]) -> None:
    student, teacher, _ = (scores.float() for scores in rows)
    centred = [scores - scores.mean(dim=1, keepdim=True) for scores in (student, teacher)]
    expected = (centred[0] - centred[1]).square().sum(dim=1).mean() / (2 * CLASSES)
    torch.testing.assert_close(kd_loss(student, teacher, 1000.0), expected, rtol=0.05, atol=0.05)


def test_a_sure_teacher_still_tells_the_others_apart() -> None:
    student, targets = torch.zeros(1, 4), torch.tensor([0])
    one, other = torch.tensor([[30.0, 5.0, 1.0, 0.0]]), torch.tensor([[30.0, 0.0, 1.0, 5.0]])
    assert kd_loss(student, one).item() == pytest.approx(kd_loss(student, other).item(), abs=1e-6)
    scores = student.clone().requires_grad_()
    dkd_loss(scores, one, targets, 1.0).backward()
    assert scores.grad is not None
    assert scores.grad[0, 1] < 0 < scores.grad[0, 3]


def test_no_rows_cost_nothing() -> None:
    student = torch.zeros(0, 4, requires_grad=True)
    total = kd_loss(student, torch.zeros(0, 4)) + dkd_loss(student, torch.zeros(0, 4), torch.zeros(0).long())
    assert total == 0
    total.backward()


def test_half_precision_is_computed_in_float32(rows: tuple[Tensor, Tensor, Tensor]) -> None:
    student, teacher, targets = rows
    half = student.bfloat16()
    with torch.autocast("cpu", torch.bfloat16):
        value = kd_loss(half, teacher), dkd_loss(half, teacher, targets)
    expected = kd_loss(half.float(), teacher), dkd_loss(half.float(), teacher, targets)
    assert value == expected
    assert value[0].dtype == torch.float32


@pytest.fixture
def sides() -> tuple[Stages, Guidance, Tensor]:
    """Words `a?b`, `b` for a student of `ab?`; the teacher of `abA` can't say what stands from `?` on."""
    charset = Charset("ab?")
    none = (torch.zeros(2, 4, 2),) * 3
    stages = Stages(torch.randn(2, 4, 4), none, none, torch.zeros(2, 2), None)
    known = torch.tensor([[True, False, False, False], [True, True, False, False]])
    guidance = Guidance(None, None, None, known, torch.randn(2, 4, 4).log_softmax(dim=-1))
    return stages, guidance, charset.encode(["a?b", "b"])


def test_only_positions_that_both_can_write_take_part(sides: tuple[Stages, Guidance, Tensor]) -> None:
    stages, guidance, ids = sides
    alphabet = SharedAlphabet(Charset("ab?"), Charset("abA"))
    context = LossContext(ids, alphabet=alphabet)
    q = [stages.logits[0, 0, [0, 1, 2]], stages.logits[1, 0, [0, 1, 2]], stages.logits[1, 1, [0, 1, 2]]]
    spoken = [guidance.characters[0, 0], guidance.characters[1, 0], guidance.characters[1, 1]]  # type: ignore[index]
    p = [torch.stack([row[0], torch.logaddexp(row[1], row[3]), row[2]]) for row in spoken]
    student, teacher, targets = torch.stack(q), torch.stack(p), torch.tensor([1, 2, 0])
    torch.testing.assert_close(kd(stages, guidance, context, temperature=2.0), {"kd": kd_loss(student, teacher, 2.0)})
    actual = dkd(stages, guidance, context, temperature=2.0, beta=3.0)
    torch.testing.assert_close(actual, {"dkd": dkd_loss(student, teacher, targets, 2.0, beta=3.0)})


def test_other_positions_change_nothing(sides: tuple[Stages, Guidance, Tensor]) -> None:
    stages, guidance, ids = sides
    alphabet = SharedAlphabet(Charset("ab?"), Charset("abA"))
    context = LossContext(ids, alphabet=alphabet)
    before = kd(stages, guidance, context), dkd(stages, guidance, context)
    logits, characters = stages.logits.clone(), guidance.characters.clone()  # type: ignore[union-attr]
    logits[~guidance.mask], characters[~guidance.mask] = 9.0, float("nan")
    changed = dataclasses.replace(stages, logits=logits), dataclasses.replace(guidance, characters=characters)
    assert (kd(*changed, context), dkd(*changed, context)) == before


def test_a_teacher_that_does_not_read_has_nothing_to_compare(sides: tuple[Stages, Guidance, Tensor]) -> None:
    stages, guidance, ids = sides
    context = LossContext(ids, alphabet=SharedAlphabet(Charset("ab?"), Charset("abA")))
    with pytest.raises(ValueError, match="does not read"):
        kd(stages, dataclasses.replace(guidance, characters=None), context)


COLUMNS = torch.tensor([6, 4, 3])


@pytest.fixture
def columns() -> tuple[Stages, Guidance, LossContext]:
    """Words `aba`, `ba`, `aab` in 6, 4 and 3 columns, which is one too few; the teacher can't say the second `a`."""
    charset = Charset("ab?")
    logits = (3 * torch.randn(3, 6, 4, dtype=torch.float64)).requires_grad_()
    none = (torch.zeros(3, 4, 2),) * 3
    stages = Stages(torch.randn(3, 4, 4), none, none, torch.zeros(3, 2), logits, COLUMNS)
    known = torch.tensor([[True, True, False, False], [True, True, True, False], [True] * 4])
    characters = torch.randn(3, 4, 4, dtype=torch.float64).log_softmax(dim=-1)
    context = LossContext(charset.encode(["aba", "ba", "aab"]), alphabet=SharedAlphabet(charset, Charset("abA")))
    return stages, Guidance(None, None, None, known, characters), context


def test_columns_are_pooled_over_all_paths(columns: tuple[Stages, Guidance, LossContext]) -> None:
    stages, guidance, context = columns
    assert stages.columns is not None
    assert guidance.characters is not None
    student, teacher = [], []
    for row, ids, positions in ((0, [1, 2, 1], [0, 1]), (1, [2, 1], [0, 1])):
        log_probs = stages.columns[row, : COLUMNS[row]].detach().log_softmax(dim=-1)
        weights = every_path(log_probs, ids)
        for position in positions:
            mean = (weights[:, position, None] * log_probs.exp()).sum(dim=0)
            student.append((mean[[1, 2]] / mean[1:].sum()).log())  # `?` has no counterpart
            spoken = guidance.characters[row, position]
            teacher.append(torch.stack([torch.logaddexp(spoken[1], spoken[3]), spoken[2]]))  # `A` joins `a`
    targets = torch.tensor([0, 1, 1, 0])
    rows = torch.stack(student), torch.stack(teacher)
    actual = {
        **kd(stages, guidance, context, temperature=2.0, head="columns"),
        **dkd(stages, guidance, context, temperature=2.0, beta=3.0, head="columns"),
    }
    expected = {"kd_columns": kd_loss(*rows, 2.0), "dkd_columns": dkd_loss(*rows, targets, 2.0, beta=3.0)}
    torch.testing.assert_close(actual, expected, atol=1e-6, rtol=1e-6, check_dtype=False)


@pytest.mark.parametrize("loss", [kd, dkd])
def test_both_heads_are_two_terms(loss: Callable[..., dict[str, Tensor]], columns: tuple[Any, Any, Any]) -> None:
    one, other = loss(*columns, head="decoder"), loss(*columns, head="columns")
    assert loss(*columns, head="both") == one | other
    assert len(one | other) == 2


def test_gradients_of_pooled_columns_are_the_numerical_ones(columns: tuple[Stages, Guidance, LossContext]) -> None:
    stages, guidance, context = columns
    weight = torch.tensor(0.3, dtype=torch.float64)

    def pooled(values: Tensor) -> Tensor:
        # In double precision, which the losses themselves do without.
        student, teacher, targets = pooled_scores(dataclasses.replace(stages, columns=values), guidance, context)
        return (teacher.exp() * student.log_softmax(dim=-1)).sum() + weight * student[
            range(len(targets)), targets
        ].sum()

    assert torch.autograd.gradcheck(pooled, stages.columns)


def test_words_without_an_alignment_cost_nothing(columns: tuple[Stages, Guidance, LossContext]) -> None:
    stages, guidance, context = columns
    guidance.mask[:2] = False
    total = sum(kd(stages, guidance, context, head="columns").values())
    assert total == 0
    total.backward()  # type: ignore[union-attr]
    assert stages.columns is not None
    assert stages.columns.grad is not None
    assert stages.columns.grad.eq(0).all()
