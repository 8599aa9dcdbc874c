"""Self-attention that is quick on a CPU too, with the weights of `nn.MultiheadAttention`.

On a CPU under bfloat16 torch's fused attention is three to seven times slower than two products and a softmax for
the short sequences of word pictures. open_clip's blocks reach attention only through `nn.MultiheadAttention`,
so its modules are exchanged for `PlainAttention`, which keeps the names and shapes of their parameters.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class PlainAttention(nn.Module):
    """Multi-head self-attention with the parameters and the call of a batch-first `nn.MultiheadAttention`."""

    def __init__(self, width: int, heads: int) -> None:
        """Create the parameters, initialised as `nn.MultiheadAttention` does."""
        super().__init__()
        if width % heads:
            raise ValueError(f"width {width} is no multiple of {heads} heads")
        self.heads = heads
        self.in_proj_weight = nn.Parameter(torch.empty(3 * width, width))
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * width))
        self.out_proj = nn.Linear(width, width)
        nn.init.xavier_uniform_(self.in_proj_weight)
        nn.init.zeros_(self.out_proj.bias)

    @classmethod
    def replacing(cls, attention: nn.MultiheadAttention) -> PlainAttention:
        """Take over the parameters of `attention` (self-attention with bias, batch first, no dropout)."""
        plain = cls(attention.embed_dim, attention.num_heads)
        plain.load_state_dict(attention.state_dict())
        return plain.to(attention.in_proj_weight)

    def forward(
        self, query: Tensor, key: Tensor, value: Tensor, need_weights: bool = False, attn_mask: Tensor | None = None
    ) -> tuple[Tensor, None]:
        """Attend from `query` (N, L, D) to itself; `attn_mask` (L, L) is added to the scores.

        Key and value are part of the call only because `nn.MultiheadAttention` has them: they must be the query.
        """
        if key is not query or value is not query or need_weights:
            raise NotImplementedError("PlainAttention is self-attention and returns no weights")
        n, length, width = query.shape
        projected = F.linear(query, self.in_proj_weight, self.in_proj_bias)
        q, k, v = projected.view(n, length, 3, self.heads, width // self.heads).permute(2, 0, 3, 1, 4)
        mask = None if attn_mask is None else attn_mask.to(q.dtype)
        if query.is_cuda:
            mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        else:
            scores = (q * (width // self.heads) ** -0.5) @ k.transpose(-1, -2)
            if mask is not None:
                scores = scores + mask
            mixed = scores.softmax(dim=-1) @ v
        return self.out_proj(mixed.transpose(1, 2).reshape(n, length, width)), None


def use_plain_attention(module: nn.Module) -> None:
    """Replace every self-attention in `module` by a `PlainAttention` with the same weights, in place."""
    for child in list(module.modules()):
        for name, inner in list(child.named_children()):
            if isinstance(inner, nn.MultiheadAttention) and inner.batch_first and inner._qkv_same_embed_dim:
                setattr(child, name, PlainAttention.replacing(inner))
