"""No file of reference numbers lies there unused."""

from __future__ import annotations

import re

import numpy as np
import pytest

from tests.reference.cases import FOLDER, KINDS, REPOSITORY, SHARED, stored


@pytest.mark.reference
def test_every_file_of_numbers_is_a_case_of_some_kind() -> None:
    named = {case.path.name for case in stored() if any(serves(case) for serves in KINDS.values())}
    stems = {re.sub(r"_rank\d+$", "", name.rpartition(".")[0]) for name in named}
    unused = [case.path.name for case in stored() if case.path.name not in named and case.name not in stems]
    assert not unused


@pytest.mark.reference
@pytest.mark.skipif(FOLDER != SHARED, reason="no other numbers than those of the repository are here")
def test_the_numbers_in_the_repository_are_those_of_the_shared_folder() -> None:
    for file in sorted(REPOSITORY.glob("*.json")):
        assert file.read_bytes() == (SHARED / file.name).read_bytes()
    for file in sorted(REPOSITORY.glob("*.npz")):
        with np.load(file) as part, np.load(SHARED / file.name) as whole:
            assert part.files
            assert all(np.array_equal(part[name], whole[name]) for name in part.files)
