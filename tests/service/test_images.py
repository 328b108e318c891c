"""Rows as pictures: every shade exact, every turn undone once, and no picture decoded that should not be."""

import io
import struct
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from bundle.calibration import Floats
from bundle.manifest import ImageSpec
from service.codecs.images import row_from_image
from service.errors import InvalidContent, MalformedBody, ServiceError, TooManyPixels

GREY = ImageSpec(height=2, width=3, channels=1)
COLOUR = ImageSpec(height=2, width=3, channels=3)
SHADES = np.array([[0, 1, 127], [128, 254, 255]], np.uint8)
Pixels = npt.NDArray[np.uint8] | npt.NDArray[np.uint16]


def encoded(picture: Image.Image | Pixels, image_format: str = "PNG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    image = picture if isinstance(picture, Image.Image) else Image.fromarray(picture)
    image.save(buffer, format=image_format, **options)
    return buffer.getvalue()


def read(
    body: bytes,
    spec: ImageSpec = GREY,
    *,
    image_format: str = "PNG",
    value_range: tuple[float, float] = (0, 1),
    max_pixels: int = 10_000,
) -> Floats:
    row = row_from_image(body, image_format=image_format, spec=spec, value_range=value_range, max_pixels=max_pixels)
    assert row.dtype == np.float32
    assert row.shape == (1, spec.size)
    return row.reshape(-1)


def test_every_8_bit_shade_is_its_255th_exactly() -> None:
    shades = np.arange(256, dtype=np.uint8).reshape(16, 16)
    row = read(encoded(shades), ImageSpec(height=16, width=16, channels=1))
    np.testing.assert_array_equal(row, np.arange(256, dtype=np.float32) / np.float32(255))


def test_every_16_bit_shade_is_its_65535th_exactly() -> None:
    shades = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    row = read(encoded(shades), ImageSpec(height=256, width=256, channels=1), max_pixels=65536)
    np.testing.assert_array_equal(row, np.arange(65536, dtype=np.float32) / np.float32(65535))


@pytest.mark.parametrize("value_range", [(-1, 1), (0, 255), (10, 20), (-0.5, 0.25)])
def test_the_darkest_and_the_brightest_are_the_ends_of_the_declared_range(value_range: tuple[float, float]) -> None:
    low, high = value_range
    row = read(encoded(SHADES), value_range=value_range)
    assert (row[0], row[-1]) == (np.float32(low), np.float32(high))
    np.testing.assert_allclose(row, low + SHADES.reshape(-1) / 255 * (high - low), rtol=1e-6, atol=1e-6)


def test_pixels_go_row_by_row_and_channels_last() -> None:
    colours = np.arange(18, dtype=np.uint8).reshape(2, 3, 3)
    np.testing.assert_array_equal(np.rint(read(encoded(colours), COLOUR) * 255), np.arange(18))


def test_a_colour_picture_for_a_grey_bundle_becomes_its_luma() -> None:
    colours = np.zeros((2, 3, 3), np.uint8)
    colours[0] = np.eye(3) * 255
    luma = np.rint(read(encoded(colours)) * 255)
    np.testing.assert_array_equal(luma, [76, 150, 29, 0, 0, 0])  # ITU-R BT.601: .299, .587, .114


def test_a_grey_picture_for_a_colour_bundle_is_grey_in_every_channel() -> None:
    np.testing.assert_array_equal(read(encoded(SHADES), COLOUR), np.repeat(read(encoded(SHADES)), 3))
    deep = SHADES.astype(np.uint16) * 256
    np.testing.assert_array_equal(read(encoded(deep), COLOUR), np.repeat(read(encoded(deep)), 3))


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "LA", "P", "1"])
def test_the_same_shades_in_another_mode_are_the_same_row(mode: str) -> None:
    picture = Image.fromarray(np.where(SHADES > 127, 255, 0).astype(np.uint8) if mode == "1" else SHADES)
    np.testing.assert_array_equal(read(encoded(picture.convert(mode))), read(encoded(picture)))


def transparent(mode: str) -> bytes:
    if mode == "I;16":
        return encoded(SHADES.astype(np.uint16), transparency=254)
    if mode in {"L", "P"}:
        return encoded(Image.fromarray(SHADES).convert(mode), transparency=254)
    picture = Image.fromarray(SHADES).convert(mode)
    picture.putalpha(Image.fromarray(SHADES))
    return encoded(picture)


