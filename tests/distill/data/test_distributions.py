"""Stored distributions: what is kept of them, and what of them reaches a student of another alphabet."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from distill.data.distributions import (
    LEFT_OUT,
    BatchDistributions,
    DistributionReader,
    StoredDistributions,
    WordDistributions,
    fold_texts,
    likeliest_classes,
)
from distill.data.lmdb_reader import LmdbRecords
from distill.data.records import BadRecordError, SubsetRecords
from distill.data.writing import LmdbWriter
from students.charset import Charset
from students.errors import UserError

MIXED = Charset("aAbB1é!")


def random_rows(rows: int, classes: int) -> np.ndarray:
    return np.random.default_rng(0).dirichlet(np.full(classes, 0.3), rows)


def write_set(folder: Path, label: str, rows: np.ndarray, likeliest: int, charset: Charset = MIXED) -> LmdbRecords:
    with LmdbWriter(folder) as writer:
        writer.add(b"picture", label, None, likeliest_classes(rows, likeliest).pack(), 0.5)
        writer.add(b"picture", label)
        stored = StoredDistributions(charset.characters, likeliest, 25, ("somebody",), 1)
        writer.describe_distributions(stored.to_json())
    return LmdbRecords(folder)


def test_what_is_missing_to_one_survives_sixteen_bits() -> None:
    rows = np.array([[1e-6, 0.999983, 1.2e-5, 4e-6, 0.0]])
    back = WordDistributions.unpack(likeliest_classes(rows, 2).pack(), 2)
    assert back.ids.tolist() == [[1, 2]]
    np.testing.assert_allclose(1 - back.probabilities[0, 0], 1.7e-5, rtol=0.01)
    np.testing.assert_allclose(back.probabilities[0, 1], 1.2e-5, rtol=0.005)
    np.testing.assert_allclose(back.rest, [5e-6], rtol=0.005)


def test_all_classes_come_back_dense() -> None:
    rows = random_rows(4, 8)
    word = WordDistributions.unpack(likeliest_classes(rows, 8).pack(), 8)
    batch = BatchDistributions.collate([None, word])
    assert batch is not None
    logs, known = batch.dense(6, 8)
    assert logs.shape == (2, 6, 8)
    assert known.tolist() == [[False] * 6, [True] * 4 + [False] * 2]
    np.testing.assert_allclose(logs[1, :4].exp().numpy(), rows, rtol=0.01, atol=1e-6)


def test_the_rest_is_shared_by_the_other_characters() -> None:
    word = WordDistributions(np.array([[2, 0]]), np.array([[0.7, 0.1]], np.float32), np.array([0.2], np.float32))
    batch = BatchDistributions.collate([word])
    assert batch is not None
    np.testing.assert_allclose(batch.dense(1, 4)[0].exp().numpy()[0, 0], [0.1, 0.1, 0.7, 0.1], rtol=1e-6)
    unknown_end = WordDistributions(word.ids[:, :1], word.probabilities[:, :1], np.array([0.3], np.float32))
    batch = BatchDistributions.collate([unknown_end])
    assert batch is not None
    np.testing.assert_allclose(batch.dense(1, 4)[0].exp().numpy()[0, 0], [0, 0.15, 0.7, 0.15], rtol=1e-6, atol=1e-12)


def test_spaces_of_lines_have_distributions(tmp_path: Path) -> None:
    charset, rows = Charset("ab "), random_rows(4, 4)
    records = write_set(tmp_path / "set", "a b", rows[:3], 4, charset)
    word = DistributionReader(records, charset).read(0, "a b")
    assert word is not None
    assert len(word.ids) == 3
    shorter = DistributionReader(records, Charset("ab")).read(0, "ab")
    assert shorter is not None
    assert len(shorter.ids) == 2


def test_classes_go_by_the_label_rules() -> None:
    folded = fold_texts("aAé!ﬁ#", Charset("#fiabe"))
    target = {char: number for number, char in enumerate("#fiabe", start=1)}
    assert folded.tolist() == [0, target["a"], target["a"], target["e"], LEFT_OUT, LEFT_OUT, target["#"]]


@pytest.mark.parametrize("end", [True, False])
def test_another_alphabet_gets_the_sums_of_what_it_has(tmp_path: Path, end: bool) -> None:
    # Brute force: of each row the probabilities of every character that becomes one of the student's, renormalised.
    label, student = "Aé!b", Charset("ab1e")
    rows = random_rows(len(label) + end, len(MIXED.characters) + 1)
    records = write_set(tmp_path / "set", label, rows, 8)
    reader = DistributionReader(records, student)
    word = reader.read(0, "aeb")
    batch = BatchDistributions.collate([word])
    assert batch is not None
    logs, known = batch.dense(4, 5)
    expected = []
    for row in [0, 1, 3, *([4] if end else [])]:
        sums = dict.fromkeys(["end", *student.characters], 0.0)
        for char, probability in zip(["end", *MIXED.characters], rows[row], strict=True):
            own = "end" if char == "end" else student.clean(char)
            if own is not None:
                sums[own] += probability
        expected.append([value / sum(sums.values()) for value in sums.values()])
    assert known.tolist() == [[True] * 3 + [end]]
    np.testing.assert_allclose(logs[0, : len(expected)].exp().numpy(), expected, rtol=0.01, atol=1e-6)
    assert "!" in reader.describe()[1]
    assert reader.read(1, "aeb") is None, "stored without"
    assert reader.read(0, "aexb") is None, "the student writes it otherwise"


def test_damaged_ones_are_corrupt_records(tmp_path: Path) -> None:
    records = write_set(tmp_path / "set", "abAB", random_rows(2, 8), 3)
    with pytest.raises(BadRecordError, match="record 1 of set"):
        DistributionReader(records, MIXED).read(0, "abAB")
    with LmdbWriter(tmp_path / "other") as writer:
        writer.add(b"picture", "ab", None, b"cut off")
        writer.describe_distributions(StoredDistributions.read(records).to_json())
    with pytest.raises(BadRecordError, match="damaged"):
        DistributionReader(LmdbRecords(tmp_path / "other"), MIXED).read(0, "ab")


def test_words_that_the_distributions_spell_otherwise_are_said(tmp_path: Path) -> None:
    records = write_set(tmp_path / "set", "abab", random_rows(4, 4), 4, Charset("abc"))
    assert DistributionReader(records, Charset("abcABC")).describe()[1] == (
        "  words with one of ABC learn from none: the distributions' alphabet lacks these"
    )
    assert len(DistributionReader(records, Charset("abc")).describe()) == 1


def test_a_list_has_those_of_its_set(tmp_path: Path) -> None:
    rows = random_rows(4, 8)
    records = write_set(tmp_path / "IC13_2", "abA", rows, 8)
    cut = SubsetRecords(records, [1, 0], "IC13_1", tmp_path / "IC13_1.indices.txt")
    reader = DistributionReader(cut, MIXED)
    assert reader.read(0, "abA") is None, "the second of the set, stored without"
    word, again = reader.read(1, "abA"), DistributionReader(records, MIXED).read(0, "abA")
    assert word is not None
    assert again is not None
    np.testing.assert_array_equal(word.probabilities, again.probabilities)


def test_a_set_without_any_is_refused(tmp_path: Path) -> None:
    with LmdbWriter(tmp_path / "set") as writer:
        writer.add(b"picture", "abc")
    with pytest.raises(UserError, match="no stored distributions; write an LMDB that has them with label"):
        DistributionReader(LmdbRecords(tmp_path / "set"), MIXED)


def test_a_batch_keeps_words_and_distributions_together() -> None:
    words = [likeliest_classes(random_rows(rows, 8), 3) for rows in (2, 5)]
    batch = BatchDistributions.collate([words[0], None, words[1]])
    assert batch is not None
    chosen = batch.select([2, 0])
    assert chosen.known.sum(dim=1).tolist() == [5, 2]
    assert torch.equal(chosen.ids[1, :2], torch.from_numpy(words[0].ids))
    assert BatchDistributions.collate([None, None]) is None
