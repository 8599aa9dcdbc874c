"""Contrastive training of the small teacher: pictures and words that belong together, apart from hard negatives."""

from __future__ import annotations

import hashlib
import math
import random
import string
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from distill.data.batch import Batch
from distill.training.task import Task
from distill.training.teacher_sections import ContrastiveSection
from losses.labels import column_loss, ctc_loss
from students.errors import UserError
from teachers.small import SmallTeacher
from teachers.towers import run_words

TRIES = 1000
"""Edits that are drawn for each hard negative, before that is an error."""
MAX_SCALE = 100.0
"""Largest factor (1 / temperature) on the similarities, as in CLIP."""
CLASSES = (string.digits, string.ascii_lowercase, string.ascii_uppercase, string.punctuation)
"""A changed character mostly stays in its class, as misreadings do."""

SAME_CLASS_SHARE = 0.85
"""Part of the substitutions and insertions that stay in the class."""


@dataclass(frozen=True)
class TeacherScores:
    """Accuracies of a teacher on unseen words."""

    words: int
    """Words measured, all different."""
    closed_lexicon: float
    """Percentage whose own word is the nearest of all `words` texts."""
    hard_negative: float
    """Percentage whose own word is the nearest among itself and nine words one edit away."""


@dataclass(frozen=True)
class ContrastiveInputs:
    """One batch of N pictures with M different texts: its words first, then their hard negatives."""

    images: Tensor
    """(N, 3, 32, 128)."""
    text_ids: Tensor
    """(M, longest + 2) token ids of the texts."""
    text_keys: Tensor
    """(M,) a number that stands for each text."""
    targets: Tensor
    """(N,) the text that each picture shows."""
    columns: Tensor
    """(N, 32) character id under each column, 0 between, -1 unknown."""
    fading: float
    """Falls from 1 at the start to 0 where the column term ends."""


