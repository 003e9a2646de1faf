"""One encoded picture to pixels, whoever it comes from.

Shapes: H height, W width, in pixels.
"""

from __future__ import annotations

import io
import warnings

import numpy as np
from PIL import Image, UnidentifiedImageError

FORMATS = ("JPEG", "PNG", "WEBP", "BMP")
"""The decoders that are enabled; every other format of Pillow stays shut."""

MODES = {1: "L", 3: "RGB"}
"""Pillow's mode of a decoded picture, by its number of channels."""

MAX_ASPECT = 100
"""Most times a side may be as long as the other; resizing to the shorter one costs that much."""

_GREY_16 = ("I;16", "I;16B", "I;16L", "I;16N", "I")
_REASON_LENGTH = 160


class BadImageError(Exception):
    """A picture that can't be decoded; `str()` is the reason, on one line."""


def decode(data: bytes, *, channels: int, max_pixels: int) -> Image.Image:
    """Decode a picture to 8 bits per channel, the same way whatever the file holds.

    The rules:

    - Only JPEG, PNG, WebP and BMP are read; of several frames, the first.
    - The header is read first: more than `max_pixels` pixels (or than Pillow's own limit,
      twice `PIL.Image.MAX_IMAGE_PIXELS`), or a side over `MAX_ASPECT` times as long as the other,
      are refused before one of them is decoded.
    - Orientation in EXIF and colour profiles are not applied, as in timm and torchvision.
    - Transparency, as a channel, in the palette or as one transparent colour, is composited
      over white.
    - A palette is replaced by its colours. CMYK and YCCK become RGB by Pillow's conversion.
    - 16-bit grey is divided by 257 and rounded to the nearest (65535 becomes 255), not clipped;
      of 16-bit colour Pillow's PNG reader keeps the upper 8 bits. 1-bit becomes 0 and 255.
    - Colour becomes grey by ITU-R BT.601 luma; grey becomes colour by three equal channels.

    Warnings of Pillow about the file are silenced for the duration of the call, which makes the
    call unsafe in two threads at once; loader workers are processes.

    Args:
        data: the encoded file.
        channels: 3 for mode `RGB`, 1 for mode `L`.
        max_pixels: largest H * W.

    Returns:
        A loaded image of size (W, H), independent of `data`, with empty `info`.

    Raises:
        BadImageError: the picture is empty, foreign, damaged or too large.
    """
    if not data:
        raise BadImageError("empty (0 bytes)")
    # Pillow only warns of a picture above its first limit; `max_pixels` is what refuses it.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        image = _open(data)
        width, height = image.size
        if width * height > max_pixels:
            pixels = f"{width * height} pixels ({width} x {height})"
            raise BadImageError(f"{pixels}, more than max_pixels={max_pixels}")
        if max(width, height) > MAX_ASPECT * min(width, height):
            raise BadImageError(
                f"{width} x {height} pixels, a side over {MAX_ASPECT} times as long as the other"
            )
        try:
            image.load()
            plain = _to_mode(image, MODES[channels])
        except Exception as error:  # a hostile file can raise nearly anything
            reason = _one_line(error)
            state = "truncated" if "truncated" in reason else "damaged"
            raise BadImageError(f"{state} {image.format} ({reason})") from error
    plain.info = {}
    return plain


def _open(data: bytes) -> Image.Image:
    try:
        return Image.open(io.BytesIO(data), formats=FORMATS)
    except UnidentifiedImageError as error:
        start = data[:8].hex(" ")
        raise BadImageError(f"no readable JPEG, PNG, WebP or BMP (it begins {start})") from error
    except Exception as error:  # a hostile header can raise nearly anything
        raise BadImageError(f"unreadable header ({_one_line(error)})") from error


def _to_mode(image: Image.Image, mode: str) -> Image.Image:
    if image.mode in _GREY_16:
        image = _grey_8(image)
    elif image.has_transparency_data:
        rgba = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, rgba).convert("RGB")
    elif image.mode in ("P", "CMYK"):
        # Straight to grey, Pillow reads CMYK by another formula than by way of RGB.
        image = image.convert("RGB")
    return image.convert(mode)


def _grey_8(image: Image.Image) -> Image.Image:
    wide = np.asarray(image).astype(np.int64).clip(0, 65535)
    # 257 is odd, so there are no ties and adding half of it rounds to the nearest.
    grey = ((wide + 128) // 257).astype(np.uint8)
    transparent = image.info.get("transparency")
    if isinstance(transparent, int):
        grey[wide == transparent] = 255
    return Image.fromarray(grey)


def _one_line(error: BaseException) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= _REASON_LENGTH else text[: _REASON_LENGTH - 3] + "..."
