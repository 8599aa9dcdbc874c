"""Training PARSeq in permuted orders, from the task to the command."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from distill.commands.train_teacher import main
from distill.data.batch import Batch
from distill.schema import TeacherConfig
from distill.training.optim import learning_rate
from distill.training.permuted import ParseqTask, build_parseq, parseq_config
from distill.training.teacher_sections import ParseqSection
from students.charset import Charset
from students.errors import UserError
from students.parseq import Parseq, ParseqConfig
from students.permuted import PermutationOptions

SMALL = "{size: tiny, charset: '36', width: 64, depth: 2, max_length: 8, patch: [8, 16]}"


@pytest.fixture
def task() -> ParseqTask:
    config = ParseqConfig(
        charset=Charset.load("36").characters, max_length=8, patch=(8, 16), width=64, depth=2, heads=2, decoder_heads=2,
        dropout=0.0,
    )  # fmt: skip
    return ParseqTask(Parseq(config), seed=3)


def batch(*words: str) -> Batch:
    pictures = torch.rand(len(words), 3, 4, 16) * 2 - 1
    images = torch.nn.functional.interpolate(pictures, (32, 128))
    return Batch(images, list(words), torch.full((len(words), 32), -1), torch.arange(len(words)))


def test_orders_depend_on_seed_and_step(task: ParseqTask) -> None:
    words = batch("street", "x", "7eleven")
    first, again, later = (task.prepare(words, step, 0.0).permutations for step in (4, 4, 5))
    assert torch.equal(first, again)
    assert not torch.equal(first, later)
    assert first.shape == (6, 9)
    other = ParseqTask(task.reader, seed=4)
    assert not torch.equal(first, other.prepare(words, 4, 0.0).permutations)


def test_all_weights_learn_a_few_words_by_heart(task: ParseqTask) -> None:
    words = batch("street", "x", "7eleven", "open")
    optimizer = torch.optim.AdamW(task.parameter_groups(3e-3, 0.0), lr=3e-3)
    losses = []
    for step in range(25):
        terms = task(task.prepare(words, step, 0.0))
        assert list(terms) == ["permuted"]
        optimizer.zero_grad()
        task.total(terms).backward()
        if step == 0:
            assert all(weight.grad is not None and weight.grad.abs().sum() > 0 for weight in task.parameters())
        optimizer.step()
        losses.append(float(terms["permuted"].detach()))
    assert losses[-1] < 0.25 * losses[0]


def test_left_to_right_alone_is_a_choice(task: ParseqTask) -> None:
    task.permutations = PermutationOptions(count=1, forward=True, mirrored=False)
    prepared = task.prepare(batch("street", "x"), 0, 0.0)
    assert prepared.permutations.tolist() == [list(range(8))]
    assert len(task.order_losses(prepared)[0]) == 1


def test_the_published_learning_rate(task: ParseqTask) -> None:
    # 7e-4 at 384 words on each of two devices: sqrt(2) * 384 / 256 of it.
    assert task.learning_rate(7e-4, 1, 2, 384) == learning_rate(7e-4, 1, 2, 384) == pytest.approx(1.4849242e-3)


@pytest.mark.parametrize("spares", [False, True])
def test_embeddings_may_be_spared_by_weight_decay(task: ParseqTask, spares: bool) -> None:
    task.spare_embeddings = spares
    names = {weight: name for name, weight in task.reader.named_parameters()}
    decayed = {names[weight] for group in task.parameter_groups(1e-3, 0.05) for weight in group["params"]
               if group["weight_decay"] > 0}  # fmt: skip
    embeddings = {"pos_queries", "encoder.pos_embed", "text_embed.embedding.weight"}
    assert decayed & embeddings == (set() if spares else embeddings)
    assert "head.weight" in decayed


def test_sizes_of_the_configuration() -> None:
    assert parseq_config(ParseqSection()) == ParseqConfig()
    changed = ParseqSection(size="tiny", charset="36", width=128, depth=3, patch=[8, 8], refine_iters=0)
    config = parseq_config(changed)
    assert (config.width, config.heads, config.decoder_heads) == (128, 2, 4)
    assert (config.depth, config.patch, config.refine_iters) == (3, (8, 8), 0)
    with pytest.raises(UserError, match="multiple of 64"):
        parseq_config(ParseqSection(width=100))
    for sides in ([32], [0, 128]):
        with pytest.raises(UserError, match="give height and width"):
            parseq_config(ParseqSection(image_size=sides))


def test_starts_from_a_folder(task: ParseqTask, tmp_path: Path) -> None:
    task.reader.save_pretrained(tmp_path)
    built = build_parseq(TeacherConfig(kind="parseq", init=str(tmp_path)))
    assert built.reader.config == task.reader.config
    assert built.reader.training
    assert all(torch.equal(a, b) for a, b in zip(built.reader.parameters(), task.reader.parameters(), strict=True))
    for changed in ({"image_size": [32, 64]}, {"patch": [8, 8]}):
        with pytest.raises(UserError, match=f"leave parseq.{next(iter(changed))} out"):
            build_parseq(TeacherConfig(kind="parseq", init=str(tmp_path), parseq=ParseqSection(**changed)))


def test_the_command_trains_and_keeps_the_best(
    material: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "parseq.yaml"
    config.write_text(
        f"""# python tools/train_teacher.py --config parseq.yaml
kind: parseq
name: mini
out: {tmp_path / "run"}
parseq: {SMALL}
data: {{train: [{{path: {material / "train"}}}], validation: {material / "validation"}, workers: 0}}
optim: {{lr: 1e-3, scale_lr: false}}
train: {{steps: 3, batch_size: 5, threads: 1, validate_every: 2, log_every: 1}}
""",
        encoding="utf-8",
    )
    assert main(["--config", str(config)]) == 0, capsys.readouterr().err
    reader = Parseq.from_pretrained(tmp_path / "run" / "teacher")
    assert (reader.config.width, reader.config.heads, reader.config.decoder_heads) == (64, 1, 2)
    assert reader.max_length == 8
    card = (tmp_path / "run" / "teacher" / "README.md").read_text(encoding="utf-8")
    assert "word accuracy" in card
    assert "validation words" in card
