"""No file of reference numbers lies there unused."""

from __future__ import annotations

import re

import pytest

from tests.reference.cases import FOLDER, KINDS, stored


@pytest.mark.reference
@pytest.mark.skipif(not FOLDER.is_dir(), reason=f"no reference numbers in {FOLDER}")
def test_every_file_of_numbers_is_a_case_of_some_kind() -> None:
    named = {case.path.name for case in stored() if any(serves(case) for serves in KINDS.values())}
    stems = {re.sub(r"_rank\d+$", "", name.rpartition(".")[0]) for name in named}
    unused = [case.path.name for case in stored() if case.path.name not in named and case.name not in stems]
    assert not unused
