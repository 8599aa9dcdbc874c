"""CLIP4STR trains as the published program does: losses, gradients, variants, groups and schedule."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache

import pytest
import torch

from distill.config import load_config
from distill.schema import TeacherConfig
from distill.training.clip4str import Clip4StrTask
from distill.training.optim import build_optimizer, build_schedule
from students.decoding import decode_probabilities
from students.permuted import permuted_orders
from teachers.clip4str import BranchLogits, Clip4Str
from tests.reference.cases import Case, cases, close, close_gradient, near
from tests.reference.clip4str_cases import fresh_reader, gradient_norms, images_of, stored_name, trained_on


@cache
def trained(case: Case) -> Clip4Str:
    """A case's reader after one backward pass; don't change it."""
    reader = fresh_reader(case)
    task, inputs = trained_on(case, reader, case.numbers["model"])
    loss = task.total(task(inputs))
    assert float(loss.detach()) == near(case.numbers["train"]["loss"])
    loss.backward()
    return reader


@pytest.mark.parametrize("case", cases("clip4str"))
def test_logits_and_captions_of_every_order(case: Case) -> None:
    reader, train = trained(case), case.numbers["train"]
    actual = logits_of(case, reader)
    assert len(actual) == len(train["captions_per_permutation"]) == len(case.arrays["permutations"])
    for number, order in enumerate(actual):
        assert order.cross is not None
        close(order.visual, case.tensor(f"train_visual_logits{number}"))
        close(order.cross, case.tensor(f"train_cross_logits{number}"))
        assert order.captions == train["captions_per_permutation"][number]
        ids = reader.tokens(order.captions)
        assert ids.tolist() == train["text_ids_per_permutation"][number]
        assert torch.equal(ids, case.tensor(f"train_text_ids{number}").long())
    with torch.no_grad():
        close(reader.encode_captions(reader.tokens(actual[0].captions)), case.tensor("train_text_features0"))


def logits_of(case: Case, reader: Clip4Str) -> list[BranchLogits]:
    ids, permutations = reader.charset.encode(case.numbers["labels"]), case.tensor("permutations")
    with torch.no_grad():
        features = reader.encode(images_of(case))
        return reader.permuted(features, ids, list(permuted_orders(ids, permutations, reader.charset)))


def numbered(case: Case) -> Iterator[str]:
    """Name the losses of a case: the plain one and those with one switch changed."""
    yield from ("plain", *case.numbers["variants"])


@pytest.mark.parametrize(("case", "variant"), cases("clip4str", numbered))
def test_losses_and_gradients(case: Case, variant: str) -> None:
    plain = {**case.numbers["train"], "grad_norm": case.numbers["grad_norm"], "settings": {}}
    stored = plain if variant == "plain" else case.numbers["variants"][variant]
    settings = stored["settings"]
    reader = fresh_reader(case, **settings)
    task, inputs = trained_on(case, reader, {**case.numbers["model"], **settings})
    captions = listen(reader)
    visual, cross, counts = task.order_losses(inputs)
    assert [float(loss.detach()) for loss in visual] == near(stored["visual_loss_per_permutation"])
    assert [float(loss.detach()) for loss in cross] == near(stored["cross_loss_per_permutation"])
    assert [int(count) for count in counts] == case.numbers["train"]["weight_per_permutation_n"]
    total = task.total(task.terms(visual, cross, counts))
    assert float(total.detach()) == near(stored["loss"])
    total.backward()
    gradients = gradient_norms(reader)
    assert {name for name, norm in gradients.items() if norm is None} == without_gradient(stored["grad_norm"])
    for name, norm in gradients.items():
        if norm is not None:
            assert norm == near(stored["grad_norm"][name], 2e-4, 1e-6), name
    rows = len(inputs.images)
    by_order = [captions[start : start + rows] for start in range(0, len(captions), rows)]
    assert by_order == stored["captions_per_permutation"]
    if variant != "plain":
        check_reading(case, reader, variant)


def listen(reader: Clip4Str) -> list[str]:
    """Return a list that fills with the captions which the reader makes from now on."""
    heard: list[str] = []
    captioner = reader.captioner

    def listening(best: torch.Tensor) -> list[str]:
        heard.extend(captioner(best))
        return heard[-len(best) :]

    reader.captioner = listening
    return heard


def without_gradient(norms: dict[str, float | None]) -> set[str]:
    return {name for name, norm in norms.items() if norm is None}


def check_reading(case: Case, reader: Clip4Str, variant: str) -> None:
    """Compare what a variant reads."""
    stored = case.numbers["variants"][variant]
    reader.eval()
    with torch.no_grad():
        logits = reader(images_of(case))
    close(logits, case.tensor(f"variant_{variant}_logits"))
    readings = decode_probabilities(reader.charset, logits.softmax(dim=-1))
    assert [reading.text for reading in readings] == stored["strings"]
    assert [reading.confidence for reading in readings] == near(stored["confidences"], 1e-4)


@pytest.mark.parametrize("case", cases("clip4str"))
def test_stored_gradients_and_what_is_frozen(case: Case) -> None:
    weights = {stored_name(name): weight for name, weight in trained(case).named_parameters()}
    assert {name for name, weight in weights.items() if not weight.requires_grad} == set(case.numbers["frozen"])
    idle = [name for name, weight in weights.items() if weight.requires_grad and weight.grad is None]
    assert idle == case.numbers["trainable_without_gradient"]
    stored = [name for name in case.arrays if name.startswith("grad__")]
    assert {name.removeprefix("grad__") for name in stored} >= set(case.numbers["full_gradients_in_npz"])
    for name in stored:
        gradient = weights[name.removeprefix("grad__")].grad
        assert gradient is not None, name
        close_gradient(gradient, case.tensor(name))


@pytest.mark.parametrize("case", cases("clip4str"))
def test_parameter_groups(case: Case) -> None:
    task, stored = task_of(case), case.numbers["optimizer"]["groups"]
    peak, optim = stored[0]["max_lr"], published().optim
    names = {id(weight): stored_name(name) for name, weight in task.reader.named_parameters()}
    groups = task.parameter_groups(peak, case.numbers["model"]["weight_decay"])
    assert [{names[id(weight)] for weight in group["params"]} for group in groups] == [
        set(group["names"]) for group in stored
    ]
    assert [group["lr"] for group in groups] == pytest.approx([group["max_lr"] for group in stored], rel=1e-9)
    assert [group["weight_decay"] for group in groups] == [group["weight_decay"] for group in stored]
    for group in stored:
        assert ([optim.beta1, optim.beta2], optim.eps) == (group["betas"], group["eps"])


@pytest.mark.parametrize("case", cases("clip4str"))
@pytest.mark.filterwarnings("ignore:To get the last learning rate")
def test_learning_rates_and_schedule(case: Case) -> None:
    task, stored = task_of(case), case.numbers["optimizer"]
    for rule in stored["lr_rule"]:
        peak = task.learning_rate(rule["lr"], rule["accumulate_grad_batches"], rule["devices"], rule["batch_size"])
        optimizer = build_optimizer(task.parameter_groups(peak, 0.2), lr=peak)
        assert [group["lr"] for group in optimizer.param_groups] == pytest.approx(rule["max_lr_per_group"], rel=1e-9)
        first = build_schedule(optimizer, 1000, published().optim.warmup).get_last_lr()
        assert first == pytest.approx(rule["first_step_lr_per_group"], rel=1e-9)
    points = stored["onecycle"]
    peak = stored["groups"][0]["max_lr"]
    schedule = build_schedule(
        build_optimizer(task.parameter_groups(peak, 0.2), lr=peak),
        points["total_steps"],
        points["pct_start"],
        "onecycle",
    )
    for step, *expected in points["points"]:
        schedule.last_epoch = step  # jump
        assert schedule.get_lr() == pytest.approx(expected, rel=1e-9), step


@pytest.mark.parametrize("case", cases("clip4str"))
def test_the_published_configuration_says_what_the_program_was_given(case: Case) -> None:
    config, model = published(), case.numbers["model"]
    assert (config.optim.lr, config.optim.weight_decay, config.optim.warmup) == (
        model["lr"], model["weight_decay"], model["warmup_pct"],
    )  # fmt: skip
    assert (config.clip4str.decoder_lr, config.clip4str.decoder_decay) == (model["coef_lr"], model["coef_wd"])


def task_of(case: Case) -> Clip4StrTask:
    return trained_on(case, fresh_reader(case), case.numbers["model"])[0]


@cache
def published() -> TeacherConfig:
    return load_config(TeacherConfig, "clip4str_base")
