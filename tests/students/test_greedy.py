"""What greedy decoding computes ahead, against the layers themselves."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from students.charset import Charset
from students.decoder import KeysValues
from students.greedy import ContentTable, GreedySteps
from students.two_stream import CharacterDecoder

CHARSET, WIDTH, HEADS, LONGEST, WORDS = Charset("abcdefg"), 24, 3, 6, 5


def make(depth: int, updates_content: bool) -> CharacterDecoder:
    decoder = CharacterDecoder(CHARSET, LONGEST, WIDTH, depth, HEADS, 2, 0.0, updates_content).eval()
    with torch.no_grad():
        for weight in decoder.parameters():
            weight.add_(torch.randn_like(weight) * 0.3)
    return decoder


@pytest.fixture
def memory() -> Tensor:
    return torch.randn(WORDS, 9, WIDTH)


def by_steps_of_the_layers(decoder: CharacterDecoder, memory: Tensor, steps: int) -> Tensor:
    """Decode with the layers as training runs them, nothing computed ahead."""
    keys, cache, logits = decoder.memory_keys(memory), list[KeysValues](), []
    content = decoder.text_embed(decoder.starts(keys))
    for position in range(steps):
        place = decoder.pos_queries[:, position : position + 1]
        output, cache = decoder.decoder.step(place.expand(len(memory), -1, -1), content, cache, keys)
        logits.append(decoder.head(output))
        content = place + decoder.text_embed(logits[-1].argmax(dim=-1))
    return torch.cat(logits, dim=1)


def test_a_table_row_is_what_the_layer_makes_of_the_embedding() -> None:
    decoder = make(2, updates_content=False)
    places, characters = torch.randn(4, WIDTH) + 3, torch.randn(9, WIDTH) * 2
    layers = decoder.decoder.stack
    table, ids = ContentTable(layers, places, characters), torch.tensor([8, 0, 3])
    for position in range(4):
        rows = table.rows(position, ids)
        for number, layer in enumerate(layers):
            expected = layer.content_keys((places[position] + characters[ids])[:, None])
            for found, pair in zip(rows[number], expected, strict=True):
                torch.testing.assert_close(found, pair[:, :, 0])


@pytest.mark.parametrize("updates_content", [False, True])
@pytest.mark.parametrize("depth", [1, 3])
def test_gradients_come_back_as_through_the_layers(depth: int, updates_content: bool, memory: Tensor) -> None:
    decoder = make(depth, updates_content)
    gradients = []
    for decode in (
        lambda: decoder.greedy(decoder.memory_keys(memory), 4, stop=False),
        lambda: by_steps_of_the_layers(decoder, memory, 4),
    ):
        decoder.zero_grad()
        decode().square().mean().backward()
        gradients.append({name: weight.grad for name, weight in decoder.named_parameters() if weight.grad is not None})
    assert gradients[0].keys() == gradients[1].keys()
    for name, expected in gradients[1].items():
        torch.testing.assert_close(gradients[0][name], expected, rtol=1e-3, atol=1e-4, msg=name)


@pytest.mark.parametrize("updates_content", [False, True])
def test_changed_weights_count_at_once(updates_content: bool, memory: Tensor) -> None:
    # Nothing that was computed ahead outlives its call, however the weights were changed.
    decoder = make(2, updates_content)
    with torch.inference_mode():
        decoder.greedy(decoder.memory_keys(memory), 5, stop=False)
        for weight in decoder.parameters():
            weight.data.add_(torch.randn_like(weight) * 0.1)
        found = decoder.greedy(decoder.memory_keys(memory), 5, stop=False)
        torch.testing.assert_close(found, by_steps_of_the_layers(decoder, memory, 5), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("updates_content", [False, True])
def test_words_that_leave_change_nothing_for_the_others(updates_content: bool, memory: Tensor) -> None:
    decoder = make(2, updates_content)
    ids, staying = torch.tensor([[9, 1, 2, 3], [9, 4, 5, 6], [9, 7, 1, 2], [9, 2, 2, 1], [9, 3, 5, 7]]), [1, 4]
    everyone = decoder.text_embed(torch.arange(10))
    with torch.inference_mode():
        keys = decoder.memory_keys(memory)
        all_words, some = (GreedySteps(decoder.decoder, keys, decoder.pos_queries[0, :4], everyone) for _ in range(2))
        for position in range(4):
            expected, kept = all_words.step(position, ids[:, position]), staying if position > 1 else slice(None)
            torch.testing.assert_close(some.step(position, ids[kept, position]), expected[kept])
            if position == 1:
                some.leave(torch.tensor(staying))
