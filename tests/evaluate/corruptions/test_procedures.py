"""Each procedure against its definition, written out plainly."""

import numpy as np
import pytest
import scipy.ndimage
from numpy.random import PCG64, Generator

from vitx.evaluate.corruptions import canny, colour, glass, motion, noise, plasma, resampling
from vitx.evaluate.corruptions.blur import defocus_blur
from vitx.evaluate.corruptions.elastic import _smooth_mirrored
from vitx.evaluate.corruptions.pixels import Pixels, from_image, to_image

HALF = np.full((200, 200, 3), 0.5, dtype=np.float32)


def draws() -> Generator:
    return Generator(PCG64(1))


def test_all_levels_stay_what_they_are() -> None:
    levels = np.arange(256, dtype=np.uint8).reshape(16, 16)
    for rows in (levels, np.stack((levels, levels.T, levels[::-1]), axis=2)):
        x = rows.reshape(16, 16, -1).astype(np.float32) / np.float32(255)
        image = to_image(x)
        assert np.array_equal(np.asarray(image), rows)
        assert np.array_equal(from_image(image), x)


def test_noise_has_its_moments() -> None:
    # 120,000 values: a deviation is known to 0.2 %, so that 1 % is five of its own.
    for made, deviation in (
        (noise.gaussian_noise(HALF, draws(), 0.1), 0.1),
        (noise.speckle_noise(HALF, draws(), 0.3), 0.3 * 0.5),
        (noise.shot_noise(HALF, draws(), 25), np.sqrt(0.5 / 25)),
    ):
        assert made.mean() == pytest.approx(0.5, abs=0.003)
        assert made.std() == pytest.approx(deviation, rel=0.01)
    salted = noise.impulse_noise(HALF, draws(), 0.2)
    assert (salted == 0).mean() == pytest.approx(0.1, abs=0.005)
    assert (salted == 1).mean() == pytest.approx(0.1, abs=0.005)
    # Each channel by itself.
    assert (salted == 0).any(axis=2).mean() == pytest.approx(1 - 0.9**3, abs=0.01)


@pytest.mark.parametrize("reach_px", [1, 2, 4])
def test_glass_copies_one_pixel_after_another(reach_px: int) -> None:
    height, width = 23, 31
    down, right = draws().integers(
        -reach_px, reach_px, (2, height - 2 * reach_px, width - 2 * reach_px), dtype=np.int8
    )
    plain = np.arange(height * width).reshape(height, width)
    for row in range(height - reach_px, reach_px, -1):
        for column in range(width - reach_px, reach_px, -1):
            place = row - reach_px - 1, column - reach_px - 1
            plain[row, column] = plain[row + down[place], column + right[place]]
    assert np.array_equal(glass._one_round(height, width, reach_px, draws()), plain.ravel())


@pytest.mark.parametrize("deviation_px", [0.5, 3.0, 40.0])
def test_cosines_smooth_as_a_mirrored_gaussian_does(deviation_px: float) -> None:
    field = draws().uniform(-1, 1, (19, 30))
    smooth = scipy.ndimage.gaussian_filter(field, deviation_px, mode="reflect", truncate=3)
    assert np.allclose(_smooth_mirrored(field, deviation_px), smooth, atol=1e-12)


@pytest.mark.parametrize("repeat_edge", [True, False])
def test_sampling_is_bilinear_and_mirrored(repeat_edge: bool) -> None:
    x = draws().random((9, 13, 2), dtype=np.float32)
    rows, columns = draws().uniform(-20, 30, (2, 40, 5))
    mode = "reflect" if repeat_edge else "mirror"
    made = resampling.sample(x, rows, columns, repeat_edge=repeat_edge)
    for channel in range(2):
        expected = scipy.ndimage.map_coordinates(
            x[..., channel], (rows, columns), order=1, mode=mode
        )
        assert np.allclose(made[..., channel], expected, atol=1e-5)


@pytest.mark.parametrize("factor", [1.0, 1.01, 1.3, 4.5])
def test_a_zoom_is_that_of_scipy_trimmed(factor: float) -> None:
    x = draws().random((40, 40, 3), dtype=np.float32)
    kept = int(np.ceil(40 / factor))
    top = (40 - kept) // 2
    middle = x[top : top + kept, top : top + kept]
    large = scipy.ndimage.zoom(middle, (factor, factor, 1), order=1, mode="nearest")
    trimmed = (len(large) - 40) // 2
    expected = large[trimmed : trimmed + 40, trimmed : trimmed + 40]
    assert np.allclose(resampling.zoom_into_middle(x, factor), expected, atol=1e-5)


