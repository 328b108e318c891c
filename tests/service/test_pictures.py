"""Rows made into pictures: exact pixels, a grid that can be measured, and heat that means the same everywhere."""

import io

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from bundle.manifest import ImageSpec
from service.codecs.images import GAP, GAP_SHADE, HEAT, heat_png_from_maps, png_from_rows, row_from_image

GREY = ImageSpec(height=2, width=3, channels=1)
COLOUR = ImageSpec(height=2, width=3, channels=3)


def opened(body: bytes) -> Image.Image:
    assert body.startswith(b"\x89PNG")
    return Image.open(io.BytesIO(body))


@given(
    shades=st.lists(st.integers(0, 255), min_size=18, max_size=18),
    spec=st.sampled_from([GREY, COLOUR]),
    value_range=st.sampled_from([(0.0, 1.0), (-1.0, 1.0), (0.0, 255.0), (-3.0, 40.0)]),
)
def test_a_picture_of_a_row_of_a_picture_is_the_same_picture(
    shades: list[int], spec: ImageSpec, value_range: tuple[float, float]
) -> None:
    pixels = np.array(shades[: spec.size], np.uint8).reshape(2, 3, spec.channels).squeeze()
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="PNG")
    row = row_from_image(buffer.getvalue(), image_format="PNG", spec=spec, value_range=value_range, max_pixels=100)
    picture = opened(png_from_rows(row, spec=spec, value_range=value_range))
    assert picture.mode == ("L" if spec is GREY else "RGB")
    np.testing.assert_array_equal(np.asarray(picture), pixels)


@pytest.mark.parametrize("value_range", [(0, 1), (-1, 1), (100, 300)])
def test_values_beyond_the_range_are_clipped(value_range: tuple[float, float]) -> None:
    low, high = value_range
    width = high - low
    row = np.array([[low - width, low, low + width / 2, high, high + width, 3e38]], np.float32)
    pixels = np.asarray(opened(png_from_rows(row, spec=GREY, value_range=value_range)))
    np.testing.assert_array_equal(pixels.reshape(-1), [0, 0, 128, 255, 255, 255])


@pytest.mark.parametrize(
    ("count", "columns", "shape"),
    [(1, None, (1, 1)), (2, None, (1, 2)), (4, None, (2, 2)), (5, None, (2, 3)), (5, 5, (1, 5)), (7, 3, (3, 3))],
)
def test_several_rows_are_a_grid_with_gaps_between_and_none_around(
    count: int, columns: int | None, shape: tuple[int, int]
) -> None:
    rows = np.repeat(np.linspace(0, 1, count, dtype=np.float32)[:, None], GREY.size, axis=1)
    pixels = np.asarray(opened(png_from_rows(rows, spec=GREY, value_range=(0, 1), columns=columns))).copy()
    assert pixels.shape == (shape[0] * (2 + GAP) - GAP, shape[1] * (3 + GAP) - GAP)
    for index in range(count):
        top, left = (index // shape[1]) * (2 + GAP), (index % shape[1]) * (3 + GAP)
        tile = pixels[top : top + 2, left : left + 3]
        np.testing.assert_array_equal(tile, np.rint(rows[index, 0] * 255))
        tile[:] = GAP_SHADE
    np.testing.assert_array_equal(pixels, GAP_SHADE)


def brightness(body: bytes) -> npt.NDArray[np.int64]:
    shades: npt.NDArray[np.int64] = np.asarray(opened(body)).sum(axis=-1, dtype=np.int64)
    return shades


def test_heat_runs_from_the_darkest_at_zero_to_the_brightest_at_the_ceiling() -> None:
    maps = np.array([[0, 0.1, 0.2, 0.3, 0.4, 0.5]], np.float32)
    pixels = np.asarray(opened(heat_png_from_maps(maps, spec=GREY, ceiling=0.5)))
    np.testing.assert_array_equal(pixels[0, 0], HEAT[0])
    np.testing.assert_array_equal(pixels[1, 2], HEAT[-1])
    shades = pixels.astype(int).sum(axis=-1).reshape(-1)
    assert (np.diff(shades) > 0).all(), "hotter is brighter"


def test_a_normal_row_stays_dark_however_its_own_values_are_spread() -> None:
    """The scale is the bundle's, never the picture's own: a peer stretched every map over the full range of colours."""
    normal = np.array([[0, 0.001, 0.002, 0.003, 0.004, 0.005]], np.float32)
    anomalous = np.full((1, 6), 0.5, np.float32)
    alone = brightness(heat_png_from_maps(normal, spec=GREY, ceiling=0.5))
    assert alone.max() < 0.05 * brightness(heat_png_from_maps(anomalous, spec=GREY, ceiling=0.5)).min()
    beside = brightness(heat_png_from_maps(np.concatenate([normal, anomalous]), spec=GREY, ceiling=0.5))
    np.testing.assert_array_equal(beside[:2, :3], alone)


def test_heat_past_the_ceiling_is_no_hotter_and_channels_are_averaged() -> None:
    hot = np.array([[0.5] * 6, [50.0] * 6], np.float32)
    picture = np.asarray(opened(heat_png_from_maps(hot, spec=GREY, ceiling=0.5)))
    np.testing.assert_array_equal(picture[:, :3], picture[:, 3 + GAP :])
    maps = np.tile(np.array([0.0, 0.25, 0.5], np.float32), 6)[None]
    colour = np.asarray(opened(heat_png_from_maps(maps, spec=COLOUR, ceiling=0.5)))
    grey = np.asarray(opened(heat_png_from_maps(np.full((1, 6), 0.25, np.float32), spec=GREY, ceiling=0.5)))
    np.testing.assert_array_equal(colour, grey)
