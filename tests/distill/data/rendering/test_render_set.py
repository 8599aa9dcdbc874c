"""A rendered set is rendered once, by one of the processes that want it."""

from __future__ import annotations

import json
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from distill.data.rendering import render_set
from distill.data.rendering.render_set import RECIPE, RenderRequest, render_once
from students.errors import UserError


@pytest.fixture
def rendered(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The folders that were rendered, each in no time, but not at once."""
    folders: list[Path] = []

    def write(request: RenderRequest, renderer: Any, fonts: Any, folder: Path, workers: int) -> Any:
        folders.append(folder)
        time.sleep(0.1)
        folder.mkdir()
        (folder / "data.mdb").touch()
        recipe = {"words": request.words}
        (folder / RECIPE).write_text(json.dumps(recipe), encoding="utf-8")
        return recipe

    monkeypatch.setattr(render_set, "write_set", write)
    monkeypatch.setattr(RenderRequest, "build_renderer", lambda request: (None, None))
    return folders


def test_of_several_one_renders_and_the_others_find_it(rendered: list[Path], tmp_path: Path) -> None:
    actual: list[dict[str, Any]] = []
    request, folder = RenderRequest(7, "train"), tmp_path / "new" / "train-7-0"
    threads = [threading.Thread(target=lambda: actual.append(render_once(request, folder))) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert rendered == [folder]
    assert actual == [{"words": 7}] * 3
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]


def test_a_folder_that_can_not_be_written_is_the_users_mistake(rendered: list[Path], tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="train-7-0 can't be written"):
        render_once(RenderRequest(7, "train"), tmp_path / "file" / "train-7-0")
    assert rendered == []