class ContrastiveTask(Task):
    """A small teacher under training, with auxiliary terms that have it recognise characters.

    One head classifies image columns, at first by the rendered character under each, later by CTC; CTC from the start
    would collapse to blanks first. The other spells words from embeddings: the same linear map must name the first,
    second, ... and the last, last but one, ... character from a picture's embedding and from its word's, so that both
    write in the same code. The heads belong to the task and aren't part of the exported model.

    Args:
        teacher: trained in place.
        options: hard negatives and weights of the terms.
        seed: of the hard negatives.
    """

    def __init__(self, teacher: SmallTeacher, options: ContrastiveSection | None = None, seed: int = 0) -> None:
        super().__init__()
        self.teacher, self.seed = teacher, seed
        self.options = options or ContrastiveSection()
        config, classes = teacher.config, len(teacher.config.characters) + 1
        reads = self.options.ctc > 0 or self.options.columns > 0
        self.column_head = nn.Linear(config.image_width, classes) if reads else None
        spells = self.options.spelling > 0
        self.spelling_head = nn.Linear(config.joint_width, 2 * config.max_length * classes) if spells else None
        self.queue = TextQueue(self.options.text_queue, config.joint_width)
        if not self.options.train_text:
            for name, weight in teacher.named_parameters():
                weight.requires_grad_(name.startswith("visual.") or name == "logit_scale")

    def exported_model(self) -> SmallTeacher:
        """The teacher, without the heads of the auxiliary terms."""
        return self.teacher

    def no_weight_decay(self) -> set[str]:
        """Name positions, token embeddings and the class token."""
        names = {"positional_embedding", "token_embedding.weight", "visual.positional_embedding"}
        return {f"teacher.{name}" for name in names}

    def unused_parameters(self) -> tuple[str, ...]:
        """Name the column head when nothing trains it once the column term has ended."""
        return () if self.column_head is None or self.options.ctc > 0 else ("column_head.",)

    def prepare(self, batch: Batch, step: int, progress: float, part: int = 0) -> ContrastiveInputs:
        """Draw the hard negatives and encode all texts.

        `batch.columns` must hold ids in the order of the teacher's characters; labels are folded to its case.

        Raises:
            UserError: a label has characters outside the teacher's vocabulary.
        """
        words = [self.teacher.fold(label) for label in batch.labels]
        options, device = self.options, batch.images.device
        fades = options.columns > 0 and options.columns_until > 0
        fading = max(0.0, 1 - progress / options.columns_until) if fades else 0.0
        count = options.hard_negatives - int(fading * max(0, options.hard_negatives - 1))
        lexicon = self.lexicon(words, batch.indices.tolist(), step, count)
        return ContrastiveInputs(
            images=batch.images,
            text_ids=self.teacher.tokens(list(lexicon)).to(device),
            text_keys=torch.tensor([key_of(text) for text in lexicon], device=device),
            targets=torch.tensor([lexicon[word] for word in words], device=device),
            columns=batch.columns,
            fading=fading,
        )

    def lexicon(self, words: Sequence[str], indices: Sequence[int], step: int, count: int) -> dict[str, int]:
        """Number the different words of a batch, then `count` hard negatives of each that are no words of the batch.

        Hard negatives depend on the seed, the sample's index and the step and on nothing else, so that a resumed
        training draws the same ones.
        """
        lexicon = {word: number for number, word in enumerate(dict.fromkeys(words))}
        options, config = self.options, self.teacher.config
        for word, index in zip(words, indices, strict=True):
            source = random.Random(f"{self.seed}/{step}/{index}")
            for negative in hard_negatives(
                word, count, config.characters, source, options.max_edits, config.max_length
            ):
                lexicon.setdefault(negative, len(lexicon))
        return lexicon

    def forward(self, inputs: ContrastiveInputs) -> dict[str, Tensor]:
        """Compare pictures and texts.

        Returns:
            `image_to_word`, half the cross-entropy of a picture finding its word among all M texts and earlier ones;
            `word_to_image`, half that of a word finding its picture among those of other words; `columns` and `ctc`
            on the image columns; `spelling` from the embeddings.
        """
        image, columns = self.teacher.encode_columns(inputs.images)
        texts = run_words(self.teacher, inputs.text_ids)
        with torch.autocast(inputs.images.device.type, enabled=False):
            scaled = self.scale() * F.normalize(image.float(), dim=-1)
            words = F.normalize(texts.float(), dim=-1)
            similarity = scaled @ words.T
            others = self.queue.compare(scaled, inputs.text_keys[inputs.targets])
            terms = {
                "image_to_word": F.cross_entropy(torch.cat([similarity, others], dim=1), inputs.targets) / 2,
                "word_to_image": word_to_image(similarity, inputs.targets) / 2,
            }
            if self.training:
                self.queue.add(words, inputs.text_keys)
        own_ids = inputs.text_ids[inputs.targets]
        if self.column_head is not None:
            readings, classes = self.column_head(columns), self.column_head.out_features
            if inputs.fading > 0:
                terms["columns"] = self.options.columns * inputs.fading * column_loss(readings, inputs.columns)
            if inputs.fading < 1 and self.options.ctc > 0:
                terms["ctc"] = self.options.ctc * (1 - inputs.fading) * ctc_loss(readings, own_ids, classes - 1)
        if self.spelling_head is not None:
            both = torch.cat([image, texts[inputs.targets].to(image.dtype)])
            terms["spelling"] = self.options.spelling * self.spell(both, own_ids.repeat(2, 1))
        return terms

    def spell(self, embeddings: Tensor, ids: Tensor) -> Tensor:
        """Return the cross-entropy of spelling words (N, L + 2) of ids from embeddings (N, joint width).

        Slots are counted from the start and from the end; the one behind the word must say so (class 0), further
        ones don't count.
        """
        if self.spelling_head is None:
            raise RuntimeError("spelling without a head")
        slots, classes = self.teacher.config.max_length, len(self.teacher.config.characters) + 1
        length = min(ids.shape[1] - 1, slots)
        logits = self.spelling_head(F.normalize(embeddings.float(), dim=-1) * embeddings.shape[1] ** 0.5)
        logits = logits.view(len(ids), 2, slots, classes)[:, :, :length].float()
        inside = (ids >= 1) & (ids < classes)
        targets = torch.where(inside, ids, 0).masked_fill(ids == 0, -1)[:, 1 : length + 1]
        lengths = inside.sum(dim=1, keepdim=True)
        positions = lengths - torch.arange(length, device=ids.device)
        backwards = ids.gather(1, positions.clamp(min=0)) * (positions > 0)
        backwards = backwards.masked_fill(positions < 0, -1)
        return F.cross_entropy(logits.flatten(0, 2), torch.stack([targets, backwards], 1).flatten(), ignore_index=-1)

    def scale(self) -> Tensor:
        """Return the learned factor on similarities, clamped."""
        return self.teacher.logit_scale.clamp(max=math.log(MAX_SCALE)).exp()


