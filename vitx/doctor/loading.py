"""What loader processes need besides time: shared memory, open files, processes, file size."""

from __future__ import annotations

import os
import resource
from collections.abc import Iterator
from pathlib import Path

from vitx.doctor.findings import Finding, fine, gib, problem, warning
from vitx.doctor.planned import Planned, Unusable
from vitx.errors import StorageError
from vitx.runtime.limits import available_memory_bytes, process_share

_SHM = Path("/dev/shm")  # noqa: S108 (where the system has it)
# A training process with its libraries, GPU and log, and what each loader process of training and
# of evaluation takes of it: measured are 21 and 8.2 on a CPU.
_OPEN_FILES, _OPEN_FILES_EACH = 64, 10
_PROCESSES = 32  # threads of libraries that a process starts besides


def check_shared_memory(planned: Planned) -> Iterator[Finding]:
    """Compare `/dev/shm` with the batches that wait in it."""
    needed = planned.shared_bytes
    if not needed:
        yield fine("shared memory", "no loader processes, none needed")
        return
    if not _SHM.is_dir():
        yield warning("shared memory", f"there is no {_SHM}", "type dataset.workers=0")
        return
    room = os.statvfs(_SHM)
    free, size = room.f_bavail * room.f_frsize, room.f_blocks * room.f_frsize
    text = f"{gib(free)} of {gib(size)} free in {_SHM}; batches on their way take {gib(needed)}"
    if free >= needed:
        yield fine("shared memory", text)
        return
    larger = -(-(size - free + needed) // 2**30)
    mend = (
        f"mount -o remount,size={larger}G {_SHM} (docker run --shm-size={larger}g)"
        if needed < (available_memory_bytes() or needed + 1)
        else "a smaller batch_size, for which there is the memory"
    )
    yield warning("shared memory", text, f"type dataset.workers=0, or {mend}")


def check_open_files(planned: Planned) -> Iterator[Finding]:
    """Compare the limit of open files with what a training process opens."""
    allowed, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = _OPEN_FILES + _OPEN_FILES_EACH * planned.workers
    text = f"{_shown(allowed)} allowed, a process with its loaders takes up to {needed}"
    if _allows(allowed, needed):
        yield fine("open files", text)
    elif _allows(most, needed):
        yield warning("open files", text, f"type ulimit -n {min(4096, most) if most > 0 else 4096}")
    else:
        yield warning("open files", text, "type dataset.workers=0, or have ulimit -Hn raised")


def check_processes(planned: Planned) -> Iterator[Finding]:
    """Compare the limit of processes and threads with those of a run."""
    threads = planned.config.runtime.threads or os.cpu_count() or 1
    # Loaders of training and of evaluation are there at once.
    needed = planned.ranks * (threads + _PROCESSES + 2 * planned.workers)
    share = process_share()
    if share is not None and share.left < needed:
        yield warning(
            "processes",
            f"a control group allows {share.allowed}, {share.used} are there, and a run takes up "
            f"to {needed}",
            "type dataset.workers=0 or runtime.threads=1, or have its pids.max raised",
        )
        return
    allowed, _ = resource.getrlimit(resource.RLIMIT_NPROC)
    if os.geteuid() == 0 or allowed == resource.RLIM_INFINITY:
        yield fine("processes", f"as many as it takes, up to {needed}")
        return
    used = _threads_of_user()
    text = f"{allowed} allowed, {used} are there, and a run takes up to {needed}"
    if allowed - used < needed:
        yield warning("processes", text, "type dataset.workers=0, or ulimit -u with a larger one")
    else:
        yield fine("processes", text)


def check_file_size(planned: Planned) -> Iterator[Finding]:
    """Compare the limit of a file's size with the largest file of a checkpoint."""
    allowed, _ = resource.getrlimit(resource.RLIMIT_FSIZE)
    if allowed == resource.RLIM_INFINITY:
        return
    try:
        needed = planned.optimizer_bytes
    except Unusable:
        return  # told where libraries are looked at
    text = f"files of {gib(allowed)} allowed, the largest of a checkpoint takes {gib(needed)}"
    if allowed < needed:
        yield problem("file size", text, "type ulimit -f unlimited", StorageError.exit_code)
    else:
        yield fine("file size", text)


def _allows(limit: int, number: int) -> bool:
    return limit == resource.RLIM_INFINITY or limit >= number


def _shown(limit: int) -> str:
    return "any number" if limit == resource.RLIM_INFINITY else str(limit)


def _threads_of_user() -> int:
    """Return the processes and threads of this user, which is what the limit counts."""
    found, user = 0, str(os.getuid())
    for status in Path("/proc").glob("[0-9]*/status"):
        try:
            rows = dict(line.split(":", 1) for line in status.read_text().splitlines())
        except (OSError, ValueError):  # it ended meanwhile
            continue
        if rows.get("Uid", "").split()[:1] == [user]:
            found += int(rows.get("Threads", "1"))
    return found
