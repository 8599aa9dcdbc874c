"""Sections of a configuration that a training reads: student, teachers, guidance, losses, optimizer, loop.

Nothing here imports torch, so that mistakes in a configuration are reported at once. The line under a field is its
documentation (docs/reference/config.md, `--help-config`); its metadata holds its bounds (`distill.fields`).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal


@dataclass
class StudentSection:
    """The reader that learns."""

    size: Literal["tiny", "small", "paper"] = "tiny"
    """Architecture of a new student."""
    init: str | None = None
    """Shipped name or folder of a student to start from instead; sizes that are set below are changed."""
    remap: bool = False
    """Change the student of `init` to this `charset` and `max_length`; new characters and positions start untrained."""
    charset: str = "36"
    """Alphabet: 36, 62, 94, 95 (94 and the space), or a text file that holds its characters."""
    max_length: int = field(default=25, metadata={"least": 1})
    """Longest word, in characters."""
    encoder: str | None = None
    """`vit`, `conv` or the name of a timm ViT; null takes that of `size`."""
    width: int | None = field(default=None, metadata={"least": 1})
    """Channels of encoder and decoder; null takes those of `size`."""
    depth: int | None = field(default=None, metadata={"least": 1})
    """Encoder blocks; null takes those of `size`."""
    decoder_depth: int | None = field(default=None, metadata={"least": 1})
    """Decoder layers; null takes those of `size`."""
    dropout: float | None = None
    """Dropout in the decoder; null takes that of `size`."""
    stem: list[int] | None = None
    """Channels of the three levels of encoder `conv`; null takes those of `size`."""
    stem_blocks: list[int] | None = None
    """Convolutions with a shortcut in the second and third level of encoder `conv`; null takes those of `size`."""
    keep_aspect: bool | None = None
    """Let pictures keep their aspect at height 32, for decoding `ctc`; otherwise all are stretched to 32 x 128."""
    max_width: int | None = field(default=None, metadata={"least": 64})
    """Width of the widest picture with `keep_aspect`, in pixels (wider ones are squeezed); null takes 320."""
    turn_tall: bool | None = None
    """Read tall pictures turned to either side too, the surest reading counts; null: as in `init`, or not."""
    language_model: str | None = None
    """For decoding `ctc`: `european`, a word list, labelled words, several with `+`, or `none`; null: as in `init`."""
    decoding: Literal["ar", "nar", "ctc"] | None = None
    """Autoregressive (one character after the other), all at once, or CTC; null: as in `init`, or `ar`."""
    decoder: bool = True
    """Learn beside a decoder; `false` leaves it out of a student with decoding `ctc`, which reads without it."""
    refine_iters: int | None = field(default=None, metadata={"least": 0})
    """Further passes with the whole previous reading as context, for `nar`; null: as in `init`, or 0."""


@dataclass
class TeacherSection:
    """A frozen teacher."""

    name: str | None = None
    """`words-small`, a shipped student, a folder, or an open_clip model; null trains without a teacher."""
    weights: str | None = None
    """open_clip tag or local weights file for an open_clip model."""
    position: Literal["crop", "interpolate"] = "crop"
    """How a CLIP's position grid is fitted to the student's picture; `crop` as in the reference implementation."""
    kind: Literal["auto", "clip", "clip4str", "parseq", "peer", "student"] = "auto"
    """What it is; `auto` finds out from its name or its folder's config.json."""
    weight: float = field(default=1.0, metadata={"least": 0})
    """Multiplies all terms of this teacher."""
    text_cache_mb: int = field(default=256, metadata={"least": 0})
    """MiB for a CLIP's text features of labels that come again; 0 caches none."""
    image_cache_mb: int = field(default=0, metadata={"least": 0})
    """MiB for a CLIP's features of pictures that come again unchanged (no or `fixed_augmentations`); 0 caches none."""
    image_cache_half: bool = False
    """Cache image features in half precision: twice as many, and no longer exact."""
    control: Literal["none", "shuffled", "untrained"] = "none"
    """For control experiments: `shuffled` gives it the labels of other words, `untrained` random weights."""
    heads: str | None = None
    """Folder of guidance heads to start from, as `convert --guidance` writes it; null starts with new ones."""


