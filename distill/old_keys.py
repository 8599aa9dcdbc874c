"""Keys and values of configurations of version 0.1, and what they are called now."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from students.errors import UserError

OLD_KEYS = {
    "aids": "aux", "compare": "eval", "compare.twin": "eval.baseline", "compare.sets": "eval.benchmarks",
    "guidance.every": "guidance.interval", "guidance.rows": "guidance.max_rows",
    "guidance.padding": "guidance.include_padding", "guidance.second_order": "guidance.gather_second_order",
    "guidance.normalization": "guidance.norm", "guidance.soft": "guidance.kd",
    "guidance.dkd_target": "guidance.dkd_alpha", "guidance.dkd_others": "guidance.dkd_beta",
    "guidance.pseudo": "guidance.pseudo_label_weight", "guidance.confidence": "guidance.pseudo_label_threshold",
    "guidance.schedules.soft": "guidance.schedules.kd", "data.render": "data.synthetic",
    "data.rendered": "data.synthetic", "data.render.severity": "data.synthetic.difficulty",
    "data.rendered.share": "data.synthetic.ratio", "data.rendered.versions": "data.synthetic.fixed_augmentations",
    "data.train[].share": "data.train[].ratio", "data.train[].versions": "data.train[].fixed_augmentations",
    "data.bad_share": "data.max_corrupt", "optim.clip": "optim.grad_clip", "train.batch": "train.batch_size",
    "train.accumulation": "train.grad_accum", "train.deliver": "train.select",
    "student.refinements": "student.refine_iters", "clip4str.refinements": "clip4str.refine_iters",
    "parseq.refinements": "parseq.refine_iters", "orders": "permutations",
    "contrastive.near_misses": "contrastive.hard_negatives", "contrastive.earlier_texts": "contrastive.text_queue",
}  # fmt: skip
"""What took the place of a key; of a section, also that of the keys in it that keep their names."""
DECODINGS = {"greedy": "ar", "one-shot": "nar"}
OLD_VALUES: dict[str, dict[Any, str]] = {
    "student.decoding": DECODINGS, "clip4str.decoding": DECODINGS, "parseq.decoding": DECODINGS,
    "data.train[].labels": {"teacher": "pseudo"}, "guidance.padding": {"keep": "true", "drop": "false"},
    "guidance.second_order": {"local": "false", "gathered": "true"},
    "guidance.normalization": {"published": "published", "clamped": "standard"},
}  # fmt: skip
"""What took the place of a value, by key (an old one where that was renamed)."""
GONE = {
    "teacher.text_store": "features are cached in memory only, see teacher.text_cache_mb",
    "teacher.text_store_mb": "features are cached in memory only, see teacher.text_cache_mb",
    "data.rendered.path": "rendered words go to data.synthetic.folder",
    "data.rendered.labels": "rendered words know their labels",
}
"""Keys that nothing took the place of, and why."""


def refuse_old_keys(given: dict[str, Any]) -> None:
    """Refuse keys and values of version 0.1, naming those of now.

    Args:
        given: a configuration as nested dictionaries and lists; what isn't old is left to others to check.

    Raises:
        UserError: for the first one.
    """
    for key, value in flatten(given):
        several = key.replace("teachers[].", "teacher.")
        if several in GONE:
            raise UserError(f"{key} is gone: {GONE[several]}")
        new = renamed(key)
        changed = OLD_VALUES.get(key, {}).get(value) if isinstance(value, str) else None
        if changed is not None:
            raise UserError(f"{key}: {value} is {new or key}: {changed} now")
        if new is not None:
            raise UserError(f"{key} is {new} now")


def renamed(key: str) -> str | None:
    """Return what a key is called now; None for one that has no other name."""
    if key in OLD_KEYS:
        return OLD_KEYS[key]
    section, _, name = key.rpartition(".")
    new = renamed(section) if section else None
    return None if new is None else f"{new}.{name}"


def flatten(given: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield every single value under its key with dots, entries of lists as `key[]`; of an empty section, itself."""
    if isinstance(given, dict) and given:
        for name, value in given.items():
            yield from flatten(value, f"{prefix}.{name}" if prefix else str(name))
    elif isinstance(given, list) and any(isinstance(entry, dict) for entry in given):
        for entry in given:
            yield from flatten(entry, f"{prefix}[]")
    elif prefix:
        yield prefix, given
