"""The disks that a run writes to, and the clock that its files and records go by."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from vitx.config.schema import DatasetKind
from vitx.doctor.findings import Finding, fine, gib, problem, warning
from vitx.doctor.planned import Planned, Unusable
from vitx.errors import StorageError
from vitx.files import read_json, writable_place
from vitx.paths import cache_dir, runs_dir
from vitx.runs import now

_SPARE = 2  # checkpoints besides those that are kept: the best one, and the one being written
_WORTH_BYTES = 100 * 2**20  # of a cache or temporary folder
_REMOTE = {"nfs", "nfs4", "cifs", "smb3", "smbfs", "lustre", "gpfs", "beegfs", "ceph", "9p", "afs"}


def check_run_folder(planned: Planned) -> Iterator[Finding]:
    """Look whether the run's folder can be written, and holds the checkpoints of the run."""
    wanted = planned.config.run_dir
    path = Path(wanted) if wanted is not None else runs_dir()
    try:
        place = writable_place(path)
    except StorageError as error:
        mend = "type run_dir=... where you may write, or set VITX_RUNS"
        yield problem("run folder", str(error), mend, error.exit_code)
        return
    kept = planned.config.checkpoint.keep + _SPARE
    try:
        needed: int | None = kept * planned.checkpoint_bytes
    except Unusable:
        needed = None
    room = os.statvfs(place)
    free = room.f_bavail * room.f_frsize
    text = f"{gib(free)} free for {path}"
    if needed is not None:
        text += f"; {kept} checkpoints take up to {gib(needed)}"
    if room.f_files and not room.f_favail:
        mend = "remove files, or choose another run_dir"
        yield problem("run folder", f"{place} takes no more files", mend, StorageError.exit_code)
    elif needed is not None and needed > free:
        mend = "type run_dir=... on another disk, or free some space"
        yield problem("run folder", text, mend, StorageError.exit_code)
    elif (kind := file_system(place)) in _REMOTE or kind.startswith("fuse"):
        yield warning(
            "run folder",
            f"{text}; on {kind}, where locks and renames are weaker: two processes may not see "
            "each other, and a crash of the server may lose what was written last",
            "type run_dir=... on a disk of this machine, or set VITX_RUNS",
        )
    else:
        yield fine("run folder", f"{text}, {kind}")


def check_cache_folder(planned: Planned) -> Iterator[Finding]:
    """Look whether what is downloaded and stored for later can be written."""
    for variable, path in (("VITX_CACHE", cache_dir()), ("HF_HOME", _hub_cache())):
        needs_it = planned.config.dataset.kind is DatasetKind.hub or planned.verb == "distill"
        try:
            place = writable_place(path)
        except StorageError as error:
            make = problem if needs_it else warning
            yield make("cache folder", str(error), f"type export {variable}=FOLDER")
            continue
        yield from _small_or_fine("cache folder", path, place, f"type export {variable}=FOLDER")


def check_temporary_folder(_: Planned) -> Iterator[Finding]:
    """Look whether there is a folder for temporary files."""
    try:
        path = Path(tempfile.gettempdir())
    except OSError:
        yield problem(
            "temporary",
            "no folder for temporary files can be written",
            "type export TMPDIR=FOLDER",
            StorageError.exit_code,
        )
        return
    yield from _small_or_fine("temporary", path, path, "free some space, or export TMPDIR=FOLDER")


def check_clock(_: Planned) -> Iterator[Finding]:
    """Look whether the clock is before the start of the newest run."""
    started = [""]
    for record in runs_dir().glob("*/run.json"):
        with contextlib.suppress(StorageError):  # one that is damaged says nothing here
            started.append(str(read_json(record).get("started", "")))
    here = now()
    if max(started) > here:
        yield warning(
            "clock",
            f"it says {here[:19]} UTC, before the start of the newest run, {max(started)[:19]}: "
            "names and the newest run are told by it, results are not",
            "set the clock, such as by timedatectl set-ntp true",
        )
    else:
        yield fine("clock", f"{here[:19]} UTC")


def file_system(place: Path, mounts: Path = Path("/proc/self/mounts")) -> str:
    """Return the kind of file system that a folder is on, such as ext4 or nfs4."""
    best, kind = "", "unknown"
    try:
        rows = [line.split() for line in mounts.read_text(encoding="utf-8").splitlines()]
    except OSError:
        return kind
    resolved = place.resolve()
    for _, point, its_kind, *_ in rows:
        point = point.encode().decode("unicode_escape")  # a blank is written as \040
        if len(point) >= len(best) and resolved.is_relative_to(point):
            best, kind = point, its_kind
    return kind


def _small_or_fine(name: str, path: Path, place: Path, mend: str) -> Iterator[Finding]:
    room = os.statvfs(place)
    free = room.f_bavail * room.f_frsize
    text = f"{gib(free)} free for {path}"
    yield warning(name, text, mend) if free < _WORTH_BYTES else fine(name, text)


def _hub_cache() -> Path:
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return Path(os.environ.get("HF_HOME") or home / "huggingface")