@dataclass
class LossSection:
    """A registered loss; `NAME: 0.5` is short for `NAME: {weight: 0.5}`."""

    weight: float = field(default=1.0, metadata={"least": 0})
    """Weight; 0 leaves the loss out."""
    warmup: float = field(default=0.0, metadata={"least": 0, "most": 1})
    """Share of the run over which the weight rises linearly from 0."""
    until: float = field(default=1.0, metadata={"least": 0, "most": 1})
    """Share of the run after which the loss is off."""
    decay: float = field(default=0.0, metadata={"least": 0, "most": 1})
    """Share of the run, before `until`, over which the weight falls linearly to 0."""
    options: dict[str, Any] = field(default_factory=dict)
    """Keyword arguments of the loss."""


@dataclass
class ScheduleSection:
    """A schedule of a weight; the default is constant."""

    warmup: float = field(default=0.0, metadata={"least": 0, "most": 1})
    """Share of the run over which the weight rises linearly from 0."""
    until: float = field(default=1.0, metadata={"least": 0, "most": 1})
    """Share of the run after which the term is off."""
    decay: float = field(default=0.0, metadata={"least": 0, "most": 1})
    """Share of the run, before `until`, over which the weight falls linearly to 0."""


@dataclass
class GuidanceSection:
    """How teachers guide the student (docs/method.md, 1.2 and 1.3); defaults as in the reference implementation."""

    interval: int = field(default=1, metadata={"least": 1})
    """Guide every k-th optimizer step; the steps between learn from labels alone."""
    max_rows: int | None = field(default=None, metadata={"least": 1})
    """Largest number of rows that one LCL call compares; more are sampled down to it; null compares all."""
    include_padding: bool = True
    """Compare padding positions in the linguistic terms too."""
    gather_second_order: bool = False
    """Relate the rows of all processes in the second-order term, instead of each process's own."""
    norm: Literal["published", "standard"] = "published"
    """Divide a row by its norm + 1e-7 as in the reference implementation, or by max(norm, 1e-12)."""
    linguistic: float = field(default=1.0, metadata={"least": 0})
    """Weight of the three linguistic terms."""
    visual: float = field(default=1.0, metadata={"least": 0})
    """Weight of the three visual terms."""
    bridge: float = field(default=1.0, metadata={"least": 0})
    """Weight of the bridge term."""
    kd: float = field(default=0.0, metadata={"least": 0})
    """Weight of the KL divergence to the character distributions of a teacher that reads."""
    dkd: float = field(default=0.0, metadata={"least": 0})
    """Weight of the decoupled form of that divergence."""
    kd_head: Literal["auto", "decoder", "columns", "both"] = "auto"
    """What learns by `kd` and `dkd`: the decoder, the columns (pooled by character), or both; auto: what reads."""
    temperature: float = field(default=4.0, metadata={"above": 0})
    """Temperature of `kd` and `dkd`."""
    dkd_alpha: float = field(default=1.0, metadata={"least": 0})
    """Weight of the target part within `dkd`."""
    dkd_beta: float = field(default=8.0, metadata={"least": 0})
    """Weight of the non-target part within `dkd`."""
    pseudo_label_weight: float = field(default=1.0, metadata={"least": 0})
    """Weight of the character loss on words that a teacher labelled (sources with `labels: pseudo`)."""
    pseudo_label_threshold: float = field(default=0.9, metadata={"least": 0, "most": 1})
    """Least confidence (product over characters) of a teacher's label; words below it are left out."""
    schedules: dict[str, ScheduleSection] = field(default_factory=dict)
    """Schedules of these weights by name: `linguistic`, `visual`, `bridge`, `kd`, `dkd`, `pseudo` (pseudo labels)."""


