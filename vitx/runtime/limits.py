"""What the system and its control groups let this process have. Standard library only.

Control groups are read in both of their versions. A limit of a group that holds this one counts
as well: a scheduler such as Slurm sets it above, a container at the top of what can be seen.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_GROUPS = Path("/sys/fs/cgroup")
_UNLIMITED = 2**60  # the first version writes a number of about 2^63 where there is no limit


@dataclass(frozen=True, kw_only=True)
class Share:
    """What a control group allows, and how much of it is used, in bytes or processes."""

    allowed: int
    used: int

    @property
    def left(self) -> int:
        """What may still be had."""
        return self.allowed - self.used


def cores_by_affinity() -> int:
    """Return the processor cores that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def cores_by_quota() -> float | None:
    """Return the cores' worth of time that control groups allow; None where they don't limit it."""
    quotas = []
    for folder in _folders("cpu"):
        quota, period = [*_words(folder / "cpu.max"), "", ""][:2]
        if not quota:
            quota = "".join(_words(folder / "cpu.cfs_quota_us"))
            period = "".join(_words(folder / "cpu.cfs_period_us"))
        if quota.isdigit() and period.isdigit():  # it is `max` or -1 where there is no limit
            quotas.append(int(quota) / int(period))
    return min(quotas, default=None)


def memory_share() -> Share | None:
    """Return the tightest memory limit of the control groups; None where they have none.

    Pages of files that can be dropped at any time are not counted as used.
    """
    return _tightest(
        [
            share
            for folder in _folders("memory")
            for share in (
                _share(folder, "memory.max", "memory.current", spare="inactive_file"),
                _share(
                    folder,
                    "memory.limit_in_bytes",
                    "memory.usage_in_bytes",
                    spare="total_inactive_file",
                ),
            )
            if share is not None
        ]
    )


def process_share() -> Share | None:
    """Return the tightest limit of processes and threads together; None where there is none."""
    shares = [_share(folder, "pids.max", "pids.current") for folder in _folders("pids")]
    return _tightest([share for share in shares if share is not None])


def available_memory_bytes() -> int | None:
    """Return the memory that could be had now; None where the system does not say."""
    try:
        rows = dict(line.split(":", 1) for line in Path("/proc/meminfo").read_text().splitlines())
        available = int(rows["MemAvailable"].split()[0]) * 1024
    except (OSError, ValueError, KeyError):
        return None
    share = memory_share()
    return available if share is None else min(available, share.left)


def _tightest(shares: list[Share]) -> Share | None:
    return min(shares, key=lambda share: share.left, default=None)


def _share(folder: Path, allowed: str, used: str, *, spare: str = "") -> Share | None:
    limit, now = "".join(_words(folder / allowed)), "".join(_words(folder / used))
    if not limit.isdigit() or not now.isdigit() or int(limit) >= _UNLIMITED:
        return None
    counts = _words(folder / "memory.stat") if spare else []
    droppable = int(counts[counts.index(spare) + 1]) if spare in counts else 0
    return Share(allowed=int(limit), used=max(0, int(now) - droppable))


def _folders(controller: str) -> Iterator[Path]:
    """Yield the folder of this process's group and of every one above it, of either version."""
    try:
        lines = Path("/proc/self/cgroup").read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, own = line.split(":", 2)
        if controllers and controller not in controllers.split(","):
            continue
        roots = [_GROUPS / controllers] if controllers else [_GROUPS, _GROUPS / "unified"]
        for root in roots:
            group = root / own.lstrip("/")
            yield group
            yield from (folder for folder in group.parents if folder.is_relative_to(root))


def _words(file: Path) -> list[str]:
    try:
        return file.read_text().split()
    except OSError:
        return []
