"""Pictures of every kind become the same upright RGB picture, and then a student's input."""

from __future__ import annotations

import io
import math
import os
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw, ImageFont, ImageOps, features

from students.errors import UserError
from students.pictures import (
    MAX_PIXELS,
    NO_PICTURES,
    PICTURE_ENDINGS,
    DamagedPictureError,
    decode_picture,
    normalize,
    resize,
    to_array,
    to_tensor,
)

NOISE = np.random.default_rng(0).integers(0, 256, (40, 90, 3), dtype=np.uint8)


def word(ink: int = 20, paper: int = 240) -> Image.Image:
    """Draw a word in grey."""
    drawn = Image.new("L", (90, 32), paper)
    ImageDraw.Draw(drawn).text((6, 4), "Word", ink, ImageFont.load_default(22))
    return drawn


GREY = np.asarray(word())


def encoded(image: Image.Image, form: str = "PNG", **options: object) -> bytes:
    stored = io.BytesIO()
    image.save(stored, form, **options)
    return stored.getvalue()


def grey_of(source: bytes | Image.Image | np.ndarray) -> np.ndarray:
    """Decode to one channel; all three have to be equal."""
    decoded = decode_picture(source)
    assert decoded.mode == "RGB"
    red, green, blue = np.moveaxis(np.asarray(decoded), 2, 0)
    assert np.array_equal(red, green)
    assert np.array_equal(red, blue)
    return red


def test_normalised_is_minus_one_to_one() -> None:
    ends = normalize(np.array([[[[0, 255, 51]]]], np.uint8))
    np.testing.assert_allclose(ends, np.array([-1.0, 1.0, -0.6]).reshape(1, 3, 1, 1), rtol=1e-6)
    assert ends.dtype == np.float32
    assert ends.flags.c_contiguous


def test_arrays_and_tensors_are_the_same_bits_as_in_torch() -> None:
    levels = np.arange(256 * 3, dtype=np.uint8).reshape(1, 16, 16, 3)
    expected = torch.from_numpy(levels).permute(0, 3, 1, 2).float().div(255).sub(0.5).div(0.5)
    assert np.array_equal(normalize(levels), expected.numpy())
    pictures = [Image.fromarray(NOISE), Image.fromarray(NOISE[:20])]
    assert to_array(pictures, (32, 128)).shape == (2, 3, 32, 128)
    assert np.array_equal(to_array(pictures), to_tensor(pictures).numpy())
    assert np.array_equal(to_array(pictures)[1], normalize(resize(pictures[1], (32, 128))[None])[0])


def test_aspect_is_not_kept() -> None:
    assert resize(Image.new("RGB", (7, 90)), (32, 128)).shape == (32, 128, 3)


def test_torch_is_not_imported() -> None:
    code = (
        "import sys, numpy as np; from students.pictures import decode_picture, to_array; "
        "to_array([decode_picture(np.zeros((9, 9)))]); assert 'torch' not in sys.modules"
    )
    subprocess.run(
        [sys.executable, "-c", code], check=True, env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    )


def test_endings_are_those_that_pillow_opens() -> None:
    Image.init()
    opened = {end for end, form in Image.EXTENSION.items() if form in Image.OPEN and form not in NO_PICTURES}
    assert opened <= set(PICTURE_ENDINGS), "a newer Pillow opens more"
    if features.check("avif"):
        assert opened | {".mpo"} == set(PICTURE_ENDINGS), "MPO is opened as JPEG"
    assert list(PICTURE_ENDINGS) == sorted(PICTURE_ENDINGS)


@pytest.mark.parametrize("dtype", ["<u2", ">u2"])
def test_grey_of_16_bits_is_scaled(dtype: str) -> None:
    wide = (GREY.astype(np.uint16) * 257).astype(dtype)
    image = Image.fromarray(wide)
    assert image.mode.startswith("I;16")
    assert np.array_equal(grey_of(image), GREY)
    assert np.array_equal(grey_of(wide), GREY)
    for form in ("PNG", "TIFF"):
        assert np.array_equal(grey_of(encoded(Image.fromarray(wide.astype("<u2")), form)), GREY)