@pytest.mark.parametrize("mode", ["RGBA", "LA", "L", "P", "I;16"])
@pytest.mark.parametrize("spec", [GREY, COLOUR], ids=["grey", "colour"])
def test_a_picture_with_transparent_pixels_is_refused_rather_than_guessed_at(mode: str, spec: ImageSpec) -> None:
    with pytest.raises(InvalidContent, match="must be opaque") as refusal:
        read(transparent(mode), spec)
    assert refusal.value.faults[0].detail == "it has transparent pixels; flatten it first"


@pytest.mark.parametrize("shades", [SHADES, SHADES.astype(np.uint16) * 257])
def test_a_transparent_shade_that_no_pixel_has_changes_nothing(shades: Pixels) -> None:
    np.testing.assert_array_equal(read(encoded(shades, transparency=77)), read(encoded(shades)))


# EXIF 2.32, tag 274: what must be done to the stored picture so that it stands upright, by the tag's value.
UPRIGHT: dict[int, Callable[[Pixels], Pixels]] = {
    1: lambda pixels: pixels,
    2: np.fliplr,
    3: lambda pixels: np.rot90(pixels, 2),
    4: np.flipud,
    5: np.transpose,
    6: lambda pixels: np.rot90(pixels, -1),
    7: lambda pixels: np.rot90(pixels, 2).T,
    8: np.rot90,
}


@pytest.mark.parametrize("image_format", ["PNG", "JPEG"])
@pytest.mark.parametrize("orientation", UPRIGHT)
def test_a_turned_photograph_is_turned_upright_exactly_once(orientation: int, image_format: str) -> None:
    exif = Image.Exif()
    exif[274] = orientation
    # Blocks of one shade, which JPEG keeps; stored lying where the orientation swaps the sides.
    upright = np.kron(np.array([[0, 60, 120], [180, 220, 255]]), np.ones((8, 8))).astype(np.uint8)
    turned = [np.rot90(side, turns) for side in (upright, upright.T) for turns in range(4)]
    (stored,) = [pixels for pixels in turned if np.array_equal(UPRIGHT[orientation](pixels), upright)]
    body = encoded(np.ascontiguousarray(stored), image_format, exif=exif)
    row = read(body, ImageSpec(height=16, width=24, channels=1), image_format=image_format)
    np.testing.assert_allclose(row.reshape(16, 24) * 255, upright, atol=2 if image_format == "JPEG" else 1e-4)


def test_a_16_bit_picture_is_turned_too() -> None:
    exif = Image.Exif()
    exif[274] = 6
    shades = SHADES.astype(np.uint16) * 256
    np.testing.assert_array_equal(read(encoded(np.rot90(shades).copy(), exif=exif)), read(encoded(shades)))


def test_a_photograph_that_lies_on_its_side_without_saying_so_has_the_wrong_size() -> None:
    with pytest.raises(InvalidContent, match="must be 3 pixels wide and 2 high") as refusal:
        read(encoded(SHADES.T.copy()))
    assert refusal.value.faults[0].detail == "it is 2 wide and 3 high"


def test_a_jpeg_comes_close() -> None:
    ramp = np.add.outer(np.arange(16), np.arange(24)).astype(np.uint8) * 6
    row = read(encoded(ramp, "JPEG", quality=95), ImageSpec(height=16, width=24, channels=1), image_format="JPEG")
    np.testing.assert_allclose(row * 255, ramp.reshape(-1), atol=6)


@pytest.mark.parametrize("spec", [GREY, COLOUR], ids=["grey", "colour"])
def test_a_cmyk_jpeg_is_read(spec: ImageSpec) -> None:
    white = Image.new("CMYK", (3, 2), (0, 0, 0, 0))
    np.testing.assert_allclose(read(encoded(white, "JPEG"), spec, image_format="JPEG"), 1, atol=0.01)


@pytest.mark.parametrize("size", [(2, 2), (3, 3), (1, 6), (6, 1), (30, 20)])
def test_another_size_is_refused_with_both_sizes(size: tuple[int, int]) -> None:
    with pytest.raises(InvalidContent, match="must be 3 pixels wide and 2 high") as refusal:
        read(encoded(Image.new("L", size)))
    assert refusal.value.faults[0].detail == f"it is {size[0]} wide and {size[1]} high"


