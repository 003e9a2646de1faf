"""A picture beside a map of it."""

from __future__ import annotations

import io
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
from PIL import Image
from PIL.PngImagePlugin import PngInfo

_LEAST_PX = 224  # side of what is drawn; smaller pictures are magnified by a whole number
_GAP_PX = 8
# From little to much, evenly spaced: lightness grows all the way, as a copy in grey shows it too.
_COLOURS = ((0, 0, 4), (87, 16, 110), (188, 55, 84), (249, 142, 9), (252, 255, 164))


def draw_beside(
    picture: Image.Image, shares: npt.NDArray[np.float64], texts: Mapping[str, str]
) -> bytes:
    """Draw a picture and, to the right of it, a map over the same places.

    The map has a square of one colour for each patch, from black for nothing to the brightest for
    the most in this picture: where all patches have about the same, all are about as bright.
    Nothing is smoothed.

    Args:
        picture: of mode L or RGB.
        shares: [H, W] values of its patches, none below 0.
        texts: kept in the file under these keywords.

    Returns:
        A PNG, the same bytes for the same input.
    """
    times = max(1, -(-_LEAST_PX // min(picture.size)))
    size = (picture.width * times, picture.height * times)
    drawn = Image.new("RGB", (2 * size[0] + _GAP_PX, size[1]), "white")
    for place, each in enumerate((picture.convert("RGB"), _coloured(shares))):
        drawn.paste(each.resize(size, Image.Resampling.NEAREST), (place * (size[0] + _GAP_PX), 0))
    kept = PngInfo()
    for keyword, text in texts.items():
        kept.add_itxt(keyword, text)
    file = io.BytesIO()
    drawn.save(file, "PNG", pnginfo=kept)
    return file.getvalue()


def _coloured(shares: npt.NDArray[np.float64]) -> Image.Image:
    most = float(shares.max())
    place = shares / most if most > 0 else np.zeros_like(shares)
    at = np.linspace(0, 1, len(_COLOURS))
    planes = [np.interp(place, at, channel) for channel in zip(*_COLOURS, strict=True)]
    return Image.fromarray(np.stack(planes, -1).round().astype(np.uint8))
