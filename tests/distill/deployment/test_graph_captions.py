"""Captions by tensor operations are those that strings and CLIP's own tokenizer give."""

from __future__ import annotations

import random
from dataclasses import dataclass
from string import punctuation

import numpy as np
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper
from wordfreq import top_n_list

from distill.deployment.captions import NONE, GraphCaptions, PairTable, gather_left
from distill.deployment.graph import OPSET, add_loop, whole_number
from distill.deployment.parts import BATCH, to_onnx
from students.charset import CHARSETS, Charset
from students.errors import UserError
from teachers.backbones import Backbone, ClipSizes
from teachers.captions import Captioner, CaptionTokens, caption_tokens
from teachers.small import SmallTeacherConfig

WORD_PIECES = ClipSizes.of_zoo("ViT-B-16")


@dataclass
class Config:
    clip: Backbone


class Spelling:
    """What `GraphCaptions` asks of a reader."""

    def __init__(self, charset: str, adapted: str, clip: Backbone, context: int) -> None:
        self.charset, self.config = Charset(charset), Config(clip)
        self.captioner = Captioner(self.charset, Charset(adapted))
        self.tokens: CaptionTokens = caption_tokens(clip, context)


def readings(charset: Charset, count: int, positions: int) -> torch.Tensor:
    """Words, joined words, codes, and runs of few letters, with anything behind their ends."""
    source = random.Random(0)
    known = [word for word in top_n_list("en", 20000) if set(word) <= set(charset.ids)]
    made = []
    for number in range(count):
        if number % 4 == 3:
            letters = source.choice(["ab", "[E]x", "o0l1", "".join(charset.characters)])
            word = "".join(source.choice([c for c in letters if c in charset.ids]) for _ in range(source.randrange(26)))
        else:
            word = "".join(source.choices(known, k=1 + number % 2)) + str(number) * (number % 3)
        made.append(word[: positions - 1])
    ids = torch.randint(0, len(charset.characters) + 1, (count, positions), generator=torch.Generator().manual_seed(0))
    for row, word in enumerate(made):
        ids[row, : len(word) + 1] = torch.tensor([charset.ids[char] for char in word] + [0])
    return ids


def caption(captions: GraphCaptions, best: torch.Tensor) -> torch.Tensor:
    """Go the way of the graph: merge until there is nothing more to merge."""
    ids, merges = captions.spell(best), 0
    while captions.merging is not None:
        merged, ids = captions.merging(ids)
        if not merged:
            break
        merges += 1
    assert merges < best.shape[1]
    return captions.frame(ids)


@pytest.mark.parametrize(
    ("charset", "adapted", "clip", "context"),
    [
        (CHARSETS["94"], CHARSETS["36"], WORD_PIECES, 16),
        (CHARSETS["36"], CHARSETS["36"].upper(), WORD_PIECES, 5),
        (CHARSETS["94"], CHARSETS["94"], SmallTeacherConfig(), 27),
        (CHARSETS["62"], CHARSETS["62"], SmallTeacherConfig(characters="abcdefgh", max_length=9), 8),
    ],
    ids=["94 to 36", "cut early", "characters", "few characters"],
)
def test_the_ids_are_the_same(charset: str, adapted: str, clip: Backbone, context: int) -> None:
    reader = Spelling(charset, adapted, clip, context)
    ids = readings(reader.charset, 600, 26)
    expected = reader.tokens(reader.captioner(ids))
    assert torch.equal(caption(GraphCaptions(reader), ids), expected)  # type: ignore[arg-type]
    assert expected.unique(dim=0).shape[0] > 300


def test_pieces_are_merged_in_a_loop() -> None:
    reader = Spelling(CHARSETS["94"], CHARSETS["36"], WORD_PIECES, 16)
    best = readings(reader.charset, 200, 14)
    captions = GraphCaptions(reader)  # type: ignore[arg-type]
    ids, merging = captions.spell(best), captions.merging
    assert merging is not None
    graph = helper.make_graph(
        [], "merges", [helper.make_tensor_value_info("ids", TensorProto.INT64, ["batch", 14])],
        [helper.make_tensor_value_info("merged", TensorProto.INT64, ["batch", 14])],
    )  # fmt: skip
    step = to_onnx(merging, (ids[:3],), ({0: BATCH},))
    (found,) = add_loop(graph, step.graph, ["ids"], [], whole_number(graph, "most", 13), "merge")
    graph.node.append(helper.make_node("Identity", [found], ["merged"]))
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=step.ir_version)
    session = onnxruntime.InferenceSession(made.SerializeToString())
    expected = reader.tokens(reader.captioner(best))
    for rows in (slice(0, 1), slice(1, 200)):
        merged = torch.from_numpy(session.run(None, {"ids": ids[rows].numpy()})[0])
        assert torch.equal(captions.frame(merged), expected[rows])


def test_other_characters_than_letters_and_digits_need_the_tokenizer() -> None:
    reader = Spelling(CHARSETS["94"], "abc" + punctuation, WORD_PIECES, 16)
    with pytest.raises(UserError, match="only those of letters a to z and digits"):
        GraphCaptions(reader)  # type: ignore[arg-type]


def test_a_table_finds_its_keys_and_no_others() -> None:
    generator = np.random.default_rng(0)
    keys = generator.choice(2**31, 5000, replace=False)
    values = generator.integers(0, 10**6, len(keys))
    table = PairTable(keys, values)
    assert torch.equal(table(torch.from_numpy(keys)), torch.from_numpy(values))
    others = torch.from_numpy(np.setdiff1d(generator.choice(2**31, 5000), keys))
    assert bool((table(others) == NONE).all())
    assert table(torch.tensor([-1, -(2**20)])).tolist() == [NONE, NONE]


def test_what_is_kept_moves_left() -> None:
    row = torch.tensor([[5, 6, 7, 8], [5, 6, 7, 8]])
    kept = torch.tensor([[False, True, False, True], [False] * 4])
    assert gather_left(row, kept, -1).tolist() == [[6, 8, -1, -1], [-1] * 4]
