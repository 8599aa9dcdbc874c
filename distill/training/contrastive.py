"""Contrastive training of the small teacher: pictures and words that belong together, apart from near misses."""

from __future__ import annotations

import math
import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from distill.data.batch import Batch
from distill.training.distillation import column_loss, ctc_loss
from distill.training.near_misses import near_misses
from distill.training.task import Task
from teachers.small import SmallTeacher
from teachers.towers import run_words


@dataclass(frozen=True)
class ContrastiveOptions:
    """What can be chosen about the teacher's training."""

    near_misses: int = 3
    """Near misses of each picture's word that join the negative texts."""
    max_edits: int = 2
    """Most edits between a word and its near miss."""
    ctc: float = 0.5
    """Weight of the CTC term on the image columns."""
    columns: float = 1.0
    """Weight of the column term at the start."""
    columns_until: float = 0.4
    """Share of the training over which the column term's weight falls to 0."""
    max_scale: float = 100.0
    """Largest factor (1 / temperature) on the similarities, as in CLIP."""
    seed: int = 0
    """Seed of the near misses."""


@dataclass(frozen=True)
class TeacherScores:
    """How well a teacher tells words apart."""

    words: int
    """Words measured, all different."""
    closed_lexicon: float
    """Percentage whose own word is the nearest of all `words` texts."""
    near_miss: float
    """Percentage whose own word is the nearest among itself and nine words one edit away."""


@dataclass(frozen=True)
class ContrastiveInputs:
    """One batch of N pictures with M different texts: its words first, then their near misses."""

    images: Tensor
    """(N, 3, 32, 128)."""
    text_ids: Tensor
    """(M, longest + 2) token ids of the texts."""
    targets: Tensor
    """(N,) the text that each picture shows."""
    columns: Tensor
    """(N, 32) character id under each column, 0 between, -1 unknown."""
    column_weight: float
    """Weight of the column term now."""


class ContrastiveTask(Task):
    """A small teacher under training, with two reading terms on its columns that keep it from staying blind.

    The heads of the reading terms belong to the task and aren't part of the deliverable. They are two, because CTC
    first learns to say "nothing" everywhere, which is what the column term must unlearn.
    """

    def __init__(self, teacher: SmallTeacher, options: ContrastiveOptions | None = None) -> None:
        """Keep the teacher and build the heads of the reading terms."""
        super().__init__()
        self.teacher = teacher
        self.options = options or ContrastiveOptions()
        width, classes = teacher.config.image_width, len(teacher.config.characters) + 1
        self.ctc_head = nn.Linear(width, classes) if self.options.ctc > 0 else None
        self.column_head = nn.Linear(width, classes) if self.options.columns > 0 else None

    @property
    def deliverable(self) -> SmallTeacher:
        """The teacher, without the heads of the reading terms."""
        return self.teacher

    def no_weight_decay(self) -> set[str]:
        """Name positions, token embeddings and the class token."""
        names = {"positional_embedding", "token_embedding.weight", "visual.positional_embedding"}
        return {f"teacher.{name}" for name in names}

    def always_graded(self) -> bool:
        """Say no when the column head rests in the later part of the run."""
        return self.column_head is None or self.options.columns_until >= 1

    def prepare(self, batch: Batch, step: int, progress: float) -> ContrastiveInputs:
        """Draw the near misses and encode all texts.

        `batch.columns` must hold ids in the order of the teacher's characters; labels are folded to its case.

        Raises:
            UserError: a label has characters outside the teacher's vocabulary.
        """
        words = [self.teacher.fold(label) for label in batch.labels]
        lexicon = self.lexicon(words, batch.indices.tolist(), step)
        options, device = self.options, batch.images.device
        fading = max(0.0, 1 - progress / options.columns_until) if options.columns_until > 0 else 0.0
        return ContrastiveInputs(
            images=batch.images,
            text_ids=self.teacher.tokens(list(lexicon)).to(device),
            targets=torch.tensor([lexicon[word] for word in words], device=device),
            columns=batch.columns,
            column_weight=options.columns * fading,
        )

    def lexicon(self, words: Sequence[str], indices: Sequence[int], step: int) -> dict[str, int]:
        """Number the different words of a batch, then their near misses that are no words of the batch.

        Near misses depend on the seed, the sample's index and the step and on nothing else, so that a resumed
        training draws the same ones.
        """
        lexicon = {word: number for number, word in enumerate(dict.fromkeys(words))}
        options, config = self.options, self.teacher.config
        for word, index in zip(words, indices, strict=True):
            source = random.Random(f"{options.seed}/{step}/{index}")
            for miss in near_misses(
                word, options.near_misses, config.characters, source, options.max_edits, config.max_length
            ):
                lexicon.setdefault(miss, len(lexicon))
        return lexicon

    def forward(self, inputs: ContrastiveInputs) -> dict[str, Tensor]:
        """Compare pictures and texts.

        Returns:
            `image_to_word`, half the cross-entropy of a picture finding its word among all M texts;
            `word_to_image`, half that of a word finding its picture among those of other words; `ctc` and `columns`.
        """
        image, columns = self.teacher.encode_columns(inputs.images)
        texts = run_words(self.teacher, inputs.text_ids)
        with torch.autocast(inputs.images.device.type, enabled=False):
            similarity = self.scale() * F.normalize(image.float(), dim=-1) @ F.normalize(texts.float(), dim=-1).T
            terms = {
                "image_to_word": F.cross_entropy(similarity, inputs.targets) / 2,
                "word_to_image": word_to_image(similarity, inputs.targets) / 2,
            }
        if self.ctc_head is not None:
            own_ids, characters = inputs.text_ids[inputs.targets], len(self.teacher.config.characters)
            terms["ctc"] = self.options.ctc * ctc_loss(self.ctc_head(columns), own_ids, characters)
        if self.column_head is not None and inputs.column_weight > 0:
            terms["columns"] = inputs.column_weight * column_loss(self.column_head(columns), inputs.columns)
        return terms

    def scale(self) -> Tensor:
        """Return the learned factor on similarities, clamped."""
        return self.teacher.logit_scale.clamp(max=math.log(self.options.max_scale)).exp()


