"""Elastic: a picture drawn askew and rippled.

Source: P. Simard, D. Steinkraus, J. Platt, ICDAR 2003, with a random affine map before it.

Shapes: H height, W width, C channels.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import numpy.typing as npt
import scipy.fft
from numpy.random import Generator

from vitx.evaluate.corruptions.pixels import Pixels
from vitx.evaluate.corruptions.resampling import sample

Field = npt.NDArray[np.float64]


def elastic_transform(
    x: Pixels, random: Generator, strength_px: float, deviation_px: float, corner_px: float
) -> Pixels:
    """Move three points of [H, W, C], all others with them, then each pixel by a smooth field.

    The picture is read twice between its pixels, as in the published programs. OpenCV, which they
    call for the first of the two, reads at 32nds of a pixel; here it is read where it lies.

    Args:
        x: [H, W, C].
        random: what to draw from.
        strength_px: by what the smoothed field, uniform in -1 .. 1 before, is multiplied.
        deviation_px: of the Gaussian that smooths the field.
        corner_px: how far a corner moves at most, to each side.

    Returns:
        [H, W, C].
    """
    height, width, _ = x.shape
    rows, columns = np.meshgrid(np.arange(height), np.arange(width), indexing="ij")
    matrix = _affine_back(height, width, corner_px, random)
    places = matrix @ np.stack((columns, rows, np.ones_like(rows))).reshape(3, -1)
    right, down = places.reshape(2, height, width)
    askew = sample(x, down, right, repeat_edge=False)
    if strength_px == 0:
        return askew
    right, down = (
        strength_px * _smooth_mirrored(random.uniform(-1, 1, (height, width)), deviation_px)
        for _ in range(2)
    )
    return sample(askew, rows + down, columns + right, repeat_edge=True)


def _affine_back(height: int, width: int, corner_px: float, random: Generator) -> Field:
    """Draw the [2, 3] map from places (right, down, 1) of the result to those of the picture."""
    right, down, reach = width // 2, height // 2, min(height, width) // 3
    corners = np.array(
        [
            [right + reach, down + reach],
            [right + reach, down - reach],
            [right - reach, down - reach],
        ]
    )
    moved = corners + random.uniform(-corner_px, corner_px, corners.shape)
    if reach == 0:
        return np.eye(2, 3)  # three points in one place say nothing
    # Each row of `moved`, with a 1 beside it, is mapped to that of `corners`.
    return np.linalg.solve(np.column_stack((moved, np.ones(3))), corners).T


def _smooth_mirrored(field: Field, deviation_px: float) -> Field:
    """Smooth [H, W] with a Gaussian of 3 deviations to each side, mirrored beyond its edges.

    That is a multiplication in terms of cosines: deviations of the width of the picture, which the
    published levels have, cost no more than small ones.

    Returns:
        [H, W].
    """
    height, width = field.shape
    spectrum = scipy.fft.dctn(field)
    spectrum *= _response(height, deviation_px)[:, np.newaxis] * _response(width, deviation_px)
    smooth: Field = scipy.fft.idctn(spectrum)
    return smooth


@lru_cache(maxsize=64)
def _response(length: int, deviation_px: float) -> Field:
    reach = int(3 * deviation_px + 0.5)
    places = np.arange(-reach, reach + 1)
    weights = np.exp(-(places**2) / (2 * deviation_px**2))
    angles = np.pi * np.arange(length)[:, np.newaxis] * places / length
    response: Field = np.cos(angles) @ (weights / weights.sum())
    return response
