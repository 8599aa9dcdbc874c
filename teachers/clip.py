"""ClipTeacher: a frozen CLIP that guides by taps of both towers and the embedding of the whole label."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import torch
from open_clip import CLIP
from torch import Tensor, nn
from torch.nn import functional as F

from students.encoders import tap_depths
from students.errors import UserError
from students.stages import Taps
from teachers.attention import use_plain_attention
from teachers.feature_cache import FeatureCache, autocast_dtype
from teachers.guidance import FeatureRequest, Guidance, TeacherShape
from teachers.small import SmallTeacher
from teachers.teacher import Teacher
from teachers.tokens import AlignedTokenizer, WordPieceTokens
from teachers.towers import embed_words, label_features, run_image
from teachers.zoo import LoadedClip

Position = Literal["crop", "interpolate"]


class ClipTeacher(Teacher):
    """A frozen CLIP: pictures and labels in, `Guidance` out; also embeds both for reading from a closed lexicon."""

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        name: str,
        clip: CLIP,
        tokens: AlignedTokenizer,
        mean: Sequence[float],
        std: Sequence[float],
        position: Position = "crop",
        image_size: tuple[int, int] = (32, 128),
        description: str = "",
    ) -> None:
        """Freeze `clip`, fit its position grid to `image_size` and replace its attention by a quicker one.

        Args:
            name: used in messages and tables.
            clip: the model, with its weights; it is changed in place.
            tokens: one id per character.
            mean: the image tower's input mean, by channel.
            std: the image tower's input deviation, by channel.
            position: how the trained position grid is fitted, see `fit_positions`.
            image_size: height and width of the pictures.
            description: one line on where the weights come from and which activation they use.

        Raises:
            UserError: a tower is too shallow for three taps, or the grid can't be fitted.
        """
        super().__init__(name, description)
        self.tokens = tokens
        self.clip = clip
        visual = clip.visual
        self.image_taps = tap_depths(len(visual.transformer.resblocks), "published", "an image tower")
        self.text_taps = tap_depths(len(clip.transformer.resblocks), "published", "a text tower")
        self.longest_label = tokens.max_length
        self._text_cache: FeatureCache | None = None
        self._image_cache: FeatureCache | None = None
        patch_height, patch_width = visual.patch_size
        grid = (image_size[0] // patch_height, image_size[1] // patch_width)
        fitted = fit_positions(visual.positional_embedding.detach(), visual.grid_size, grid, position)
        visual.positional_embedding = nn.Parameter(fitted)
        use_plain_attention(clip)
        self.register_buffer("mean", torch.tensor(mean).view(1, -1, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(1, -1, 1, 1), persistent=False)
        self.shape = TeacherShape(
            image_tokens=1 + grid[0] * grid[1],
            image_width=visual.positional_embedding.shape[1],
            text_width=clip.positional_embedding.shape[1],
            joint_width=visual.proj.shape[1],
        )
        self.freeze()

    @classmethod
    def from_model(
        cls, name: str, model: SmallTeacher | LoadedClip, position: Position = "crop",
        image_size: tuple[int, int] = (32, 128),
    ) -> ClipTeacher:  # fmt: skip
        """Freeze a small teacher, which takes pictures of its own size alone, or a CLIP of open_clip.

        Raises:
            UserError: for a small teacher and pictures of another size; else as above.
        """
        if isinstance(model, SmallTeacher):
            if image_size != (own := model.config.image_size):
                raise UserError(
                    f"{name} takes pictures of {own[0]} x {own[1]}, the student those of {image_size[0]} x "
                    f"{image_size[1]}; take another teacher, or a student of that size"
                )
            mean, std = model.config.mean, model.config.std
            return cls(name, model, model.tokens, mean, std, image_size=own, description="a small CLIP of words")
        tokens = WordPieceTokens(model.tokenizer, model.clip.context_length)
        description = f"open_clip ViT with {model.activation}: {model.reason}"
        return cls(name, model.clip, tokens, model.mean, model.std, position, image_size, description)

    @torch.no_grad()
    def forward(self, images: Tensor, labels: Sequence[str]) -> Guidance:
        """Compute the guidance for pictures and their labels.

        Args:
            images: (N, 3, 32, 128), normalised as for a student (mean 0.5, std 0.5).
            labels: N words, tokenised character by character.

        Raises:
            UserError: a label can't be split into one token per character.
        """
        return self.extract(images, labels, FeatureRequest())

    @torch.no_grad()
    def extract(self, images: Tensor, labels: Sequence[str], request: FeatureRequest) -> Guidance:
        """Run only the blocks that the requested parts need, on labels and pictures that aren't cached."""
        text, word, mask = label_features(
            self.clip, self.tokens, self.text_taps, labels, request.parts, self._text_cache
        )
        return Guidance(self._image_features(images, request) if "image" in request.parts else None, text, word, mask)

    def accepts(self, label: str) -> bool:
        """See `Teacher.accepts`."""
        return self.tokens.accepts(label)

    def cache_features(self, text_bytes: int, image_bytes: int, half: bool = False) -> None:
        """See `Teacher.cache_features`."""
        self._text_cache = FeatureCache(text_bytes) if text_bytes > 0 else None
        # Pictures come back in turn, once an epoch: the least recently used one is the next to come.
        self._image_cache = FeatureCache(image_bytes, half, evict=False) if image_bytes > 0 else None

    @property
    def caches(self) -> Mapping[str, FeatureCache]:
        """See `Teacher.caches`."""
        caches = {"text": self._text_cache, "image": self._image_cache}
        return {name: cache for name, cache in caches.items() if cache is not None}

    def _image_features(self, images: Tensor, request: FeatureRequest) -> Taps:
        def run(pictures: Tensor) -> list[Tensor]:
            return run_image(self.clip.visual, self.normalize(pictures), self.image_taps)

        if self._image_cache is None or not request.pictures:
            first, second, third = run(images)
        else:
            dtype = autocast_dtype(images.device)
            keys = [None if picture is None else (picture, dtype) for picture in request.pictures]
            first, second, third = self._image_cache.gather(keys, lambda indices: run(images[indices]))
        return first, second, third

    def normalize(self, images: Tensor) -> Tensor:
        """Turn a student's input into the image tower's: `(x * 0.5 + 0.5 - mean) / std`."""
        return (images * 0.5 + 0.5 - self.mean) / self.std

    @torch.no_grad()
    def embed_images(self, images: Tensor) -> Tensor:
        """Embed pictures (N, 3, 32, 128) in the joint space: (N, joint_width), normalised."""
        return F.normalize(self.clip.visual(self.normalize(images)).float(), dim=-1)

    @torch.no_grad()
    def embed_words(self, words: Sequence[str]) -> Tensor:
        """Embed the words of a lexicon: (M, joint width), normalised."""
        return embed_words(self.clip, self.tokens, words)


