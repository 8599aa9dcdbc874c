"""CLIP-OCR's training checkpoints: the student, and on request what goes on distilling: its heads and its teacher.

The published program saves the recogniser, the guidance heads and the frozen CLIP under one roof, or without the
CLIP. Reading needs the recogniser only.
"""

from __future__ import annotations

from distill.conversion import UNKNOWN
from distill.conversion.checkpoints import Checkpoint
from distill.conversion.converted import ConversionOptions, Converted, fill
from distill.conversion.guidance import keep_guidance
from distill.conversion.sizes import Sizes, depth, need
from losses.heads import GuidanceHeads, published_name
from students.sizes import StudentConfig
from students.student import Student
from teachers.guidance import TeacherShape

HEADS, TEACHER = "guidance heads", "teacher"
"""What there may be in a checkpoint that the student has no place for."""
GUIDANCE = "guidance"
"""The part of the folder that holds what only training needs."""


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
        parts[GUIDANCE] = keep_guidance(checkpoint, student, options.clip)
        missing, unused = [], {UNKNOWN: unused[UNKNOWN]}
    return Converted(student.eval(), unused, missing, sizes.assumed, parts)


def student_config(checkpoint: Checkpoint, sizes: Sizes) -> StudentConfig:
    """Read the student's sizes from the weights, and from the settings what no shape tells."""
    queries, patches, grid, hidden, decoder_hidden, head = need(
        checkpoint, "pos_queries", "encoder.patch_embed.proj.weight", "encoder.pos_embed",
        "encoder.blocks.0.mlp.fc1.weight", "decoder.layers.0.linear1.weight", "head.weight",
    )  # fmt: skip
    width = queries.shape[2]
    patch = (patches.shape[2], patches.shape[3])
    return StudentConfig(
        charset=sizes.charset(len(head)),
        max_length=queries.shape[1] - 1,
        image_size=sizes.image(patch, grid.shape[1] - 1),
        encoder="vit",
        patch=patch,
        width=width,
        depth=depth(checkpoint.tensors, "encoder.blocks."),
        heads=sizes.heads("encoder", width),
        mlp_ratio=len(hidden) / width,
        decoder_depth=depth(checkpoint.tensors, "decoder.layers."),
        decoder_heads=sizes.heads("decoder", width),
        decoder_mlp_ratio=len(decoder_hidden) / width,
        dropout=sizes.dropout(),
        taps="published",
    )


def stored_name(name: str) -> str:
    """Give the published name of a student's weight: timm's model is the encoder itself there."""
    return name.replace("encoder.model.", "encoder.", 1)


def head_names(student: Student) -> list[str]:
    """List the published names of all guidance heads."""
    heads = GuidanceHeads(student.shape, TeacherShape(image_tokens=1, image_width=1, text_width=1, joint_width=1))
    return [published_name(name) for name in heads.state_dict()]
