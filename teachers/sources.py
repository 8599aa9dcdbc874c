"""Where a CLIP comes from: shipped by name, a teacher folder, a weights file, or open_clip's zoo."""

from __future__ import annotations

from pathlib import Path

from open_clip import list_models

from students.errors import UserError
from teachers.small import CONFIG_FILE, SmallTeacher
from teachers.weights import weights_in
from teachers.zoo import LoadedClip, load_file, load_zoo, unknown_teacher, zoo_config, zoo_tags

SHIPPED = {"words-small": Path(__file__).parent / "words_small"}
"""Folders of the small teachers that come with the package."""


def load_source(name: str, weights: str | None = None) -> tuple[str, SmallTeacher | LoadedClip]:
    """Load a CLIP with its weights, and say what to call it.

    Args:
        name: a shipped name; a folder that `train-teacher` or open_clip wrote; a CLIP weights file; or a ViT of
            open_clip's zoo as `NAME/TAG` (for example `ViT-B-16/openai`), downloaded when it isn't cached.
        weights: a local file (or teacher folder) to read instead; `name` then says what it is: `NAME`,
            `NAME-quickgelu` or `NAME/TAG`. Sizes and activation are read from the file where it tells them. A tag of
            the zoo is taken for `NAME/TAG`.

    Raises:
        UserError: unknown name, missing or foreign weights, no network, or an activation that can't be told.
    """
    if weights is None and name in SHIPPED:
        return name, SmallTeacher.load(SHIPPED[name])
    source = Path(weights if weights is not None else name)
    if source.is_dir() and (source / CONFIG_FILE).is_file():
        return name if weights is not None else source.name, SmallTeacher.load(source)
    if source.is_dir() and (inside := weights_in(source)) is not None:
        return name if weights is not None else source.name, load_file(inside)
    if weights is None and source.is_file():
        return source.name, load_file(source)
    architecture, _, tag = name.partition("/")
    if weights is not None and not source.exists() and tag == "" and weights in zoo_tags(architecture):
        return f"{name}/{weights}", load_zoo(architecture, weights)
    if weights is not None:
        return name, load_file(weights, architecture, tag or None)
    if architecture not in list_models():
        raise unknown_teacher(name)
    if tag == "":
        zoo_config(architecture)
        raise UserError(f"{name} is a model without weights; say which: {name}/TAG with TAG of {zoo_tags(name)}")
    return name, load_zoo(architecture, tag)
