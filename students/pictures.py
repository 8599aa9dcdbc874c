"""Decode pictures of any kind to RGB and bring them to a student's input, without importing torch.

Every part of the project that looks at a picture decodes it here: training, reading, checking and writing.
"""

from __future__ import annotations

import io
import os
import stat
import warnings
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import numpy as np
from PIL import Image, UnidentifiedImageError

from students.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor

PICTURE_ENDINGS = (
    ".apng", ".avif", ".avifs", ".blp", ".bmp", ".bw", ".cur", ".dcx", ".dds", ".dib", ".fit", ".fits", ".flc", ".fli",
    ".ftc", ".ftu", ".gbr", ".gif", ".icb", ".icns", ".ico", ".im", ".j2c", ".j2k", ".jfif", ".jp2", ".jpc", ".jpe",
    ".jpeg", ".jpf", ".jpg", ".jpx", ".mpo", ".msp", ".pbm", ".pcd", ".pcx", ".pfm", ".pgm", ".png", ".pnm", ".ppm",
    ".psd", ".pxr", ".qoi", ".ras", ".rgb", ".rgba", ".sgi", ".tga", ".tif", ".tiff", ".vda", ".vst", ".webp", ".xbm",
    ".xpm",
)  # fmt: skip
"""Endings of file names that count as pictures: all that Pillow opens and that hold one picture, or open with one."""

NO_PICTURES = frozenset({"BUFR", "EPS", "GRIB", "HDF5", "IPTC", "MPEG", "PDF", "WMF"})
"""Formats of Pillow's that are left alone: programs for a printer, films, documents, and stubs without a decoder."""

MAX_PIXELS = 1 << 26
"""Pixels of the largest picture that is decoded (200 MB as RGB); a picture of one word has some thousands."""

NARROWEST = 2
"""Width of the narrowest picture that keeps its aspect, in heights."""
COLUMN = 4
"""Pixels across that make a column of a student's encoder."""

_COMMON = ("PNG", "JPEG", "BMP", "GIF", "PPM")
_ORIENTATION = 0x0112
_TRANSPOSES = {
    2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180, 4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE, 6: Image.Transpose.ROTATE_270, 7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}  # fmt: skip
"""What turns a picture upright, by its EXIF orientation."""
_FULL_SCALES = (255, 1023, 4095, 16383, 65535)
"""White in pictures of 8, 10, 12, 14 and 16 bits."""


class DamagedPictureError(UserError, ValueError):
    """A picture that can't be decoded: truncated, corrupt, absurdly large, or of no known format."""


def decode_picture(source: bytes | str | Path | BinaryIO | Image.Image | np.ndarray) -> Image.Image:
    """Decode a picture to an upright RGB picture of 8 bits.

    The EXIF orientation is applied. Pictures of 16 bits, 32 bits and floating point are scaled to 8 bits: from 0 and
    the smallest of 1 (floating point only), 255, 1023, 4095, 16383 and 65535 that no pixel exceeds, where floating
    point may exceed 1 by as much again, as sharpened pictures do, and is cut off there; from smallest and largest value
    where one is negative or above all these. A picture with transparency is put on white, or on black
    where what is visible is rather light than dark. Transparency that is equal everywhere is ignored. Of an animation
    the first picture is taken.

    Args:
        source: an encoded picture, a path, a Pillow picture, or an array (H, W), (H, W, 1), (H, W, 2) with alpha,
            (H, W, 3) in RGB or (H, W, 4) in RGBA; an open file is read from where it stands.

    Raises:
        DamagedPictureError: when it can't be decoded, whatever the decoder raised.
        UserError: when there is no such file, an array has another shape, or it is none of these.
    """
    if isinstance(source, np.ndarray):
        return _from_array(source)
    if isinstance(source, Image.Image):
        return _decode_checked(source)
    if isinstance(source, bytes | bytearray | memoryview):
        return _decode_bytes(bytes(source))
    if hasattr(source, "read"):
        data = source.read()
        if isinstance(data, str):
            raise UserError("a file opened as text is no picture; open it in binary mode ('rb')")
        return _decode_bytes(data)
    if not isinstance(source, str | os.PathLike):
        hint = " (OpenCV gives it for a file that it can't read)" if source is None else ""
        raise UserError(
            f"{type(source).__name__}{hint} is no picture; give a path, bytes, a Pillow picture or a numpy array"
        )
    try:
        return _decode_bytes(_read_file(Path(source)))
    except DamagedPictureError as error:
        instead = "give the files in it" if os.path.isdir(source) else "save it again as PNG or JPEG"
        raise DamagedPictureError(f"{source}: can't be read as a picture ({error}); {instead}") from None


def resize(image: Image.Image, size: tuple[int, int]) -> np.ndarray:
    """Resize an RGB picture to `size` = (height, width), bicubic with antialiasing: (H, W, 3) uint8.

    The aspect ratio changes (docs/method.md, section 1.6).
    """
    height, width = size
    return np.asarray(image.resize((width, height), Image.Resampling.BICUBIC))


