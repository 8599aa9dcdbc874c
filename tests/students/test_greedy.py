"""What greedy decoding computes ahead, against the layers themselves."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from torch import Tensor

from distill.evaluation.benchmarks import SIX, open_benchmarks
from students.charset import Charset
from students.decoder import KeysValues, QueryDecoder, causal_mask
from students.errors import UserError
from students.greedy_tables import ContentTable, DecodingTables
from students.pictures import to_tensor
from students.sizes import paper
from students.student import Student
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
@pytest.mark.parametrize("words", [1, WORDS])
def test_what_is_kept_for_further_calls_reads_the_same(updates_content: bool, words: int, memory: Tensor) -> None:
    decoder = make(3, updates_content)
    decoder.prepare()
    with torch.inference_mode():
        keys = decoder.memory_keys(memory[:words])
        for steps in (LONGEST + 1, 2, LONGEST + 1):
            expected = by_steps_of_the_layers(decoder, memory[:words], steps)
            torch.testing.assert_close(decoder.greedy(keys, steps, stop=False), expected, rtol=1e-4, atol=1e-5)


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[DecodingTables]:
    """Collect the tables that are made."""
    tables: list[DecodingTables] = []

    class Collected(DecodingTables):
        def __init__(self, decoder: QueryDecoder, queries: Tensor, characters: Tensor) -> None:
            super().__init__(decoder, queries, characters)
            tables.append(self)

    monkeypatch.setattr("students.two_stream.DecodingTables", Collected)
    return tables


def reads_as_its_layers(decoder: CharacterDecoder, memory: Tensor) -> bool:
    with torch.inference_mode():
        found = decoder.greedy(decoder.memory_keys(memory[:1]), 5, stop=False)
        return torch.allclose(found, by_steps_of_the_layers(decoder, memory[:1], 5), rtol=1e-4, atol=1e-5)


def test_tables_are_kept_until_the_weights_are_others(made: list[DecodingTables], memory: Tensor) -> None:
    decoder = make(2, updates_content=False)
    other = {name: weight + 0.1 * torch.randn_like(weight) for name, weight in decoder.state_dict().items()}
    for _ in range(2):
        assert reads_as_its_layers(decoder, memory)
    assert len(made) == 2
    decoder.prepare()
    for _ in range(3):
        assert reads_as_its_layers(decoder, memory)
    assert len(made) == 3
    decoder.load_state_dict(other)
    for _ in range(2):
        assert reads_as_its_layers(decoder, memory)
    assert len(made) == 4
    with torch.no_grad():
        decoder.pos_queries.add_(0.1)
    assert reads_as_its_layers(decoder, memory)
    assert len(made) == 5


def test_training_copies_and_gradients_do_without_kept_tables(made: list[DecodingTables], memory: Tensor) -> None:
    decoder = make(2, updates_content=False)
    decoder.prepare()
    assert reads_as_its_layers(decoder, memory)
    decoder.greedy(decoder.memory_keys(memory[:1]), 5, stop=False).sum().backward()
    assert decoder.pos_queries.grad is not None
    copied = copy.deepcopy(decoder)
    assert reads_as_its_layers(copied, memory)
    assert len(made) == 3
    decoder.train()
    for weight in decoder.parameters():
        weight.data.add_(torch.randn_like(weight) * 0.1)
    decoder.eval()
    assert reads_as_its_layers(decoder, memory)


def test_one_word_has_a_table_of_its_own_unless_that_is_large(made: list[DecodingTables], memory: Tensor) -> None:
    for charset, folded in ((CHARSET, True), (Charset("".join(map(chr, range(0x4E00, 0x4E80)))), False)):
        decoder = CharacterDecoder(charset, LONGEST, WIDTH, 2, HEADS, 2, 0.0, updates_content=False).eval()
        decoder.prepare()
        assert reads_as_its_layers(decoder, memory)
        assert (made[-1].folded is not None) == folded


@pytest.mark.parametrize("updates_content", [False, True])
@pytest.mark.parametrize("words", [1, WORDS])
def test_int8_weights_read_nearly_the_same(updates_content: bool, words: int) -> None:
    decoder = CharacterDecoder(CHARSET, LONGEST, 64, 2, 4, 2, 0.0, updates_content).eval()
    memory = torch.randn(words, 9, 64)
    with torch.inference_mode():
        decoder.head.weight.mul_(10)
        keys = decoder.memory_keys(memory)
        expected = decoder.greedy(keys, 1, stop=False)
        decoder.choose_decoder_dtype("int8")
        found = decoder.greedy(keys, 1, stop=False)
        assert 0 < (found - expected).abs().max() < 0.02 * expected.abs().max()
        decoder.decoder.stack[0].linear1.weight.zero_()
        assert torch.equal(decoder.greedy(keys, 1, stop=False), found), "a copy of what the weights were"
        decoder.prepare()
        prepared = decoder.greedy(keys, 1, stop=False)
        assert 0 < (prepared - expected).abs().max() < 0.02 * expected.abs().max()
        decoder.choose_decoder_dtype("float32")
        torch.testing.assert_close(decoder.greedy(keys, 4, stop=False), by_steps_of_the_layers(decoder, memory, 4))


def test_a_width_that_int8_cannot_take() -> None:
    with pytest.raises(UserError, match="32 divides, not 24"):
        make(2, updates_content=False).choose_decoder_dtype("int8")


@pytest.mark.slow
def test_the_published_size_reads_as_without_a_cache(charset: Charset) -> None:
    student = Student(paper(charset)).eval()
    student.prepare()
    with torch.inference_mode():
        for words in (1, 3):
            keys = student.memory_keys(torch.randn(words, 129, 384))
            logits = student.greedy(keys, 26, stop=False)
            torch.testing.assert_close(logits, uncached(student, keys, logits), rtol=0, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("batch", [1, 64])
@pytest.mark.parametrize("name", SIX)
def test_real_words_are_read_as_without_a_cache(name: str, batch: int, shared: Path, charset: Charset) -> None:
    student = Student.from_pretrained("tiny-real")
    (benchmark,) = open_benchmarks(shared / "data", name, charset, None)
    changed = 0
    for start in range(0, len(benchmark), batch):
        pictures = [benchmark.load(number) for number in range(start, min(start + batch, len(benchmark)))]
        with torch.inference_mode():
            keys = student.memory_keys(student.encode(to_tensor(pictures, student.image_size)))
            student.choose_decoder_dtype("float32")
            logits = student.greedy(keys, 26, stop=True)
            read = words_of(charset, logits)
            assert read == words_of(charset, uncached(student, keys, logits))
            student.choose_decoder_dtype("int8")
            changed += sum(
                a != b for a, b in zip(read, words_of(charset, student.greedy(keys, 26, stop=True)), strict=True)
            )
    assert changed <= len(benchmark) / 50


def uncached(decoder: CharacterDecoder, keys: Sequence[KeysValues], logits: Tensor) -> Tensor:
    """Pass through the layers once with what was read as content."""
    ids = torch.cat([decoder.starts(keys), logits[:, :-1].argmax(dim=-1)], dim=1)
    return decoder.logits(decoder.streams(keys, ids, causal_mask(ids.shape[1], ids.device), None))


def words_of(charset: Charset, logits: Tensor) -> list[str]:
    return [reading.text for reading in charset.decode(logits.softmax(dim=-1))]
