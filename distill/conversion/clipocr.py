"""Convert CLIP-OCR's training checkpoints: the student, and on request its guidance heads and its teacher.

The reference implementation saves the recogniser, the guidance heads and the frozen CLIP in one file, or without the
CLIP. Reading needs the recogniser only; heads and CLIP are needed to go on with the distillation.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from torch import Tensor

from distill.conversion import UNKNOWN
from distill.conversion.checkpoints import Checkpoint, read_checkpoint
from distill.conversion.layout import ConversionOptions, Converted, Sizes, fill, list_names, need, vit_sizes
from losses.heads import GuidanceHeads, published_name, save_heads
from students.errors import UserError
from students.student import Student, StudentConfig
from teachers.clip import fit_positions
from teachers.guidance import TeacherShape
from teachers.weights import ClipWeights, is_torchscript, read_weights, weights_in
from teachers.zoo import save_clip

HEADS, TEACHER = "guidance heads", "teacher"
"""What a checkpoint may hold that is no part of the student."""
GUIDANCE, CLIP_FOLDER = "guidance", "clip"
"""The part of a student's folder that holds the heads, and the teacher's folder inside it."""
POSITIONS, PATCHES = "visual.positional_embedding", "visual.conv1.weight"
TOLERANCE = 2e-3
"""Two copies of a CLIP are one when no weight differs by more than this ratio of its largest: float16 rounding."""


def convert(checkpoint: Checkpoint, options: ConversionOptions) -> Converted:
    """Convert a checkpoint of CLIP-OCR.

    With `options.guidance`, or a CLIP given, the folder gets a part `guidance/`: the heads, and the teacher from the
    given file or from the checkpoint itself.

    Raises:
        UserError: when the checkpoint is no CLIP-OCR, doesn't tell a size, or guidance is asked for that isn't there.
    """
    sizes = Sizes(checkpoint, options)
    student = Student(student_config(checkpoint, sizes))
    used = fill(student, checkpoint, stored_name)
    heads = head_names(student)
    unused: dict[str, list[str]] = {HEADS: [], TEACHER: [], UNKNOWN: []}
    for name in checkpoint.tensors:
        if name not in used:
            is_teacher = name.startswith("clip.") or name in ("clip_mean", "clip_std")
            unused[HEADS if name in heads else TEACHER if is_teacher else UNKNOWN].append(name)
    missing = [name for name in heads if name not in checkpoint.tensors]
    missing += [] if checkpoint.with_prefix("clip.") else ["clip.*"]
    parts = {}
    if options.guidance or options.clip is not None:
        parts[GUIDANCE] = convert_guidance(checkpoint, student, options.clip)
        missing, unused = [], {UNKNOWN: unused[UNKNOWN]}
    return Converted(student.eval(), unused, missing, sizes.assumed, parts)


def student_config(checkpoint: Checkpoint, sizes: Sizes) -> StudentConfig:
    """Read the student's sizes; raises `UserError` for what isn't there or can't be told."""
    return StudentConfig(**vit_sizes(checkpoint, sizes, prefix_tokens=1), encoder="vit", taps="published")


def stored_name(name: str) -> str:
    """Map one of our weights' names to the checkpoint's, where timm's model is the encoder itself."""
    return name.replace("encoder.model.", "encoder.", 1)


def head_names(student: Student) -> list[str]:
    """List the names of all guidance heads in a checkpoint."""
    heads = GuidanceHeads(student.shape, TeacherShape(image_tokens=1, image_width=1, text_width=1, joint_width=1))
    return [published_name(name) for name in heads.state_dict()]


def convert_guidance(checkpoint: Checkpoint, student: Student, clip: Path | None) -> Callable[[Path], None]:
    """Check heads and teacher, and return what writes them into a folder.

    Args:
        checkpoint: CLIP-OCR's, with its heads.
        student: the converted student.
        clip: the CLIP it was trained with, see `read_clip`; None takes the one in the checkpoint.

    Raises:
        UserError: when heads or teacher are missing, or the CLIP is not the one that the heads belong to.
    """
    heads = convert_heads(checkpoint, student)
    own = own_clip(checkpoint, student.image_size)
    weights = own if clip is None else read_clip(clip, student.image_size)
    if weights is None:
        raise UserError(f"{checkpoint.path}: the CLIP it was trained with isn't in it; give its weights as --clip FILE")
    check_match(weights, own, heads, student.image_size, checkpoint.path if clip is None else clip)

    def write(folder: Path) -> None:
        save_heads(heads, folder)
        save_clip(weights, folder / CLIP_FOLDER)

    return write


