"""What a teacher gives is compared with the sizes that it states."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from students.charset import Charset
from students.errors import UserError
from teachers.guidance import FeatureRequest, Guidance, TeacherShape, check_guidance

SHAPE = TeacherShape(image_tokens=5, image_width=4, text_width=3, joint_width=2, charset=Charset("ab"), columns=6)
IMAGE, TEXT = torch.zeros(2, 5, 4), torch.zeros(2, 4, 3)
GOOD = Guidance(
    (IMAGE,) * 3, (TEXT,) * 3, torch.zeros(2, 2), torch.ones(2, 4, dtype=torch.bool),
    torch.zeros(2, 4, 3).log_softmax(dim=2), torch.zeros(2, 6, 3).log_softmax(dim=2),
)  # fmt: skip


def check(guidance: Any) -> None:
    check_guidance(guidance, SHAPE, 2, FeatureRequest(), "codes")


def test_what_fits_passes() -> None:
    check(GOOD)
    check(replace(GOOD, characters=GOOD.characters.bfloat16()))
    check_guidance(replace(GOOD, word=None), SHAPE, 2, FeatureRequest(frozenset({"image"})), "codes")


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ((1, 2), "gives a tuple; give a teachers.guidance.Guidance"),
        (replace(GOOD, mask=None), "mask is NoneType"),
        (replace(GOOD, mask=torch.ones(3, 4, dtype=torch.bool)), r"mask is \(3, 4\)"),
        (replace(GOOD, text=(TEXT, TEXT)), "text is 2 tensors; give three"),
        (replace(GOOD, word=None), r"word is NoneType, and its TeacherShape says \(2, 2\)"),
        (replace(GOOD, image=(IMAGE, IMAGE, TEXT)), r"image is \(2, 4, 3\), and its TeacherShape says \(2, 5, 4\)"),
        (
            replace(GOOD, columns=torch.zeros(2, 6, 5)),
            r"columns is .2, 6, 5., and its TeacherShape says .2, W, 3.",
        ),
        (replace(GOOD, characters=GOOD.characters.exp()), "characters are no log-probabilities"),
    ],
)
def test_what_does_not_fit_is_named(wrong: Any, message: str) -> None:
    with pytest.raises(UserError, match=f"teacher codes.*{message}"):
        check(wrong)
