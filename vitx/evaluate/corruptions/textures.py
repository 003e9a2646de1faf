"""The photographs of frost that ship with vitx; `frost/README.md` says where they are from.

Shapes: H height, W width.
"""

from __future__ import annotations

import math
from functools import lru_cache
from pathlib import Path

import numpy as np
from PIL import Image

from vitx.evaluate.corruptions.pixels import Pixels, from_image
from vitx.evaluate.corruptions.resampling import resize

_FOLDER = Path(__file__).with_name("frost")
_FILES = ("frost1.png", "frost2.png", "frost3.png", "frost4.jpg", "frost5.jpg")

COUNT = len(_FILES)
"""How many photographs there are to draw from."""


@lru_cache(maxsize=2 * COUNT)
def texture(number: int, scale: float, height: int, width: int) -> Pixels:
    """Return a photograph larger than a picture in both directions.

    Args:
        number: which one, below `COUNT`.
        scale: how large it is to be, compared with the file, where that is large enough.
        height: of the picture.
        width: of the picture.

    Returns:
        [H, W, 3], not to be written to.
    """
    ice = _read(number)
    rows, columns = ice.shape[:2]
    enough = max((height + 1) / round(rows * scale), (width + 1) / round(columns * scale))
    if enough > 1:
        scale *= enough
        shape = math.ceil(rows * scale), math.ceil(columns * scale)
    else:
        shape = round(rows * scale), round(columns * scale)
    if shape != (rows, columns):
        # OpenCV, which the published programs call, rounds to whole levels.
        ice = np.rint(resize(ice, *shape, scale=scale) * np.float32(255)) / np.float32(255)
    ice.setflags(write=False)
    return ice


@lru_cache(maxsize=COUNT)
def _read(number: int) -> Pixels:
    with Image.open(_FOLDER / _FILES[number]) as file:
        # PNGs have a channel of opacity, which the published programs leave out as well.
        ice = from_image(file.convert("RGB"))
    ice.setflags(write=False)
    return ice
