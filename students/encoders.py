"""Encoders: from a picture to tokens, class token first, with three taps for guidance."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable
from typing import Any, Literal

import timm
import torch
from timm.layers import ConvNormAct
from timm.models.vision_transformer import Block, VisionTransformer
from torch import Tensor, nn

from students.errors import UserError
from students.stages import Taps

TapSpacing = Literal["published", "even"]
EXAMPLE = "vit_tiny_patch16_224"
"""A timm model that works, for messages."""


def tap_depths(depth: int, spacing: TapSpacing, what: str) -> tuple[int, int, int]:
    """Return after how many blocks (counted from 1) the three taps are taken.

    `published` is k * (depth // 4) as in the reference implementation; `even` is k * depth / 4 rounded down, or
    1, 2, 3 for depth 3, and so works from depth 3 on.

    Raises:
        UserError: when `depth` can't carry three different stages.
    """
    smallest = 4 if spacing == "published" else 3
    if depth < smallest:
        raise UserError(
            f"{what} of depth {depth} can't carry three guided stages with {spacing} taps; "
            f"take depth {smallest} or more"
        )
    if depth == 3:
        return 1, 2, 3
    if spacing == "published":
        return depth // 4, 2 * (depth // 4), 3 * (depth // 4)
    first, second, third = (k * depth // 4 for k in (1, 2, 3))
    return first, second, third


def check_heads(width: int, heads: int, what: str) -> None:
    """Refuse a width that its heads don't divide; raises `UserError`."""
    if width < 1 or heads < 1 or width % heads:
        raise UserError(f"{what} is {width} wide, which {heads} heads don't divide; take another width")


class Encoder(nn.Module):
    """A student's encoder; unless it says otherwise it takes pictures of one size, which have no padding."""

    tokens: int
    """Tokens S of a picture, the class token included."""
    width: int
    """Channels D of a token."""
    taps: tuple[int, int, int]
    """After how many blocks it is tapped."""

    def stages(self, images: Tensor) -> tuple[Tensor, Taps]:
        """Encode (N, 3, H, W) to the normalised final tokens (N, S, D) and the three raw taps."""
        raise NotImplementedError

    def column_lengths(self, images: Tensor) -> Tensor | None:
        """Count the columns (N,) of pictures that are none of padding; None where pictures have no padding."""
        return None

    def pool(self, tokens: Tensor, lengths: Tensor) -> Tensor:
        """Pool the columns of (N, S, D) tokens that are none of padding to the number that guidance compares."""
        raise NotImplementedError


class TimmEncoder(Encoder):
    """Any ViT-like timm model that has a class token and `forward_intermediates`.

    Args:
        model: the timm model, without pooling or classifier.
        size: height and width of the pictures.
        spacing: how the taps are spaced over its blocks.
    """

    def __init__(self, model: Any, size: tuple[int, int], spacing: TapSpacing) -> None:
        super().__init__()
        self.model = model
        self.taps = tap_depths(len(model.blocks), spacing, "an encoder")
        self.width = int(model.num_features)
        with torch.no_grad():
            self.tokens = self.stages(torch.zeros(1, 3, *size))[0].shape[1]

    def stages(self, images: Tensor) -> tuple[Tensor, Taps]:
        """Encode (N, 3, H, W): final tokens (N, S, D) and three taps of the same shape."""
        final, taken = self.model.forward_intermediates(
            images, indices=[tap - 1 for tap in self.taps], return_prefix_tokens=True, output_fmt="NLC"
        )
        first, second, third = (torch.cat([prefix, patches], dim=1) for patches, prefix in taken)
        return final, (first, second, third)


def vision_transformer(
    size: tuple[int, int], patch: tuple[int, int], width: int, depth: int, heads: int, mlp_ratio: float,
    class_token: bool = True,
) -> VisionTransformer:  # fmt: skip
    """Build a timm ViT on small patches, without pooling and classifier; PARSeq's has no class token."""
    return VisionTransformer(
        img_size=size, patch_size=patch, embed_dim=width, depth=depth, num_heads=heads, mlp_ratio=mlp_ratio,
        num_classes=0, global_pool="", class_token=class_token,
    )  # fmt: skip


def timm_model(name: str, size: tuple[int, int]) -> nn.Module:
    """Build a timm ViT-like model by name for `size` pictures, with random weights.

    Raises:
        UserError: when timm has no such model, or it returns no tokens with a class token.
    """
    if not timm.is_model(name):
        near = difflib.get_close_matches(name, timm.list_models(), 3)
        hint = f"near it: {', '.join(near)}" if near else f"take a ViT such as {EXAMPLE}"
        raise UserError(f"no encoder {name!r}: neither vit nor conv nor a model of timm; {hint}")
    try:
        model: Any = timm.create_model(name, pretrained=False, num_classes=0, img_size=size)
    except TypeError:
        raise UserError(f"timm model {name!r} takes no picture size; take a ViT such as {EXAMPLE}") from None
    if not hasattr(model, "forward_intermediates") or not getattr(model, "num_prefix_tokens", 0):
        raise UserError(f"timm model {name!r} has no class token; take a ViT such as {EXAMPLE}")
    if "return_prefix_tokens" not in inspect.signature(model.forward_intermediates).parameters:
        raise UserError(f"timm model {name!r} returns no class token of inner blocks; take a ViT such as {EXAMPLE}")
    for unused in ("fc_norm", "attn_pool"):  # would get no gradient: tokens are not pooled here
        if getattr(model, unused, None) is not None:
            setattr(model, unused, nn.Identity())
    if isinstance(model.norm, nn.Identity):  # models that pool normalise after pooling
        model.norm = nn.LayerNorm(int(model.num_features), eps=1e-6)
    return model


class Residual(nn.Module):
    """A convolution with a shortcut around it."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = ConvNormAct(channels, channels, 3, padding=1, act_layer=nn.SiLU)

    def forward(self, grid: Tensor) -> Tensor:
        """Map (N, C, H, W) to the same shape."""
        return grid + self.conv(grid)


class StemLevel(nn.Module):
    """A strided convolution, then some at the same size with a shortcut around each.

    Args:
        inputs: channels before.
        outputs: channels after.
        stride: of the first convolution, down and across.
        blocks: convolutions after the first, at least 1.
    """

    def __init__(self, inputs: int, outputs: int, stride: tuple[int, int], blocks: int = 1) -> None:
        super().__init__()
        self.reduce = ConvNormAct(inputs, outputs, 3, stride=stride, padding=1, act_layer=nn.SiLU)  # type: ignore[arg-type]
        self.refine = ConvNormAct(outputs, outputs, 3, padding=1, act_layer=nn.SiLU)
        self.more = nn.ModuleList(Residual(outputs) for _ in range(blocks - 1))

    def steps(self) -> list[Callable[[Tensor], Tensor]]:
        """List what is computed one after the other, for encoders that mask in between."""
        return [self.reduce, lambda grid: grid + self.refine(grid), *self.more]

    def forward(self, images: Tensor) -> Tensor:
        """Map (N, inputs, H, W) to (N, outputs, H / stride, W / stride)."""
        for step in self.steps():
            images = step(images)
        return images


class ConvEncoder(Encoder):
    """A convolution stem that turns 32 x 128 pixels into 32 columns, then pre-norm blocks over the columns.

    Each picture is first normalised by itself, (x - channel mean) / std: contrast and colour cast of a crop say
    nothing about its word, and a student that need not learn that leaves its plateau sooner.

    Args:
        size: height and width of the pictures.
        stem: channels of the three levels of convolutions.
        stem_blocks: convolutions with a shortcut in the second and third level.
        width: channels D of the tokens.
        depth: blocks.
        heads: attention heads of each block.
        mlp_ratio: hidden over width.
        taps: blocks, counted from 1, after which the taps are taken.
    """

    def __init__(
        self, size: tuple[int, int], stem: tuple[int, int, int], width: int, depth: int, heads: int, mlp_ratio: float,
        taps: tuple[int, int, int], stem_blocks: tuple[int, int] = (1, 1),
    ) -> None:  # fmt: skip
        super().__init__()
        self.width, self.taps = width, taps
        self.stem = nn.Sequential(
            ConvNormAct(3, stem[0], 3, stride=2, padding=1, act_layer=nn.SiLU),
            StemLevel(stem[0], stem[1], (2, 2), stem_blocks[0]),
            StemLevel(stem[1], stem[2], (2, 1), stem_blocks[1]),
        )
        self.collapse = nn.Conv2d(stem[2], width, (size[0] // 8, 1))
        self.cls_token = nn.Parameter(torch.zeros(1, 1, width))
        nn.init.trunc_normal_(self.cls_token, std=0.02)
        self.make_positions(size[1] // 4)
        self.blocks = nn.ModuleList(
            Block(width, heads, mlp_ratio, qkv_bias=True, act_layer=nn.SiLU) for _ in range(depth)
        )
        self.norm = nn.LayerNorm(width)

    def make_positions(self, columns: int) -> None:
        """Add the table of positions."""
        self.tokens = 1 + columns
        self.pos_embed = nn.Parameter(torch.zeros(1, self.tokens, self.width))
        nn.init.trunc_normal_(self.pos_embed, std=0.02)

    def column_positions(self, columns: int, like: Tensor) -> Tensor:
        """Return the positions (1, 1 + columns, D) of class token and columns."""
        return self.pos_embed

    def stages(self, images: Tensor) -> tuple[Tensor, Taps]:
        """Encode (N, 3, H, W): final tokens (N, 1 + W / 4, D), class token first, and three taps of that shape."""
        mean = images.mean(dim=(2, 3), keepdim=True)
        spread = (images - mean).square().mean(dim=(1, 2, 3), keepdim=True).sqrt()
        images = (images - mean) / (spread + 1e-3)
        return self.encode_columns(self.collapse(self.stem(images.contiguous(memory_format=torch.channels_last))))

    def encode_columns(self, columns: Tensor, attn_mask: Tensor | None = None) -> tuple[Tensor, Taps]:
        """Run the blocks over columns (N, D, 1, T): final tokens and taps, see `stages`.

        Args:
            columns: from the stem.
            attn_mask: added to the scores (N, heads, 1 + T, 1 + T); None allows all.
        """
        columns = columns.squeeze(2).transpose(1, 2)
        tokens = torch.cat([self.cls_token.to(columns.dtype).expand(columns.shape[0], -1, -1), columns], dim=1)
        tokens = tokens + self.column_positions(columns.shape[1], columns)
        taken = []
        for number, block in enumerate(self.blocks, start=1):
            tokens = block(tokens, attn_mask=attn_mask)
            if number in self.taps:
                taken.append(tokens)
        first, second, third = taken
        return self.norm(tokens), (first, second, third)


def plain_attention(module: nn.Module) -> None:
    """Make timm's attention plain matmul and softmax: several times faster than the fused kernel on a CPU in bf16."""
    for part in module.modules():
        if isinstance(getattr(part, "fused_attn", None), bool):
            part.fused_attn = False  # type: ignore[assignment]