@pytest.mark.parametrize("bits", [8, 10, 12, 14, 16])
def test_fewer_bits_in_wide_pixels_are_scaled_by_their_own_white(bits: int) -> None:
    top = 2**bits - 1
    wide = np.rint(np.where(GREY.max() == GREY, 255, GREY) * (top / 255)).astype(np.uint16)
    for source in (wide, Image.fromarray(wide), Image.fromarray(wide.astype(np.int32)), encoded(Image.fromarray(wide))):
        assert np.abs(grey_of(source).astype(int) - np.where(GREY.max() == GREY, 255, GREY)).max() <= 1


@pytest.mark.parametrize("top", [1.0, 255.0, 65535.0])
def test_floating_point_is_scaled(top: float) -> None:
    wide = (GREY * (top / 255)).astype(np.float32)
    assert np.array_equal(grey_of(Image.fromarray(wide)), GREY)
    assert np.array_equal(grey_of(encoded(Image.fromarray(wide), "TIFF")), GREY)
    assert np.array_equal(grey_of(wide.astype(np.float64)), GREY)


def test_floating_point_may_exceed_its_white_a_little() -> None:
    pixels = np.linspace(0, 1, 60).reshape(6, 10)
    expected = np.asarray(decode_picture(pixels))
    pixels[0, 0], pixels[-1, -1] = 0.0, 1.0000000000000016
    assert np.array_equal(decode_picture(pixels), expected)
    pixels[-1, -1] = 1.2
    assert np.array_equal(decode_picture(pixels), expected)


def test_a_picture_without_pixels_is_damaged() -> None:
    with pytest.raises(DamagedPictureError, match="no pixels"):
        decode_picture(Image.new("RGB", (0, 20)))


def test_values_beyond_every_scale_are_stretched() -> None:
    spread = GREY.astype(np.float32) * 3e6 - 1e8
    expected = np.rint((GREY - 20.0) * 255 / 220).astype(np.uint8)
    assert np.array_equal(grey_of(spread), expected)
    assert np.array_equal(grey_of(GREY.astype(np.int32) * 100_000 - 7), expected)
    spread[0, 0], spread[0, 1] = np.nan, np.inf
    expected[0, 0], expected[0, 1] = 0, 255
    assert np.array_equal(grey_of(spread), expected)
    assert np.array_equal(grey_of(np.full((4, 5), 7.5, np.float32)), np.full((4, 5), 8)), "of 255"
    with pytest.raises(DamagedPictureError, match="no pixel is a number"):
        decode_picture(np.full((4, 5), np.nan))


@pytest.mark.parametrize(
    "mode", ["1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr", "HSV", "La", "RGBa"]
)
def test_every_mode_becomes_the_same_picture(mode: str) -> None:
    image = word(0, 255).convert("LA" if mode == "La" else "RGBA" if mode == "RGBa" else "L")
    actual = grey_of(image.convert(mode))
    expected = np.asarray(word(0, 255).convert(mode).convert("L")) if mode == "1" else np.asarray(word(0, 255))
    assert np.abs(actual.astype(int) - expected).max() <= 1


def test_lab_is_turned_into_rgb() -> None:
    from PIL import ImageCms

    profiles = [ImageCms.createProfile(name) for name in ("sRGB", "LAB")]
    lab = ImageCms.profileToProfile(word().convert("RGB"), *profiles, outputMode="LAB")
    assert lab is not None
    assert np.abs(np.asarray(decode_picture(encoded(lab, "TIFF"))).astype(int) - GREY[:, :, None]).max() <= 3


