"""Consistency of two augmented views of a picture: the loss `consistency`, for students that read by CTC.

Source: Yao et al. 2025, "CR-CTC: Consistency regularization on CTC for improved speech recognition", ICLR 2025, arXiv
2410.05101; docs/method.md, section 4.8.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from losses.registry import LossContext, register_loss
from students.alignment import label_characters
from students.stages import Stages


@register_loss("consistency", second_view=True)
def consistency(stages: Stages, context: LossContext) -> Tensor:
    """Compare the columns of both views: half of the two KL divergences, each to the other view at rest.

    Summed over a word's columns and divided by its characters, mean over words: the same scale as CTC.

    Args:
        stages: the first view, `columns` (N, W, C + 1).
        context: with `second_columns` of the same shape.

    Raises:
        ValueError: without columns of both views.
    """
    if stages.columns is None or context.second_columns is None:
        raise ValueError("consistency compares the columns of two views")
    with torch.autocast(stages.columns.device.type, enabled=False):
        kind = torch.promote_types(stages.columns.dtype, torch.float32)
        first, second = (each.to(kind).log_softmax(dim=-1) for each in (stages.columns, context.second_columns))
        apart = sum(
            F.kl_div(one, other.detach(), reduction="none", log_target=True).sum(dim=-1)
            for one, other in ((first, second), (second, first))
        )
        own = stages.own_columns[:, None] > torch.arange(first.shape[1], device=first.device)
        _, characters = label_characters(context.target_ids, first.shape[-1] - 1)
        return ((apart * own).sum(dim=1) / (2 * characters.clamp(min=1))).mean()