def png(width: int, height: int, data: bytes = b"") -> bytes:
    """A PNG whose header promises 8-bit grey of this size, whatever data follow."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    parts = chunk(b"IHDR", header), chunk(b"IDAT", zlib.compress(data)), chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


@pytest.mark.parametrize(("width", "height"), [(60_000, 60_000), (10_000, 10_000), (101, 100)])
def test_a_picture_with_too_many_pixels_is_never_decoded(
    width: int, height: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Image.Image, "load", lambda _: pytest.fail("it was decoded"))
    with pytest.raises(TooManyPixels, match="10000"):
        read(png(width, height))


def test_a_picture_of_another_size_is_not_decoded_either(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image.Image, "load", lambda _: pytest.fail("it was decoded"))
    with pytest.raises(InvalidContent):
        read(png(100, 100))


@pytest.mark.parametrize("image_format", ["PNG", "JPEG"])
def test_a_picture_cut_short_is_damaged(image_format: str) -> None:
    shades = np.random.default_rng(0).integers(0, 255, (16, 24), dtype=np.uint8)
    spec, body = ImageSpec(height=16, width=24, channels=1), encoded(shades, image_format)
    for length in range(0, len(body) - 30, 7):
        with pytest.raises(MalformedBody):
            read(body[:length], spec, image_format=image_format)


@pytest.mark.parametrize(("sent", "claimed"), [("PNG", "JPEG"), ("JPEG", "PNG"), ("GIF", "PNG"), ("BMP", "JPEG")])
def test_a_picture_of_another_format_than_it_claims_is_malformed(sent: str, claimed: str) -> None:
    with pytest.raises(MalformedBody, match=f"cannot be read as {claimed}"):
        read(encoded(SHADES, sent), image_format=claimed)


def with_true_checksums(body: bytes) -> bytes:
    """The PNG's chunks with the checksums that they should have, so that damage gets past the first look."""
    result, place = bytearray(body[:8]), 8
    while place + 12 <= len(body):
        (length,) = struct.unpack_from(">I", body, place)
        chunk = body[place + 4 : place + 8 + length]
        result += struct.pack(">I", length) + chunk + struct.pack(">I", zlib.crc32(chunk))
        place += 12 + length
    return bytes(result)


EXIF = Image.Exif()
EXIF.update({274: 6, 270: "a description", 282: 72.0})


@pytest.mark.parametrize(("place", "value"), [(6, 0), (17, 0), (17, 26), (17, 84), (41, 13), (43, 1)])
@pytest.mark.filterwarnings("ignore")  # Pillow's about damaged metadata: they are not what is tested
def test_metadata_that_contradicts_itself_is_damage(place: int, value: int) -> None:
    """Tags that claim another type than their values have: Pillow meets each with another kind of exception."""
    metadata = bytearray(EXIF.tobytes())
    metadata[place] = value
    with pytest.raises(MalformedBody, match="the PNG picture is damaged or cut short"):
        read(encoded(SHADES.T.copy(), exif=bytes(metadata)))


SEEDS = [
    ("PNG", encoded(Image.fromarray(SHADES).convert("P"), transparency=3, exif=EXIF)),
    ("PNG", encoded(SHADES.astype(np.uint16) * 256, transparency=256, icc_profile=bytes(40))),
    ("JPEG", encoded(SHADES, "JPEG", exif=EXIF, progressive=True)),
]


@given(st.data())
@settings(max_examples=300)
@pytest.mark.filterwarnings("ignore")  # Pillow's about damaged metadata: they are not what is tested
def test_whatever_the_bytes_the_outcome_is_a_row_or_a_refusal(data: st.DataObject) -> None:
    image_format, seed = data.draw(st.sampled_from(SEEDS))
    body = bytearray(seed)
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(8, len(body) - 1))
        body[place : place + data.draw(st.integers(0, 2))] = data.draw(st.binary(max_size=4))
    content = with_true_checksums(bytes(body)) if image_format == "PNG" and data.draw(st.booleans()) else bytes(body)
    try:
        row = read(content, image_format=image_format)
    except ServiceError as error:
        assert error.status in {400, 413, 422}  # noqa: PT017  # either outcome is right
    else:
        assert 0 <= row.min() <= row.max() <= 1
