"""The names of the suites, and names that stand for several. Imports nothing that takes time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from vitx.errors import UsageError, near_matches

OWN = "val"
"""The run's own validation split."""
NAMES = (
    OWN,
    "corrupted",
    "resolution",
    "imagenet",
    "real",
    "v2",
    "a",
    "r",
    "sketch",
    "c",
)
GROUPS: Mapping[str, Sequence[str]] = {
    "imagenet_full": ("imagenet", "real", "v2", "a", "r", "sketch"),
}


def named(names: Sequence[str]) -> list[str]:
    """Return the suites that names stand for, each once, in their order.

    Raises:
        UsageError: there is none of a name, or no name.

    >>> named(["imagenet_full", "val", "a"])[-2:]
    ['sketch', 'val']
    """
    if not names:
        raise UsageError("suite=[]: expected one name at least")
    found: dict[str, None] = {}
    for name in names:
        if name not in NAMES and name not in GROUPS:
            known = [*NAMES, *GROUPS]
            hint = near_matches(name, known) or f"; there are {', '.join(known)}"
            raise UsageError(
                f"suite={name}: no such suite{hint}; a name of your own goes with dataset="
            )
        found |= dict.fromkeys(GROUPS.get(name, (name,)))
    return list(found)
