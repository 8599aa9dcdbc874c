"""Losses by name: what each needs of a teacher, and the function or module that computes it."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar, get_args

import torch
from torch import Tensor, nn

from losses.alphabets import SharedAlphabet
from losses.heads import GuidanceHeads
from students.errors import UserError
from students.stages import Stages, StudentShape
from teachers.guidance import Guidance, Part, TeacherShape

LossLike = TypeVar("LossLike", bound=Callable[..., Any])
GIVEN = ("guidance", "context")
"""Parameters beside `stages` that a loss is called with, where it names them; all others are its options."""
SHAPES = ("student", "teacher")
"""Arguments that a loss that is a module is built with, where it names them."""
BUILT_IN = ("bridge", "linguistic", "visual", "kd", "dkd")
"""The losses of the package, which users can't replace; their weights stand under `guidance` of a configuration."""
TASK_TERMS = ("characters", "ctc", "columns", "pseudo", "pseudo_ctc", "total")
"""Names of the terms that learn from labels."""
LOGGED = ("loss", "step", "group", "seconds", "gradient_norm", "learning_rate", "words_per_second")
"""What a training logs beside the terms."""
RESERVED = (*TASK_TERMS, *LOGGED)
"""Names that no loss and no term of one can have."""


@dataclass(frozen=True)
class LossContext:
    """What a loss may use beside stages and guidance; it is passed to a parameter called `context`."""

    target_ids: Tensor
    """(N, L + 2) the student's ids of the labels: start, characters, end, padding."""
    heads: GuidanceHeads | None = None
    """The trained projections between this student and teacher; None without a teacher."""
    alphabet: SharedAlphabet | None = None
    """The characters that student and teacher share; None for a teacher that doesn't read."""
    generator: torch.Generator | None = None
    """Seeded by run and step, for what a loss draws at random."""
    second_columns: Tensor | None = None
    """(N, W, C + 1) column logits of the second view, for a loss that is registered with `second_view`."""


@dataclass(frozen=True)
class Loss:
    """An entry of the registry."""

    name: str
    needs: tuple[Part, ...]
    """Parts of `Guidance` without which it can't be computed; a loss without any runs without a teacher too."""
    function: Callable[..., Any]
    """The loss, or the class of a module that computes it."""
    decoder: bool = False
    """Whether it compares what the student's decoder gives, and so needs a student that learns beside one."""
    second_view: bool = False
    """Whether it compares the columns of two augmented views of each picture."""

    @property
    def is_module(self) -> bool:
        """Whether it is a class of modules, with weights of its own."""
        return isinstance(self.function, type)

    def check_options(self, options: Mapping[str, Any]) -> None:
        """Raise `UserError` for an option that it doesn't have or lacks."""
        named = list(inspect.signature(self.function).parameters.items())[0 if self.is_module else 1 :]
        given = SHAPES if self.is_module else GIVEN
        kinds = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
        known = {key: one for key, one in named if key not in given and one.kind in kinds}
        # A module without an `__init__` of its own has nn.Module's, which names any option and takes none.
        inherited = getattr(self.function, "__init__", None) is nn.Module.__init__
        open_ended = not inherited and any(one.kind is one.VAR_KEYWORD for _, one in named)
        if unknown := [key for key in options if key not in known and not open_ended]:
            raise UserError(
                f"loss {self.name} has no option {unknown[0]!r}; it has {', '.join(known) or 'none, leave it out'}"
            )
        missing = [key for key, one in known.items() if one.default is one.empty and key not in options]
        if missing:
            raise UserError(f"loss {self.name} needs its option {missing[0]}; set losses.{self.name}.options")

    def build(self, student: StudentShape, teacher: TeacherShape | None, options: Mapping[str, Any]) -> BuiltLoss:
        """Bind the options, and build the module where it is one.

        Raises:
            UserError: for an option that it doesn't have or lacks.
        """
        self.check_options(options)
        named = inspect.signature(self.function).parameters
        compute: Any = functools.partial(self.function, **options)
        if self.is_module:
            shapes = {key: value for key, value in zip(SHAPES, (student, teacher), strict=True) if key in named}
            compute = self.function(**shapes, **options)
            named = inspect.signature(compute.forward).parameters
        return BuiltLoss(self, compute, tuple(key for key in GIVEN if key in named), options)


