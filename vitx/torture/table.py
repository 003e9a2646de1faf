"""Every fault with its name and what is done, in the order in which they are inflicted."""

from __future__ import annotations

import fnmatch
from collections.abc import Callable
from dataclasses import dataclass

from vitx.errors import UsageError, near_matches
from vitx.torture import kills
from vitx.torture.bench import Bench
from vitx.torture.verdicts import Facts


@dataclass(frozen=True)
class Fault:
    """What is inflicted.

    Attributes:
        name: a word.
        done: what is done, in one line.
        inflict: does it; returns facts where all that is promised is kept.
        beside: it mostly waits, so that the others go on meanwhile.
    """

    name: str
    done: str
    inflict: Callable[[Bench], Facts]
    beside: bool = False


FAULTS = (Fault("kill", "SIGKILL at random moments, one process and two", kills.at_random_moments),)


def select(only: str | None) -> list[Fault]:
    """Return the faults that are asked for.

    Args:
        only: names and patterns between commas, in brackets or not; None is all.

    Raises:
        UsageError: there is none of a name.
    """
    if only is None:
        return [*FAULTS]
    names, chosen = [fault.name for fault in FAULTS], set[str]()
    for word in only.strip("[]").split(","):
        found = fnmatch.filter(names, word.strip())
        if not found:
            hint = near_matches(word.strip(), names) or "; vitx torture list names them"
            raise UsageError(f"only={word.strip()}: no such fault{hint}")
        chosen |= {*found}
    return [fault for fault in FAULTS if fault.name in chosen]
