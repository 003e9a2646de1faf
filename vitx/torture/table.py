"""Every fault with its name and what is done, in the order in which they are inflicted."""

from __future__ import annotations

import fnmatch
from collections.abc import Callable
from dataclasses import dataclass

from vitx.errors import UsageError, near_matches
from vitx.torture import (
    damage,
    data,
    kills,
    loaders,
    ranks,
    signals,
    storage,
    students,
    surroundings,
    sweeps,
    worlds,
)
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


FAULTS = (
    Fault("kill", "SIGKILL at random moments, one process and two", kills.at_random_moments),
    Fault("damage", "newest checkpoint cut, flipped, deleted, swapped", damage.damaged),
    Fault("unreadable", "newest checkpoint on a disk that fails", damage.unreadable),
    Fault("signal-step", "asked to stop in a step by each signal", signals.in_a_step),
    Fault("signal-evaluation", "the same in an evaluation", signals.in_an_evaluation),
    Fault("signal-twice", "asked twice, in a step and an evaluation", signals.twice),
    Fault("signal-rank", "asked by one rank of two, in both", signals.to_one_rank),
    Fault("kill-rank", "SIGKILL to either rank of two", ranks.killed),
    Fault("restart", "SIGKILL to a rank, runtime.max_restarts=1", ranks.restarted),
    Fault("hang-rank", "SIGSTOP to a rank of two", ranks.hung),
    Fault("stop-ranks", "SIGSTOP to both ranks of two", ranks.stopped),
    Fault("kill-launcher", "SIGKILL to the launcher of two ranks", ranks.orphaned),
    Fault("kill-loader", "SIGKILL to a loader process", loaders.killed),
    Fault("sweep", "SIGKILL to a sweep in its second job", sweeps.killed),
    Fault("full-disk", "disk of the checkpoints filled while it trains", storage.filled),
    Fault("full-temporary", "no room for temporary files, two ranks", storage.no_room_for_others),
    Fault("file-limit", "files may not grow any more while it trains", storage.limited),
    Fault("read-only", "directory that can't be written", storage.shut),
    Fault("in-use", "a second process on the same directory", storage.shared),
    Fault("bad-picture", "a picture cut off: raise, skip", data.unreadable),
    Fault("nan", "a picture that overflows: raise, skip, rollback; stops", data.not_a_number),
    Fault("diverge", "a learning rate of 1e30: raise, skip, rollback", data.diverging),
    Fault("paths", "space, emoji, line break, 200 bytes, =,[]{}", surroundings.odd_paths),
    Fault("environment", "time zone, LC_ALL=C, no HOME", surroundings.foreign),
    Fault("clock", "the clock set back by 60 years between sessions", surroundings.set_back),
    Fault("no-network", "no network at all", surroundings.offline),
    Fault("loaders", "0, 1, 2, 4 loader processes", worlds.of_loaders),
    Fault("worlds", "1, 2, 4 ranks", worlds.of_ranks),
    Fault("other-world", "2 ranks, then 1, then 4", worlds.changing),
    Fault("fsdp", "a model in parts on 2 ranks, stopped six times", worlds.in_parts),
    Fault("distill", "a student and its teacher, stopped and killed", students.killed),
    Fault("evaluation", "vitx eval on 1, 2, 3 ranks", worlds.of_evaluation),
    Fault("hang-loader", "SIGSTOP to a loader process", loaders.hung, beside=True),
)


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
