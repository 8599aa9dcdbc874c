"""Captions inside a graph: from the likeliest characters to the text tower's token ids, by tensor operations alone.

A CLIP4STR spells out what its visual branch read and hands it to its text tower (`teachers.captions`). In a graph there
are no strings; what there is instead gives the same ids. Word pieces are merged as CLIP's tokenizer merges them, the
pair of lowest rank first, with the ranks in a table without collisions.
"""

from __future__ import annotations

from string import ascii_lowercase, digits

import numpy as np
import torch
from open_clip import SimpleTokenizer
from torch import Tensor, nn

from students.errors import UserError
from teachers.captions import END
from teachers.clip4str import Clip4Str
from teachers.small import SmallTeacherConfig
from teachers.tokens import CharacterTokens

NONE = 2**40
"""A rank that no pair has."""
WORD_END = "</w>"
"""How CLIP's vocabulary marks the last symbol of a word."""
PIECES = ascii_lowercase + digits
"""Characters whose word pieces can be merged in a graph: letters in runs, each digit alone, as CLIP splits them."""
MERGES_FROM = 512
"""Id of the symbol that the first merge makes; before it stand 256 bytes, alone and at the end of a word."""


class GraphCaptions(nn.Module):
    """Caption readings as a reader's own captioner and tokenizer do: `spell`, then `merging` to the end, then `frame`.

    Args:
        reader: a CLIP4STR.

    Raises:
        UserError: for an alphabet of captions whose tokens can't be found without its tokenizer.
    """

    def __init__(self, reader: Clip4Str) -> None:
        super().__init__()
        self.context, self.start_id, self.end_id = reader.tokens.context, reader.tokens.start_id, reader.tokens.end_id
        ids = reader.charset.ids
        self.ending = [ids[char] for char in END] if set(END) <= set(ids) else None
        captions = [reader.captioner.adapted.adapt(char) for char in reader.charset.characters]
        clip = reader.config.clip
        if isinstance(clip, SmallTeacherConfig):
            table = {"": 0, **CharacterTokens(clip.characters, clip.max_length).table}
            symbols = [table.get(caption, 0) for caption in captions]
            self.merging = None
        else:
            symbols = [number(caption) for caption in captions]
            self.merging = Merging(SimpleTokenizer())
        self.register_buffer("symbols", torch.tensor([0, *symbols]), persistent=False)

    def spell(self, best: Tensor) -> Tensor:
        """Spell readings (N, T) of character ids in token ids, not merged yet, -1 where there are no more."""
        symbols: Tensor = self.get_buffer("symbols")
        ended = (best == 0).long()
        if self.ending is not None:  # the published quirk, see `teachers.captions.Captioner`
            follow = torch.cat([best, torch.zeros_like(best[:, :2])], dim=1)
            length = best.shape[1]
            first, second, third = self.ending
            ended = ended + (
                (best == first) & (follow[:, 1 : 1 + length] == second) & (follow[:, 2 : 2 + length] == third)
            )
        found = symbols[best]
        row = gather_left(found, (ended.cumsum(dim=1) == 0) & (found > 0), 0)
        return torch.where(row > 0, row, -1) if self.merging is None else self.merging.spell(row)

    def frame(self, ids: Tensor) -> Tensor:
        """Put start and end around token ids (N, T), -1 where there are no more, and fill or cut to the context."""
        room = self.context - 2
        count = (ids >= 0).sum(dim=1, keepdim=True).clamp(max=room)
        padded = torch.cat([ids, ids.new_full((1, 1), -1).expand(len(ids), self.context)], dim=1)[:, : room + 1]
        place = torch.arange(room + 1, device=ids.device)
        inner = torch.where(place < count, padded, torch.where(place == count, self.end_id, 0))
        return torch.cat([torch.full_like(inner[:, :1], self.start_id), inner], dim=1)


def number(caption: str) -> int:
    """Number a character's caption among `PIECES`, from 1 on; 0 for none, and `UserError` for any other."""
    if len(caption) > 1 or caption.lower() not in PIECES:
        raise UserError(
            f"captions with {caption!r} can't be made inside an ONNX graph, only those of letters a to z and digits; "
            "leave --onnx out"
        )
    return PIECES.index(caption.lower()) + 1 if caption else 0


