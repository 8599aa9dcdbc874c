"""PARSeq against the published program: encoder, training in permuted orders, every way of decoding."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from distill.conversion.checkpoints import read_checkpoint
from distill.conversion.layout import ConversionOptions, Converted
from distill.conversion.parseq import convert
from distill.training.permuted import ParseqTask, PermutedInputs
from students.decoding import decode_probabilities
from students.parseq import Parseq
from students.permuted import PermutationOptions, average_orders, draw_permutations
from students.pictures import normalize
from tests.reference.cases import Case, cases, close, close_gradient, near

PREFIX = "model."
"""What the module's names have before those of the released files."""


@lru_cache(maxsize=2)
def converted(case: Case, alphabet: Path) -> Converted:
    model = case.numbers["model"]
    alphabet.write_text(model["charset_train"], encoding="utf-8")
    heads, (height, width) = (model["enc_num_heads"], model["dec_num_heads"]), model["img_size"]
    return convert(read_checkpoint(case.weights()), ConversionOptions(str(alphabet), heads, (height, width)))


@pytest.fixture(scope="module")
def alphabet(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("parseq") / "alphabet.txt"


@pytest.fixture
def reader(case: Case, alphabet: Path) -> Iterator[Parseq]:
    """The case's reader in eval mode, as its program was configured."""
    actual: Parseq = converted(case, alphabet).reader
    configured, model = actual.config, case.numbers["model"]
    actual.choose_decoding("ar" if model["decode_ar"] else "nar", model["refine_iters"])
    yield actual.eval()
    actual.config = configured
    actual.zero_grad(set_to_none=True)


@pytest.mark.parametrize("case", cases("parseq"))
def test_sizes_come_from_the_weights_and_none_is_left(case: Case, alphabet: Path) -> None:
    actual, model = converted(case, alphabet), case.numbers["model"]
    config = actual.reader.config
    expected = {
        "charset_train": config.charset, "max_label_length": config.max_length, "img_size": list(config.image_size),
        "patch_size": list(config.patch), "embed_dim": config.width, "enc_num_heads": config.heads,
        "enc_mlp_ratio": config.mlp_ratio, "enc_depth": config.depth, "dec_num_heads": config.decoder_heads,
        "dec_mlp_ratio": config.decoder_mlp_ratio, "dec_depth": config.decoder_depth,
    }  # fmt: skip
    assert expected == {name: model[name] for name in expected}
    assert not any(actual.unused.values())
    assert not actual.missing
    shapes = {name: [*value.shape] for name, value in actual.reader.state_dict().items()}
    stored = case.numbers.get("file_keys", shapes)
    assert shapes == {name.removeprefix(PREFIX): shape for name, shape in stored.items()}


@pytest.mark.parametrize("case", cases("parseq"))
def test_images(case: Case) -> None:
    images = torch.from_numpy(normalize(case.arrays["images_uint8"]))
    torch.testing.assert_close(images, case.tensor("images"), rtol=0, atol=1e-6)


@pytest.mark.parametrize("case", cases("parseq"))
def test_memory(case: Case, reader: Parseq) -> None:
    with torch.no_grad():
        close(reader.encode(case.tensor("images")), case.tensor("memory"))


def task(case: Case, reader: Parseq) -> ParseqTask:
    """Train as the case's program was: dropout is off in every stored number."""
    for part in reader.modules():
        if isinstance(part, nn.Dropout):
            part.p = 0.0
        if hasattr(part, "dropout") and isinstance(part.dropout, float):
            part.dropout = 0.0
    model = case.numbers["model"]
    options = PermutationOptions(model["perm_num"], model["perm_forward"], model["perm_mirrored"])
    built = ParseqTask(reader, options)
    built.train()
    return built


def inputs(case: Case, reader: Parseq) -> PermutedInputs:
    ids = reader.charset.encode(case.numbers["labels"])
    return PermutedInputs(case.tensor("images"), ids, case.tensor("permutations"))


@pytest.mark.parametrize("case", cases("parseq"))
def test_orders_logits_and_losses(case: Case, reader: Parseq) -> None:
    given, stored = inputs(case, reader), case.numbers["train"]
    assert torch.equal(given.target_ids, case.tensor("target_ids"))
    orders = given.orders(reader.charset)
    trained = task(case, reader)
    with torch.no_grad():
        for number, logits in enumerate(reader.permuted(given.images, given.target_ids, orders)):
            assert torch.equal(orders[number].content_mask, case.tensor(f"mask_content{number}"))
            assert torch.equal(orders[number].query_mask, case.tensor(f"mask_query{number}"))
            close(logits, case.tensor(f"train_logits{number}"))
        losses, counts = trained.order_losses(given)
        assert [int(count) for count in counts] == stored["weight_per_permutation_n"]
        assert [float(loss.detach()) for loss in losses] == near(stored["loss_per_permutation"])
        assert float(average_orders(losses, counts)) == near(stored["loss"])


def gradient_norms(trained: ParseqTask) -> dict[str, float | None]:
    return {
        PREFIX + name: None if weight.grad is None else float(weight.grad.double().norm())
        for name, weight in trained.reader.named_parameters()
    }


def check_norms(actual: dict[str, float | None], expected: dict[str, float | None]) -> None:
    assert set(actual) == set(expected)
    assert [name for name, norm in expected.items() if norm is None] == [n for n in expected if actual[n] is None]
    known = {name: norm for name, norm in expected.items() if norm is not None}
    assert {name: actual[name] for name in known} == pytest.approx(known, rel=2e-4, abs=1e-6)


@pytest.mark.parametrize("case", cases("parseq"))
def test_gradients(case: Case, reader: Parseq) -> None:
    trained = task(case, reader)
    terms = trained(inputs(case, reader))
    trained.total(terms).backward()
    check_norms(gradient_norms(trained), case.numbers["grad_norm"])
    weights = dict(reader.named_parameters())
    full = [name for name in case.arrays if name.startswith("grad__")]
    assert sorted(full) == sorted(f"grad__{name}" for name in case.numbers["full_gradients_in_npz"])
    for name in full:
        grad = weights[name.removeprefix("grad__").removeprefix(PREFIX)].grad
        assert grad is not None
        close_gradient(grad, case.tensor(name))


def extras(case: Case) -> range:
    return range(len(case.numbers["extra_label_sets"]))


@pytest.mark.parametrize(("case", "extra"), cases("parseq", extras))
def test_short_and_long_labels(case: Case, extra: int, reader: Parseq) -> None:
    stored = case.numbers["extra_label_sets"][extra]
    permutations = case.tensor(f"extra{extra}_permutations")
    images = torch.from_numpy(normalize(case.arrays[f"extra{extra}_images_uint8"]))
    ids = reader.charset.encode(stored["labels"])
    trained = task(case, reader)
    drawn = draw_permutations(ids.shape[1] - 2, trained.permutations, torch.Generator().manual_seed(extra))
    assert drawn.shape == permutations.shape
    first = 0 if trained.permutations.forward else 1
    assert torch.equal(drawn[first:2], permutations[first:2]), "left-to-right where it is asked for, and its reversal"
    losses, counts = trained.order_losses(PermutedInputs(images, ids, permutations))
    assert [int(count) for count in counts] == stored["weight_per_permutation_n"]
    assert [float(loss.detach()) for loss in losses] == near(stored["loss_per_permutation"])
    loss = average_orders(losses, counts)
    assert loss.item() == near(stored["loss"])
    loss.backward()
    check_norms(gradient_norms(trained), stored["grad_norm"])


@dataclasses.dataclass(frozen=True)
class Reading:
    """How a stored reading was made, read from its name such as `batch_ar_refine2`."""

    rows: slice
    max_length: int | None
    greedy: bool
    refine_iters: int


def parse(tag: str) -> Reading:
    match = re.fullmatch(r"(?:batch|single(\d+)|maxlen(\d+))_(n?ar)_refine(\d+)", tag)
    assert match, f"what is {tag}?"
    one, longest, way, refine_iters = match.groups()
    rows = slice(int(one), int(one) + 1) if one is not None else slice(None)
    return Reading(rows, None if longest is None else int(longest), way == "ar", int(refine_iters))


@pytest.mark.parametrize(("case", "tag"), cases("parseq", lambda case: case.numbers["inference"]))
def test_reading(case: Case, tag: str, reader: Parseq) -> None:
    asked, stored = parse(tag), case.numbers["inference"][tag]
    reader.choose_decoding("ar" if asked.greedy else "nar", asked.refine_iters)
    with torch.inference_mode():
        logits = reader(case.tensor("images")[asked.rows], asked.max_length)
    assert logits.shape[1] == stored["steps"]
    close(logits, case.tensor(f"{tag}_logits"))
    if stored["min_top2_margin"] > 1e-3:
        check_readings(reader, logits, stored)


def check_readings(reader: Parseq, logits: Tensor, stored: dict[str, Any]) -> None:
    readings = decode_probabilities(reader.charset, logits.softmax(dim=-1))
    assert [reading.text for reading in readings] == stored["strings"]
    assert [reading.confidence for reading in readings] == pytest.approx(stored["confidences"], rel=1e-4)
    for reading, expected in zip(readings, stored["token_probs"], strict=True):
        assert list(reading.token_probs) == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("case", cases("parseq"))
def test_validation_loss(case: Case, reader: Parseq) -> None:
    targets = reader.charset.encode(case.numbers["labels"])[:, 1:]
    with torch.inference_mode():
        logits = reader(case.tensor("images"), targets.shape[1] - 1)
    pad = reader.charset.pad_id
    loss = F.cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=pad)
    assert float(loss) == near(case.numbers["validation_loss"])
    assert int((targets != pad).sum()) == case.numbers["validation_loss_numel"]


def decays(case: Case) -> list[str]:
    return [name for name in case.numbers if name.startswith("optimizer_groups_with_weight_decay_")]


@pytest.mark.parametrize(("case", "stored"), cases("parseq", decays))
def test_parameter_groups(case: Case, stored: str, reader: Parseq) -> None:
    trained, decay = ParseqTask(reader), float(stored.rpartition("_")[2])
    groups = trained.parameter_groups(1e-3, decay)
    names = {weight: PREFIX + name for name, weight in reader.named_parameters()}
    actual = [(group["weight_decay"], sorted(names[weight] for weight in group["params"])) for group in groups]
    assert actual == [(group["weight_decay"], sorted(group["names"])) for group in case.numbers[stored]]


@pytest.mark.parametrize("case", cases("parseq"))
def test_a_folder_reads_alike(case: Case, reader: Parseq, tmp_path: Path) -> None:
    reader.save_pretrained(tmp_path)
    loaded = Parseq.from_pretrained(tmp_path, reader.charset)
    assert loaded.config == reader.config
    with torch.inference_mode():
        assert torch.equal(loaded(case.tensor("images")), reader(case.tensor("images")))
