"""SharedAlphabet: the character classes that a student and a reading teacher have in common."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from students.charset import Charset

SHOWN = 100
"""Characters that a description lists; a general recogniser has thousands that a student lacks."""


class SharedAlphabet(nn.Module):
    """The classes that two alphabets share, and the class of each character on either side.

    A character that the other side has in the other case only joins that one: between 94 and 36 characters `H` and
    `h` are one class, in either direction. Characters without a counterpart are left out on their side, and the
    remaining probabilities are renormalised.

    Args:
        student: the student's alphabet.
        teacher: the teacher's.

    Attributes:
        left_out: the teacher's characters that the student lacks in either case.
        untaught: the student's characters that the teacher lacks in either case.
        joined: the student's characters that share a class with their other case, of either side.
    """

    student_ids: Tensor
    teacher_ids: Tensor
    classes: Tensor

    def __init__(self, student: Charset, teacher: Charset) -> None:
        super().__init__()
        own, other = _classes(student, teacher), _classes(teacher, student)
        shared = [key for key in dict.fromkeys(own) if key and key in other]
        numbers = {key: number for number, key in enumerate(shared)}
        self.same = student.characters == teacher.characters
        self.register_buffer("student_ids", _members(own, numbers), persistent=False)
        self.register_buffer("teacher_ids", _members(other, numbers), persistent=False)
        # Start and padding are no classes; they stand after the characters.
        classes = [numbers.get(key, -1) for key in own] + [-1, -1]
        self.register_buffer("classes", torch.tensor(classes), persistent=False)
        own_keys, other_keys = (
            list(zip(charset.characters, keys[1:], strict=True)) for charset, keys in ((student, own), (teacher, other))
        )
        self.untaught = "".join(char for char, key in own_keys if key not in numbers)
        self.left_out = "".join(char for char, key in other_keys if key not in numbers)
        self.joined = "".join(c for c, key in own_keys if key in numbers and own.count(key) + other.count(key) > 2)

    def student_scores(self, logits: Tensor) -> Tensor:
        """Bring a student's (..., C + 1) logits to (..., G) scores of the shared classes, the end first."""
        return logits if self.same else _gather(logits, self.student_ids)

    def teacher_scores(self, log_probabilities: Tensor) -> Tensor:
        """Bring a teacher's (..., C_t + 1) log-probabilities to (..., G) scores of the shared classes."""
        return log_probabilities if self.same else _gather(log_probabilities, self.teacher_ids)

    def describe(self) -> str:
        """Describe in one line what can't be mapped; empty when nothing is lost."""
        losses = []
        if self.untaught:
            losses.append(f"it can't read {self.untaught}, so it teaches nothing of a word from such a character on")
        if self.left_out:
            rest = len(self.left_out) - SHOWN
            shown = self.left_out[:SHOWN] + (f" and {rest} more characters" if rest > 0 else "")
            losses.append(f"its probabilities of {shown} are left out, as the student can't write them")
        if self.joined:
            losses.append(f"upper and lower case count as one for {self.joined}")
        return "; ".join(losses)


def _classes(own: Charset, other: Charset) -> list[str]:
    """Name the shared class of each class of `own`, the end first; "" for one that `other` lacks."""
    names = ["end"]
    for char in own.characters:
        counterpart = other.counterpart(char)
        if counterpart is None or counterpart == char:
            names.append(counterpart or "")
        else:  # the other case; where both sides have that one, this character joins it
            names.append(counterpart if counterpart in own.ids else char.lower())
    return names


def _members(names: list[str], numbers: dict[str, int]) -> Tensor:
    """List the ids of each shared class: (G, M), -1 where a class has fewer than M."""
    members: list[list[int]] = [[] for _ in numbers]
    for position, name in enumerate(names):
        if name in numbers:
            members[numbers[name]].append(position)
    most = max(map(len, members))
    return torch.tensor([ids + [-1] * (most - len(ids)) for ids in members])


def _gather(scores: Tensor, ids: Tensor) -> Tensor:
    """Add up the probabilities of each class's members: (..., C) log scores to (..., G)."""
    members = scores[..., ids.clamp(min=0)].masked_fill(ids < 0, float("-inf"))
    return members.logsumexp(dim=-1)