@dataclass
class AuxSection:
    """Auxiliary losses on the encoder's columns, for students that have a column head; reading does without them."""

    ctc: float = field(default=1.0, metadata={"least": 0})
    """Weight of CTC on the columns."""
    columns: float = field(default=1.0, metadata={"least": 0})
    """Initial weight of the cross-entropy on the character under each column (known for rendered words)."""
    columns_until: float = field(default=0.5, metadata={"least": 0})
    """Share of the run after which the weight of `columns` has fallen linearly to 0."""


@dataclass
class OptimSection:
    """Optimizer and schedule."""

    name: Literal["adamw", "muon"] = "adamw"
    """AdamW as in the reference implementation, or Muon for most weights of two and more dimensions beside it."""
    lr: float = field(default=1.4e-3, metadata={"least": 0})
    """Base learning rate; see `scale_lr`."""
    scale_lr: bool = True
    """Scale lr to the batch as the reference does: lr * grad_accum * sqrt(processes) * batch_size / 256."""
    schedule: Literal["onecycle", "cosine"] = "onecycle"
    """OneCycle as in the reference implementation, or a linear warm-up and a cosine to 0."""
    warmup: float = field(default=0.075, metadata={"least": 0, "below": 1})
    """Share of the run that warms up."""
    weight_decay: float = field(default=0.0, metadata={"least": 0})
    """Weight decay of weights that are decayed at all (docs/method.md, section 1.4)."""
    beta1: float = field(default=0.9, metadata={"least": 0, "below": 1})
    """Decay of AdamW's first moment."""
    beta2: float = field(default=0.999, metadata={"least": 0, "below": 1})
    """Decay of AdamW's second moment."""
    eps: float = field(default=1e-8, metadata={"above": 0})
    """AdamW's epsilon."""
    grad_clip: float = field(default=20.0, metadata={"least": 0})
    """Largest gradient norm; 0 does not clip."""
    ema: float = field(default=0.0, metadata={"least": 0, "below": 1})
    """Decay of the moving average of the weights that is validated and exported; 0 turns it off."""


@dataclass
class TrainSection:
    """The training loop."""

    steps: int = field(default=1000, metadata={"least": 1})
    """Optimizer steps."""
    batch_size: int = field(default=32, metadata={"least": 1})
    """Words per process and batch."""
    grad_accum: int = field(default=1, metadata={"least": 1})
    """Batches whose gradients are added up for one optimizer step."""
    precision: Literal["auto", "no", "bf16", "fp16"] = "no"
    """Mixed precision; `auto` is bf16 where processor or GPU computes in it, fp16 on other GPUs, else no."""
    threads: int = field(default=0, metadata={"least": 0})
    """CPU threads per process; 0 leaves torch's choice."""
    validate_every: int = field(default=1000, metadata={"least": 1})
    """Optimizer steps between validations."""
    checkpoint_every: int = field(default=1000, metadata={"least": 1})
    """Optimizer steps between checkpoints."""
    select: Literal["best", "last"] = "best"
    """Export the weights of the best validation, or the last (when validation words are of another kind)."""
    keep: int = field(default=2, metadata={"least": 1})
    """Number of latest checkpoints that stay; the best weights are in student/ or teacher/."""
    log_every: int = field(default=50, metadata={"least": 1})
    """Optimizer steps between progress lines."""
    deterministic: bool = False
    """Use torch's deterministic kernels."""


@dataclass
class EvalSection:
    """The comparison and export at the end of a run."""

    baseline: bool = False
    """Train the same student without a teacher too, side by side, and compare."""
    teacher: bool = True
    """Score the teachers too: readers openly, a CLIP by closed lexicon."""
    test: str | None = None
    """Folder of benchmarks, or one set (relative paths start at data.root); null takes the validation words."""
    benchmarks: str = "six"
    """`six`, `all`, or names with commas."""
    charset: str | None = None
    """Alphabet that is scored, such as 36; null takes the student's own."""
    train_root: str | None = None
    """Training words that are searched for test words, beside those that are learned from (relative paths start at
    data.root); null searches none."""
    onnx: bool = True
    """Export the student to ONNX too."""
