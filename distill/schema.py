"""What can be configured of a distillation: one dataclass a subsystem, one line of documentation under each field."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from distill.data.sections import DataSection


@dataclass
class StudentSection:
    """The reader that learns."""

    size: Literal["tiny", "small", "paper"] = "tiny"
    """Architecture to start from nothing with."""
    init: str | None = None
    """Shipped name or folder of a student to start from instead; its own architecture is kept."""
    remap: bool = False
    """Give that student `charset` and `max_length`, row by row; new characters and positions start from nothing."""
    charset: str = "36"
    """Alphabet: 36, 62, 94, or a text file that holds its characters."""
    max_length: int = 25
    """Longest word in characters."""
    encoder: str | None = None
    """`vit`, `conv` or the name of a timm ViT; null keeps the size's own."""
    width: int | None = None
    """Channels of encoder and decoder; null keeps the size's own."""
    depth: int | None = None
    """Encoder blocks; null keeps the size's own."""
    decoder_depth: int | None = None
    """Decoder layers; null keeps the size's own."""
    dropout: float | None = None
    """Dropout in the decoder; null keeps the size's own."""
    stem: list[int] | None = None
    """Channels of the three levels of encoder `conv`; null keeps the size's own."""
    decoding: Literal["ar", "nar", "ctc"] | None = None
    """How it learns and reads: characters one by one, all at once, or CTC; null: as it did before, or greedy."""
    refine_iters: int | None = None
    """Readings again with the whole earlier reading as context, for `nar`; null: as before, or 0."""


@dataclass
class TeacherSection:
    """A frozen teacher that guides."""

    name: str | None = "words-small"
    """`words-small`, an open_clip model name, a folder, a shipped student, or null for no guidance (a baseline)."""
    weights: str | None = None
    """open_clip tag or local weights file for an open_clip model name."""
    position: Literal["crop", "interpolate"] = "crop"
    """How the trained grid of positions is fitted to the student's picture; `crop` is published."""
    kind: Literal["auto", "clip", "clip4str", "parseq", "student"] = "auto"
    """What it is: a CLIP, or a model that reads; `auto` tells by its name or its folder's config.json."""
    weight: float = 1.0
    """Multiplies all its terms."""
    text_cache_mb: int = 256
    """MiB for a CLIP's features of labels, cached for when they come again; 0 caches none."""
    image_cache_mb: int = 0
    """MiB for a CLIP's features of pictures that come back: without augmentation, or with `fixed_augmentations`."""
    image_cache_half: bool = False
    """Cache those in half precision: twice as many pictures, and no longer exact."""
    control: Literal["none", "shuffled", "untrained"] = "none"
    """For experiments: `shuffled` gives it the labels of other words, `untrained` gives it fresh weights."""
    heads: str | None = None
    """Folder of guidance heads to start from, as `convert --guidance` writes it; null starts from nothing."""


@dataclass
class ScheduleSection:
    """How a term's weight moves over the run: by default it doesn't."""

    warmup: float = 0.0
    """Share of the run over which the weight rises from 0, linearly."""
    until: float = 1.0
    """Share of the run after which the term is off."""
    decay: float = 0.0
    """Share of the run, before `until`, over which the weight falls to 0, linearly."""


@dataclass
class SchedulesSection:
    """Schedules of the terms' weights."""

    linguistic: ScheduleSection = field(default_factory=ScheduleSection)
    """The three linguistic terms."""
    visual: ScheduleSection = field(default_factory=ScheduleSection)
    """The three visual terms."""
    bridge: ScheduleSection = field(default_factory=ScheduleSection)
    """The bridge term."""
    kd: ScheduleSection = field(default_factory=ScheduleSection)
    """Soft targets."""
    dkd: ScheduleSection = field(default_factory=ScheduleSection)
    """Decoupled distillation."""
    pseudo: ScheduleSection = field(default_factory=ScheduleSection)
    """Words that a teacher labelled."""


@dataclass
class GuidanceSection:
    """How the teacher's stages guide the student's (METHOD 1.2, 1.3); the defaults are the published form."""

    interval: int = 1
    """TeacherBranch every k-th step; the steps between learn from labels alone."""
    max_rows: int | None = None
    """Row budget of one LCL call: more rows are sampled down to it; null takes all."""
    include_padding: bool = True
    """Compare the rows of padding positions in the linguistic terms too, as the reference implementation does."""
    gather_second_order: bool = False
    """Relate the rows of all processes in the second-order term, not of each by itself as in the reference."""
    norm: Literal["published", "standard"] = "published"
    """`published` divides a row by its norm + 1e-7, `standard` by max(norm, 1e-12) as `F.normalize` does."""
    linguistic: float = 1.0
    """Weight of the three linguistic terms."""
    visual: float = 1.0
    """Weight of the three visual terms."""
    bridge: float = 1.0
    """Weight of the bridge term."""
    kd: float = 0.0
    """Weight of the KL to a reading teacher's distributions over characters; 0 leaves it out."""
    dkd: float = 0.0
    """Weight of the decoupled form of that KL; 0 leaves it out."""
    temperature: float = 4.0
    """Temperature of `kd` and `dkd`."""
    dkd_alpha: float = 1.0
    """Weight of the target part within `dkd` (its alpha)."""
    dkd_beta: float = 8.0
    """Weight of the non-target part within `dkd` (its beta)."""
    pseudo_label_weight: float = 1.0
    """Weight of the character loss on words that a teacher labelled (sources with `labels: pseudo`)."""
    pseudo_label_threshold: float = 0.9
    """Words that the teacher reads with less confidence (the product over their characters) contribute nothing."""
    schedules: SchedulesSection = field(default_factory=SchedulesSection)
    """How these weights move over the run."""


