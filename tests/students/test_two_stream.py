"""Decoding in two streams against a plain program: no caches, torch's own attention, masks of the paper."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from distill.evaluation.benchmarks import SIX, open_benchmarks
from students.charset import Charset
from students.decoder import DecoderLayer, KeysValues, causal_mask
from students.decoding import decode_attention, decode_probabilities
from students.permuted import PermutationOptions, draw_permutations, permutation_masks
from students.pictures import to_tensor
from students.student import Student, paper
from students.two_stream import CharacterDecoder

CHARSET, WIDTH, HEADS, LONGEST, WORDS = Charset("abcdefg"), 24, 3, 6, 5


def make(depth: int, updates_content: bool = True) -> CharacterDecoder:
    decoder = CharacterDecoder(CHARSET, LONGEST, WIDTH, depth, HEADS, 2, 0.0, updates_content).eval()
    with torch.no_grad():
        for weight in decoder.parameters():
            weight.add_(torch.randn_like(weight) * 0.3)
    return decoder


@pytest.fixture(params=[1, 2, 3])
def decoder(request: pytest.FixtureRequest) -> CharacterDecoder:
    return make(request.param)


@pytest.fixture
def memory() -> Tensor:
    return torch.randn(WORDS, 9, WIDTH)


def attend(layer: nn.Module, queries: Tensor, source: Tensor, mask: Tensor | None, padding: Tensor | None) -> Tensor:
    theirs = nn.MultiheadAttention(WIDTH, HEADS, batch_first=True).eval()
    theirs.load_state_dict(layer.state_dict())
    return theirs(queries, source, source, attn_mask=mask, key_padding_mask=padding)[0]


def plain(
    decoder: CharacterDecoder, memory: Tensor, ids: Tensor, query_mask: Tensor | None, content_mask: Tensor | None,
    padding: Tensor | None, positions: slice,
) -> Tensor:  # fmt: skip
    """Run both streams over a whole context without a cache, as `decode` of the reference implementation does."""
    embed = math.sqrt(WIDTH) * decoder.text_embed.embedding(ids)
    content = torch.cat([embed[:, :1], decoder.pos_queries[:, : ids.shape[1] - 1] + embed[:, 1:]], dim=1)
    query = decoder.pos_queries[:, positions].expand(len(ids), -1, -1)
    layers = [layer for layer in decoder.decoder.layers if isinstance(layer, DecoderLayer)]
    for number, layer in enumerate(layers):
        keys = layer.norm_c(content)
        streams = []
        for rows, normed, mask in ((query, layer.norm_q(query), query_mask), (content, keys, content_mask)):
            rows = rows + attend(layer.self_attn, normed, keys, mask, padding)
            rows = rows + attend(layer.cross_attn, layer.norm1(rows), memory, None, None)
            streams.append(rows + layer.linear2(F.gelu(layer.linear1(layer.norm2(rows)))))
        query = streams[0]
        if number < len(layers) - 1 and decoder.decoder.updates_content:
            content = streams[1]
    return decoder.head(decoder.decoder.norm(query))


def plain_greedy(decoder: CharacterDecoder, memory: Tensor, steps: int, stop: bool) -> Tensor:
    ids, logits = torch.full((len(memory), 1), CHARSET.start_id), []
    for position in range(steps):
        mask = causal_mask(position + 1, memory.device)
        row = plain(decoder, memory, ids, mask[-1:], mask, None, slice(position, position + 1))
        logits.append(row)
        ids = torch.cat([ids, row.argmax(dim=-1)], dim=1)
        if stop and (ids == CHARSET.end_id).any(dim=1).all():
            break
    return torch.cat(logits, dim=1)


def plain_refine(decoder: CharacterDecoder, memory: Tensor, logits: Tensor, steps: int) -> Tensor:
    ids = torch.cat([torch.full((len(memory), 1), CHARSET.start_id), logits[:, :-1].argmax(dim=-1)], dim=1)
    length = ids.shape[1]
    cloze = torch.zeros(steps, steps, dtype=torch.bool)
    cloze[torch.arange(steps - 1), torch.arange(1, steps)] = True  # position i may not see its own character
    padding = (ids == CHARSET.end_id).cumsum(dim=-1) > 0
    return plain(decoder, memory, ids, cloze[:, :length], cloze[:length, :length], padding, slice(0, steps))


def test_caches_of_both_streams_change_nothing(decoder: CharacterDecoder, memory: Tensor) -> None:
    actual = decoder.greedy(decoder.memory_keys(memory), LONGEST + 1, stop=False)
    torch.testing.assert_close(actual, plain_greedy(decoder, memory, LONGEST + 1, stop=False), rtol=1e-4, atol=1e-5)


def test_frozen_content_stays_frozen(memory: Tensor) -> None:
    frozen, updated = make(2, updates_content=False), make(2)
    updated.load_state_dict(frozen.state_dict())
    actual = frozen.greedy(frozen.memory_keys(memory), LONGEST + 1, stop=False)
    torch.testing.assert_close(actual, plain_greedy(frozen, memory, LONGEST + 1, stop=False), rtol=1e-4, atol=1e-5)
    assert not torch.allclose(actual, updated.greedy(updated.memory_keys(memory), LONGEST + 1, stop=False), atol=1e-3)


def test_stops_when_the_last_word_ends(decoder: CharacterDecoder, memory: Tensor) -> None:
    full = decoder.greedy(decoder.memory_keys(memory), LONGEST + 1, stop=False)
    with torch.no_grad():  # the end token as likely as needed for words of different lengths
        gap = full.amax(dim=-1) - full[..., CHARSET.end_id]
        decoder.head.bias[CHARSET.end_id] += gap[:, : LONGEST - 1].amin(dim=1).max() + 1e-3
    expected = plain_greedy(decoder, memory, LONGEST + 1, stop=True)
    assert expected.shape[1] < LONGEST + 1
    actual = decoder.greedy(decoder.memory_keys(memory), LONGEST + 1, stop=True)
    torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("order", [0, 1, 2, 3])
def test_known_words_under_the_masks_of_an_order(decoder: CharacterDecoder, memory: Tensor, order: int) -> None:
    ids = CHARSET.encode(["abcde", "a", "gg", "cab", "fed"])
    permutation = draw_permutations(5, PermutationOptions(), torch.Generator().manual_seed(1))[order]
    content_mask, query_mask = permutation_masks(permutation)
    padding = (ids[:, :-1] == CHARSET.end_id) | (ids[:, :-1] == CHARSET.pad_id)
    expected = plain(decoder, memory, ids[:, :-1], query_mask, content_mask, padding, slice(0, 6))
    actual = decoder.teacher_forced(decoder.memory_keys(memory), ids, query_mask, content_mask)
    torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-5)


def test_left_to_right_is_greedy_on_its_own_reading(decoder: CharacterDecoder, memory: Tensor) -> None:
    keys = decoder.memory_keys(memory)
    logits = decoder.greedy(keys, LONGEST + 1, stop=False)
    read = [reading.text[:LONGEST] for reading in decode_probabilities(CHARSET, logits.softmax(dim=-1))]
    longest = max(map(len, read)) + 1
    mask = causal_mask(longest, memory.device)
    forced = decoder.teacher_forced(keys, CHARSET.encode(read), mask, mask)
    for row, word in enumerate(read):
        steps = len(word) + 1
        torch.testing.assert_close(logits[row, :steps], forced[row, :steps], rtol=1e-4, atol=1e-4)


def test_nar_sees_the_start_only(decoder: CharacterDecoder, memory: Tensor) -> None:
    start = torch.full((WORDS, 1), CHARSET.start_id)
    expected = plain(decoder, memory, start, None, None, None, slice(0, LONGEST + 1))
    torch.testing.assert_close(decoder.nar(decoder.memory_keys(memory), LONGEST + 1), expected)


@pytest.mark.parametrize("earlier", [1, 3, LONGEST + 1])
def test_refinement_sees_all_but_the_own_character(decoder: CharacterDecoder, memory: Tensor, earlier: int) -> None:
    # `earlier` below the full length is what an early stop leaves.
    logits = torch.randn(WORDS, earlier, len(CHARSET.characters) + 1)
    expected = plain_refine(decoder, memory, logits, LONGEST + 1)
    actual = decoder.refine(decoder.memory_keys(memory), logits, LONGEST + 1)
    torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(
        decoder.refine(decoder.memory_keys(memory), actual, LONGEST + 1),
        plain_refine(decoder, memory, expected, LONGEST + 1), rtol=1e-4, atol=1e-5,
    )  # fmt: skip


def test_a_prediction_after_the_end_does_not_count(memory: Tensor) -> None:
    decoder = make(2)
    logits = torch.randn(WORDS, LONGEST + 1, len(CHARSET.characters) + 1)
    logits[:, 2, CHARSET.end_id] = 99
    other = logits.clone()
    other[:, 3:] = torch.randn_like(other[:, 3:])
    keys = decoder.memory_keys(memory)
    assert torch.equal(decoder.refine(keys, logits, LONGEST + 1), decoder.refine(keys, other, LONGEST + 1))


def test_steps_end_at_the_last_query() -> None:
    decoder = make(1)
    assert [decoder.steps(length) for length in (None, 2, LONGEST, 99)] == [LONGEST + 1, 3, LONGEST + 1, LONGEST + 1]


def test_the_memory_may_be_projected_by_the_gradient(memory: Tensor) -> None:
    # One projection serves all orders of a training step; its gradient is the sum over them.
    decoder = make(2)
    ids, mask = CHARSET.encode(["abc"] * WORDS), causal_mask(4, memory.device)
    decoder.teacher_forced(decoder.memory_keys(memory), ids, mask, mask).square().sum().backward()
    once = decoder.decoder.layers[0].cross_attn.in_proj_weight.grad.clone()  # type: ignore[union-attr]
    decoder.zero_grad()
    keys = decoder.memory_keys(memory)
    sum(decoder.teacher_forced(keys, ids, mask, mask).square().sum() for _ in range(2)).backward()  # type: ignore[union-attr]
    torch.testing.assert_close(decoder.decoder.layers[0].cross_attn.in_proj_weight.grad, 2 * once)  # type: ignore[union-attr]


@pytest.mark.parametrize("updates_content", [False, True])
@pytest.mark.parametrize("depth", [1, 3])
def test_gradients_pass_the_cache(depth: int, updates_content: bool, memory: Tensor) -> None:
    decoder = make(depth, updates_content)
    gradients = []
    for decode in (
        lambda: decoder.greedy(decoder.memory_keys(memory), 4, stop=False),
        lambda: plain_by_layers(decoder, memory, 4),
    ):
        decoder.zero_grad()
        decode().square().mean().backward()
        gradients.append({name: weight.grad for name, weight in decoder.named_parameters() if weight.grad is not None})
    assert gradients[0].keys() == gradients[1].keys()
    for name, expected in gradients[1].items():
        torch.testing.assert_close(gradients[0][name], expected, rtol=1e-3, atol=1e-4, msg=name)


def plain_by_layers(decoder: CharacterDecoder, memory: Tensor, steps: int) -> Tensor:
    """Decode greedily with one pass over all positions so far for each step, so that gradients reach the layers."""
    keys, logits = decoder.memory_keys(memory), list[Tensor]()
    ids = decoder.start_ids(keys)
    for position in range(steps):
        mask = causal_mask(position + 1, memory.device)
        logits.append(decoder.logits(decoder.streams(keys, ids, mask, mask))[:, -1:])
        ids = torch.cat([ids, logits[-1].argmax(dim=-1)], dim=1)
    return torch.cat(logits, dim=1)


@pytest.mark.slow
def test_the_size_of_the_paper_reads_as_without_a_cache() -> None:
    student = Student(paper(Charset.load("36"))).eval()
    with torch.inference_mode():
        for words in (1, 3):
            keys = student.memory_keys(torch.randn(words, 129, 384))
            logits = student.greedy(keys, 26, stop=False)
            torch.testing.assert_close(logits, uncached(student, keys, logits), rtol=0, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("batch", [1, 64])
@pytest.mark.parametrize("name", SIX)
def test_real_words_are_read_as_without_a_cache(name: str, batch: int, shared: Path) -> None:
    student, charset = Student.from_pretrained(shared / "weights" / "tiny_long"), Charset.load("36")
    (benchmark,) = open_benchmarks(shared / "data", name, charset, None)
    for start in range(0, len(benchmark), batch):
        pictures = [benchmark.load(number) for number in range(start, min(start + batch, len(benchmark)))]
        with torch.inference_mode():
            keys = student.memory_keys(student.encode(to_tensor(pictures, student.image_size)))
            logits = student.greedy(keys, 26, stop=True)
            assert words_of(charset, logits) == words_of(charset, uncached(student, keys, logits))


def uncached(decoder: CharacterDecoder, keys: Sequence[KeysValues], logits: Tensor) -> Tensor:
    """Run one pass over all positions with the prediction as content."""
    ids = torch.cat([decoder.start_ids(keys), logits[:, :-1].argmax(dim=-1)], dim=1)
    return decoder.logits(decoder.streams(keys, ids, causal_mask(ids.shape[1], ids.device), None))


def words_of(charset: Charset, logits: Tensor) -> list[str]:
    return [reading.text for reading in decode_attention(charset, logits)]
