"""DataModule: the words of a run, opened or rendered, mixed for training, and set apart for validation."""

from __future__ import annotations

import dataclasses
import zlib
from collections.abc import Callable, Iterator
from functools import cached_property
from pathlib import Path
from random import Random

from accelerate import Accelerator
from rich.console import Console
from torch.utils.data import DataLoader

from distill.data.batch import Batch
from distill.data.datasets import ConcatWords, WordDataset, load_words, stored_parts
from distill.data.describing import describe_shared, describe_words
from distill.data.loading import Source, build_loader, build_test_loader
from distill.data.progress import print_lines
from distill.data.rendering.codes import CodeSampler
from distill.data.rendering.labels import MAX_LENGTH, Split
from distill.data.rendering.render_set import RenderRequest, describe_renderer, render_once, rendering_warnings
from distill.data.rendering.synthetic import SyntheticWords
from distill.data.rendering.vocabulary import check_languages
from distill.data.samples import WordOptions
from distill.data.sampling import check_ratios
from distill.data.sections import DataSection, SourceSection
from distill.data.trees import is_set, open_words
from distill.processes import without_main_module
from students.charset import CHARSETS, Charset
from students.errors import UserError

DRY_RUN_WORDS = 64
"""Words that a dry run renders, at most."""
VALIDATED_AT_ONCE = 100
"""Words of a batch of validation."""


