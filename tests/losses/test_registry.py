from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from losses import registry
from losses.registry import LOSSES, LossContext, find_loss, register_loss
from students.errors import UserError
from students.stages import Stages, StudentShape
from teachers.guidance import Guidance, TeacherShape
from teachers.registry import register_reader, register_teacher

STUDENT, TEACHER = StudentShape(5, 12, 12), TeacherShape(3, 8, 6, 4)


@pytest.fixture(autouse=True)
def own_registry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "LOSSES", LOSSES.copy())


def three(*shape: int) -> tuple[Tensor, Tensor, Tensor]:
    return torch.randn(shape), torch.randn(shape), torch.randn(shape)


@pytest.fixture
def sides() -> tuple[Stages, Guidance, LossContext]:
    mask = torch.ones(2, 4, dtype=torch.bool)
    stages = Stages(torch.randn(2, 4, 37), three(2, 5, 12), three(2, 4, 12), torch.randn(2, 12), None)
    return stages, Guidance(three(2, 3, 8), three(2, 4, 6), torch.randn(2, 4), mask), LossContext(torch.ones(2, 5))


def test_the_built_in_losses_say_what_they_need() -> None:
    assert {name: loss.needs for name, loss in LOSSES.items()} == {
        "bridge": ("word",), "linguistic": ("text",), "visual": ("image",), "kd": ("characters",),
        "dkd": ("characters",), "column_kd": ("columns",), "consistency": (),
    }  # fmt: skip


def test_a_function_gets_its_options_and_what_it_names(sides: tuple[Stages, Guidance, LossContext]) -> None:
    @register_loss("scaled", needs=("word",))
    def scaled(ours: Stages, guidance: Guidance, context: LossContext, factor: float, power: float = 1.0) -> Tensor:
        assert guidance.word is not None
        return factor * (ours.word.sum() + guidance.word.sum() + context.target_ids.sum()) ** power

    stages, guidance, context = sides
    built = find_loss("scaled").build(STUDENT, TEACHER, {"factor": 2.0})
    assert guidance.word is not None
    expected = 2 * (stages.word.sum() + guidance.word.sum() + 10)
    torch.testing.assert_close(built.terms(stages, guidance, context), {"scaled": expected})
    for options, message in (({"factors": 2}, "no option 'factors'; it has factor, power"), ({}, "needs its option f")):
        with pytest.raises(UserError, match=message):
            find_loss("scaled").build(STUDENT, TEACHER, options)


def test_a_loss_without_guidance_takes_stages_alone(sides: tuple[Stages, Guidance, LossContext]) -> None:
    register_loss("norm")(lambda stages: stages.word.norm())
    built = find_loss("norm").build(STUDENT, None, {})
    torch.testing.assert_close(built.terms(sides[0], None, sides[2]), {"norm": sides[0].word.norm()})


def test_a_module_has_weights_of_its_own(sides: tuple[Stages, Guidance, LossContext]) -> None:
    @register_loss("projected", needs=("word",))
    class Projected(nn.Module):
        def __init__(self, student: StudentShape, teacher: TeacherShape, bias: bool = True) -> None:
            super().__init__()
            self.project = nn.Linear(student.width, teacher.joint_width, bias)

        def forward(self, stages: Stages, guidance: Guidance) -> dict[str, Tensor]:
            gap = self.project(stages.word) - guidance.word
            return {"projected_l1": gap.abs().mean(), "projected_l2": gap.square().mean()}

    built = find_loss("projected").build(STUDENT, TEACHER, {"bias": False})
    assert built.module is not None
    assert [name for name, _ in built.module.named_parameters()] == ["project.weight"]
    terms = built.terms(*sides)
    assert list(terms) == ["projected_l1", "projected_l2"]
    with pytest.raises(UserError, match="no option 'scale'; it has bias"):
        find_loss("projected").build(STUDENT, TEACHER, {"scale": 1})


def test_a_name_can_be_registered_again_but_not_a_built_in_one() -> None:
    register_loss("mine")(lambda stages: 1)
    register_loss("mine")(lambda stages: 2)
    assert find_loss("mine").function(None) == 2
    for name in ("kd", "characters", "no name", "loss", "seconds", "total"):
        with pytest.raises(UserError, match="can't be called"):
            register_loss(name)
    with pytest.raises(UserError, match="no loss is called 'your'; there are kd, dkd, column_kd, consistency, bridge"):
        find_loss("your")


@pytest.mark.parametrize(
    ("needs", "function", "message"),
    [
        (("words",), lambda stages, guidance: 0, "guidance has no 'words'"),
        ((), lambda stages, guidance: 0, "says what it needs"),
        (("word",), lambda stages: 0, "says what it needs"),
    ],
)
def test_needs_and_parameters_agree(needs: Any, function: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        register_loss("own", needs=needs)(function)


@pytest.mark.parametrize(
    ("result", "message"),
    [
        (torch.ones(1), r"own is a tensor of shape \(1,\)"), (torch.ones(2, 4), r"own is a tensor of shape \(2, 4\)"),
        (0.5, "own is float"), ({}, "gives nothing"), ({"loss": torch.tensor(1.0)}, "can't be called 'loss'"),
        ({"one": torch.tensor(1.0), "total": torch.tensor(1.0)}, "can't be called 'total'"),
    ],
)  # fmt: skip
def test_what_is_no_scalar_is_refused_with_its_name(
    result: Any, message: str, sides: tuple[Stages, Guidance, LossContext]
) -> None:
    """Some passed the dry run and ended in a traceback, or in a log with other numbers than it says."""
    register_loss("own")(lambda stages: result)
    with pytest.raises(UserError, match=rf"losses\.own.*{message}"):
        find_loss("own").build(STUDENT, None, {}).terms(sides[0], None, sides[2])


def test_options_of_functions_that_take_any_and_of_modules_that_take_none(
    sides: tuple[Stages, Guidance, LossContext],
) -> None:
    register_loss("open")(lambda stages, **more: stages.word.sum() * more["power"])
    built = find_loss("open").build(STUDENT, None, {"power": 2.0})
    torch.testing.assert_close(built.terms(sides[0], None, sides[2]), {"open": 2 * sides[0].word.sum()})

    @register_loss("plain")
    class Plain(nn.Module):
        def forward(self, stages: Stages) -> Tensor:
            return stages.word.sum()

    assert find_loss("plain").build(STUDENT, None, {}).module is not None
    with pytest.raises(UserError, match="no option 'power'"):
        find_loss("plain").build(STUDENT, None, {"power": 2.0})


def test_decorators_without_a_name_and_classes_that_are_no_modules() -> None:
    for register in (register_loss, register_teacher, register_reader):
        with pytest.raises(UserError, match=r'write @register_[a-z]+\("[a-z]+"\) above it'):
            register(lambda stages: 0)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r'needs=\("word",\)'):
        register_loss("own", needs="word")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"one of nn\.Module"):
        register_loss("own")(type("Plain", (), {"forward": lambda self, stages: 0}))
