"""Distil large scene text models into small readers: the public Python interface.

Importing it is cheap; torch is imported by the functions that need it.

    import symdistill

    reading = symdistill.load("tiny").read("word.png")
    print(reading.text, reading.confidence)
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from students.charset import Charset
from students.decoding import Reading
from students.errors import UserError
from students.version import package_version

if TYPE_CHECKING:
    from distill.data.language_models import open_language_model
    from distill.deployment.folder import export
    from distill.deployment.onnx_reader import OnnxReader
    from distill.evaluation.evaluate import evaluate
    from distill.training.distill_run import Result
    from losses.registry import LossContext, register_loss
    from students.reading import Reader
    from students.stages import Stages, StudentShape
    from teachers.guidance import Guidance, TeacherShape
    from teachers.peers import Peer
    from teachers.registry import load_teacher, register_reader, register_teacher
    from teachers.teacher import Teacher

__all__ = [
    "Charset", "Guidance", "LossContext", "Reader", "Reading", "Result", "Stages", "StudentShape", "Teacher",
    "TeacherShape", "UserError", "__version__", "distill", "evaluate", "export", "load", "load_teacher",
    "open_language_model", "register_loss", "register_reader", "register_teacher",
]  # fmt: skip
_MODULES = {
    "Guidance": "teachers.guidance", "LossContext": "losses.registry", "Reader": "students.reading",
    "Result": "distill.training.distill_run", "Stages": "students.stages", "StudentShape": "students.stages",
    "Teacher": "teachers.teacher", "TeacherShape": "teachers.guidance", "evaluate": "distill.evaluation.evaluate",
    "export": "distill.deployment.folder", "load_teacher": "teachers.registry",
    "open_language_model": "distill.data.language_models", "register_loss": "losses.registry",
    "register_reader": "teachers.registry", "register_teacher": "teachers.registry",
}  # fmt: skip
"""Names that are imported on first use, with their modules."""


def load(name: str | Path) -> Reader | OnnxReader | Peer:
    """Open a reader.

    Args:
        name: a shipped name, a folder, a repository of the Hugging Face hub; or, read without torch, an ONNX file,
            `rapidocr` or `tesseract` (docs/howto/peers.md).

    Raises:
        UserError: when there is no such reader, or its files are damaged.
    """
    from distill.deployment.readers import open_without_torch
    from students.pretrained import typed

    if not isinstance(name, str | Path):
        raise UserError(f"a {type(name).__name__} is no name of a reader; give a name or a path")
    if (opened := open_without_torch(typed(name))) is not None:
        return opened
    from teachers.registry import load_reader

    return load_reader(name)


def distill(
    config: str | Path | Mapping[str, Any], *, resume: str | Path | None = None, overwrite: bool = False,
    **overrides: Any,
) -> Result:  # fmt: skip
    """Train a student under a teacher, compare it with its baseline and teacher, and write its folder.

    A second run in the same process is fine. Ctrl-C saves and returns a result with `finished` false.

    Args:
        config: name of a shipped configuration, path of a YAML file, or its content.
        resume: `auto` continues the run in its folder from the latest checkpoint; or a checkpoint folder.
        overwrite: replace an earlier run in the folder.
        overrides: keys of the configuration: `train={"steps": 50}`, or with dots `**{"train.steps": 50}`.

    Returns:
        A result with `student` (a reader), `report` (docs/reference/report-json.md) and `folder`.

    Raises:
        UserError: for anything in the configuration, the data or the folder that cannot work.
    """
    if not isinstance(overwrite, bool):
        raise UserError(f"overwrite is {overwrite!r}; give True or False")
    if resume is not None and not isinstance(resume, str | Path):
        raise UserError(f"resume is {resume!r}; give 'auto', or a checkpoint's folder")
    from distill.config import load_config
    from distill.schema import Config
    from distill.training.distill_run import distill as run

    return run(load_config(Config, config, overrides), None if resume is None else str(resume), overwrite)


def __getattr__(name: str) -> Any:
    """Import a name, or look up the version, on first use."""
    if name in _MODULES:
        return getattr(import_module(_MODULES[name]), name)
    if name != "__version__":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return package_version()


def __dir__() -> list[str]:
    return __all__
