"""PARSeq: its sizes, and how it reads as configured."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from students.charset import Charset
from students.errors import UserError
from students.parseq import SIZES, Parseq, ParseqConfig
from students.permuted import PermutationOptions, draw_permutations, permuted_orders

SMALL: dict[str, Any] = {
    "charset": "abcdefg", "max_length": 6, "patch": (8, 16), "width": 32, "depth": 2, "heads": 2, "mlp_ratio": 2.0,
    "decoder_depth": 2, "decoder_heads": 4, "decoder_mlp_ratio": 2.0,
}  # fmt: skip


@pytest.fixture
def parseq() -> Parseq:
    built = Parseq(ParseqConfig(**SMALL))
    with torch.no_grad():
        for weight in built.parameters():
            weight.add_(torch.randn_like(weight) * 0.3)
    return built.eval()


@pytest.mark.parametrize(("size", "millions"), [("base", 23.8), ("tiny", 6.0)])
def test_published_sizes(size: str, millions: float) -> None:
    with torch.device("meta"):
        parseq_of_size = Parseq(SIZES[size](Charset.load("94")))
    assert parseq_of_size.parameters_count / 1e6 == pytest.approx(millions, abs=0.05)


def test_there_is_no_class_token(parseq: Parseq, images: Tensor) -> None:
    assert parseq.encode(images).shape == (len(images), 4 * 8, 32)
    assert not [name for name in parseq.state_dict() if "cls_token" in name]


def test_weights_have_the_published_names(parseq: Parseq) -> None:
    parts = {name.partition(".")[0] for name in parseq.state_dict()}
    assert parts == {"encoder", "decoder", "text_embed", "pos_queries", "head"}


def test_reads_as_configured(parseq: Parseq, images: Tensor) -> None:
    memory = parseq.memory_keys(parseq.encode(images))
    greedy, once = parseq.greedy(memory, 7, stop=True), parseq.nar(memory, 7)
    ways = {
        ("ar", 0): greedy, ("ar", 1): parseq.refine(memory, greedy, 7), ("nar", 0): once,
        ("nar", 2): parseq.refine(memory, parseq.refine(memory, once, 7), 7),
    }  # fmt: skip
    for (decoding, refine_iters), expected in ways.items():
        parseq.choose_decoding(decoding, refine_iters)  # type: ignore[arg-type]
        torch.testing.assert_close(parseq(images), expected)
    assert len({tuple(logits.argmax(dim=-1).flatten().tolist()) for logits in ways.values()}) > 1
    parseq.choose_decoding("nar", 1)
    assert parseq(images, 3).shape == (len(images), 4, 8)


def test_a_chosen_decoding_is_saved(parseq: Parseq, tmp_path: Path) -> None:
    parseq.choose_decoding(refine_iters=3)
    parseq.save_pretrained(tmp_path)
    assert Parseq.from_pretrained(tmp_path).config == ParseqConfig(**SMALL, refine_iters=3)


def test_orders_are_taught_from_one_encoding(parseq: Parseq, images: Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    ids = parseq.charset.encode(["abc", "d", "gg", "fed", "cab", "bad"])
    permutations = draw_permutations(3, PermutationOptions(), torch.Generator().manual_seed(0))
    orders = list(permuted_orders(ids, permutations, parseq.charset))
    encoded, encode = [], parseq.encode
    monkeypatch.setattr(parseq, "encode", lambda pictures: encoded.append(1) or encode(pictures))
    logits = parseq.permuted(images, ids, orders)
    assert len(encoded) == 1
    assert [tuple(actual.shape) for actual in logits] == [(6, 4, 8)] * 6


@pytest.mark.parametrize(
    "change",
    [{"width": 33}, {"decoder_heads": 3}, {"depth": 0}, {"decoder_depth": 0}, {"max_length": 0}, {"refine_iters": -1},
     {"decoding": "backwards"}, {"dropout": 1.0}, {"patch": (5, 16)}],
)  # fmt: skip
def test_sizes_that_none_can_have(change: dict[str, Any]) -> None:
    with pytest.raises(UserError):
        ParseqConfig(**{**SMALL, **change})


def test_a_student_has_no_choice_of_decoding(student: Any) -> None:
    with pytest.raises(UserError, match="as it was trained"):
        student.choose_decoding("nar")
    student.choose_decoding()