@pytest.mark.parametrize(("ink", "ground"), [(0, 255), (60, 255), (255, 0), (200, 0)])
@pytest.mark.parametrize("form", ["RGBA", "LA", "P", "WebP", "TIFF", "array", "float"])
def test_ink_on_transparent_ground_is_put_on_its_contrast(ink: int, ground: int, form: str) -> None:
    shape = word(255, 0)  # what is ink
    alpha = shape.point(lambda level: 255 * (level > 127)) if form == "P" else shape
    image = Image.new("RGBA", shape.size, (ink, ink, ink, 255))
    image.putalpha(alpha)
    # Where nothing is visible the colour is what would hide the word.
    source: bytes | np.ndarray = {
        "RGBA": lambda: encoded(image),
        "LA": lambda: encoded(image.convert("LA")),
        "P": lambda: encoded(image.quantize(8)),
        "WebP": lambda: encoded(image, "WEBP", lossless=True, exact=True),
        "TIFF": lambda: encoded(image, "TIFF"),
        "array": lambda: np.asarray(image),
        "float": lambda: np.asarray(image) / 255,
    }[form]()
    share = np.asarray(alpha) / 255
    assert np.abs(grey_of(source) - (share * ink + (1 - share) * ground)).max() <= 1


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "I;16"])
def test_a_transparent_colour_is_ground(mode: str) -> None:
    """A PNG may name one colour that is not there at all (its tRNS chunk)."""
    dark = np.where(np.asarray(word(255, 0)) > 127, 0, 255).astype(np.uint8)
    for inked, ground in ((dark, 255), (255 - dark, 0)):
        if mode == "I;16":
            data = encoded(Image.fromarray(inked.astype(np.uint16) * 257), transparency=ground * 257)
        else:
            named = {"1": ground // 255, "RGB": (ground,) * 3}.get(mode, ground)
            data = encoded(Image.fromarray(inked).convert(mode), transparency=named)
        assert Image.open(io.BytesIO(data)).info.get("transparency") is not None
        assert np.array_equal(grey_of(data), inked)


def test_grey_of_16_bits_with_alpha() -> None:
    """Pillow writes none, so the file is put together here."""
    shape = np.asarray(word(255, 0))
    rows = np.zeros((*shape.shape, 2), ">u2")
    rows[..., 1] = shape.astype(np.uint16) * 257
    data = b"".join(b"\0" + row.tobytes() for row in rows)
    header = struct.pack(">IIBBBBB", shape.shape[1], shape.shape[0], 16, 4, 0, 0, 0)
    png = b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", header) + _chunk(b"IDAT", zlib.compress(data)) + _chunk(b"IEND", b"")
    assert np.abs(grey_of(png).astype(int) - (255 - shape)).max() <= 1


def _chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


@pytest.mark.parametrize("alpha", [0, 1, 128, 255])
def test_transparency_that_is_equal_everywhere_is_ignored(alpha: int) -> None:
    image = Image.fromarray(NOISE)
    image.putalpha(alpha)
    assert np.array_equal(decode_picture(encoded(image)), NOISE)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "TIFF", "MPO", "AVIF"])
def test_turned_pictures_are_turned_upright_once(orientation: int, form: str, tmp_path: Path) -> None:
    if form == "AVIF" and not features.check("avif"):
        pytest.skip("this Pillow opens no AVIF")
    upright = Image.fromarray(np.kron(np.arange(6, dtype=np.uint8).reshape(2, 3) * 45, np.ones((16, 16), np.uint8)))
    upright = upright.convert("RGB")
    exif = Image.Exif()
    exif[0x0112] = orientation
    back = {5: 5, 6: 8, 7: 7, 8: 6}.get(orientation, orientation)
    as_stored = Image.Exif()
    as_stored[0x0112] = back
    turned = upright.copy()
    turned.info["exif"] = as_stored.tobytes()
    turned = ImageOps.exif_transpose(turned)
    turned.info = {}
    path = tmp_path / "word"
    turned.save(path, form, exif=exif, **({} if form in ("PNG", "TIFF") else {"quality": 95}))
    decoded = decode_picture(path)
    assert np.abs(np.asarray(decoded).astype(int) - np.asarray(upright)).mean() < 3
    assert np.array_equal(decode_picture(decoded), decoded), "a second time changes nothing"
    with Image.open(path) as opened:
        assert np.array_equal(decode_picture(opened.convert("RGB")), decoded), "what a user has opened"


def test_a_compressed_tiff_is_turned_once() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    data = encoded(Image.fromarray(NOISE), "TIFF", exif=exif, compression="tiff_lzw")
    assert np.array_equal(decode_picture(data), np.rot90(NOISE, -1))


@pytest.mark.parametrize("form", ["GIF", "WEBP", "PNG", "TIFF"])
def test_of_an_animation_the_first_picture_is_taken(form: str) -> None:
    pages = [word(level).convert("RGB") for level in (20, 120)]
    data = encoded(
        pages[0], form, save_all=True, append_images=pages[1:], **({"lossless": True} if form == "WEBP" else {})
    )
    assert getattr(Image.open(io.BytesIO(data)), "n_frames", 1) == 2
    assert np.abs(grey_of(data).astype(int) - GREY).max() <= 2


