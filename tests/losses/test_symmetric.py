from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import Tensor

from losses.heads import TERMS, GuidanceHeads
from losses.symmetric import SymmetricOptions, chosen_rows, symmetric_terms
from students.stages import Stages, StudentShape
from teachers.guidance import Guidance, TeacherShape

DROP = SymmetricOptions(include_padding=False)


def three(*shape: int) -> tuple[Tensor, Tensor, Tensor]:
    return torch.randn(shape), torch.randn(shape), torch.randn(shape)


@pytest.fixture
def heads() -> GuidanceHeads:
    return GuidanceHeads(StudentShape(5, 12, 12), TeacherShape(3, 8, 6, 4))


@pytest.fixture
def sides() -> tuple[Stages, Guidance]:
    """Three words of 3, 1 and 4 characters: 5 positions, 11 of 15 rows inside."""
    rows = torch.arange(5) < torch.tensor([[4], [2], [5]])
    return (
        Stages(torch.randn(3, 5, 37), three(3, 5, 12), three(3, 5, 12), torch.randn(3, 12), None),
        Guidance(three(3, 3, 8), three(3, 5, 6), torch.randn(3, 4), rows),
    )


def with_other_padding(stages: Stages, guidance: Guidance) -> tuple[Stages, Guidance]:
    outside = ~guidance.mask[..., None]
    decoder = tuple(torch.where(outside, torch.randn_like(tap), tap) for tap in stages.decoder)
    text = tuple(torch.where(outside, torch.randn_like(tap), tap) for tap in guidance.text)
    return dataclasses.replace(stages, decoder=decoder), dataclasses.replace(guidance, text=text)


def test_padding_content_never_changes_the_loss_under_drop(
    heads: GuidanceHeads, sides: tuple[Stages, Guidance]
) -> None:
    terms, others = (symmetric_terms(*pair, heads, DROP) for pair in (sides, with_other_padding(*sides)))
    torch.testing.assert_close(terms, others)


def test_padding_takes_part_in_the_published_form(heads: GuidanceHeads, sides: tuple[Stages, Guidance]) -> None:
    options = SymmetricOptions()
    terms, others = (symmetric_terms(*pair, heads, options) for pair in (sides, with_other_padding(*sides)))
    changed = {name for name in TERMS if not torch.isclose(terms[name], others[name])}
    assert changed == {"linguistic1", "linguistic2", "linguistic3"}


def test_more_padding_changes_nothing_under_drop(heads: GuidanceHeads, sides: tuple[Stages, Guidance]) -> None:
    stages, guidance = sides
    decoder, text = (
        tuple(torch.cat([tap, torch.randn(3, 2, tap.shape[2])], dim=1) for tap in taps)
        for taps in (stages.decoder, guidance.text)
    )
    rows = torch.cat([guidance.mask, torch.zeros(3, 2, dtype=torch.bool)], dim=1)
    longer = dataclasses.replace(stages, decoder=decoder), dataclasses.replace(guidance, text=text, mask=rows)
    torch.testing.assert_close(symmetric_terms(*longer, heads, DROP), symmetric_terms(*sides, heads, DROP))


@pytest.mark.parametrize("options", [SymmetricOptions(), DROP, SymmetricOptions(norm="standard")])
def test_order_of_words_changes_nothing(
    heads: GuidanceHeads, sides: tuple[Stages, Guidance], options: SymmetricOptions
) -> None:
    stages, guidance, order = *sides, torch.tensor([2, 0, 1])
    mixed = (
        Stages(stages.logits[order], tuple(tap[order] for tap in stages.encoder),
               tuple(tap[order] for tap in stages.decoder), stages.word[order], None),
        Guidance(tuple(tap[order] for tap in guidance.image), tuple(tap[order] for tap in guidance.text),
                 guidance.word[order], guidance.mask[order]),
    )  # fmt: skip
    torch.testing.assert_close(symmetric_terms(*mixed, heads, options), symmetric_terms(*sides, heads, options))


def test_budget_bounds_the_rows_of_every_term(sides: tuple[Stages, Guidance]) -> None:
    guidance = sides[1]
    chosen = chosen_rows(guidance, SymmetricOptions(max_rows=8), torch.Generator().manual_seed(1))
    assert {name: len(rows) for name, rows in chosen.items()} == {
        "linguistic1": 8, "linguistic2": 8, "linguistic3": 8, "visual1": 8, "visual2": 8, "visual3": 8,
    }  # fmt: skip
    assert all(len(rows.unique()) == len(rows) for rows in chosen.values())


def test_budget_is_drawn_from_the_rows_that_are_not_dropped(sides: tuple[Stages, Guidance]) -> None:
    guidance = sides[1]
    chosen = chosen_rows(
        guidance, SymmetricOptions(include_padding=False, max_rows=6), torch.Generator().manual_seed(1)
    )
    for k in (1, 2, 3):
        rows = chosen[f"linguistic{k}"]
        assert len(rows) == 6
        assert guidance.mask.flatten()[rows].all()


def test_a_budget_that_holds_all_rows_changes_nothing(heads: GuidanceHeads, sides: tuple[Stages, Guidance]) -> None:
    terms = symmetric_terms(*sides, heads, SymmetricOptions(max_rows=15))
    torch.testing.assert_close(terms, symmetric_terms(*sides, heads, SymmetricOptions()), rtol=0, atol=0)


def test_a_budget_follows_its_generator(heads: GuidanceHeads, sides: tuple[Stages, Guidance]) -> None:
    def terms(seed: int) -> dict[str, Tensor]:
        return symmetric_terms(*sides, heads, SymmetricOptions(max_rows=4), torch.Generator().manual_seed(seed))

    torch.testing.assert_close(terms(3), terms(3), rtol=0, atol=0)
    assert terms(3)["linguistic1"] != terms(4)["linguistic1"]


def test_terms_are_float32_under_autocast(heads: GuidanceHeads, sides: tuple[Stages, Guidance]) -> None:
    expected = symmetric_terms(*sides, heads, SymmetricOptions())
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(symmetric_terms(*sides, heads, SymmetricOptions()), expected, rtol=0, atol=0)


def test_an_empty_budget_is_refused() -> None:
    with pytest.raises(ValueError, match="max_rows=0"):
        SymmetricOptions(max_rows=0)
