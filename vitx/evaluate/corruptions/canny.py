"""Edges by Canny's method, as OpenCV finds them.

Source: J. Canny, IEEE PAMI 8 (1986); gradients by Sobel's 3 x 3 operator, their size as the sum of
both absolute values, directions in four sectors.

Shapes: H height, W width.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import scipy.ndimage

_FLAT, _STEEP = math.tan(math.pi / 8), math.tan(3 * math.pi / 8)


def edges(levels: npt.NDArray[np.uint8], *, weak: float, strong: float) -> npt.NDArray[np.bool_]:
    """Find the edges of a grey picture.

    Args:
        levels: [H, W], 0 to 255.
        weak: least gradient of an edge that touches a strong one.
        strong: least gradient of an edge by itself.

    Returns:
        [H, W], true on an edge.
    """
    values = levels.astype(np.int32)
    right, down = (scipy.ndimage.sobel(values, axis=axis, mode="nearest") for axis in (1, 0))
    size = np.abs(right) + np.abs(down)
    crest = (size > weak) & _is_crest(size, right, down)
    parts, count = scipy.ndimage.label(crest, structure=np.ones((3, 3)))
    has_strong = np.zeros(count + 1, dtype=bool)
    has_strong[parts[crest & (size > strong)]] = True
    connected: npt.NDArray[np.bool_] = has_strong[parts]
    return connected


def _is_crest(
    size: npt.NDArray[np.int32], right: npt.NDArray[np.int32], down: npt.NDArray[np.int32]
) -> npt.NDArray[np.bool_]:
    """Say where a gradient is larger than those before and behind it in its direction.

    Along a row or column it may equal the one behind, so that of two equal ones one is left.

    Returns:
        [H, W].
    """
    height, width = size.shape
    around = np.pad(size, 1)

    def beside(rows: int, columns: int) -> npt.NDArray[np.int32]:
        return around[1 + rows : 1 + rows + height, 1 + columns : 1 + columns + width]

    along_row = (size > beside(0, -1)) & (size >= beside(0, 1))
    along_column = (size > beside(-1, 0)) & (size >= beside(1, 0))
    falling = (size > beside(-1, -1)) & (size > beside(1, 1))
    rising = (size > beside(-1, 1)) & (size > beside(1, -1))
    flat = np.abs(down) < _FLAT * np.abs(right)
    steep = np.abs(down) > _STEEP * np.abs(right)
    slanted = np.where((right ^ down) < 0, rising, falling)
    return np.where(flat, along_row, np.where(steep, along_column, slanted))