def test_arrays_are_pictures() -> None:
    assert np.array_equal(decode_picture(NOISE), NOISE)
    assert np.array_equal(grey_of(GREY), GREY)
    assert np.array_equal(grey_of(GREY[:, :, None]), GREY)
    assert np.array_equal(grey_of(GREY > 127), np.where(GREY > 127, 255, 0))
    assert np.array_equal(decode_picture(NOISE[:, ::-2]), NOISE[:, ::-2]), "a view"
    assert np.array_equal(decode_picture(NOISE.astype(np.float32) / 255), NOISE)
    for wrong in (
        np.zeros(7),
        np.zeros((3, 32, 128)),
        np.zeros((1, 9, 9, 3)),
        np.array([["a"]]),
        np.zeros((4, 4), complex),
    ):
        with pytest.raises(UserError, match=r"give numbers of shape \(H, W\)"):
            decode_picture(wrong)
    with pytest.raises(DamagedPictureError, match="no pixels"):
        decode_picture(np.zeros((0, 9), np.uint8))


def test_a_given_picture_is_not_changed() -> None:
    image = Image.fromarray(NOISE)
    image.info["note"] = "kept"
    decoded = decode_picture(image)
    assert decoded is not image
    assert image.info == {"note": "kept"}


def test_a_missing_file_is_the_users_mistake(tmp_path: Path) -> None:
    (tmp_path / "link.png").symlink_to(tmp_path / "gone.png")
    for name in ("word.png", "link.png"):
        with pytest.raises(UserError, match="no such file"):
            decode_picture(tmp_path / name)
    with pytest.raises(UserError, match="null"):
        decode_picture("word\0.png")


@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP", "TIFF", "GIF", "BMP", "AVIF", "DDS", "JPEG2000", "ICO", "TGA"])
@pytest.mark.parametrize("kept", [0.0, 0.1, 0.5, 0.9])
def test_a_truncated_file_is_the_users_mistake(form: str, kept: float, tmp_path: Path) -> None:
    if form == "AVIF" and not features.check("avif"):
        pytest.skip("this Pillow writes no AVIF")
    data = encoded(Image.fromarray(NOISE), form)
    path = tmp_path / f"word.{form.lower()}"
    path.write_bytes(data[: math.floor(kept * len(data))])
    with pytest.raises(DamagedPictureError, match="can't be read as a picture") as refused:
        decode_picture(path)
    assert str(path) in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP", "TIFF", "GIF", "BMP", "AVIF", "DDS", "JPEG2000", "PSD", "QOI"])
def test_whatever_a_decoder_raises_is_a_damaged_picture(form: str, capfd: pytest.CaptureFixture[str]) -> None:
    if form == "AVIF" and not features.check("avif"):
        pytest.skip("this Pillow writes no AVIF")
    source = np.random.default_rng(5)
    data = b"8BPS" + bytes(60) if form == "PSD" else encoded(Image.fromarray(NOISE), form)
    refused = 0
    for _ in range(60):
        changed = bytearray(data)
        for position in source.integers(0, min(len(data), 400), 6):
            changed[position] = source.integers(0, 256)
        try:
            assert decode_picture(bytes(changed)).mode == "RGB"
        except DamagedPictureError:
            refused += 1
    assert refused
    capfd.readouterr()  # what libraries say of damaged pixels


def test_a_file_of_another_kind_and_a_folder_are_the_users_mistake(tmp_path: Path) -> None:
    (tmp_path / "word.png").write_text("no picture", encoding="utf-8")
    (tmp_path / "empty.png").touch()
    (tmp_path / "folder.png").mkdir()
    os.mkfifo(tmp_path / "pipe.png")
    for name in ("word.png", "empty.png", "folder.png", "pipe.png"):
        with pytest.raises(DamagedPictureError, match="can't be read as a picture") as refused:
            decode_picture(tmp_path / name)
        assert " object at 0x" not in str(refused.value)
        assert isinstance(refused.value, UserError)


def test_a_file_that_may_not_be_read_is_the_users_mistake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path) -> bytes:
        raise PermissionError(13, "Permission denied", str(path))

    (tmp_path / "word.png").touch()
    monkeypatch.setattr(Path, "read_bytes", refuse)
    with pytest.raises(UserError, match="Permission denied"):
        decode_picture(tmp_path / "word.png")


@pytest.mark.filterwarnings("error")
def test_huge_pictures_and_programs_are_refused() -> None:
    side = math.isqrt(MAX_PIXELS) + 1
    for size in ((side, side), (60_000, 60_000)):
        with pytest.raises(DamagedPictureError, match="pixels"):
            decode_picture(b"P5 %d %d 255\n" % size)
    with pytest.raises(DamagedPictureError, match="no format"):
        decode_picture(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\nshowpage\n")