@dataclass(frozen=True)
class BuiltLoss:
    """A loss with its options, between one student and one teacher."""

    loss: Loss
    compute: Callable[..., Any]
    given: tuple[str, ...]
    """Those of `GIVEN` that it takes."""
    options: Mapping[str, Any]

    @property
    def module(self) -> nn.Module | None:
        """The trained part, for a loss that is a module."""
        return self.compute if isinstance(self.compute, nn.Module) else None

    def terms(self, stages: Stages, guidance: Guidance | None, context: LossContext) -> dict[str, Tensor]:
        """Compute its scalars by name: one called as the loss, or those that it names itself."""
        values = {"guidance": guidance, "context": context}
        result = self.compute(stages, **{key: values[key] for key in self.given})
        terms = dict(result) if isinstance(result, Mapping) else {self.loss.name: result}
        if not terms:
            raise UserError(f"losses.{self.loss.name} gives nothing; return a scalar, or several by name")
        for name, term in terms.items():
            if isinstance(result, Mapping) and name in RESERVED:
                raise UserError(f"losses.{self.loss.name}: a term can't be called {name!r}; take another name")
            if not isinstance(term, Tensor) or term.ndim:
                what = f"a tensor of shape {(*term.shape,)}" if isinstance(term, Tensor) else type(term).__name__
                raise UserError(f"losses.{self.loss.name}: {name} is {what}; a loss is a tensor without dimensions")
        return terms


LOSSES: dict[str, Loss] = {}
"""Registered losses by name, the built-in ones first; see `register_loss`."""


def register_loss(
    name: str, needs: Sequence[Part] = (), decoder: bool = False, second_view: bool = False
) -> Callable[[LossLike], LossLike]:
    """Register a loss by name, to be weighted under `losses:` of a configuration.

    It is a function `(stages, guidance, ...) -> scalar`, or a class of `nn.Module` with such a `forward`, which is
    built with those of `student: StudentShape` and `teacher: TeacherShape` that its `__init__` names and is trained
    with the student. A parameter called `context` gets a `LossContext`. All other parameters are options, set by
    `losses.NAME.options`. A loss may also return several scalars by name. Registering a name again replaces it.

    Args:
        name: what configurations, logs and tables call it.
        needs: the parts of `guidance` that it uses: `image`, `text`, `word`, `characters`, `columns`. A loss that
            uses none takes `stages` alone; it is computed in every step, without a teacher too.
        decoder: whether it uses `stages.logits` or `stages.decoder`, which a student that learns without a decoder
            hasn't got.
        second_view: whether it uses `context.second_columns`, the student's columns of the same pictures augmented in
            another way; only for a loss that needs nothing of a teacher.

    Raises:
        UserError: for a name that is taken by the framework.
        ValueError: for a part that guidance hasn't got, a function whose parameters don't agree with `needs`, or needs
            beside `second_view`.
    """
    if not isinstance(name, str):
        raise UserError('a loss is registered with a name; write @register_loss("name") above it')
    if isinstance(needs, str):
        raise ValueError(f'loss {name}: needs is a list of names, such as needs=("{needs}",)')
    if name in RESERVED or (name in BUILT_IN and name in LOSSES) or not name.isidentifier():
        raise UserError(f"a loss can't be called {name!r}; take a name of letters that the framework has no use for")
    if unknown := set(needs) - set(get_args(Part)):
        raise ValueError(f"guidance has no {sorted(unknown)[0]!r}; a loss can need {', '.join(get_args(Part))}")

    if second_view and needs:
        raise ValueError(f"loss {name}: one that compares two views of a picture needs nothing of a teacher")

    def register(function: LossLike) -> LossLike:
        if isinstance(function, type) and not issubclass(function, nn.Module):
            raise ValueError(f"loss {name}: a class is one of nn.Module; derive it from that, or register a function")
        called = function.forward if isinstance(function, type) else function  # type: ignore[attr-defined]
        if bool(needs) != ("guidance" in inspect.signature(called).parameters):
            raise ValueError(
                f"loss {name}: a loss with a parameter `guidance` says what it needs of it, such as "
                'needs=("word",), and one without needs nothing'
            )
        LOSSES[name] = Loss(name, tuple(needs), function, decoder, second_view)
        return function

    return register


def find_loss(name: str) -> Loss:
    """Look up a registered loss.

    Raises:
        UserError: when there is none of this name.
    """
    if name not in LOSSES:
        raise UserError(
            f"no loss is called {name!r}; there are {', '.join(LOSSES)}; register yours with "
            "losses.registry.register_loss in a file that `plugins` names"
        )
    return LOSSES[name]


def config_key(name: str) -> str:
    """Name the configuration key of a loss's weight."""
    return f"guidance.{name}" if name in BUILT_IN else f"losses.{name}"
