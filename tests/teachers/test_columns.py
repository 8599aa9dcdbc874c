"""Teachers that read by CTC: their columns pooled over all paths, and what their mask leaves out."""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor

from students.ctc import CtcReader
from students.student import StudentConfig
from teachers import load_teacher
from teachers.columns import CtcReaderTeacher, CtcTeacher, Frames
from teachers.guidance import TeacherShape
from tests.paths import every_path

CONFIG = StudentConfig(
    charset="abc", max_length=8, encoder="conv", stem=(8, 8, 16), width=32, depth=4, heads=2, mlp_ratio=2.0,
    decoder_depth=3, decoder_heads=2, column_head=True, taps="even", decoding="ctc",
)  # fmt: skip


class Given(CtcTeacher):
    """A teacher whose columns are given, as those of a file would be."""

    def __init__(self, log_probs: Tensor, lengths: Tensor | None) -> None:
        super().__init__("given", CtcReader(CONFIG), TeacherShape())
        self.given = Frames(log_probs, lengths)

    def frames(self, images: Tensor) -> Frames:
        return self.given


def test_characters_are_pooled_over_all_paths() -> None:
    log_probs = (3 * torch.randn(4, 6, 4, dtype=torch.float64)).log_softmax(dim=-1)
    lengths = torch.tensor([6, 4, 6, 3])
    guidance = Given(log_probs, lengths)(torch.zeros(4, 3, 32, 128), ["aab", "B", "a!", "aa"])
    assert guidance.characters is not None
    assert guidance.mask.tolist() == [
        [True, True, True, False], [True, False, False, False], [False] * 4, [True, True, False, False],
    ]  # fmt: skip
    for row, ids in ((0, [1, 1, 2]), (1, [2]), (3, [1, 1])):
        own = log_probs[row, : lengths[row]]
        mean = torch.einsum("wl,wc->lc", every_path(own, ids), own.exp())[:, 1:]
        said = guidance.characters[row, : len(ids)].exp()
        torch.testing.assert_close(said[:, 1:], mean / mean.sum(dim=1, keepdim=True), check_dtype=False)
        assert said[:, 0].max() < 1e-20, "no end where there is a character"
    assert guidance.characters.isfinite().all()


def test_words_without_an_alignment_are_left_out() -> None:
    log_probs = torch.randn(3, 3, 4).log_softmax(dim=-1)
    guidance = Given(log_probs, None)(torch.zeros(3, 3, 32, 128), ["aab", "abc", "abcabcabc"])
    assert guidance.mask.sum(dim=1).tolist() == [0, 3, 0]


def test_a_ctc_student_gives_its_columns_and_its_encoder() -> None:
    reader = CtcReader(CONFIG)
    teacher = CtcReaderTeacher("reader", reader)
    images = torch.rand(2, 3, 32, 128) * 2 - 1
    guidance, shape = teacher(images, ["ab", "c"]), teacher.shape
    assert guidance.columns is not None
    torch.testing.assert_close(guidance.columns, reader(images).log_softmax(dim=-1))
    assert guidance.image is not None
    assert guidance.word is not None
    assert (guidance.image[2].shape, guidance.word.shape) == ((2, shape.image_tokens, shape.image_width), (2, 32))
    assert shape.parts == {"image", "word", "characters", "columns"}
    assert guidance.text is None
    assert not any(weight.requires_grad for weight in teacher.parameters())


def test_a_shipped_reader_teaches_the_labels_that_it_can_spell() -> None:
    teacher, labels = load_teacher("tiny-free"), ["exit", "24h", "MUSEUM", "no!"]
    assert isinstance(teacher, CtcTeacher)
    guidance = teacher(torch.rand(4, 3, 32, 128) * 2 - 1, labels)
    assert guidance.mask.sum(dim=1).tolist() == [4, 3, 6, 0], "36 characters, of one case"
    assert guidance.characters is not None
    assert guidance.characters.isfinite().all()


def test_a_label_that_can_not_be_spelt_whole_is_not_spelt() -> None:
    teacher = CtcReaderTeacher("reader", CtcReader(dataclasses.replace(CONFIG, max_length=3)))
    assert [teacher.spell(label) for label in ("ab", "AB", "ab!", "abca", "")] == ["ab", "ab", "", "", ""]


def test_small_probabilities_survive_half_precision() -> None:
    log_probs = torch.full((1, 4, 4), -70.0)
    log_probs[0, [0, 1, 2, 3], [1, 0, 2, 0]] = 0.0
    exact = Given(log_probs, None)(torch.zeros(1, 3, 32, 128), ["ab"]).characters
    with torch.autocast("cpu", torch.float16):
        half = Given(log_probs, None)(torch.zeros(1, 3, 32, 128), ["ab"]).characters
    assert half is not None
    assert half[0, :2].isfinite().all()
    torch.testing.assert_close(half, exact)
