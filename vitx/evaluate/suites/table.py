"""What finds each suite."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

from vitx.evaluate.suites.corrupted import from_files, on_the_fly
from vitx.evaluate.suites.names import OWN
from vitx.evaluate.suites.own import as_it_is, at_sizes
from vitx.evaluate.suites.published import Given, published, real
from vitx.evaluate.suites.suite import Suite

SUITES: Mapping[str, Callable[[Given], Suite]] = {
    OWN: lambda given: as_it_is(OWN, given.own()),
    "corrupted": on_the_fly,
    "resolution": lambda given: at_sizes("resolution", given.own(), given.sizes_px),
    "imagenet": partial(published, "imagenet"),
    "real": real,
    "v2": partial(published, "v2"),
    "a": partial(published, "a"),
    "r": partial(published, "r"),
    "sketch": partial(published, "sketch"),
    "c": from_files,
}
