"""Mix the weights of a reader with those that it started from, so that what it knew then is forgotten less."""

from __future__ import annotations

import logging
from collections.abc import Mapping

import torch
from torch import Tensor

from students.errors import UserError
from students.reading import Reader

LOG = logging.getLogger(__name__)
UNRELATED = 0.9
"""`distance` from which on two readers have nothing in common; it is 0.3 for `tiny` and `tiny-free`."""


@torch.no_grad()
def mix_weights(reader: Reader, other: Reader, share: float) -> None:
    """Replace the weights of a reader by a weighted mean of its own and another's, in place.

    Wortsman et al. ("Robust fine-tuning of zero-shot models", arXiv 2109.01903) found that weights between a model and
    the one that it went on from keep much of what either knows. Means and variances of a BatchNorm are mixed too.

    Args:
        reader: the reader that was trained.
        other: the one that it started from, of the same architecture and alphabet.
        share: part of the other, 0 to 1.

    Raises:
        UserError: when the two differ in their alphabet or the shapes of their weights, or for a share out of range.
    """
    if not isinstance(share, int | float) or not 0 <= share <= 1:
        raise UserError(f"a share of {share} to mix in; give 0 (nothing of it) to 1 (all of it)")
    own, others = reader.state_dict(), other.state_dict()
    shapes, other_shapes = ({name: weight.shape for name, weight in weights.items()} for weights in (own, others))
    unlike = [name for name in shapes | other_shapes if shapes.get(name) != other_shapes.get(name)]
    if unlike or reader.charset.characters != other.charset.characters:
        what = f"{len(unlike)} weights, the first {unlike[0]}" if unlike else "their alphabets"
        raise UserError(
            f"these two differ in {what}; only a reader and the one that it started from can be mixed, when size and "
            "alphabet are the same"
        )
    if 0 < share < 1 and distance(own, others) > UNRELATED:
        LOG.warning("the weights to mix are as far apart as those of unrelated readers: did one start from the other?")
    for name, weight in own.items():
        if weight.is_floating_point():
            weight.lerp_(others[name].to(weight), share)


def distance(own: Mapping[str, Tensor], others: Mapping[str, Tensor]) -> float:
    """Compare matrices and filters: 0 where they are equal, about 1 where they were drawn independently."""
    pairs = [(weight.double(), others[name].double()) for name, weight in own.items() if weight.ndim > 1]
    apart = sum(float((one - other.to(one)).square().sum()) for one, other in pairs)
    return apart / max(sum(float(one.square().sum() + other.square().sum()) for one, other in pairs), 1e-12)
