"""Make samples of words that are rendered while training runs."""

from __future__ import annotations

from typing import Protocol

from torch.utils.data import Dataset

from distill.data.batch import Sample
from distill.data.pixels import decode
from distill.data.rendering.renderer import RenderedWord
from distill.data.samples import SampleBuilder, WordOptions
from distill.data.sections import ON_ORIGINALS, SourceSection
from students.charset import Charset
from students.errors import UserError

TRIES = 1000
"""Words that are passed over for one that the alphabet can write, before that is an error."""


class Renderer(Protocol):
    """Anything that renders words by number, such as `WordRenderer`: the same for a number in every process."""

    def render(self, index: int) -> RenderedWord:
        """Render a word."""


class SyntheticWords(Dataset[Sample]):
    """Samples that are rendered when asked for: no disk, and new pictures in every epoch.

    Args:
        renderer: draws the words.
        charset: the alphabet.
        words: length of an epoch.
        source: augmentation; `strong`, `photo` and a cache make no sense here and are refused.
        options: what the run asks of all words.

    Raises:
        UserError: for an augmentation or cache that isn't possible.
    """

    name = "rendered"
    """The set's name, which its augmentation follows from too."""

    def __init__(
        self, renderer: Renderer, charset: Charset, words: int, source: SourceSection | None = None,
        options: WordOptions | None = None,
    ) -> None:  # fmt: skip
        self.renderer, self.charset, self.words = renderer, charset, words
        self.source, self.options = source or SourceSection(), options or WordOptions()
        if self.source.augmentation in ON_ORIGINALS or self.source.cache != "none":
            raise UserError("words rendered while training runs take augmentation none or light, and cache none")
        self._builder = SampleBuilder(charset, self.source, self.options, self.name)

    def __len__(self) -> int:
        return self.words

    def __getitem__(self, index: int) -> Sample:
        """Return a word as in epoch 0."""
        return self.sample(index, 0)

    def sample(self, index: int, epoch: int) -> Sample:
        """Return a word; it comes back in a later epoch only with `fixed_augmentations`.

        Raises:
            UserError: when hardly a word that is rendered can be written in the alphabet.
        """
        epoch = self.source.augmentation_epoch(epoch)
        first = epoch * self.words + index
        for number in range(first, first + TRIES):  # in the place of a word that is too long stands the next
            word = self.renderer.render(number)
            label = self.charset.clean(word.label, self.options.max_length)
            if label is not None:
                break
        else:
            raise UserError(
                f"rendered word {word.label!r} can't be written in the alphabet; render with the same charset"
            )
        version = epoch if self.source.fixed_augmentations else None
        return self._builder.build(decode(word.encode()), label, word.columns, index, epoch, version=version)