def word_to_image(similarity: Tensor, targets: Tensor) -> Tensor:
    """Return the cross-entropy of each picture's word finding that picture.

    Args:
        similarity: (N, M) scaled similarities of N pictures and M texts.
        targets: (N,) each picture's own text. Other pictures of the same word are no negatives.
    """
    rows = similarity[:, targets].T
    equal = targets[:, None] == targets[None, :]
    equal.fill_diagonal_(False)
    return F.cross_entropy(rows.masked_fill(equal, float("-inf")), torch.arange(len(targets), device=rows.device))


@torch.no_grad()
def score_teacher(teacher: SmallTeacher, batches: Iterable[Batch]) -> TeacherScores:
    """Score a teacher on pictures of unseen words; of words that fold alike only the first picture counts.

    Near misses depend on the sample's index only, so that teachers are compared on the same ones.
    """
    was_training = teacher.training
    teacher.eval()
    kept: dict[str, tuple[Tensor, int]] = {}
    for batch in batches:
        embeddings = teacher.embed_images(batch.images)
        for label, row, index in zip(batch.labels, embeddings, batch.indices.tolist(), strict=True):
            kept.setdefault(teacher.fold(label), (row, index))
    words = list(kept)
    images = torch.stack([row for row, _ in kept.values()])
    texts = teacher.embed_words(words)
    nearest = (images @ texts.T).argmax(dim=1).cpu()
    hits = (nearest == torch.arange(len(words))).sum().item()
    characters, length = teacher.config.characters, teacher.config.max_length
    misses = [near_misses(w, 9, characters, random.Random(i), 1, length) for w, (_, i) in kept.items()]
    wrong = teacher.embed_words([miss for row in misses for miss in row]).view(len(words), 9, -1)
    own = (images * texts).sum(dim=1)
    apart = (own > torch.einsum("nj,nkj->nk", images, wrong).amax(dim=1)).sum().item()
    teacher.train(was_training)
    return TeacherScores(len(words), 100 * hits / len(words), 100 * apart / len(words))