def fit_positions(positions: Tensor, trained: tuple[int, int], grid: tuple[int, int], position: Position) -> Tensor:
    """Fit position embeddings of a trained grid to another grid.

    Args:
        positions: (1 + rows * columns, width), the class position first.
        trained: rows and columns of the trained grid.
        grid: rows and columns to fit to.
        position: `crop` takes the top-left corner of the trained grid, as the reference implementation does;
            `interpolate` resizes the whole grid bicubically, with antialiasing, as open_clip does.

    Returns:
        (1 + grid rows * grid columns, width).

    Raises:
        UserError: `crop` from a trained grid that is smaller than `grid`.
    """
    if trained == grid:
        return positions.clone()
    table = positions[1:].unflatten(0, trained)
    if position == "crop":
        if grid[0] > trained[0] or grid[1] > trained[1]:
            raise UserError(
                f"position=crop can't cut {grid[0]}x{grid[1]} patches from a trained grid of "
                f"{trained[0]}x{trained[1]}; use position=interpolate"
            )
        cut = table[: grid[0], : grid[1]]
    else:
        channels = table.permute(2, 0, 1).unsqueeze(0).float()
        resized = F.interpolate(channels, grid, mode="bicubic", antialias=True, align_corners=False)
        cut = resized.squeeze(0).permute(1, 2, 0).to(positions.dtype)
    return torch.cat([positions[:1], cut.flatten(0, 1)])
