"""Run the two towers of an open_clip CLIP: taps of the image tower, texts at their own length."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice

import torch
from open_clip import CLIP
from open_clip.transformer import VisionTransformer
from torch import Tensor

from students.errors import UserError


def tap_blocks(depth: int, tower: str) -> tuple[int, int, int]:
    """Return after how many blocks a tower of `depth` is tapped: depth//4, 2(depth//4), 3(depth//4) (METHOD 1.1).

    Raises:
        UserError: the tower has fewer than four blocks and can't carry three stages.
    """
    quarter = depth // 4
    if quarter == 0:
        raise UserError(f"the {tower} tower has {depth} blocks, three taps need at least 4; choose a deeper teacher")
    return quarter, 2 * quarter, 3 * quarter


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


def run_words(clip: CLIP, ids: Tensor, buckets: int = 4) -> Tensor:
    """Embed texts (N, L) in `buckets` groups of similar length, each group at its own length: (N, joint width).

    The causal mask keeps padding out of the result, so the groups change the cost and nothing else.
    """
    lengths = (ids != 0).sum(dim=1)
    order = lengths.argsort(stable=True)
    groups = [group for group in order.tensor_split(buckets) if len(group)]
    parts = [run_text(clip, ids[group, : int(lengths[group[-1]])])[1] for group in groups]
    return torch.cat(parts)[order.argsort()]


def text_tokens(clip: CLIP, ids: Tensor) -> Tensor:
    """Return all tokens of texts (N, L) in the joint space, padding too: (N, L, joint width), not normalised."""
    return clip.ln_final(text_stream(clip, ids)[1]) @ clip.text_projection


def image_tokens(visual: VisionTransformer, images: Tensor) -> Tensor:
    """Return all tokens of pictures behind the final norm: (N, 1 + tokens, width), class token first."""
    return image_stages(visual, images, ())[1]


def image_stages(visual: VisionTransformer, images: Tensor, after: Sequence[int]) -> tuple[list[Tensor], Tensor]:
    """Run the whole image tower: its taps, as `run_image` gives them, and what `image_tokens` gives."""
    depth = len(visual.transformer.resblocks)
    found = visual.forward_intermediates(
        images,
        indices=[number - 1 for number in dict.fromkeys((*after, depth))],
        intermediates_only=True,
        output_fmt="NLC",
        output_extra_tokens=True,
    )
    pairs = zip(found["image_intermediates_prefix"], found["image_intermediates"], strict=True)
    stages = [torch.cat(pair, dim=1) for pair in pairs]
    return stages[: len(after)], visual.ln_post(stages[-1])


def run_image(visual: VisionTransformer, images: Tensor, after: Sequence[int]) -> list[Tensor]:
    """Return the taps of an image tower: (N, 1 + tokens, width) each, class token first, no norm.

    Blocks behind the last tap don't run.
    """
    found = visual.forward_intermediates(
        images,
        indices=[number - 1 for number in after],
        stop_early=True,
        intermediates_only=True,
        output_fmt="NLC",
        output_extra_tokens=True,
    )
    pairs = zip(found["image_intermediates_prefix"], found["image_intermediates"], strict=True)
    return [torch.cat(pair, dim=1) for pair in pairs]