def normalize(pixels: np.ndarray) -> np.ndarray:
    """Bring uint8 (N, H, W, 3) to float32 (N, 3, H, W): to [0, 1], then (x - 0.5) / 0.5."""
    scaled = np.ascontiguousarray(pixels.transpose(0, 3, 1, 2), dtype=np.float32)
    scaled /= 255
    scaled -= 0.5
    scaled /= 0.5
    return scaled


def denormalize(images: np.ndarray) -> list[Image.Image]:
    """Turn normalised pictures (N, 3, H, W) back into RGB pictures of 8 bits."""
    pixels = np.rint((images.transpose(0, 2, 3, 1) * 0.5 + 0.5) * 255).clip(0, 255).astype(np.uint8)
    return [Image.fromarray(picture) for picture in pixels]


def fitted_size(width: int, height: int, image_size: tuple[int, int], stretch: float = 1.0) -> tuple[int, int]:
    """Return the size (height, width) at which a picture that keeps its aspect is read.

    The width is a whole number of columns of 4 pixels, from twice the height to that of `image_size`. Wider pictures
    are squeezed, and narrower ones stretched: their words would have too few columns.

    Args:
        width: of the picture.
        height: of the picture.
        image_size: height of the input and its largest width.
        stretch: factor on the width.
    """
    rows, most = image_size
    columns = round(stretch * width * rows / height / COLUMN)
    return rows, min(max(columns * COLUMN, NARROWEST * rows), most)


def to_array(
    pictures: Sequence[Image.Image], image_size: tuple[int, int] = (32, 128), keep_aspect: bool = False
) -> np.ndarray:
    """Resize and normalise RGB pictures to a student's input: (N, 3, H, W) float32 with mean 0.5 and std 0.5.

    Args:
        pictures: N of them.
        image_size: height and width.
        keep_aspect: leave each picture as wide as `fitted_size` says; W is then that of the widest, and the others
            are padded on the right with 0, which no pixel becomes.
    """
    if not keep_aspect:
        return normalize(np.stack([resize(picture, image_size) for picture in pictures]))
    return pad([normalize(resize(each, fitted_size(*each.size, image_size))[None])[0] for each in pictures])


def to_tensor(
    pictures: Sequence[Image.Image], image_size: tuple[int, int] = (32, 128), keep_aspect: bool = False
) -> Tensor:
    """Resize and normalise RGB pictures to a tensor (N, 3, H, W); see `to_array`."""
    import torch

    return torch.from_numpy(to_array(pictures, image_size, keep_aspect))


def pad(images: Sequence[np.ndarray]) -> np.ndarray:
    """Stack normalised pictures (3, H, w) to (N, 3, H, W), with 0 to the right of narrower ones."""
    channels, height, _ = images[0].shape
    stacked = np.zeros((len(images), channels, height, max(image.shape[2] for image in images)), np.float32)
    for room, image in zip(stacked, images, strict=True):
        room[:, :, : image.shape[2]] = image
    return stacked


def pixel_widths(images: np.ndarray) -> np.ndarray:
    """Count the pixels across padded pictures (N, 3, H, W) up to their padding: (N,) int64."""
    real = (images != 0).any(axis=(1, 2))
    return np.where(real, np.arange(1, images.shape[3] + 1), 1).max(axis=1)


def group_by_width(widths: Sequence[int]) -> list[list[int]]:
    """Put pictures of like width together, so that little padding is read: lists of positions, each sorted by width.

    In a group no picture is narrower than four fifths of the widest.
    """
    groups: list[list[int]] = []
    for position in sorted(range(len(widths)), key=lambda position: -widths[position]):
        if not groups or widths[position] < 0.8 * widths[groups[-1][0]]:
            groups.append([])
        groups[-1].append(position)
    return groups


def exif_orientation(picture: Image.Image) -> int:
    """Read how a picture is to be turned, 1 to 8; 1 (as it is) where EXIF is absent or broken."""
    try:
        stored = picture.getexif().get(_ORIENTATION, 1)
    except Exception:  # whatever is wrong with the notes beside a picture, its pixels are read
        return 1
    return stored if isinstance(stored, int) and stored in _TRANSPOSES else 1


def _read_file(path: Path) -> bytes:
    try:
        if not stat.S_ISREG(path.stat().st_mode):  # a pipe would be waited for without end
            raise DamagedPictureError("a folder" if path.is_dir() else "no ordinary file")
        return path.read_bytes()
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; give the path of a picture of one word") from None
    except DamagedPictureError:
        raise
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"{str(path)!r}: can't be read as a picture ({reason}); give a file that can be read") from None


