"""The words of a run: rendered when asked for, mixed for training, and set apart for validation."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from accelerate import Accelerator
from rich.console import Console
from torch.utils.data import DataLoader

from distill.config import DataSection, SourceSection
from distill.data.batch import Batch
from distill.data.datasets import JoinedWords, WordDataset, WordOptions, load_words
from distill.data.loading import Source, build_loader, build_test_loader
from distill.data.render_set import RenderRequest, write_set
from students.charset import Charset
from students.errors import UserError

Loaded = WordDataset | JoinedWords


class TrainingWords:
    """Sources of a run, opened in two steps: first what can be wrong is checked, then words are rendered and read.

    Args:
        section: where words come from.
        charset: the student's alphabet; labels are cleaned with its rules.
        max_length: longest word.
        image_size: height and width of the student's input.
        seed: orders and augmentation follow from it.
    """

    def __init__(
        self, section: DataSection, charset: Charset, max_length: int, image_size: tuple[int, int], seed: int
    ) -> None:
        self.section, self.charset = section, charset
        self.max_length, self.image_size, self.seed = max_length, image_size, seed
        self.sources: list[Source] = []

    @property
    def rendered(self) -> tuple[Path, Path]:
        """Where rendered training and test words lie."""
        render = self.section.render
        folder = Path(render.folder)
        return folder / f"train-{render.words}-{render.seed}", folder / f"test-{render.test_words}-{render.seed + 1}"

    def check(self) -> None:
        """Check that there is something to train and validate on; reads no words and writes nothing.

        Raises:
            UserError: naming what is missing.
        """
        section = self.section
        if not section.train and section.render.words == 0:
            raise UserError("no words to train on; set data.render.words, or give data.train (docs/howto/own-data.md)")
        for source in section.train:
            if not source.path:
                raise UserError("data.train has a source without a path; give the folder of an LMDB or a tree of them")
            if not self.place(source.path).exists():
                root = "" if section.root or Path(source.path).is_absolute() else " (data.root is not set)"
                raise UserError(f"{self.place(source.path)}: no such folder{root}; give one that holds LMDBs, at any depth")
        if section.validation is not None and not self.place(section.validation).exists():
            raise UserError(f"{self.place(section.validation)}: no such folder to validate on; give a set, or leave data.validation out")
        if section.validation is None and section.render.test_words == 0:
            raise UserError("nothing to validate on; set data.validation, or data.render.test_words")

    def place(self, path: str) -> Path:
        """Find a source: relative paths start at data.root."""
        return Path(path) if self.section.root is None else Path(self.section.root) / path

    def render(self, console: Console) -> None:
        """Render what is asked for and not there yet; on the main process."""
        render = self.section.render
        wanted = [("train", render.words, render.seed)]
        if self.section.validation is None:
            wanted.append(("test", render.test_words, render.seed + 1))
        for (split, words, seed), folder in zip(wanted, self.rendered, strict=False):
            if words == 0 or (folder / "data.mdb").is_file():
                continue
            console.print(f"rendering {words} words to {folder}", highlight=False, soft_wrap=True)
            request = RenderRequest(words, split, seed, fonts=tuple(render.fonts))  # type: ignore[arg-type]
            recipe = write_set(request, *request.prepare(), folder, render.workers)
            console.print(
                f"{words} words in {recipe['seconds']:.0f} s, {len(recipe['fonts'])} fonts of {len(recipe['families'])} families",
                highlight=False, soft_wrap=True,
            )  # fmt: skip

    def open(self, console: Console) -> None:
        """Open sources and validation words, and say how many there are.

        Raises:
            UserError: when a source can't be read or holds no word for the alphabet.
        """
        section = self.section
        train, test = self.rendered
        places = [(self.place(source.path), source) for source in section.train]
        if section.render.words > 0:
            places.append((train, section.rendered))
        for number, (path, source) in enumerate(places):
            words = load_words(path, self.charset, self._options(source, number))
            self.sources.append(Source(words, source.share))
            self._tell(console, f"{path}: {len(words)} words, share {source.share:g}", words)
        path = test if section.validation is None else self.place(section.validation)
        self.validation = load_words(path, self.charset, self._options(SourceSection(), 0))
        self._tell(console, f"{path}: {len(self.validation)} words to validate on", self.validation)

    def _tell(self, console: Console, text: str, words: Loaded) -> None:
        parts = words.parts if isinstance(words, JoinedWords) else (words,)
        dropped: dict[str, int] = {}
        for part in parts:
            for reason, count in part.dropped.items() if isinstance(part, WordDataset) else ():
                dropped[reason] = dropped.get(reason, 0) + count
        left_out = ", ".join(f"{count} {reason}" for reason, count in sorted(dropped.items()))
        console.print(text + (f" (left out: {left_out})" if left_out else ""), highlight=False, soft_wrap=True)

    def _options(self, source: SourceSection, number: int) -> WordOptions:
        return WordOptions(
            augmentation=source.augmentation, cache=source.cache, seed=self.seed + number, max_length=self.max_length,
            bad_share=self.section.bad_share, image_size=self.image_size,
        )  # fmt: skip

    def batches(self, batch_size: int, accelerator: Accelerator) -> Callable[[int], Iterator[Batch]]:
        """Give a function from a position to this process's endless batches from there on."""

        def start(position: int) -> Iterator[Batch]:
            loader = build_loader(
                self.sources, batch_size, self.section.workers, self.seed, accelerator.process_index,
                accelerator.num_processes, position, pin_memory=accelerator.device.type == "cuda",
            )  # fmt: skip
            return iter(loader)

        return start

    def validation_loader(self, accelerator: Accelerator, batch_size: int = 100) -> DataLoader[Batch]:
        """Load this process's share of the validation words, none twice."""
        return build_test_loader(
            self.validation, batch_size, rank=accelerator.process_index, world=accelerator.num_processes
        )
