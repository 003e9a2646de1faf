"""Corrupting a picture: always the same for the same picture, corruption, severity and key."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from numpy.random import PCG64, Generator
from PIL import Image

from vitx.errors import UsageError, near_matches
from vitx.evaluate.corruptions.digital import through_jpeg
from vitx.evaluate.corruptions.levels import Levels, levels_for
from vitx.evaluate.corruptions.pixels import from_image, to_image
from vitx.evaluate.corruptions.table import CORRUPTIONS, SEVERITIES
from vitx.runtime.seeds import derive

_SAVED_QUALITY = 85
_MODES = ("L", "RGB")


def corrupt(
    image: Image.Image,
    name: str,
    severity: int,
    *,
    key: int | Sequence[int],
    levels: Levels | None = None,
    saved: bool = False,
) -> Image.Image:
    """Return a picture spoilt by one of `CORRUPTIONS`.

    A pure function: what is random comes from the name, the severity and the key alone. A grey
    picture is treated as one channel; its noise is not that of three channels made grey.

    Args:
        image: of mode L or RGB, as the model is to see it: resized and cropped.
        name: which corruption.
        severity: from 1 to 5.
        key: whole numbers that stand for the picture, such as (seed, row).
        levels: the published set of levels; None takes that of the pictures closest in size.
        saved: writes the result as JPEG of quality 85 and reads it again, as was done for the
            files of ImageNet-C and Tiny ImageNet-C.

    Returns:
        A picture of the same size and mode.

    Raises:
        UsageError: there is no such corruption, severity or mode.
    """
    _check(name, severity, image.mode)
    counters = (key,) if isinstance(key, int) else key
    random = Generator(PCG64(derive(f"corrupt {name}", severity, *counters)))
    corruption = CORRUPTIONS[name]
    numbers = corruption.levels(levels or levels_for(*image.size))[severity - 1]
    corrupted = to_image(corruption.apply(from_image(image), random, *numbers))
    return through_jpeg(corrupted, _SAVED_QUALITY) if saved else corrupted


@dataclass(frozen=True)
class Corruptor:
    """Corrupts the pictures of a split, each by its row; goes to loader processes.

    Attributes:
        name: which corruption.
        severity: from 1 to 5.
        seed: another one draws other noise for every row.
        levels: the published set of levels; None takes that of the pictures closest in size.
        saved: as in `corrupt`.
    """

    name: str
    severity: int
    seed: int
    levels: Levels | None = None
    saved: bool = False

    def __post_init__(self) -> None:
        _check(self.name, self.severity)

    def __call__(self, image: Image.Image, row: int) -> Image.Image:
        """Return the picture of a row, resized and cropped, corrupted; as `corrupt` does."""
        return corrupt(
            image,
            self.name,
            self.severity,
            key=(self.seed, row),
            levels=self.levels,
            saved=self.saved,
        )


def corruptor(
    name: str, severity: int, seed: int, *, levels: Levels | None = None, saved: bool = False
) -> Corruptor:
    """Return what corrupts the pictures of a split; arguments as in `Corruptor`.

    Raises:
        UsageError: there is no such corruption or severity.
    """
    return Corruptor(name, severity, seed, levels=levels, saved=saved)


def _check(name: str, severity: int, mode: str = "RGB") -> None:
    if name not in CORRUPTIONS:
        hint = near_matches(name, CORRUPTIONS)
        raise UsageError(
            f"'{name}': no such corruption; expected one of {', '.join(CORRUPTIONS)}{hint}"
        )
    if severity not in SEVERITIES:
        raise UsageError(f"severity {severity} of {name}: expected 1 (weak) to 5 (strong)")
    if mode not in _MODES:
        raise UsageError(
            f"a picture of mode {mode} can't be corrupted: expected {' or '.join(_MODES)}"
        )
