"""Resolve the name of a teacher or reader to what it stands for, alike for every command and configuration key."""

from __future__ import annotations

import difflib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from open_clip import list_models, list_pretrained_tags_by_model

from students.errors import UserError
from students.pretrained import locate, name_of, read_stored, shipped, typed
from teachers.peers import is_peer
from teachers.small import FORMAT as SMALL_TEACHER
from teachers.weights import weights_in

SHIPPED_CLIPS = {"words-small": Path(__file__).parent / "words_small"}
"""Folders of the small teachers that come with the package."""
CLIP_FOLDER, CLIP_FILE, CLIP_ZOO = "open_clip folder", "CLIP weights file", "open_clip zoo"
CLIPS = (SMALL_TEACHER, CLIP_FOLDER, CLIP_FILE, CLIP_ZOO)
"""Values of `Resolved.format` that are CLIPs; all others are formats of readers."""


@dataclass(frozen=True)
class Resolved:
    """What a name stands for, known before any weights are read."""

    name: str
    """Its name in messages and tables."""
    format: str
    """One of `CLIPS`, or the `format` of the folder's config.json."""
    path: Path = Path()
    """Folder or weights file."""
    stored: Mapping[str, Any] | None = None
    """The content of config.json."""
    architecture: str | None = None
    """open_clip's name of the model, where one was given."""
    tag: str | None = None
    """open_clip's name of the weights, where one was given."""

    @property
    def is_clip(self) -> bool:
        """Whether it is a CLIP, not a reader."""
        return self.format in CLIPS


def resolve(name: str | Path, weights: str | None = None) -> Resolved:
    """Find what a name stands for.

    Args:
        name: of a shipped teacher or student; a folder of a reader, of a small teacher, or in open_clip's layout; a
            CLIP weights file; a ViT of open_clip's zoo as `NAME/TAG` (for example `ViT-B-16/openai`); a repository
            `OWNER/NAME` of a reader on the Hugging Face hub.
        weights: a local file or folder of a CLIP to read instead; `name` then says what it is: `NAME`,
            `NAME-quickgelu` or `NAME/TAG`. A tag of the zoo is taken for `NAME/TAG`.

    Raises:
        UserError: when there is no such thing; the message gives near names and what would work.
    """
    name = typed(name)
    if weights is not None:
        return _with_weights(name, weights)
    if name in SHIPPED_CLIPS:
        return _in_folder(name, SHIPPED_CLIPS[name])
    path = Path(name)
    if name in shipped() or os.path.isdir(path):
        return _in_folder(None, locate(name))
    if is_peer(name):
        raise UserError(
            f"{name} can be read with and learned from, but neither trained nor exported; give a folder with "
            "config.json and model.safetensors"
        )
    if os.path.isfile(path):
        return Resolved(path.name, CLIP_FILE, path)
    architecture, _, tag = name.partition("/")
    if architecture in list_models():
        return Resolved(name, CLIP_ZOO, architecture=architecture, tag=tag or None)
    typo = difflib.get_close_matches(architecture, list_models(), n=1, cutoff=0.85)
    if name.count("/") == 1 and not name.startswith((".", "/", "~")) and not typo:  # then it may be on the hub
        try:
            folder = locate(name)
        except UserError as error:
            raise unknown_name(name, f" ({str(error).partition(';')[0]})") from None
        return _in_folder(name, folder)
    raise unknown_name(name)


def unknown_name(name: str, reason: str = "") -> UserError:
    """Make the error that refuses a name which stands for nothing, with the nearest names."""
    own = [*SHIPPED_CLIPS, *shipped()]
    near = difflib.get_close_matches(name.partition("/")[0], [*own, *list_models()], n=3)
    hint = f"did you mean {' or '.join(near)}, or" if near else f"try {', '.join(own)}, a ViT of open_clip's zoo, or"
    return UserError(
        f"unknown teacher or reader {name!r}{reason}; {hint} the path of a folder or weights file that exists"
    )


def _with_weights(name: str, weights: str) -> Resolved:
    path = Path(weights)
    if path.is_dir():
        resolved = _in_folder(name, path)
        if not resolved.is_clip:
            raise UserError(f"weights={weights} is a reader's folder, not a CLIP's; give it as the name")
        return resolved
    architecture, _, tag = name.partition("/")
    if not path.exists() and tag == "" and weights in list_pretrained_tags_by_model(architecture):
        return Resolved(f"{name}/{weights}", CLIP_ZOO, architecture=architecture, tag=weights)
    return Resolved(name, CLIP_FILE, path, architecture=architecture, tag=tag or None)


def _in_folder(name: str | None, folder: Path) -> Resolved:
    """Resolve a folder by its files; its CLIP or reader is called `name`, or else by the folder."""
    if weights_in(folder) is not None:
        return Resolved(name or folder.name, CLIP_FOLDER, folder)
    stored = read_stored(folder)
    kind = stored["format"]
    return Resolved(name or (folder.name if kind == SMALL_TEACHER else name_of(folder)), kind, folder, stored)
