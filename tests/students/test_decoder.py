"""The query decoder against torch's attention, its masks and its cached step."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from students.decoder import Attention, CharacterEmbedding, QueryDecoder, causal_mask

WIDTH, HEADS = 24, 3


def test_attention_is_torchs() -> None:
    ours, theirs = Attention(WIDTH, HEADS).eval(), nn.MultiheadAttention(WIDTH, HEADS, batch_first=True).eval()
    theirs.load_state_dict(ours.state_dict())
    nn.init.normal_(theirs.in_proj_bias)
    ours.load_state_dict(theirs.state_dict())
    queries, source = torch.randn(2, 5, WIDTH), torch.randn(2, 5, WIDTH)
    mask = causal_mask(5, queries.device)
    padding = torch.tensor([[False] * 5, [False, False, False, True, True]])
    expected, _ = theirs(queries, source, source, attn_mask=mask, key_padding_mask=padding)
    actual = ours(queries, *ours.keys_values(source), mask | padding[:, None, None])
    torch.testing.assert_close(actual, expected)


def test_attention_drops_only_in_training() -> None:
    attention = Attention(WIDTH, HEADS, dropout=0.5)
    rows = torch.randn(2, 5, WIDTH)
    pair = attention.keys_values(rows)
    assert not torch.equal(attention(rows, *pair), attention(rows, *pair))
    attention.eval()
    assert torch.equal(attention(rows, *pair), attention(rows, *pair))


def test_causal_mask_allows_the_start_and_earlier_characters() -> None:
    assert causal_mask(3, torch.device("cpu")).tolist() == [
        [False, True, True], [False, False, True], [False, False, False],
    ]  # fmt: skip


@pytest.fixture
def decoder() -> QueryDecoder:
    return QueryDecoder(WIDTH, depth=3, heads=HEADS, mlp_ratio=2, dropout=0.1).eval()


def test_later_content_changes_no_earlier_position(decoder: QueryDecoder) -> None:
    query, content, memory = torch.randn(2, 6, WIDTH), torch.randn(2, 6, WIDTH), torch.randn(2, 9, WIDTH)
    mask = causal_mask(6, query.device)
    before = decoder(query, content, decoder.memory_keys(memory), mask)
    content[:, 4:] += torch.randn(2, 2, WIDTH)
    after = decoder(query, content, decoder.memory_keys(memory), mask)
    for old, new in zip(before, after, strict=True):
        torch.testing.assert_close(new[:, :4], old[:, :4], rtol=0, atol=0)
        assert not torch.allclose(new[:, 4:], old[:, 4:])


def test_positions_do_not_see_each_other(decoder: QueryDecoder) -> None:
    # Only content is attended to: another query at position 2 changes the output of position 2 alone.
    query, content, memory = torch.randn(1, 4, WIDTH), torch.randn(1, 4, WIDTH), torch.randn(1, 9, WIDTH)
    mask = causal_mask(4, query.device)
    before = decoder(query, content, decoder.memory_keys(memory), mask)[-1]
    query[:, 2] += 1
    same = (decoder(query, content, decoder.memory_keys(memory), mask)[-1] == before).all(dim=-1)
    assert same.tolist() == [[True, True, False, True]]


def test_steps_with_a_cache_are_the_pass_over_all_positions(decoder: QueryDecoder) -> None:
    query, content, memory = torch.randn(2, 5, WIDTH), torch.randn(2, 5, WIDTH), torch.randn(2, 9, WIDTH)
    expected = decoder.norm(decoder(query, content, decoder.memory_keys(memory), causal_mask(5, query.device))[-1])
    memory_keys = decoder.memory_keys(memory)
    cache: list[tuple[torch.Tensor, torch.Tensor]] = []
    for position in range(5):
        at = slice(position, position + 1)
        output, cache = decoder.step(query[:, at], content[:, at], cache, memory_keys)
        torch.testing.assert_close(output, expected[:, at])
    assert len(cache) == 3
    assert cache[0][0].shape == (2, HEADS, 5, WIDTH // HEADS)


def test_embeddings_are_scaled_by_the_root_of_the_width() -> None:
    embedding = CharacterEmbedding(5, 16)
    torch.testing.assert_close(embedding(torch.tensor([3])), 4 * embedding.embedding.weight[3:4])
