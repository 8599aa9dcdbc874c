"""The words of a run: rendered when asked for, mixed for training, and set apart for validation."""

from __future__ import annotations

import dataclasses
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

from accelerate import Accelerator
from rich.console import Console
from torch.utils.data import DataLoader

from distill.data.batch import Batch
from distill.data.datasets import ConcatWords, WordDataset, WordOptions, Words, load_words
from distill.data.loading import Source, build_loader, build_test_loader
from distill.data.rendering.render_set import RenderRequest, render_once
from distill.data.rendering.synthetic import SyntheticWords
from distill.data.sampling import check_ratios
from distill.data.sections import DataSection, SourceSection
from students.charset import Charset
from students.errors import UserError

Loaded = WordDataset | ConcatWords


class DataModule:
    """Sources of a run: what the user gave is checked and opened before anything is rendered.

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
    def synthetic_folders(self) -> tuple[Path, Path]:
        """Where rendered training and test words lie."""
        render = self.section.synthetic
        kind = "" if render.difficulty == 1 else f"-difficulty{render.difficulty:g}"
        if render.fonts:  # other fonts give other words
            kind += f"-fonts{zlib.crc32(chr(10).join(render.fonts).encode()):08x}"
        folder = Path(render.folder)
        return (
            folder / f"train-{render.words}-{render.seed}{kind}",
            folder / f"test-{render.test_words}-{render.seed + 1}{kind}",
        )

    def check(self, teacher_reads: bool = False) -> None:
        """Check that there is something to train and validate on; reads no words and writes nothing.

        Args:
            teacher_reads: whether there is a teacher that can label words.

        Raises:
            UserError: naming what is missing.
        """
        section = self.section
        if not section.train and section.synthetic.words == 0:
            raise UserError("no words to train on; set data.synthetic.words or data.train (docs/howto/own-data.md)")
        for source in section.train:
            if not source.path:
                raise UserError("data.train has a source without a path; give the folder of an LMDB or a tree of them")
            if source.labels == "pseudo" and source.ratio > 0 and not teacher_reads:
                raise UserError(
                    f"{source.path} has labels: pseudo, and there is no teacher that reads; set teacher.name to one "
                    "(docs/howto/reading-teacher.md), or the source's ratio to 0"
                )
            if not self.place(source.path).exists():
                root = "" if section.root or Path(source.path).is_absolute() else " (data.root is not set)"
                raise UserError(
                    f"{self.place(source.path)}: no such folder{root}; give one that holds LMDBs, at any depth"
                )
        rendered = [section.synthetic.ratio] if section.synthetic.words > 0 else []
        check_ratios([source.ratio for source in section.train] + rendered)
        if section.validation is not None and not self.place(section.validation).exists():
            place = self.place(section.validation)
            raise UserError(f"{place}: no such folder to validate on; give a set, or leave data.validation out")
        if section.validation is None and section.synthetic.test_words == 0:
            raise UserError("nothing to validate on; set data.validation, or data.synthetic.test_words")

    def place(self, path: str) -> Path:
        """Find a source: relative paths start at data.root."""
        return Path(path) if self.section.root is None else Path(self.section.root) / path

    def _render(self, console: Console) -> None:
        """Render what is asked for and not there yet; of several processes one renders."""
        render = self.section.synthetic
        wanted = [("train", 0 if render.live else render.words, render.seed)]
        if self.section.validation is None:
            wanted.append(("test", render.test_words, render.seed + 1))
        for (split, words, seed), folder in zip(wanted, self.synthetic_folders, strict=False):
            if words == 0 or (folder / "data.mdb").is_file():
                continue
            console.print(f"rendering {words} words to {folder}", highlight=False, soft_wrap=True)
            request = RenderRequest(words, split, seed, fonts=tuple(render.fonts), difficulty=render.difficulty)  # type: ignore[arg-type]
            recipe = render_once(request, folder, render.workers)
            fonts = f"{len(recipe['fonts'])} fonts of {len(recipe['families'])} families"
            console.print(f"{words} words in {recipe['seconds']:.0f} s, {fonts}", highlight=False, soft_wrap=True)

    def rehearse(self, folder: Path, words: int = 64) -> None:
        """Get ready for a dry run: words not rendered yet are few and go into `folder`, and nothing is cached."""
        section, render = self.section, self.section.synthetic
        tested = render.test_words if section.validation is None else 0
        counts = zip((render.words, tested), self.synthetic_folders, strict=True)
        if any(count > 0 and not (place / "data.mdb").is_file() for count, place in counts):
            train, test = min(render.words, words), min(render.test_words, words)
            render = dataclasses.replace(render, words=train, test_words=test, folder=str(folder), workers=1)
        self.section = dataclasses.replace(
            section, synthetic=dataclasses.replace(render, cache="none"),
            train=[dataclasses.replace(source, cache="none") for source in section.train],
        )  # fmt: skip

    def prepare(self, console: Console) -> None:
        """Open what is there, render what is not, and say how many words there are; called by every process.

        Raises:
            UserError: when a source can't be read or holds no word for the alphabet; nothing is rendered then.
        """
        section = self.section
        validation = (
            None if section.validation is None else self._load(self.place(section.validation), SourceSection(), 0, 0.0)
        )
        for number, source in enumerate(section.train):
            self.sources.append(
                Source(self._load(self.place(source.path), source, number, section.max_corrupt), source.ratio)
            )
        self._render(console)
        train, test = self.synthetic_folders
        render = section.synthetic
        if render.words > 0:
            number = len(self.sources)
            made = (
                self._live(number)
                if render.live
                else self._load(train, section.synthetic.source, number, section.max_corrupt)
            )
            self.sources.append(Source(made, section.synthetic.ratio))
        self.validation = validation or self._load(test, SourceSection(), 0, 0.0)
        for opened in self.sources:
            self._tell(console, f"ratio {opened.ratio:g}", opened.words)
        self._tell(console, "to validate on", self.validation)

    def _load(self, path: Path, source: SourceSection, number: int, max_corrupt: float) -> Loaded:
        return load_words(path, self.charset, source, self._options(number, max_corrupt))

    def _live(self, number: int) -> SyntheticWords:
        synthetic = self.section.synthetic
        request = RenderRequest(
            synthetic.words, "train", synthetic.seed, self.charset.characters, tuple(synthetic.fonts),
            difficulty=synthetic.difficulty,
        )  # fmt: skip
        renderer, _ = request.build_renderer()
        return SyntheticWords(renderer, self.charset, synthetic.words, synthetic.source, self._options(number, 0.0))

    def _options(self, number: int, max_corrupt: float) -> WordOptions:
        return WordOptions(self.max_length, self.image_size, self.seed + number, max_corrupt)

    def _tell(self, console: Console, what: str, words: Words) -> None:
        parts = words.parts if isinstance(words, ConcatWords) else (words,)
        dropped: Counter[str] = Counter()
        for part in parts:
            dropped += part.dropped if isinstance(part, WordDataset) else Counter()
        if any(isinstance(part, WordDataset) and not part.labelled for part in parts):
            what += ", read by the teacher"
        left_out = ", ".join(f"{count} {reason}" for reason, count in sorted(dropped.items()))
        more = f" (left out: {left_out})" if left_out else ""
        console.print(f"{len(words)} words, {what}: {names(words)}{more}", highlight=False, soft_wrap=True)

    @property
    def summary(self) -> str:
        """Name the sources with their counts, for cards."""
        return ", ".join(f"{names(source.words)} ({len(source.words)} words)" for source in self.sources)

    def batches(self, batch_size: int, accelerator: Accelerator) -> Callable[[int], Iterator[Batch]]:
        """Give a function from a position to this process's endless batches from there on."""

        def start(position: int) -> Iterator[Batch]:
            loader = build_loader(
                self.sources, batch_size, self.section.workers, self.seed, accelerator.process_index,
                accelerator.num_processes, position, pin_memory=accelerator.device.type == "cuda",
            )  # fmt: skip
            return plainly(iter(loader))

        return start

    def validation_loader(self, accelerator: Accelerator, batch_size: int = 100) -> DataLoader[Batch]:
        """Load this process's share of the validation words, none twice."""
        return build_test_loader(
            self.validation, batch_size, rank=accelerator.process_index, world=accelerator.num_processes
        )

    def whole_validation_loader(self, batch_size: int = 100) -> DataLoader[Batch]:
        """Load all validation words, on every process."""
        return build_test_loader(self.validation, batch_size)


def plainly(batches: Iterator[Batch]) -> Iterator[Batch]:
    """Give batches; a user's mistake comes from a loader process wrapped in its traceback, and is taken out of it.

    Raises:
        UserError: see `WordDataset.sample`.
    """
    try:
        yield from batches
    except UserError as error:
        raise UserError(str(error).rpartition("UserError: ")[2].strip()) from None


def names(words: Words) -> str:
    """Name the sets that words come from."""
    parts = words.parts if isinstance(words, ConcatWords) else (words,)
    return ", ".join(part.name for part in parts if isinstance(part, WordDataset | SyntheticWords))
