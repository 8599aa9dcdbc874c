"""The words of a run: rendered live, they are new in every epoch and the same on every process."""

from __future__ import annotations

import dataclasses
import io
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from accelerate import Accelerator
from PIL import Image
from rich.console import Console

from distill.data.module import DataModule
from distill.data.rendering import fonts
from distill.data.rendering.codes import shape
from distill.data.sections import DataSection, SourceSection, SyntheticSection
from distill.data.trees import open_set
from distill.data.writing import LmdbWriter
from students.charset import Charset
from students.errors import UserError


@pytest.fixture(scope="module", autouse=True)
def few_fonts() -> Iterator[None]:
    """Render with the fonts that come with packages, whatever the system has."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fonts, "SYSTEM_FOLDERS", ())
        yield


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> DataModule:
    folder = tmp_path_factory.mktemp("rendered")
    render = SyntheticSection(words=12, live=True, test_words=6, folder=str(folder), difficulty=0.3, workers=1)
    words = DataModule(DataSection(synthetic=render, workers=0), Charset.load("36"), 25, (32, 128), seed=0)
    words.check()
    words.setup(Console(file=io.StringIO()))
    return words


def test_live_words_are_new_in_every_epoch(live: DataModule) -> None:
    words = live.sources[0].words
    first, second = words.sample(3, 0), words.sample(3, 1)
    assert len(words) == 12
    assert not torch.equal(first.image, second.image)
    assert torch.equal(words.sample(3, 1).image, second.image)
    assert first.columns is not None
    assert first.columns.max() > 0


def test_nothing_but_validation_words_is_kept(live: DataModule) -> None:
    train, test = live.synthetic_folders
    assert not train.exists()
    assert (test / "data.mdb").is_file()
    assert len(live.validation) == 6


def test_batches_follow_from_their_number(live: DataModule) -> None:
    batches = live.batches(4, Accelerator())
    from_start = batches(0)
    for _ in range(4):
        next(from_start)
    resumed = next(batches(4))
    expected = next(from_start)
    assert resumed.labels == expected.labels
    assert torch.equal(resumed.images, expected.images)


def test_other_words_have_another_name(tmp_path: Path) -> None:
    def named(**changes: object) -> tuple[Path, Path]:
        render = SyntheticSection(words=12, test_words=6, folder=str(tmp_path), **changes)  # type: ignore[arg-type]
        return DataModule(DataSection(synthetic=render), Charset.load("36"), 25, (32, 128), seed=0).synthetic_folders

    assert named() == (tmp_path / "train-12-0", tmp_path / "test-6-1")
    assert named(seed=3, difficulty=0.5)[0] == tmp_path / "train-12-3-difficulty0.5"
    assert named(system_fonts=False)[0] == tmp_path / "train-12-0-packagefonts"
    assert named(style="street", max_fonts=900)[1] == tmp_path / "test-6-1-street-900fonts"
    mine, both = named(fonts=["mine"]), named(fonts=["mine", "yours"])
    assert all(path.name.startswith(("train-12-0-fonts", "test-6-1-fonts")) for path in (*mine, *both))
    assert len({named(), mine, both}) == 3, "words of other fonts would be taken for them"
    assert mine == named(fonts=["mine"]), "and the same are found again"


def test_nothing_to_learn_from_is_refused() -> None:
    section = DataSection(synthetic=SyntheticSection(words=0))
    with pytest.raises(UserError, match=r"data\.synthetic\.words"):
        DataModule(section, Charset.load("36"), 25, (32, 128), seed=0).check()


def test_missing_source_is_named(tmp_path: Path) -> None:
    section = DataSection(root=str(tmp_path), train=[SourceSection(path="train/real")])
    with pytest.raises(UserError, match="train/real: no such folder"):
        DataModule(section, Charset.load("36"), 25, (32, 128), seed=0).check()


def test_an_alphabet_beyond_ascii_gets_words_of_its_own(tmp_path: Path) -> None:
    german = Charset(Charset.load("36").characters + "äöüß")
    synthetic = SyntheticSection(words=40, live=True, test_words=30, folder=str(tmp_path), workers=1, difficulty=0.3)
    words = DataModule(DataSection(synthetic=synthetic, workers=0), german, 25, (32, 128), seed=0)
    words.check()
    printed = io.StringIO()
    words.setup(Console(file=printed, width=200))
    assert words.synthetic_folders[1].name.startswith("test-30-1-difficulty0.3-alphabet")
    for part in (words.sources[0].words, words.validation):
        samples = [part.sample(index, 0) for index in range(len(part))]
        beyond = [sample for sample in samples if not sample.label.isascii()]
        assert beyond
        assert set("".join(sample.label for sample in samples)) <= set(german.characters)
        seen = {int(number) for sample in beyond if sample.columns is not None for number in sample.columns if number}
        assert max(seen) > 36, "the columns know the letters beyond ASCII"
    recipe = json.loads((words.synthetic_folders[1] / "recipe.json").read_text(encoding="utf-8"))
    assert recipe["languages"] == ["de", "en"]
    assert "40 words to train on: rendered, other ones in each epoch" in printed.getvalue()


def test_codes_take_after_the_labels_of_a_set(tmp_path: Path) -> None:
    with LmdbWriter(tmp_path / "mine/plates") as writer:
        for label in ("AB12-CD", "XY98-ZK", "###"):
            writer.add(b"", label)
    synthetic = SyntheticSection(
        words=40, live=True, test_words=4, folder=str(tmp_path), workers=1, codes_from="mine", codes_ratio=1.0
    )
    section = DataSection(root=str(tmp_path), synthetic=synthetic, workers=0)
    words = DataModule(section, Charset.load("36"), 25, (32, 128), seed=0)
    words.check()
    printed = io.StringIO()
    words.setup(Console(file=printed, width=200))
    drawn = words.sources[0].words
    assert all(shape(drawn.sample(index, 0).label) == "aa99aa" for index in range(len(drawn)))
    (line,) = (line for line in printed.getvalue().splitlines() if "codes such as" in line)
    assert line.startswith("100% of the rendered words are codes such as ")
    assert line.endswith("; 1 of 3 labels are too long, illegible, or no codes")
    for wrong, message in (
        ({"codes_from": "yours"}, "no such folder to take codes from"),
        ({"live": False}, r"codes_from works on words rendered live; set data\.synthetic\.live=true"),
        ({"line_words": [1, 4]}, "codes_from renders single codes"),
    ):
        section = DataSection(root=str(tmp_path), synthetic=dataclasses.replace(synthetic, **wrong))
        with pytest.raises(UserError, match=message):
            DataModule(section, Charset.load("36"), 25, (32, 128), seed=0).check()


def test_characters_that_no_font_draws_are_named(tmp_path: Path) -> None:
    strange = Charset("abcdefghijklmnopqrstuvwxyz\U000130ba\u05d0")
    synthetic = SyntheticSection(words=8, live=True, test_words=4, folder=str(tmp_path), workers=1)
    words = DataModule(DataSection(synthetic=synthetic, workers=0), strange, 25, (32, 128), seed=0)
    printed = io.StringIO()
    words.setup(Console(file=printed, width=200))
    lines = printed.getvalue().splitlines()
    assert sum("no font draws 1 character of the alphabet (\U000130ba)" in line for line in lines) == 2
    assert any(line.startswith("1 character of the alphabet (\u05d0) would have to be joined") for line in lines)


def test_what_is_left_out_and_replaced_is_reported(tmp_path: Path) -> None:
    with LmdbWriter(tmp_path / "[bold]words") as writer:
        for label in ("Hello", "x" * 26, "?!", "###", "wörld", "naïve", "böse", "a" * 17):
            writer.add(encode_picture(0), label)
    section = DataSection(
        train=[SourceSection(str(tmp_path / "[bold]words"))], validation=str(tmp_path / "[bold]words")
    )
    words = DataModule(section, Charset.load("36"), 25, (32, 128), seed=0, ctc_columns=32)
    words.check()
    printed = io.StringIO()
    words.setup(Console(file=printed, width=300))
    assert printed.getvalue().splitlines()[:4] == [
        "5 words to train on: [bold]words",
        "  left out: 1 longer than 25 characters, 1 without a character of the alphabet, 1 marked as illegible",
        "  outside the alphabet, replaced or removed in so many words: ö (2) ï (1)",
        f"  1 word needs more than 32 columns, e.g. {'a' * 17}: CTC can't spell them and leaves them out",
    ]


def test_an_unknown_language_is_refused_before_anything_is_opened() -> None:
    section = DataSection(synthetic=SyntheticSection(words=1, languages=["de", "xx"]))
    with pytest.raises(UserError, match="no words of xx; give some of ar, bg"):
        DataModule(section, Charset.load("36"), 25, (32, 128), seed=0).check()


def test_lines_need_an_alphabet_with_the_space_and_have_another_name(tmp_path: Path) -> None:
    def module(charset: str, line_words: list[int]) -> DataModule:
        synthetic = SyntheticSection(words=10, folder=str(tmp_path), line_words=line_words)
        return DataModule(DataSection(synthetic=synthetic), Charset.load(charset), 60, (32, 128), 0)

    module("36", [1, 1]).check()
    module("95", [1, 6]).check()
    assert [path.name for path in module("95", [1, 6]).synthetic_folders] == [
        "train-10-0-lines1to6of60", "test-1000-1-lines1to6of60"
    ]  # fmt: skip
    with pytest.raises(UserError, match=r"spaces, which the alphabet lacks; set student\.charset to 95"):
        module("94", [1, 6]).check()
    for wrong in ([6, 1], [0, 2], [3]):
        with pytest.raises(UserError, match=r"give fewest and most words, such as \[1, 6\]"):
            module("95", wrong).check()


def test_an_alphabet_that_lacks_letters_gets_words_of_its_own(tmp_path: Path) -> None:
    section = DataSection(
        synthetic=SyntheticSection(words=12, test_words=8, folder=str(tmp_path), max_fonts=4, workers=1)
    )
    module = DataModule(section, Charset("0123456789"), 25, (32, 128), seed=0)
    module.setup(Console(file=io.StringIO()))
    stored = [label for _, label in open_set(module.synthetic_folders[0]).labels()]
    assert len(stored) == 12
    assert all(label and set(label) <= set("0123456789") for label in stored), "no picture says more than its label"
    other = DataModule(section, Charset.load("36"), 25, (32, 128), seed=0)
    assert module.synthetic_folders[0] != other.synthetic_folders[0]


def test_live_words_are_as_short_as_they_have_to_be() -> None:
    section = DataSection(synthetic=SyntheticSection(words=40, live=True, test_words=1, max_fonts=4))
    module = DataModule(section, Charset.load("36"), 4, (32, 128), seed=0)
    assert (module._request("train").max_length, module._request("test").max_length) == (4, 25)


def test_validation_words_that_are_learned_from_are_said(tmp_path: Path) -> None:
    for name in ("train", "held-out"):
        with LmdbWriter(tmp_path / "words" / name) as writer:
            for label in ("one", "two"):
                writer.add(encode_picture(len(label)), label)
    for train, said in ((".", True), ("train", False)):
        section = DataSection(
            root=str(tmp_path / "words"), validation="held-out", synthetic=SyntheticSection(words=0),
            train=[SourceSection(path=train)],
        )  # fmt: skip
        printed = io.StringIO()
        DataModule(section, Charset.load("36"), 25, (32, 128), seed=0).setup(Console(file=printed, width=500))
        assert ("learned from too, so that validation says little" in printed.getvalue()) == said


def test_what_to_set_is_said_where_there_is_nothing_to_learn_from(tmp_path: Path) -> None:
    with LmdbWriter(tmp_path / "mine") as writer:
        writer.add(b"picture", "word")
    for root, hint in (
        (None, "set data.root to the folder that holds train"), (str(tmp_path), "which data.root names, has no train"),
        (str(tmp_path / "wrods"), "wrods, which data.root names, is no folder"),
        (str(tmp_path / "mine"), "mine is a set of words itself: `symdistill hold-out"),
    ):  # fmt: skip
        module = DataModule(
            DataSection(root=root, train=[SourceSection(path="train")]), Charset.load("36"), 25, (32, 128), seed=0
        )
        with pytest.raises(UserError) as refused:
            module.check_sources()
        assert hint in str(refused.value)


def test_lists_of_one_set_share_words_or_not(tmp_path: Path) -> None:
    with LmdbWriter(tmp_path / "words_4") as writer:
        for label in ("one", "two", "three", "four"):
            writer.add(encode_picture(len(label)), label)
    for name, numbers in {"words_2": "1 2", "words_1": "3", "words_3": "2 3 4"}.items():
        (tmp_path / f"{name}.indices.txt").write_text(numbers)
    assert "learned from too" not in said_of(tmp_path, "words_2", "words_1")
    assert "learned from too, so that validation says little" in said_of(tmp_path, "words_2", "words_3")


def test_copies_of_training_pictures_in_the_validation_words_are_said(tmp_path: Path) -> None:
    for name, labels in {"train": ("one", "three", "thirteen"), "val": ("two", "four", "eight")}.items():
        with LmdbWriter(tmp_path / name) as writer:
            for label in labels:
                writer.add(encode_picture(len(label)), label)
    assert "2 of their pictures are learned from too" in said_of(tmp_path, "train", "val")


def test_a_damaged_picture_is_found_before_training(tmp_path: Path) -> None:
    with LmdbWriter(tmp_path / "words") as writer:
        writer.add(encode_picture(3), "one")
        writer.add(encode_picture(4)[:-40], "two")
    with pytest.raises(UserError, match=r"record 2 of words can't be read as a picture.*check-lmdb names all"):
        said_of(tmp_path, "words", "words")


def said_of(root: Path, train: str, validation: str) -> str:
    """What is printed where words of one set are learned from and words of another validate."""
    section = DataSection(
        root=str(root), validation=validation, synthetic=SyntheticSection(words=0), train=[SourceSection(path=train)]
    )
    printed = io.StringIO()
    DataModule(section, Charset.load("36"), 25, (32, 128), seed=0).setup(Console(file=printed, width=500))
    return printed.getvalue()


def encode_picture(level: int) -> bytes:
    stored = io.BytesIO()
    Image.new("RGB", (20, 8), (level, level, level)).save(stored, format="PNG")
    return stored.getvalue()
