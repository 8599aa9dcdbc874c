"""Decoding: Pillow's pixels and Pillow's refusals, whichever library decodes."""

from __future__ import annotations

import io
import random

import numpy as np
import pytest
from PIL import Image, ImageOps

from distill.data.pixels import decode, is_plain_jpeg
from students.pictures import DamagedPictureError, decode_picture

SMALL = np.random.default_rng(0).integers(0, 256, (7, 11, 3), dtype=np.uint8)


def encoded(size: tuple[int, int] = (117, 37), kind: str = "JPEG", mode: str = "RGB", **options: object) -> bytes:
    file = io.BytesIO()
    image = Image.fromarray(SMALL).resize(size, Image.Resampling.BICUBIC).convert(mode)
    image.save(file, kind, **options)
    return file.getvalue()


def pixels_or_none(decoder: object, data: bytes) -> np.ndarray | None:
    try:
        return np.asarray(decoder(data))  # type: ignore[operator]
    except DamagedPictureError:
        return None


@pytest.mark.parametrize("mode", ["RGB", "L"])
@pytest.mark.parametrize("size", [(117, 37), (1, 1), (8, 8), (17, 33)])
@pytest.mark.parametrize(
    "options", [{"quality": 30, "subsampling": 2}, {"quality": 95, "subsampling": 1}, {"quality": 80, "subsampling": 0}]
)
def test_ordinary_jpeg_files_give_pillows_pixels(mode: str, size: tuple[int, int], options: dict[str, int]) -> None:
    data = encoded(size, mode=mode, **options)
    assert is_plain_jpeg(data), "OpenCV decodes it"
    assert np.array_equal(decode(data), decode_picture(data))


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("notes", ["EXIF", "XMP"])
def test_turned_pictures_are_turned_upright(orientation: int, notes: str) -> None:
    if notes == "EXIF":
        exif = Image.Exif()
        exif[0x0112] = orientation
        data = encoded(exif=exif, quality=95)
    else:
        data = encoded(xmp=b'<x:xmpmeta><rdf tiff:Orientation="%d"/></x:xmpmeta>' % orientation, quality=95)
    upright = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(data))))
    assert upright.shape == ((37, 117, 3) if orientation < 5 else (117, 37, 3))
    assert np.array_equal(decode(data), upright)
    assert np.array_equal(decode_picture(data), upright)


@pytest.mark.parametrize(
    "exif", [b"", b"Exif\0\0", b"Exif\0\0garbage and more of it", b"Exif\0\0II*\0\xff\xff\xff\xff"]
)
def test_a_picture_with_broken_notes_is_read_as_stored(exif: bytes) -> None:
    data = encoded(exif=exif)
    stored = np.asarray(Image.open(io.BytesIO(encoded())))
    assert np.array_equal(decode(data), stored)
    assert np.array_equal(decode_picture(data), stored)


@pytest.mark.parametrize(
    ("kind", "mode", "options"),
    [
        ("PNG", "RGB", {}), ("PNG", "RGBA", {}), ("PNG", "P", {}), ("WEBP", "RGB", {}), ("JPEG", "CMYK", {}),
        ("JPEG", "RGB", {"progressive": True}),
    ],
)  # fmt: skip
def test_all_else_is_pillows(kind: str, mode: str, options: dict[str, bool]) -> None:
    data = encoded(kind=kind, mode=mode, **options)
    assert not is_plain_jpeg(data)
    assert np.array_equal(decode(data), decode_picture(data))


def test_what_pillow_refuses_is_refused(capfd: pytest.CaptureFixture[str]) -> None:
    data, rng = encoded(quality=90), random.Random(0)
    damaged = [data[:end] for end in range(0, len(data), 23)] + [data[:end] + data[-2:] for end in range(600, 1600, 97)]
    for _ in range(400):
        changed = bytearray(data)
        for _ in range(rng.randint(1, 4)):
            changed[rng.randrange(len(data))] = rng.randrange(256)
        damaged.append(bytes(changed))
    refused = 0
    for file in damaged:
        expected, actual = pixels_or_none(decode_picture, file), pixels_or_none(decode, file)
        refused += expected is None
        assert (expected is None) == (actual is None)
        assert expected is None or np.array_equal(expected, actual)
    assert refused > 100
    capfd.readouterr()  # what the decoder says of damaged pixels
