"""Bilinear resampling: at given places, and as a zoom into the middle.

Shapes: H height, W width, C channels; h, w those of the result.
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
import numpy.typing as npt
import scipy.sparse

from vitx.evaluate.corruptions.pixels import Pixels

Places = npt.NDArray[np.floating]
Rows = npt.NDArray[np.intp]


def mirror(places: Rows, length: int, *, repeat_edge: bool) -> Rows:
    """Fold whole places outside of 0 .. length - 1 back into it, as mirrors at both ends do.

    Args:
        places: any shape.
        length: at least 1.
        repeat_edge: whether the outermost place is met twice (`dcba|abcd`, "reflect" in SciPy) or
            once (`dcb|abcd`, "mirror" in SciPy, "reflect 101" in OpenCV).

    Returns:
        Places inside, in the shape of `places`.

    >>> mirror(np.array([-1, 0, 3, 4]), 4, repeat_edge=True)
    array([0, 0, 3, 3])
    >>> mirror(np.array([-1, 0, 3, 4]), 4, repeat_edge=False)
    array([1, 0, 3, 2])
    """
    period = max(2 * length if repeat_edge else 2 * length - 2, 1)
    folded = places % period
    return np.minimum(folded, period - repeat_edge - folded) if length > 1 else folded * 0


def sample(x: Pixels, rows: Places, columns: Places, *, repeat_edge: bool) -> Pixels:
    """Read a picture between its pixels.

    Args:
        x: [H, W, C].
        rows: [h, w], in pixels.
        columns: [h, w], in pixels.
        repeat_edge: what is met outside of the picture; see `mirror`.

    Returns:
        [h, w, C].
    """
    height, width, channels = x.shape
    upper, left = np.floor(rows), np.floor(columns)
    down = (rows - upper).astype(np.float32)[..., np.newaxis]
    right = (columns - left).astype(np.float32)[..., np.newaxis]
    row, column = upper.astype(np.intp), left.astype(np.intp)
    above, below = (mirror(row + i, height, repeat_edge=repeat_edge) * width for i in (0, 1))
    before, after = (mirror(column + i, width, repeat_edge=repeat_edge) for i in (0, 1))
    flat = x.reshape(-1, channels)
    top = _between(flat[above + before], flat[above + after], right)
    bottom = _between(flat[below + before], flat[below + after], right)
    return _between(top, bottom, down)


def zoom_into_middle(x: Pixels, factor: float) -> Pixels:
    """Enlarge the middle of a picture to the size of the whole.

    The middle is cut out in whole pixels and enlarged so that its outermost pixels stay outermost
    (`scipy.ndimage.zoom` of order 1); what is then too much is trimmed on both sides. The
    published programs take all measures from the height, which is the same for square pictures.

    Args:
        x: [H, W, C].
        factor: at least 1.

    Returns:
        [H, W, C].
    """
    height, width, channels = x.shape
    rows = _zoom(height, factor) @ x.reshape(height, -1)
    # Columns as rows: a product runs along what lies together in memory.
    turned = rows.reshape(x.shape).swapaxes(0, 1).reshape(width, -1)
    zoomed: Pixels = (_zoom(width, factor) @ turned).reshape(width, height, channels)
    return zoomed.swapaxes(0, 1)


@lru_cache(maxsize=256)
def _zoom(length: int, factor: float) -> scipy.sparse.csr_array:
    """Return the [length, length] matrix of a zoom in one direction: two numbers in a row."""
    kept = math.ceil(length / factor)
    start, enlarged = (length - kept) // 2, round(kept * factor)
    trimmed = (enlarged - length) // 2
    places = (trimmed + np.arange(length)) * ((kept - 1) / max(enlarged - 1, 1))
    low = np.minimum(np.floor(places).astype(np.intp), kept - 1)
    high = np.minimum(low + 1, kept - 1)
    share = (places - low).astype(np.float32)
    columns = start + np.stack((low, high), axis=1).ravel()
    numbers = np.stack((1 - share, share), axis=1).ravel()
    row_ends = np.arange(0, 2 * length + 1, 2)
    return scipy.sparse.csr_array((numbers, columns, row_ends), shape=(length, length))


def resize(x: Pixels, height: int, width: int, *, scale: float) -> Pixels:
    """Resize [H, W, C] to [height, width, C] without smoothing, pixels seen as areas.

    A pixel of the result has its centre where `scale` puts it, as in OpenCV's `resize`.

    Returns:
        [height, width, C].
    """
    rows, columns = (
        np.clip((np.arange(new) + 0.5) / scale - 0.5, 0, old - 1)
        for new, old in ((height, x.shape[0]), (width, x.shape[1]))
    )
    return sample(x, *np.meshgrid(rows, columns, indexing="ij"), repeat_edge=True)


def _between(first: Pixels, second: Pixels, share: Pixels) -> Pixels:
    return first + (second - first) * share
