"""Grow a trained reader: more blocks or other sizes, with the weights of all parts that stay as they are.

New blocks, and new convolutions of the stem, start as identities, and what is made wider reads none of its new channels
at first: a grown reader begins with what it can read (Net2Net, arXiv 1511.05641).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor, nn

from students.encoders import Residual
from students.reading import Reader
from students.student import StudentConfig

AnyReader = TypeVar("AnyReader", bound=Reader)


@dataclass(frozen=True)
class Growth:
    """What `grow` took from a reader."""

    kept: int
    """Weights (numbers) of the grown reader that were taken."""
    total: int
    """Weights of the grown reader."""
    identities: tuple[str, ...]
    """New parts that start as identities."""
    widened: tuple[str, ...]
    """Parts that keep their weights and got further ones, for new channels."""
    new: tuple[str, ...]
    """Parts whose weights, or some of them, are drawn anew, because the reader has none that fit."""

    def describe(self) -> str:
        """Describe it in one line."""
        parts = [f"{100 * self.kept / self.total:.1f}% of {self.total / 1e6:.2f} M weights are taken"]
        if self.identities:
            parts.append(f"new, starting as identities, are {', '.join(self.identities)}")
        if self.widened:
            parts.append(f"made wider are {', '.join(self.widened)}")
        if self.new:
            parts.append(f"drawn anew are {', '.join(self.new)}")
        return "; ".join(parts)


def grow(reader: AnyReader, config: StudentConfig) -> tuple[AnyReader, Growth]:
    """Build a reader of other sizes that starts from a trained one; new weights are drawn from torch's generator.

    Args:
        reader: whose weights are copied where they fit.
        config: the new sizes; alphabet and longest word are those of the reader.

    Raises:
        UserError: for sizes that no reader can have.
    """
    grown = type(reader)(config)
    grown.language_model = reader.language_model
    old, fresh = reader.state_dict(), grown.state_dict()
    taken = {name: old[name] for name, drawn in fresh.items() if name in old and old[name].shape == drawn.shape}
    wider = dict(_widened(reader, grown))
    grown.load_state_dict({**fresh, **taken, **wider})
    known = [name for name in fresh if name in old]
    smaller = any(name.startswith("encoder.") and name not in taken and name not in wider for name in known)
    identities = [] if smaller else list(_make_identities(grown, old))
    found = (*taken, *wider, *(f"{name}." for name in identities))
    report = Growth(
        kept=sum(old[name].numel() for name in (*taken, *wider)),
        total=sum(values.numel() for values in fresh.values()),
        identities=tuple(identities), widened=tuple(_parts(wider)),
        new=tuple(_parts(name for name in fresh if not name.startswith(found))),
    )  # fmt: skip
    return grown.train(reader.training), report


@torch.no_grad()
def _widened(reader: Reader, grown: Reader) -> Iterator[tuple[str, Tensor]]:
    """Yield weights of an encoder that got more channels, and of its column head."""
    old, before, after = reader.state_dict(), reader.config, grown.config
    if before.width // before.heads != after.width // after.heads:
        return  # channels of one head would get to another one
    for name, drawn in grown.state_dict().items():
        known = old.get(name)
        if known is None or known.shape == drawn.shape or not name.startswith(("encoder.", "column_head.")):
            continue
        if known.dim() != drawn.dim() or any(a > b for a, b in zip(known.shape, drawn.shape, strict=True)):
            continue
        if ".attn.qkv." in name:  # queries, keys and values lie one after the other
            parts = zip(known.chunk(3), drawn.chunk(3), strict=True)
            yield name, torch.cat([_extended(*part) for part in parts])
        elif name.endswith(("norm.weight", "norm1.weight", "norm2.weight")):
            # LayerNorm divides by the spread over all channels, to which new ones add next to nothing.
            yield name, _extended(known * math.sqrt(len(known) / len(drawn)), drawn)
        else:
            yield name, _extended(known, drawn)


def _extended(known: Tensor, drawn: Tensor) -> Tensor:
    """Put known weights (outputs, inputs, ...) into larger drawn ones, whose further inputs count for nothing."""
    values = drawn.clone()
    if values.dim() > 1:
        values[:, known.shape[1] :] = 0
    values[tuple(slice(size) for size in known.shape)] = known
    return values


@torch.no_grad()
def _make_identities(grown: nn.Module, old: dict[str, Tensor]) -> Iterator[str]:
    """Let blocks that the old reader lacks add nothing to their input; yields their names."""
    for name, part in grown.named_modules():
        if any(known.startswith(f"{name}.") for known in old):
            continue
        if isinstance(part, Residual):
            part.conv.bn.weight.zero_()  # SiLU of 0 is 0
            yield name
        elif hasattr(part, "attn") and hasattr(part, "mlp"):
            for last in (part.attn.proj, part.mlp.fc2):
                last.weight.zero_()
                last.bias.zero_()
            yield name


def _parts(names: Iterable[str]) -> list[str]:
    """Shorten names of weights to the parts that they belong to, such as `encoder.blocks`."""
    return list(dict.fromkeys(".".join(name.split(".")[:2]) for name in names))
