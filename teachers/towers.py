"""Run the two towers of an open_clip CLIP: taps of the image tower, texts at their own length, labels from a cache.

The text tower is causal: a row of a tap depends on its own token and those before it. So the rows of a label, those of
its padding too, depend on the label alone, and a label at a longer padded length has the same rows and some more.
Labels are cached at padded lengths that are multiples of `STRIDE`; a batch takes the rows it has room for.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from itertools import islice

import torch
from open_clip import CLIP
from open_clip.transformer import VisionTransformer
from torch import Tensor
from torch.nn import functional as F

from students.stages import Taps
from teachers.feature_cache import FeatureCache, autocast_dtype
from teachers.guidance import Part
from teachers.tokens import AlignedTokenizer

STRIDE = 8
"""Labels are cached at padded lengths that are multiples of it."""
EMBEDDED_AT_ONCE = 1024
"""Words of a lexicon that are embedded together."""


def run_text(clip: CLIP, ids: Tensor, after: Sequence[int] = ()) -> tuple[list[Tensor], Tensor]:
    """Run the text tower on ids (N, L), with position embeddings and causal mask cropped to L.

    Args:
        clip: the model; its text tower is causal and takes the embedding at the largest id, the end token.
        ids: (N, L) token ids of any length up to the tower's context.
        after: after how many blocks the residual stream is tapped.

    Returns:
        The taps, each (N, L, width) without a norm, and the text embeddings (N, joint width), not normalised.
    """
    taps, x = text_stream(clip, ids, after)
    end = x[torch.arange(len(ids), device=ids.device), ids.argmax(dim=-1)]
    end = clip.ln_final(end)
    return taps, end @ clip.text_projection


def text_stream(
    clip: CLIP, ids: Tensor, after: Sequence[int] = (), blocks: int | None = None
) -> tuple[list[Tensor], Tensor]:
    """Run the text tower's first `blocks` on ids (N, L): the taps and the residual stream, each (N, L, width), raw."""
    length = ids.shape[1]
    mask = clip.attn_mask[:length, :length]
    x = clip.token_embedding(ids) + clip.positional_embedding[:length]
    taps: list[Tensor] = []
    for number, block in enumerate(islice(clip.transformer.resblocks, blocks), start=1):
        x = block(x, attn_mask=mask)
        if number in after:
            taps.append(x)
    return taps, x


def run_words(clip: CLIP, ids: Tensor) -> Tensor:
    """Embed texts (N, L) in four groups of similar length, each at its own length: (N, joint width), not normalised.

    The causal mask keeps padding out of the result, so the groups change the cost and nothing else.
    """
    lengths = (ids != 0).sum(dim=1)
    order = lengths.argsort(stable=True)
    groups = [group for group in order.tensor_split(4) if len(group)]
    parts = [run_text(clip, ids[group, : int(lengths[group[-1]])])[1] for group in groups]
    return torch.cat(parts)[order.argsort()]


def embed_words(clip: CLIP, tokens: AlignedTokenizer, words: Sequence[str]) -> Tensor:
    """Embed the words of a lexicon in the joint space, `EMBEDDED_AT_ONCE` at a time: (M, joint width), normalised.

    Raises:
        UserError: a word that can't be split into one token per character.
    """
    device = clip.token_embedding.weight.device
    # Words of equal tokens, such as those of a teacher without case, have equal embeddings, to the last bit.
    ids, places = tokens(words).unique(dim=0, return_inverse=True)
    parts = [run_words(clip, batch.to(device)) for batch in ids.split(EMBEDDED_AT_ONCE)]
    return F.normalize(torch.cat(parts).float(), dim=-1)[places.to(device)]


def label_features(
    clip: CLIP, tokens: AlignedTokenizer, taps: Sequence[int], labels: Sequence[str], parts: Collection[Part],
    cache: FeatureCache | None = None,
) -> tuple[Taps | None, Tensor | None, Tensor]:  # fmt: skip
    """Compute `Guidance.text`, `Guidance.word` and `Guidance.mask` of N labels.

    Args:
        clip: the model.
        tokens: one id per character.
        taps: after how many blocks the text tower is tapped, three of them.
        labels: N words.
        parts: whether `text` and `word` are computed; they are None otherwise.
        cache: of features by label; None computes the batch as a whole.

    Raises:
        UserError: a label that can't be split into one token per character.
    """
    device = clip.token_embedding.weight.device
    ids = tokens(labels)
    mask = (ids[:, 1:] != 0).to(device)
    text, word = "text" in parts, "word" in parts
    if not text and not word:
        return None, None, mask

    def run(batch: Tensor) -> list[Tensor]:
        if not word:
            return text_stream(clip, batch, taps, max(taps))[0]  # the blocks behind the last tap do not run
        tapped, words = run_text(clip, batch, taps if text else ())
        return [*tapped, words]

    features: Sequence[Tensor]
    if cache is None:
        features = run(ids.to(device))
    else:
        context = clip.positional_embedding.shape[0]
        length = max(min(-(-ids.shape[1] // STRIDE) * STRIDE, context), ids.shape[1])
        padded = F.pad(ids, (0, length - ids.shape[1]))
        variant = (text, word, autocast_dtype(device))
        keys = [(row.tobytes(), variant) for row in padded.numpy()]
        features = cache.gather(keys, lambda indices: run(padded[indices].to(device)))
    reversed_taps: Taps | None = None
    if text:
        shallow, middle, deep = (tap[:, 1 : ids.shape[1]] for tap in features[:3])
        reversed_taps = deep, middle, shallow
    return reversed_taps, features[-1] if word else None, mask


def text_tokens(clip: CLIP, ids: Tensor) -> Tensor:
    """Return all tokens of texts (N, L) in the joint space, padding too: (N, L, joint width), not normalised."""
    return clip.ln_final(text_stream(clip, ids)[1]) @ clip.text_projection


def image_stages(visual: VisionTransformer, images: Tensor, after: Sequence[int] = ()) -> tuple[list[Tensor], Tensor]:
    """Run the whole image tower: its taps, as `run_image` gives them, and all tokens behind the final norm.

    Returns:
        The taps, and the tokens (N, 1 + tokens, width), class token first.
    """
    *taps, last = run_image(visual, images, (*after, len(visual.transformer.resblocks)))
    return taps, visual.ln_post(last)


def run_image(visual: VisionTransformer, images: Tensor, after: Sequence[int]) -> list[Tensor]:
    """Return the taps of an image tower: (N, 1 + tokens, width) each, class token first, no norm.

    Blocks behind the last tap don't run.
    """
    outputs = visual.forward_intermediates(
        images,
        indices=[number - 1 for number in after],
        stop_early=True,
        intermediates_only=True,
        output_fmt="NLC",
        output_extra_tokens=True,
    )
    pairs = zip(outputs["image_intermediates_prefix"], outputs["image_intermediates"], strict=True)
    return [torch.cat(pair, dim=1) for pair in pairs]