class DataModule:
    """The words of a run. Everything that the user gave is opened before anything is rendered.

    Args:
        section: where words come from.
        charset: the student's alphabet; labels are cleaned with its rules.
        max_length: longest word.
        image_size: height and width of the student's input.
        seed: orders and augmentation follow from it.
        ctc_columns: columns that CTC reads off, to count the words that need more; None without CTC.
        keep_aspect: whether pictures keep their aspect; batches are then of words of like width.
        second_view: whether a loss compares two augmented views of each picture.

    Attributes:
        sources: training words and their part of each batch; `setup` opens them.
        validation: validation words; likewise.
    """

    validation: WordDataset | ConcatWords

    def __init__(
        self, section: DataSection, charset: Charset, max_length: int, image_size: tuple[int, int], seed: int,
        ctc_columns: int | None = None, keep_aspect: bool = False, second_view: bool = False,
    ) -> None:  # fmt: skip
        self.section, self.charset, self.seed = section, charset, seed
        self.options = WordOptions(
            max_length, image_size, keep_aspect, seed, section.max_corrupt, ctc_columns, second_view
        )
        self.sources: list[Source] = []

    @property
    def line_words(self) -> tuple[int, int]:
        """Fewest and most words of a rendered line.

        Raises:
            UserError: for what is no such range, or needs a space that the alphabet lacks.
        """
        given = self.section.synthetic.line_words
        if len(given) != 2 or not 1 <= given[0] <= given[1]:
            raise UserError(f"data.synthetic.line_words is {given}; give fewest and most words, such as [1, 6]")
        if given[1] > 1 and " " not in self.charset.ids:
            raise UserError(
                "data.synthetic.line_words renders spaces, which the alphabet lacks; set student.charset to 95, or to "
                "a file that has the space"
            )
        return given[0], given[1]

    @property
    def synthetic_folders(self) -> tuple[Path, Path]:
        """Folders of the rendered training and validation words; what differs from the defaults is in their names."""
        synthetic = self.section.synthetic
        kind = "" if synthetic.difficulty == 1 else f"-difficulty{synthetic.difficulty:g}"
        if synthetic.style != "sign":
            kind += f"-{synthetic.style}"
        if synthetic.max_fonts != 400:
            kind += f"-{synthetic.max_fonts}fonts"
        if self.line_words != (1, 1):
            kind += f"-lines{self.line_words[0]}to{self.line_words[1]}of{self.options.max_length}"
        if not synthetic.system_fonts:
            kind += "-packagefonts"
        if synthetic.fonts:
            kind += f"-fonts{zlib.crc32(chr(10).join(synthetic.fonts).encode()):08x}"
        if not self.charset.writes_ascii_words:
            kind += f"-alphabet{zlib.crc32(''.join(sorted(self.charset.characters)).encode()):08x}"
        if synthetic.languages:
            kind += f"-{'-'.join(synthetic.languages)}"
        folder = Path(synthetic.folder)
        return (
            folder / f"train-{synthetic.words}-{synthetic.seed}{kind}",
            folder / f"test-{synthetic.test_words}-{synthetic.seed + 1}{kind}",
        )

    def check(self, teacher_reads: bool = False, distributions: bool = False) -> None:
        """Check that there is something to train and validate on; reads no words and writes nothing.

        Args:
            teacher_reads: whether there is a teacher that can label words.
            distributions: whether what is trained can learn from stored distributions.

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
            if source.labels == "distributions" and not distributions:
                raise UserError(f"{source.path} has labels: distributions, which only students learn from; set own")
        self.check_sources()
        check_ratios([source.ratio for source in self._train_sections])
        used = [source for source in self._train_sections if source.ratio > 0]
        if self.options.second_view and all(source.augmentation == "none" for source in used):
            raise UserError(
                "a loss compares two augmented views of each picture, and no source is augmented: both are the same; "
                "set data.synthetic.augmentation=light, or that of an entry of data.train"
            )
        check_languages(section.synthetic.languages)
        self._check_codes()
        _ = self.line_words  # checks itself
        if section.validation is not None and not self.resolve(section.validation).exists():
            path = self.resolve(section.validation)
            raise UserError(f"{path}: no such folder to validate on; give a set, or leave data.validation out")
        if section.validation is None and section.synthetic.test_words == 0:
            raise UserError("nothing to validate on; set data.validation, or data.synthetic.test_words")

    def _check_codes(self) -> None:
        synthetic = self.section.synthetic
        if synthetic.codes_from is None:
            return
        if synthetic.words == 0:
            raise UserError("data.synthetic.codes_from changes what is rendered; set data.synthetic.words too")
        if not synthetic.live:
            raise UserError("data.synthetic.codes_from works on words rendered live; set data.synthetic.live=true")
        if synthetic.line_words != [1, 1]:
            raise UserError("data.synthetic.codes_from renders single codes; leave data.synthetic.line_words out")
        path = self.resolve(synthetic.codes_from)
        if not path.exists():
            raise UserError(f"{path}: no such folder to take codes from; give one of labelled words (codes_from)")

    @property
    def _train_sections(self) -> list[SourceSection]:
        """The sections of all sources of training words, rendered words last."""
        rendered = [self.section.synthetic.source] if self.section.synthetic.words > 0 else []
        return self.section.train + rendered

    def resolve(self, path: str) -> Path:
        """Resolve the path of a source: relative ones start at data.root."""
        return Path(path) if self.section.root is None else Path(self.section.root) / path

    def resolve_or_here(self, path: str) -> Path:
        """Resolve a path that may start at data.root, or where the command is run."""
        resolved = self.resolve(path)
        return Path(path) if not resolved.exists() and Path(path).exists() else resolved

    def check_sources(self) -> None:
        """Refuse words to learn from that aren't there; raises `UserError`."""
        root = None if self.section.root is None else Path(self.section.root)
        for source in self.section.train:
            path = self.resolve(source.path)
            if path.exists():
                continue
            if Path(source.path).is_absolute():
                hint = "give one that holds LMDBs or pictures with their labels, at any depth"
            elif root is None:
                hint = f"set data.root to the folder that holds {source.path}"
            elif not root.is_dir():
                hint = f"{root}, which data.root names, is no folder"
            elif is_set(root):
                hint = f"{root} is a set of words itself: `symdistill hold-out {root} WORDS`, then data.root=WORDS"
            else:
                hint = f"{root}, which data.root names, has no {source.path}"
            raise UserError(f"data.train: {path}: no such folder to learn from; {hint}")

    def open_sources(self) -> None:
        """Open the words to learn from, to see whether that can be done; raises `UserError`."""
        for source in self.section.train:
            try:
                open_words(self.resolve(source.path), source.labelled)
            except UserError as error:
                raise UserError(f"data.train: {error}") from None

    def limit_for_dry_run(self, folder: Path) -> None:
        """Render only a few words, into `folder`, of those that are missing, and cache nothing."""
        section, synthetic = self.section, self.section.synthetic
        tested = synthetic.test_words if section.validation is None else 0
        counts = zip((synthetic.words, tested), self.synthetic_folders, strict=True)
        if any(count > 0 and not (stored / "data.mdb").is_file() for count, stored in counts):
            train, test = min(synthetic.words, DRY_RUN_WORDS), min(synthetic.test_words, DRY_RUN_WORDS)
            synthetic = dataclasses.replace(synthetic, words=train, test_words=test, folder=str(folder), workers=1)
        self.section = dataclasses.replace(
            section, synthetic=dataclasses.replace(synthetic, cache="none"),
            train=[dataclasses.replace(source, cache="none") for source in section.train],
        )  # fmt: skip

    def setup(self, console: Console) -> None:
        """Open the words, render those that are missing, and report them; called by every process.

        Raises:
            UserError: when a source can't be read or holds no word for the alphabet; nothing is rendered then.
        """
        section, synthetic = self.section, self.section.synthetic
        train_folder, test_folder = self.synthetic_folders
        test_options = dataclasses.replace(self.options, max_corrupt=0.0, second_view=False)
        if section.validation is not None:
            self.validation = load_words(self.resolve(section.validation), self.charset, options=test_options)
            for part in stored_parts(self.validation) if not console.quiet else ():  # in the first process
                part.check_pictures()
        for source in section.train:
            words = load_words(self.resolve(source.path), self.charset, source, self._source_options())
            self.sources.append(Source(words, source.ratio))
        if synthetic.words > 0:
            if synthetic.live:
                rendered: WordDataset | ConcatWords | SyntheticWords = self._render_live(console)
            else:
                self._render("train", train_folder, console)
                rendered = load_words(train_folder, self.charset, synthetic.source, self._source_options())
            self.sources.append(Source(rendered, synthetic.ratio))
        if section.validation is None:
            self._render("test", test_folder, console)
            self.validation = load_words(test_folder, self.charset, options=test_options)
        for opened in self.sources:
            purpose = "to train on" if len(self.sources) == 1 else f"to train on (ratio {opened.ratio:g})"
            print_lines(console, *describe_words(opened.words, purpose))
        used = [source for source in self._train_sections if source.ratio > 0]
        plain = [one.path or "rendered words" for one in used if one.augmentation == "none"]
        if self.options.second_view and plain:
            print_lines(console, f"not augmented, so that both views are the same: {', '.join(plain)}")
        print_lines(console, *describe_words(self.validation, "to validate on"))
        if not console.quiet and section.validation is not None:
            given = self.sources[: len(section.train)]  # rendered words are no copies
            learned = [one.words for one in given if one.ratio > 0]
            print_lines(console, *describe_shared(self.validation, learned))

    def _source_options(self) -> WordOptions:
        """Return the options of the next source: each has its own seed."""
        return dataclasses.replace(self.options, seed=self.seed + len(self.sources))

    def _request(self, split: Split) -> RenderRequest:
        """Describe the words to render; those that are stored serve every alphabet that writes ASCII words."""
        synthetic, characters = self.section.synthetic, self.charset.characters
        stored, lines = split == "test" or not synthetic.live, self.line_words != (1, 1)
        return RenderRequest(
            synthetic.test_words if split == "test" else synthetic.words, split,
            synthetic.seed + 1 if split == "test" else synthetic.seed,
            CHARSETS["95" if lines else "94"] if stored and self.charset.writes_ascii_words else characters,
            tuple(synthetic.fonts), synthetic.system_fonts, synthetic.max_fonts, synthetic.difficulty,
            tuple(synthetic.languages), synthetic.style, self.line_words,
            self.options.max_length if lines or not stored else MAX_LENGTH,
        )  # fmt: skip

    def _render(self, split: Split, folder: Path, console: Console) -> None:
        """Render a set unless it is there; of several processes one renders."""
        request = self._request(split)
        missing = not (folder / "data.mdb").is_file()
        if missing:
            print_lines(console, f"rendering {request.words:,} words to {folder}")
        recipe = render_once(request, folder, self.section.synthetic.workers)
        if missing and recipe:
            fonts = f"{len(recipe['fonts'])} fonts of {len(recipe['families'])} families"
            print_lines(console, f"{request.words:,} words in {recipe['seconds']:.0f} s, {fonts}")
        print_lines(console, *rendering_warnings(recipe))

    def _render_live(self, console: Console) -> SyntheticWords:
        synthetic, request = self.section.synthetic, self._request("train")
        # Drawing fonts takes a while: labels that can't be read are found before.
        labels = self._code_labels()
        renderer, fonts = request.build_renderer()
        print_lines(console, *rendering_warnings(describe_renderer(request, renderer, fonts)))
        if labels:
            renderer.words = codes = CodeSampler(renderer.words, labels, synthetic.codes_ratio)
            examples = ", ".join(codes.draw_code(Random(number)) for number in range(3))
            line = f"{synthetic.codes_ratio:.0%} of the rendered words are codes such as {examples}"
            if left_out := len(labels) - len(codes.labels):
                line += f"; {left_out:,} of {len(labels):,} labels are too long, illegible, or no codes"
            print_lines(console, line)
        return SyntheticWords(renderer, self.charset, synthetic.words, synthetic.source, self._source_options())

    def _code_labels(self) -> list[str]:
        """Return the labels that rendered codes take after; none without `codes_from`."""
        path = self.section.synthetic.codes_from
        sets = [] if path is None else open_words(self.resolve(path))
        labels = [label for records in sets for _, label in records.labels() if label]
        if path is not None and not labels:
            raise UserError(f"{self.resolve(path)}: no label to take codes from; give labelled words (codes_from)")
        return labels

    @cached_property
    def validated_labels(self) -> int:
        """Checksum of the labels to validate on."""
        labels = (part.label(number) for part in stored_parts(self.validation) for number in range(len(part)))
        return zlib.crc32("\n".join(labels).encode())

    @property
    def summary(self) -> str:
        """Name the sources with their counts, for cards."""
        return ", ".join(f"{source.words.name} ({len(source.words)} words)" for source in self.sources)

    def batches(self, batch_size: int, accelerator: Accelerator) -> Callable[[int], Iterator[Batch]]:
        """Return a function from a position to this process's endless batches from there on."""

        def start(position: int) -> Iterator[Batch]:
            loader = build_loader(
                self.sources, batch_size, self.section.workers, self.seed, accelerator.process_index,
                accelerator.num_processes, position, pin_memory=accelerator.device.type == "cuda",
                by_width=self.options.keep_aspect,
            )  # fmt: skip
            with without_main_module():  # it starts the workers
                return without_worker_traceback(iter(loader))

        return start

    def validation_loader(self, accelerator: Accelerator | None = None) -> DataLoader[Batch]:
        """Load this process's share of the validation words, none twice; without an accelerator all of them."""
        rank, world = (0, 1) if accelerator is None else (accelerator.process_index, accelerator.num_processes)
        return build_test_loader(self.validation, VALIDATED_AT_ONCE, rank=rank, world=world)


def without_worker_traceback(batches: Iterator[Batch]) -> Iterator[Batch]:
    """Pass batches on; a `UserError` of a loader process comes wrapped in its traceback, and is taken out of it.

    Raises:
        UserError: see `WordDataset.sample`.
    """
    try:
        yield from batches
    except UserError as error:
        raise UserError(str(error).rpartition("UserError: ")[2].strip()) from None
