from __future__ import annotations

import multiprocessing
import os
import socket
from collections.abc import Iterator
from multiprocessing.queues import Queue
from typing import Any

import pytest
import torch
from torch import Tensor

from distill.data.batch import Batch
from distill.evaluation.validation import validate
from students.charset import Charset
from students.decoding import Reading
from students.errors import UserError

LABELS = [f"word{number}" for number in range(11)]


def read(images: Tensor) -> list[Reading]:
    """Reads every third word wrong by one character, and others in capitals."""
    numbers = [int(image[0, 0, 0]) for image in images]
    return [Reading(f"WORD{n}" if n % 3 else f"w0rd{n}", 0.25, (0.25,)) for n in numbers]


def share(rank: int, world: int, batch_size: int = 3) -> Iterator[Batch]:
    own = list(range(rank, len(LABELS), world))
    for start in range(0, len(own), batch_size):
        numbers = torch.tensor(own[start : start + batch_size])
        images = numbers.float().view(-1, 1, 1, 1).expand(-1, 3, 4, 4)
        unknown = torch.full((len(numbers), 32), -1)
        yield Batch(images, [LABELS[n] for n in numbers.tolist()], unknown, numbers)


def test_counts_and_samples() -> None:
    result = validate(read, share(0, 1), Charset.load("36"), size=len(LABELS), samples=6)
    assert (result.words, result.accuracy) == (11, pytest.approx(100 * 7 / 11))
    assert result.metrics == {"one_minus_ned": pytest.approx(100 * (7 + 4 * 0.8) / 11)}
    assert sum(not sample.right for sample in result.samples) == 3
    assert len(result.samples) == 6


def test_a_share_that_is_missing_is_a_bug() -> None:
    with pytest.raises(RuntimeError, match="6 words of a set of 11"):
        validate(read, share(0, 2), Charset.load("36"), size=len(LABELS))


def test_a_word_read_in_place_of_another_is_refused() -> None:
    batches = list(share(0, 1))
    batches[0].indices[1] = 2
    with pytest.raises(UserError, match="can't be read"):
        validate(read, batches, Charset.load("36"), size=len(LABELS))


class OtherRank:
    """An accelerator of two processes, the other of which has counted already."""

    num_processes = 2
    device = torch.device("cpu")

    def __init__(self, other: list[int]) -> None:
        self.other = other

    def reduce(self, counts: Tensor, reduction: str) -> Tensor:
        assert (counts.dtype, reduction) == (torch.int64, "sum")
        return counts + torch.tensor(self.other)


def test_counts_of_processes_are_summed() -> None:
    charset = Charset.load("36")
    # Words 1, 3, 5, 7 and 9: 3 and 9 are read wrong in one of five characters.
    accelerator: Any = OtherRank([5, 3, round((3 + 2 * 0.8) * 10**9), 1 + 3 + 5 + 7 + 9])
    both = validate(read, share(0, 2), charset, accelerator, size=len(LABELS))
    alone = validate(read, share(0, 1), charset, size=len(LABELS))
    assert (both.words, both.accuracy, both.metrics) == (alone.words, alone.accuracy, alone.metrics)


def one_process(rank: int, world: int, port: int, results: Queue[tuple[int, float, dict[str, float]]]) -> None:
    os.environ |= {
        "RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(world), "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port), "ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1",
    }  # fmt: skip
    from accelerate import Accelerator

    accelerator = Accelerator(cpu=True)
    assert accelerator.num_processes == world
    result = validate(read, share(rank, world), Charset.load("36"), accelerator, size=len(LABELS))
    results.put((result.words, result.accuracy, result.metrics))
    accelerator.end_training()


@pytest.mark.slow
def test_two_processes_count_as_one() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    context = multiprocessing.get_context("spawn")
    results: Queue[tuple[int, float, dict[str, float]]] = context.Queue()
    processes = [context.Process(target=one_process, args=(rank, 2, port, results)) for rank in range(2)]
    for process in processes:
        process.start()
    actual = [results.get(timeout=120) for _ in processes]
    for process in processes:
        process.join(timeout=60)
        assert process.exitcode == 0
    alone = validate(read, share(0, 1), Charset.load("36"), size=len(LABELS))
    assert actual == [(alone.words, alone.accuracy, alone.metrics)] * 2


def test_lines_are_counted_without_their_spaces_too() -> None:
    def read_lines(images: Tensor) -> list[Reading]:
        return [Reading(text, 1.0, ()) for text in ("open  all day", "openall day", "open all")[: len(images)]]

    lines = Batch(torch.zeros(3, 3, 4, 4), ["open all day"] * 3, torch.full((3, 32), -1), torch.arange(3))
    result = validate(read_lines, [lines], Charset.load("95"), size=3)
    assert (result.accuracy, result.metrics["accuracy_without_spaces"]) == pytest.approx((100 / 3, 200 / 3))
    assert "accuracy_without_spaces" not in validate(read_lines, [lines], Charset.load("94")).metrics
