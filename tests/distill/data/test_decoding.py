"""Decoding: Pillow's pixels and Pillow's refusals, whichever library decodes."""

from __future__ import annotations

import io
import random

import numpy as np
import pytest
from PIL import Image

from distill.data.decoding import decode, read_frame
from students.preprocess import BROKEN_IMAGE, decode_image

SMALL = np.random.default_rng(0).integers(0, 256, (7, 11, 3), dtype=np.uint8)


def encoded(size: tuple[int, int] = (117, 37), kind: str = "JPEG", mode: str = "RGB", **options: object) -> bytes:
    file = io.BytesIO()
    image = Image.fromarray(SMALL).resize(size, Image.Resampling.BICUBIC).convert(mode)
    image.save(file, kind, **options)
    return file.getvalue()


def pixels_or_none(decoder: object, data: bytes) -> np.ndarray | None:
    try:
        return np.asarray(decoder(data))  # type: ignore[operator]
    except BROKEN_IMAGE:
        return None


@pytest.mark.parametrize("mode", ["RGB", "L"])
@pytest.mark.parametrize("size", [(117, 37), (1, 1), (8, 8), (17, 33)])
@pytest.mark.parametrize(
    "options", [{"quality": 30, "subsampling": 2}, {"quality": 95, "subsampling": 1}, {"quality": 80, "subsampling": 0}]
)
def test_ordinary_jpeg_files_give_pillows_pixels(mode: str, size: tuple[int, int], options: dict[str, int]) -> None:
    data = encoded(size, mode=mode, **options)
    assert read_frame(data) == size[::-1], "OpenCV decodes it"
    assert np.array_equal(decode(data), decode_image(data))


def test_turned_pictures_stay_as_they_are_stored() -> None:
    turned = Image.Exif()
    turned[0x0112] = 6
    data = encoded(exif=turned)
    assert read_frame(data) == (37, 117)
    assert np.array_equal(decode(data), decode_image(data))


@pytest.mark.parametrize(
    ("kind", "mode", "options"),
    [
        ("PNG", "RGB", {}), ("PNG", "RGBA", {}), ("PNG", "P", {}), ("WEBP", "RGB", {}), ("JPEG", "CMYK", {}),
        ("JPEG", "RGB", {"progressive": True}),
    ],
)  # fmt: skip
def test_all_else_is_pillows(kind: str, mode: str, options: dict[str, bool]) -> None:
    data = encoded(kind=kind, mode=mode, **options)
    assert read_frame(data) is None
    assert np.array_equal(decode(data), decode_image(data))


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
        expected, found = pixels_or_none(decode_image, file), pixels_or_none(decode, file)
        refused += expected is None
        assert (expected is None) == (found is None)
        assert expected is None or np.array_equal(expected, found)
    assert refused > 100
    capfd.readouterr()  # what the decoder says of damaged pixels


def test_a_reduced_picture_has_at_least_the_wanted_size() -> None:
    data = encoded((500, 150))
    shapes = [decode(data, least).shape[:2] for least in (None, (32, 128), (75, 250), (76, 250), (18, 60))]
    assert shapes == [(150, 500), (75, 250), (75, 250), (150, 500), (19, 63)]
    half = np.asarray(Image.fromarray(decode(data)).resize((250, 75), Image.Resampling.BOX)).astype(int)
    assert np.abs(half - decode(data, (75, 250))).mean() < 2
    assert np.array_equal(decode(encoded((500, 150), "PNG"), (32, 128)), decode_image(encoded((500, 150), "PNG")))
