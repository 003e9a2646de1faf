"""The corruptions by name, in the order in which they are published."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from types import MappingProxyType

from vitx.evaluate.corruptions import blur, colour, digital, noise, weather
from vitx.evaluate.corruptions.elastic import elastic_transform
from vitx.evaluate.corruptions.glass import glass_blur
from vitx.evaluate.corruptions.levels import LEVELS, Levels, Severities
from vitx.evaluate.corruptions.pixels import Pixels
from vitx.evaluate.corruptions.spatter import spatter

SEVERITIES = (1, 2, 3, 4, 5)
"""The published severities, from weak to strong."""


class Group(Enum):
    """What corruptions have in common; `validation` are the four kept apart for tuning."""

    noise = "noise"
    blur = "blur"
    weather = "weather"
    digital = "digital"
    validation = "validation"


@dataclass(frozen=True, kw_only=True)
class Corruption:
    """One way to spoil a picture.

    Attributes:
        name: as in the names of the published folders and files.
        group: what it belongs to.
        apply: makes [H, W, C] of [H, W, C], a generator and the numbers of a severity.
    """

    name: str
    group: Group
    apply: Callable[..., Pixels]

    def levels(self, levels: Levels) -> Severities:
        """Return the numbers of each severity in one of the published sets."""
        return LEVELS[levels][self.name]


_BY_GROUP: Mapping[Group, tuple[Callable[..., Pixels], ...]] = {
    Group.noise: (noise.gaussian_noise, noise.shot_noise, noise.impulse_noise),
    Group.blur: (blur.defocus_blur, glass_blur, blur.motion_blur, blur.zoom_blur),
    Group.weather: (weather.snow, weather.frost, weather.fog, weather.brightness),
    Group.digital: (
        digital.contrast,
        elastic_transform,
        digital.pixelate,
        digital.jpeg_compression,
    ),
    Group.validation: (noise.speckle_noise, blur.gaussian_blur, spatter, colour.saturate),
}

CORRUPTIONS: Mapping[str, Corruption] = MappingProxyType(
    {
        function.__name__: Corruption(name=function.__name__, group=group, apply=function)
        for group, functions in _BY_GROUP.items()
        for function in functions
    }
)
"""All 19, the 15 of the benchmark first."""

VALIDATION = tuple(
    name for name, corruption in CORRUPTIONS.items() if corruption.group is Group.validation
)
"""The four that are published for tuning, and count in no figure."""

COMMON = tuple(name for name in CORRUPTIONS if name not in VALIDATION)
"""The 15 of the benchmark."""
