"""Grow a trained reader: more blocks or other sizes, with the weights of all parts that stay as they are.

New blocks, and new convolutions of the stem, start as identities: a reader that is only made deeper reads at first as
before (Net2Net, arXiv 1511.05641).
"""

from __future__ import annotations

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
    new: tuple[str, ...]
    """Parts whose weights, or some of them, are drawn anew, because the reader has none of their shape."""

    def describe(self) -> str:
        """Describe it in one line."""
        parts = [f"{100 * self.kept / self.total:.1f}% of {self.total / 1e6:.2f} M weights are taken"]
        if self.identities:
            parts.append(f"new, starting as identities, are {', '.join(self.identities)}")
        if self.new:
            parts.append(f"drawn anew are {', '.join(self.new)}")
        return "; ".join(parts)


def grow(reader: AnyReader, config: StudentConfig) -> tuple[AnyReader, Growth]:
    """Build a reader of other sizes that starts from a trained one; new weights are drawn from torch's generator.

    Args:
        reader: whose weights are copied where name and shape are the same.
        config: the new sizes; alphabet and longest word are those of the reader.

    Raises:
        UserError: for sizes that no reader can have.
    """
    grown = type(reader)(config)
    old, fresh = reader.state_dict(), grown.state_dict()
    taken = {name: old[name] for name, drawn in fresh.items() if name in old and old[name].shape == drawn.shape}
    grown.load_state_dict({**fresh, **taken})
    identities = list(_make_identities(grown, old)) if _same_width(reader, config) else []
    known = tuple(f"{name}." for name in identities)
    drawn = [name for name in fresh if name not in taken and not name.startswith(known)]
    report = Growth(
        kept=sum(old[name].numel() for name in taken), total=sum(values.numel() for values in fresh.values()),
        identities=tuple(identities), new=tuple(_parts(drawn)),
    )  # fmt: skip
    return grown.train(reader.training), report


def _same_width(reader: Reader, config: StudentConfig) -> bool:
    before: StudentConfig = reader.config
    return (before.width, before.stem) == (config.width, config.stem)


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