@dataclass
class AuxSection:
    """Training aux for students with a column head; they cost nothing when reading."""

    ctc: float = 1.0
    """Weight of the CTC loss on the encoder's columns."""
    columns: float = 1.0
    """Starting weight of the cross-entropy on the character under each column (rendered words know it)."""
    columns_until: float = 0.5
    """Share of the run after which the column weight has fallen to 0, linearly."""


@dataclass
class OptimSection:
    """AdamW and its schedule."""

    lr: float = 1.4e-3
    """Base learning rate (see scale_lr)."""
    scale_lr: bool = True
    """Published rule: lr * accumulation * sqrt(processes) * batch / 256; off takes lr as it is."""
    schedule: Literal["onecycle", "cosine"] = "onecycle"
    """OneCycle (published) or a linear warm-up and a cosine to 0, counted in optimizer steps."""
    warmup: float = 0.075
    """Share of the run that warms up."""
    weight_decay: float = 0.0
    """Weight decay on what is decayed at all (METHOD 1.4)."""
    beta1: float = 0.9
    """AdamW's first beta."""
    beta2: float = 0.999
    """AdamW's second beta."""
    eps: float = 1e-8
    """AdamW's eps."""
    grad_clip: float = 20.0
    """Largest gradient norm; 0 leaves gradients as they are."""
    ema: float = 0.0
    """Decay of the moving average of the weights that is validated and delivered; 0 turns it off."""


@dataclass
class TrainSection:
    """The loop."""

    steps: int = 1000
    """Optimizer steps."""
    batch_size: int = 32
    """Words a process and step."""
    grad_accum: int = 1
    """Batches whose gradients are added for one optimizer step."""
    precision: Literal["auto", "no", "bf16", "fp16"] = "no"
    """Mixed precision; auto is bf16 where the processor or GPU computes in it, else no."""
    threads: int = 0
    """CPU threads of a process; 0 leaves torch's choice."""
    validate_every: int = 1000
    """Optimizer steps between validations."""
    checkpoint_every: int = 1000
    """Optimizer steps between checkpoints."""
    select: Literal["best", "last"] = "best"
    """Weights that are handed out: of the best validation, or the last (when validation words are of another kind)."""
    keep: int = 2
    """Latest checkpoints that are kept (the best weights lie in student/ or teacher/)."""
    log_every: int = 50
    """Optimizer steps between log lines."""
    deterministic: bool = False
    """Ask torch for deterministic kernels."""


@dataclass
class EvalSection:
    """What stands beside the student when the run is over."""

    baseline: bool = False
    """Train the same student without guidance too, side by side, and compare."""
    teacher: bool = True
    """Score the teacher too: a reader openly, a CLIP by closed lexicon."""
    test: str | None = None
    """Folder of benchmarks, or one set (relative paths start at data.root); null takes the validation words."""
    benchmarks: str = "six"
    """`six`, `all`, or names with commas."""
    charset: str | None = None
    """Alphabet that is scored, such as 36; null takes the student's own."""
    train_root: str | None = None
    """Training words that the overlap check searches for test words (relative paths start at data.root)."""
    onnx: bool = True
    """Export the student to ONNX too."""


@dataclass
class Config:
    """A run of `tools/distill.py`."""

    name: str = "distilled"
    """Name of the student, on its card and in tables."""
    out: str = "runs/distilled"
    """The run's folder."""
    seed: int = 0
    """One seed, from which every stream of random numbers is derived."""
    student: StudentSection = field(default_factory=StudentSection)
    """The reader that learns."""
    teacher: TeacherSection = field(default_factory=TeacherSection)
    """The frozen teacher that guides."""
    teachers: list[TeacherSection] = field(default_factory=list)
    """Several teachers, in the place of `teacher`; each entry has the keys of `teacher`."""
    guidance: GuidanceSection = field(default_factory=GuidanceSection)
    """How the teacher's stages guide the student's."""
    aux: AuxSection = field(default_factory=AuxSection)
    """Training aux."""
    data: DataSection = field(default_factory=DataSection)
    """Words."""
    optim: OptimSection = field(default_factory=OptimSection)
    """Optimizer and schedule."""
    train: TrainSection = field(default_factory=TrainSection)
    """The loop."""
    eval: EvalSection = field(default_factory=EvalSection)
    """The comparison afterwards."""
