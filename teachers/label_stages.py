"""LabelStages: what a CLIP's text tower shows of labels, kept by label.

The tower is causal: a row of a tap depends on its own token and those before it. So what stands on a label's rows,
those of its padding too, depends on the label alone, and a label at a longer padded length has the same rows and some
more. Labels are kept at padded lengths that are multiples of `STRIDE`; a batch takes the rows it has room for.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from open_clip import CLIP
from torch import Tensor
from torch.nn import functional as F

from teachers.stage_cache import StageCache, computed_in
from teachers.stage_store import StageStore, Store, computer, fingerprint
from teachers.tokens import TokenizerLike
from teachers.towers import run_text, text_stream

STRIDE = 8
"""Padded lengths that labels are kept at are multiples of it."""
Texts = tuple[Tensor, Tensor, Tensor]


class LabelStages:
    """Text taps and embeddings of labels.

    Args:
        clip: the model.
        tokens: one id per character.
        taps: after how many blocks it is tapped.
    """

    cache: StageCache | None = None
    """Where they are kept; None computes every batch as a whole, each time."""

    def __init__(self, clip: CLIP, tokens: TokenizerLike, taps: Sequence[int]) -> None:
        self.clip, self.tokens, self.taps = clip, tokens, tuple(taps)

    def show(
        self, labels: Sequence[str], device: torch.device, text: bool = True, word: bool = True
    ) -> tuple[Texts | None, Tensor | None, Tensor]:
        """Show `Guidance.text`, `Guidance.word` and `Guidance.mask` of labels.

        Args:
            labels: N words.
            device: where the model is.
            text: whether the taps are wanted; None stands in their place otherwise.
            word: whether the embeddings are.

        Raises:
            UserError: a label that can't be split into one token per character.
        """
        ids = self.tokens(labels)
        rows = (ids[:, 1:] != 0).to(device)
        if not text and not word:
            return None, None, rows
        found: Sequence[Tensor]
        if self.cache is None:
            found = self._run(ids.to(device), text, word)
        else:
            found = self._gather(self.cache, ids, device, text, word)
        length = ids.shape[1]
        taps: Texts | None = None
        if text:
            shallow, middle, deep = (tap[:, 1:length] for tap in found[:3])
            taps = deep, middle, shallow
        return taps, found[-1] if word else None, rows

    def keep(self, bytes_: int, store: Store | None = None) -> None:
        """Keep labels within so many bytes, 0 for none, and in a file beside that."""
        if bytes_ == 0 and store is None:
            self.cache = None
            return
        weights = ((name, weight) for name, weight in self.clip.state_dict().items() if not name.startswith("visual."))
        file = (
            None
            if store is None
            else StageStore(store.folder, store.bytes, fingerprint(weights) + repr(self.taps).encode())
        )
        self.cache = StageCache(bytes_, store=file)

    def _run(self, ids: Tensor, text: bool, word: bool) -> list[Tensor]:
        """Give the three taps and the embeddings, those that are wanted."""
        if not word:
            return text_stream(self.clip, ids, self.taps, max(self.taps))[0]  # what is behind the last tap does not run
        taps, words = run_text(self.clip, ids, self.taps if text else ())
        return [*taps, words]

    def _gather(
        self, cache: StageCache, ids: Tensor, device: torch.device, text: bool, word: bool
    ) -> tuple[Tensor, ...]:
        context = self.clip.positional_embedding.shape[0]
        length = max(min(-(-ids.shape[1] // STRIDE) * STRIDE, context), ids.shape[1])
        padded = F.pad(ids, (0, length - ids.shape[1]))
        how = (text, word, computed_in(device), computer(device))
        keys = [(row.tobytes(), how) for row in padded.numpy()]
        return cache.gather(keys, lambda places: self._run(padded[places].to(device), text, word), device)