class TextQueue(nn.Module):
    """Embeddings of the texts of earlier steps, as they were then (cross-batch memory, arXiv 1912.06798).

    They make a lexicon of thousands of words out of batches of hundreds, at the price of a product.

    Args:
        texts: how many are stored.
        width: of the joint space.
    """

    rows: Tensor
    keys: Tensor
    added: Tensor

    def __init__(self, texts: int, width: int) -> None:
        super().__init__()
        self.size = texts
        # Checkpoints leave out buffers without an element, and then lack them.
        self.register_buffer("rows", torch.zeros(max(texts, 1), width))
        self.register_buffer("keys", torch.zeros(max(texts, 1), dtype=torch.int64))
        self.register_buffer("added", torch.zeros((), dtype=torch.int64))

    def compare(self, images: Tensor, keys: Tensor) -> Tensor:
        """Multiply images (N, D) with the stored texts, (N, K); minus infinity where a text is an image's own word."""
        count = min(int(self.added), self.size)
        # Rows are written over before the gradient comes back to what was computed with them.
        own = keys[:, None] == self.keys[:count]
        return (images @ self.rows[:count].clone().T).masked_fill(own, float("-inf"))

    @torch.no_grad()
    def add(self, rows: Tensor, keys: Tensor) -> None:
        """Store embeddings (M, D) and their keys (M,) in the place of the oldest."""
        size = self.size
        if size == 0:
            return
        slots = (self.added + torch.arange(len(keys), device=keys.device)) % size
        self.rows[slots[-size:]], self.keys[slots[-size:]] = rows[-size:], keys[-size:]
        self.added += len(keys)


def key_of(text: str) -> int:
    """Return a number of 63 bits that stands for a text, the same in every process."""
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little") >> 1


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

    Hard negatives depend on the sample's index only, so that teachers are compared on the same ones.
    """
    was_training = teacher.training
    teacher.eval()
    embedded: dict[str, tuple[Tensor, int]] = {}
    for batch in batches:
        embeddings = teacher.embed_images(batch.images)
        for label, row, index in zip(batch.labels, embeddings, batch.indices.tolist(), strict=True):
            embedded.setdefault(teacher.fold(label), (row, index))
    words = list(embedded)
    images = torch.stack([row for row, _ in embedded.values()])
    texts = teacher.embed_words(words)
    characters, length = teacher.config.characters, teacher.config.max_length
    negatives = [hard_negatives(w, 9, characters, random.Random(i), 1, length) for w, (_, i) in embedded.items()]
    wrong = teacher.embed_words([word for row in negatives for word in row]).view(len(words), 9, -1)
    with torch.autocast(images.device.type, enabled=False):  # similarities near 1 differ by less than bf16 can say
        images, texts, wrong = images.float(), texts.float(), wrong.float()
        hits = ((images @ texts.T).argmax(dim=1).cpu() == torch.arange(len(words))).sum().item()
        own = (images * texts).sum(dim=1)
        apart = (own > torch.einsum("nj,nkj->nk", images, wrong).amax(dim=1)).sum().item()
    teacher.train(was_training)
    return TeacherScores(len(words), 100 * hits / len(words), 100 * apart / len(words))


def hard_negatives(
    word: str, count: int, characters: str, random_source: random.Random, max_edits: int = 2, max_length: int = 25
) -> list[str]:
    """Draw `count` different words one to `max_edits` edits away from `word`, none of them the word itself.

    Args:
        word: the word, of characters in `characters`.
        count: how many to draw.
        characters: the alphabet that substitutions and insertions draw from.
        random_source: the generator; equal generators draw equal hard negatives.
        max_edits: most edits; two of them happen in three of ten draws.
        max_length: longest hard negative.

    Returns:
        The hard negatives in the order they were drawn.

    Raises:
        UserError: when there are hardly so many.
    """
    drawn: dict[str, None] = {}
    for _ in range(TRIES * count):
        if len(drawn) == count:
            break
        edits = 1 if max_edits == 1 or random_source.random() < 0.7 else random_source.randint(2, max_edits)
        candidate = word
        for _ in range(edits):
            candidate = edit(candidate, characters, random_source)
        if candidate and candidate != word and len(candidate) <= max_length:
            drawn[candidate] = None
    if len(drawn) == count:
        return list(drawn)
    raise UserError(f"fewer than {count} words lie as near to {word!r}; set contrastive.hard_negatives lower")


def edit(word: str, characters: str, random_source: random.Random) -> str:
    """Change one character: substitute (half of the draws), delete, insert or swap two neighbours."""
    index = random_source.randrange(len(word)) if word else 0
    kind = random_source.random()
    if not word or 0.5 <= kind < 0.7:
        drawn = draw(word[index] if word else characters[0], characters, random_source)
        index += random_source.randrange(2)
        return word[:index] + drawn + word[index:]
    if kind < 0.5:
        return word[:index] + draw(word[index], characters, random_source) + word[index + 1 :]
    if kind < 0.9:
        return word[:index] + word[index + 1 :]
    return word[:index] + word[index : index + 2][::-1] + word[index + 2 :]


def draw(like: str, characters: str, random_source: random.Random) -> str:
    """Draw a character, mostly of the same class as `like`."""
    if random_source.random() < SAME_CLASS_SHARE:
        for members in CLASSES:
            if like in members:
                pool = [c for c in members if c in characters]
                return random_source.choice(pool)
    return random_source.choice(characters)