def test_defocus_averages_over_its_disk() -> None:
    x = draws().random((30, 25, 3), dtype=np.float32)
    row, column = np.indices((17, 17)) - 8
    disk = (row**2 + column**2 <= 36).astype(float)
    soft = np.exp(-np.array([1, 0, 1]) / (2 * 0.5**2))
    soft /= soft.sum()
    kernel = scipy.ndimage.correlate(disk / disk.sum(), np.outer(soft, soft), mode="mirror")
    expected = scipy.ndimage.correlate(x.astype(float), kernel[..., np.newaxis], mode="mirror")
    assert np.allclose(defocus_blur(x, draws(), 6, 0.5), expected, atol=1e-5)


def test_motion_smears_a_point_to_one_side() -> None:
    point = np.zeros((21, 21, 1), dtype=np.float32)
    point[10, 10] = 1
    weights = np.exp(-(np.arange(9) ** 2) / (2 * 2.0**2))
    weights /= weights.sum()
    for degrees, direction in ((0, (0, -1)), (90, (-1, 0)), (-45, (1, -1))):
        smeared = motion.move(point, 4, 2.0, degrees=degrees)[..., 0]
        # On a slope of 45 degrees nine steps reach six pixels, some of them twice.
        assert smeared.sum() == pytest.approx(1, abs=1e-3)
        if degrees != -45:
            along = [smeared[10 + i * direction[0], 10 + i * direction[1]] for i in range(9)]
            assert np.allclose(along, weights, atol=1e-4)
        else:
            assert smeared[16, 4] > 0 and smeared[11, 9] > smeared[12, 8] > 0
    even = np.full((9, 9, 3), 0.25, dtype=np.float32)
    assert np.allclose(motion.move(even, 10, 3, degrees=33), even, atol=1e-4)


@pytest.mark.parametrize(("side", "decay"), [(1, 2.0), (2, 2.0), (32, 1.75), (256, 1.4)])
def test_plasma_fills_its_range(side: int, decay: float) -> None:
    heights = plasma.plasma(side, decay, draws())
    assert heights.shape == (side, side)
    assert heights.min() == 0
    assert heights.max() == (side > 1)


def test_plasma_is_smoother_with_more_decay_and_fits_at_its_edges() -> None:
    def steps(decay: float) -> tuple[float, float]:
        heights = plasma.plasma(64, decay, draws())
        return float(np.abs(np.diff(heights, axis=0)).mean()), float(
            np.abs(heights[0] - heights[-1]).mean()
        )

    assert steps(3.0)[0] < steps(2.0)[0] < steps(1.4)[0]
    assert steps(3.0)[1] < 2 * steps(3.0)[0]


def hsv(x: Pixels) -> np.ndarray:
    import colorsys

    return np.array([colorsys.rgb_to_hsv(*map(float, pixel)) for pixel in x.reshape(-1, 3)])


def rgb(x: np.ndarray) -> np.ndarray:
    import colorsys

    return np.array([colorsys.hsv_to_rgb(*pixel) for pixel in x])


def test_value_and_saturation_change_as_by_way_of_hue() -> None:
    x = draws().random((12, 12, 3), dtype=np.float32)
    x[0], x[1, :, 1:] = x[0, :, :1], 0  # grey, and pure red
    x[2] = 0
    brighter = hsv(x)
    brighter[:, 2] = np.minimum(brighter[:, 2] + 0.2, 1)
    value = np.clip(x.max(axis=2, keepdims=True) + np.float32(0.2), 0, 1)
    assert np.allclose(colour.with_value(x, value).reshape(-1, 3), rgb(brighter), atol=1e-5)
    for factor, added in ((0.3, 0), (2, 0.1), (20, 0.2)):
        richer = hsv(x)
        richer[:, 1] = np.clip(richer[:, 1] * factor + added, 0, 1)
        made = colour.saturate(x, draws(), factor, added).reshape(-1, 3)
        assert np.allclose(made, rgb(richer), atol=1e-5)


def test_edges_of_a_square_are_one_pixel_wide_and_whole() -> None:
    levels = np.zeros((20, 20), dtype=np.uint8)
    levels[5:15, 5:15] = 100
    edge = canny.edges(levels, weak=50, strong=150)
    assert [edge[10].sum(), edge[:, 10].sum()] == [2, 2]
    assert not edge[8:12, 8:12].any() and not edge[:3].any()
    # A faint edge counts only where a strong one goes on in it.
    levels[:] = 0
    levels[:, 10:] = 30
    assert not canny.edges(levels, weak=50, strong=150).any()
    levels[:8, 10:] = 60
    assert canny.edges(levels, weak=50, strong=150)[:, 9:11].any(axis=1).all()