class Merging(nn.Module):
    """Merge characters of `PIECES` to CLIP's word pieces.

    Args:
        tokenizer: CLIP's.
    """

    def __init__(self, tokenizer: SimpleTokenizer) -> None:
        super().__init__()
        self.size = len(tokenizer.encoder)
        inside = [tokenizer.encoder[char] for char in PIECES]
        last = [tokenizer.encoder[char + WORD_END] for char in PIECES]
        merges = {
            tokenizer.encoder[left] * self.size + tokenizer.encoder[right]: rank
            for (left, right), rank in tokenizer.bpe_ranks.items()
            if set((left + right).replace(WORD_END, "")) <= set(ascii_lowercase)
        }
        self.table = PairTable(*(np.fromiter(side, np.int64) for side in (merges.keys(), merges.values())))
        self.register_buffer("inside", torch.tensor([-1, *inside]), persistent=False)
        self.register_buffer("last", torch.tensor([-1, *last]), persistent=False)

    def spell(self, row: Tensor) -> Tensor:
        """Turn rows (N, T) of `number`s, 0 where there are no more, to ids of symbols, -1 where there are no more."""
        letter = (row > 0) & (row <= len(ascii_lowercase))
        goes_on = torch.cat([letter[:, 1:], torch.zeros_like(letter[:, :1])], dim=1)
        return torch.where(letter & goes_on, self.get_buffer("inside")[row], self.get_buffer("last")[row])

    def forward(self, ids: Tensor) -> tuple[Tensor, Tensor]:
        """Merge each row's pair of lowest rank, wherever it stands: whether any row had one, and the rows (N, T)."""
        rank = self.table(ids[:, :-1] * self.size + ids[:, 1:])
        lowest = rank.amin(dim=1, keepdim=True)
        here = (rank == lowest) & (lowest < NONE)
        # Of a symbol that repeats, aaaa, the first two merge, then the next two: every other place of a run of pairs.
        place = torch.arange(here.shape[1], device=ids.device)
        starts = here & ~torch.cat([torch.zeros_like(here[:, :1]), here[:, :-1]], dim=1)
        before = torch.where(starts[:, None, :] & (place[None, :] <= place[:, None]), place, 0).amax(dim=2)
        taken = here & ((place - before) % 2 == 0)
        none = torch.zeros_like(taken[:, :1])
        merged = torch.where(torch.cat([taken, none], dim=1), lowest + MERGES_FROM, ids)
        kept = ~torch.cat([none, taken], dim=1) & (ids >= 0)
        return here.any(), gather_left(merged + 1, kept, 0) - 1


class PairTable(nn.Module):
    """Look up keys without collisions: a bucket's displacement, then one slot (hash and displace).

    Args:
        keys: (M,) different whole numbers of 0 or more.
        values: (M,) what is found under each.
    """

    def __init__(self, keys: np.ndarray, values: np.ndarray) -> None:
        super().__init__()
        self.buckets = max(1, len(keys) // 4)
        self.slots = next_prime(len(keys) * 8 // 5 + 3)
        moves = np.zeros(self.buckets, dtype=np.int64)
        taken = np.zeros(self.slots, dtype=bool)
        bucket, first, stride = keys % self.buckets, keys % self.slots, self._stride(keys)
        order = np.argsort(bucket, kind="stable")
        groups = np.split(order, np.flatnonzero(np.diff(bucket[order])) + 1)
        for group in sorted(groups, key=len, reverse=True):
            for move in range(self.slots):
                wanted = (first[group] + move * stride[group]) % self.slots
                if not taken[wanted].any() and len(np.unique(wanted)) == len(group):
                    moves[bucket[group[0]]] = move
                    taken[wanted] = True
                    break
            else:
                raise RuntimeError("no place for a group of pairs; make the table larger")
        places = (first + moves[bucket] * stride) % self.slots
        stored, found = np.full(self.slots, -1, dtype=np.int64), np.full(self.slots, NONE, dtype=np.int64)
        stored[places], found[places] = keys, values
        for name, content in (("moves", moves), ("stored", stored), ("found", found)):
            self.register_buffer(name, torch.from_numpy(content), persistent=False)

    def _stride(self, keys: np.ndarray) -> np.ndarray:
        return keys // self.slots % (self.slots - 1) + 1

    def forward(self, keys: Tensor) -> Tensor:
        """Find the values of keys (...); `NONE` for a key that is not there, negative ones among them."""
        known = keys.clamp(min=0)
        stride = known // self.slots % (self.slots - 1) + 1
        place = (known % self.slots + self.get_buffer("moves")[known % self.buckets] * stride) % self.slots
        return torch.where(self.get_buffer("stored")[place] == keys, self.get_buffer("found")[place], NONE)


def gather_left(row: Tensor, kept: Tensor, empty: int) -> Tensor:
    """Move the kept entries of rows (N, T) to the left, in their order; `empty` fills what is free."""
    place = torch.arange(row.shape[1], device=row.device)
    target = kept.long().cumsum(dim=1) - 1
    chosen = kept[:, None, :] & (target[:, None, :] == place[:, None])
    found = torch.where(chosen, row[:, None, :], 0).sum(dim=2)
    return torch.where(place < kept.sum(dim=1, keepdim=True), found, empty)


def next_prime(least: int) -> int:
    """Give the smallest prime of `least` or more."""
    return next(n for n in range(max(2, least), 2 * least + 3) if all(n % d for d in range(2, int(n**0.5) + 1)))