def _decode_bytes(data: bytes) -> Image.Image:
    if not data:
        raise DamagedPictureError("the file is empty")
    try:
        picture = _open(data)
    except UnidentifiedImageError:  # Pillow's own words name a buffer's address
        raise DamagedPictureError("no format that Pillow knows") from None
    except Exception as error:
        raise _damaged(error) from None
    with picture:
        if picture.width * picture.height > MAX_PIXELS:
            raise DamagedPictureError(
                f"{picture.width} x {picture.height} pixels; at most {MAX_PIXELS:,} are decoded, of one word"
            )
        return _decode_checked(picture)


def _open(data: bytes) -> Image.Image:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # such pictures are refused by their size
        try:
            return Image.open(io.BytesIO(data), formats=_COMMON)
        except UnidentifiedImageError:
            return Image.open(io.BytesIO(data), formats=_other_formats())


@cache
def _other_formats() -> tuple[str, ...]:
    """List the further formats that this Pillow opens; its plugins for them take a moment to import."""
    Image.init()
    return tuple(name for name in Image.ID if name not in NO_PICTURES and name not in _COMMON)


def _decode_checked(picture: Image.Image) -> Image.Image:
    # Decoders raise RuntimeError, struct.error, IndexError and many more for files that are damaged.
    if 0 in picture.size:
        raise DamagedPictureError("it has no pixels")
    try:
        picture.load()
        return _to_rgb(picture)
    except Exception as error:
        raise _damaged(error) from None


def _damaged(error: Exception) -> DamagedPictureError:
    return DamagedPictureError(" ".join(str(error).split()) or type(error).__name__)


def _to_rgb(picture: Image.Image) -> Image.Image:
    turn = _TRANSPOSES.get(exif_orientation(picture))
    if picture.mode.startswith("I") or picture.mode == "F":
        values = np.asarray(picture)
        hidden = picture.info.get("transparency")
        picture = Image.fromarray(_to_8_bits(values))
        if isinstance(hidden, int):
            picture.putalpha(Image.fromarray(np.where(values == hidden, 0, 255).astype(np.uint8)))
    elif picture.mode == "LAB":
        from PIL import ImageCms

        lab, rgb = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
        picture = ImageCms.profileToProfile(picture, lab, rgb, outputMode="RGB") or picture
    decoded = _on_ground(picture) if picture.has_transparency_data else picture.convert("RGB")
    decoded = decoded if turn is None else decoded.transpose(turn)
    decoded.info = {}  # the orientation must not be applied again
    return decoded


def _on_ground(picture: Image.Image) -> Image.Image:
    """Put a picture with transparency on white, or on black where its visible part is light."""
    visible = (picture.convert("LA") if picture.mode == "La" else picture).convert("RGBA")
    alpha = visible.getchannel("A")
    weights = np.asarray(alpha, dtype=np.float64)
    if weights.min() == weights.max():
        return visible.convert("RGB")
    luminance = float((np.asarray(visible.convert("L")) * weights).sum() / weights.sum())
    ground = Image.new("RGB", picture.size, "black" if luminance > 127.5 else "white")
    ground.paste(visible.convert("RGB"), mask=alpha)
    return ground


def _from_array(pixels: np.ndarray) -> Image.Image:
    flat = pixels[:, :, 0] if pixels.ndim == 3 and pixels.shape[2] == 1 else pixels
    if not (flat.ndim == 2 or (flat.ndim == 3 and flat.shape[2] in (2, 3, 4))) or flat.dtype.kind not in "buif":
        raise UserError(
            f"an array of shape {pixels.shape} and type {pixels.dtype} is no picture; give numbers of shape (H, W), "
            "(H, W, 3) in RGB or (H, W, 4) in RGBA"
        )
    if not flat.size:
        raise DamagedPictureError(f"an array of shape {pixels.shape} has no pixels")
    if flat.dtype.kind == "b":
        flat = flat * np.uint8(255)
    return _decode_checked(Image.fromarray(np.ascontiguousarray(_to_8_bits(flat))))


def _to_8_bits(values: np.ndarray) -> np.ndarray:
    """Scale pixels of any number type to uint8; see `decode_picture`."""
    if values.dtype == np.uint8:
        return values
    wide = values.astype(np.float64)
    finite = np.isfinite(wide)
    if not finite.any():
        raise DamagedPictureError("no pixel is a number")
    low, high = float(wide[finite].min()), float(wide[finite].max())
    scales = (1, *_FULL_SCALES) if values.dtype.kind == "f" else _FULL_SCALES
    top = next((scale for scale in scales if low >= 0 and high <= scale * (2 if scale == 1 else 1)), None)
    if top is not None:
        low, high = 0.0, float(top)
    wide = np.clip(np.nan_to_num(wide, nan=low, posinf=high, neginf=low), low, high)
    return np.rint((wide - low) * (255 / max(high - low, 1e-300))).astype(np.uint8)