def convert_heads(checkpoint: Checkpoint, student: Student) -> GuidanceHeads:
    """Build the guidance heads of a checkpoint, with sizes read from their weights.

    Raises:
        UserError: when the checkpoint has none, or not all of them.
    """
    rows, image, text, joint = need(
        checkpoint, "align_proj0", "norm_head_vis0.weight", "norm_head0.weight", "word_embed.3.weight"
    )
    shape = TeacherShape(
        image_tokens=rows.shape[1], image_width=len(image), text_width=len(text), joint_width=len(joint)
    )
    heads = GuidanceHeads(student.shape, shape)
    fill(heads, checkpoint, published_name)
    return heads


def read_clip(path: Path, image_size: tuple[int, int]) -> ClipWeights:
    """Read a CLIP from a weights file, a folder of open_clip's layout, or another checkpoint of CLIP-OCR.

    Raises:
        UserError: when there is none.
    """
    inside = weights_in(path)
    if inside is None and path.is_file() and not is_torchscript(path):
        own = own_clip(read_checkpoint(path), image_size)
        if own is not None:
            return own
    return read_weights(inside or path)


def own_clip(checkpoint: Checkpoint, image_size: tuple[int, int]) -> ClipWeights | None:
    """Return the CLIP in a checkpoint, its positions cut to the student's pictures already; None without one."""
    tensors = {name: value.float() for name, value in checkpoint.with_prefix("clip.").items()}
    if POSITIONS not in tensors:
        return None
    mean, std = (tuple(value.flatten().tolist()) for value in need(checkpoint, "clip_mean", "clip_std"))
    return ClipWeights(tensors, "quick-gelu", "CLIP-OCR uses OpenAI's program", mean, std, image_size)


def check_match(
    weights: ClipWeights, own: ClipWeights | None, heads: GuidanceHeads, image_size: tuple[int, int], source: Path
) -> None:
    """Check that a CLIP is the one that heads were trained with, as far as checkpoint and shapes tell.

    Args:
        weights: the CLIP.
        own: the one in the heads' checkpoint, if it is there.
        heads: the heads.
        image_size: height and width of the student's pictures.
        source: the file of `weights`, for messages.

    Raises:
        UserError: naming the first difference.
    """
    tensors, stored = weights.tensors, heads.state_dict()
    rows, columns = (pixels // tensors[PATCHES].shape[2] for pixels in image_size)
    sizes = {
        "image tokens": (1 + rows * columns, stored["align_proj.0"].shape[1]),
        "image channels": (tensors[PATCHES].shape[0], len(stored["norm_head_vis.0.weight"])),
        "text channels": (tensors["positional_embedding"].shape[1], len(stored["norm_head.0.weight"])),
        "joint channels": (tensors["text_projection"].shape[1], len(stored["word_embed.3.weight"])),
    }
    for what, (actual, needed) in sizes.items():
        if actual != needed:
            raise UserError(f"{source}: has {actual} {what}, the heads {needed}; give the CLIP they were trained with")
    if weights is own or own is None:
        return
    side = round((len(tensors[POSITIONS]) - 1) ** 0.5)
    trained = (rows, columns) if weights.image_size == image_size else (side, side)
    cut = fit_positions(tensors[POSITIONS], trained, (rows, columns), "crop")
    compared = {**tensors, POSITIONS: cut}
    other = [name for name, value in own.tensors.items() if name not in compared or differ(compared[name], value)]
    if other:
        raise UserError(
            f"{source}: differs from the CLIP in the checkpoint in {list_names(other)}; give the one it was trained "
            "with, or take --guidance without --clip"
        )


def differ(first: Tensor, second: Tensor) -> bool:
    """Tell whether two copies of a weight differ by more than rounding, see `TOLERANCE`."""
    if first.shape != second.shape:
        return True
    return bool((first - second).abs().max() > TOLERANCE * second.abs().max())
