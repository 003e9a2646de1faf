"""Suites by name, and names that stand for several."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial

from vitx.errors import UsageError, near_matches
from vitx.evaluate.suites.own import as_it_is, at_sizes
from vitx.evaluate.suites.published import Given, published, real
from vitx.evaluate.suites.suite import Suite

Build = Callable[[Given], Suite]

OWN = "val"
"""The run's own validation split."""

SUITES: Mapping[str, Build] = {
    OWN: lambda given: as_it_is(OWN, given.own()),
    "imagenet": partial(published, "imagenet"),
    "real": real,
    "v2": partial(published, "v2"),
    "a": partial(published, "a"),
    "r": partial(published, "r"),
    "sketch": partial(published, "sketch"),
    "resolution": lambda given: at_sizes("resolution", given.own(), given.sizes_px),
}
GROUPS: Mapping[str, Sequence[str]] = {
    "imagenet_full": ("imagenet", "real", "v2", "a", "r", "sketch"),
}


def named(names: Sequence[str]) -> list[str]:
    """Return the suites that names stand for, each once, in their order.

    Raises:
        UsageError: there is none of a name, or no name.
    """
    if not names:
        raise UsageError("suite=[]: expected one name at least")
    found: dict[str, None] = {}
    for name in names:
        if name not in SUITES and name not in GROUPS:
            known = [*SUITES, *GROUPS]
            hint = near_matches(name, known) or f"; there are {', '.join(known)}"
            raise UsageError(
                f"suite={name}: no such suite{hint}; a name of your own goes with dataset="
            )
        found |= dict.fromkeys(GROUPS.get(name, (name,)))
    return list(found)
