"""Disks that fill or can't be written, files that may not grow, a directory that is in use."""

from __future__ import annotations

import os
import resource
import shutil
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from vitx.torture.bench import LONG, TWO, Bench, kept
from vitx.torture.identity import contents
from vitx.torture.programs import Program, held
from vitx.torture.verdicts import Broken, Facts, demand, demand_equal

_DATA, _STORAGE, _IN_USE, _PREEMPTED = 3, 4, 8, 75
_SMALL_BYTES = 1_500_000  # room for four checkpoints, which it takes to begin, and not for more
_FEW_EVALUATIONS = "evaluation.every=4st"
_SMALL_FILE_BYTES = 100_000  # less than the optimizer's


def filled(bench: Bench) -> Facts:
    """Fill the disk of the checkpoints while it trains: warned, ended in the end, all kept."""
    words = (LONG, _FEW_EVALUATIONS)
    with bench.at("full-disk") as place:
        place.stop_at(3, *words)
        saved = place.run / "checkpoints"
        program = place.train(*words, stopped=True, apart={"tmpfs": [str(saved), _SMALL_BYTES]})
        with _inside(program, saved) as small:
            shutil.copytree(saved, small, dirs_exist_ok=True)
            before = contents(small)
            with held(*bench.validation_pictures()) as somebody_waits:
                program.signal(signal.SIGCONT)
                program.reaches(somebody_waits, what="an evaluation")
                _fill(small / "ballast")
            _missed(program, "0 MB are free")
            (small / "ballast").unlink()
            demand_equal(sorted(contents(small)), sorted(before), "files on the disk")
            demand(contents(small) == before, "checkpoints as they were", "other bytes")
            shutil.rmtree(saved)
            shutil.copytree(small, saved)
        return {"exit_code": _STORAGE, "checkpoints_missed": 3, "sha256": place.finish(*words)}


def no_room_for_others(bench: Bench) -> Facts:
    """Fill the disk of temporary files: two ranks train, stop and refuse as ever."""
    bench.need_devices(2)
    with bench.at("full-temporary") as place:
        folder = place.folder / "temporary"
        folder.mkdir()
        bad = place.own_pictures()
        for picture in (bad / "train").glob("*/*"):
            picture.write_bytes(b"")
        for code, more in (
            (_PREEMPTED, ("stop_at=3st",)),
            (_DATA, (f"dataset.path={bad}", f"run_dir={place.folder / 'bad'}")),
            (0, ()),
        ):
            words = bench.words(TWO, f"run_dir={place.run}", *more)
            apart = {"tmpfs": [str(folder), os.sysconf("SC_PAGESIZE")]}
            program = place.start(*words, stopped=True, apart=apart, TMPDIR=str(folder))
            with _inside(program, folder) as small:
                _fill(small / "ballast")
                program.signal(signal.SIGCONT)
                program.wait()
            demand(program.code == code, f"exit code {code}", f"{program.code}:\n{program.text}")
        return {"exit_codes": [_PREEMPTED, _DATA, 0], "sha256": place.same()}


def limited(bench: Bench) -> Facts:
    """Let no file of a run that trains become as large as a checkpoint's."""
    with bench.at("file-limit") as place:
        program = place.begun(LONG, steps=4)
        before = kept(place.run)
        limits = (_SMALL_FILE_BYTES, resource.RLIM_INFINITY)
        resource.prlimit(program.pid, resource.RLIMIT_FSIZE, limits)
        _missed(program, "File too large")
        after = kept(place.run)
        changed = [name for name, content in before.items() if after.get(name, content) != content]
        demand_equal(changed, [], "files of checkpoints changed")
        return {"exit_code": _STORAGE, "checkpoints_missed": 3, "sha256": place.finish(LONG)}


def shut(bench: Bench) -> Facts:
    """Begin and go on where nothing may be written: refused, and nothing is touched."""
    with bench.at("read-only") as place:
        empty = place.folder / "empty"
        empty.mkdir()
        place.stop_at(2)
        for folder, run in ((empty, empty / "run"), (place.run, place.run)):
            before = contents(folder)
            with _unwritable(folder) as apart:
                program = place.train(run=run, apart=apart)
                program.wait()
            demand(program.code == _STORAGE, f"exit code {_STORAGE}", program.text)
            line = f"vitx train: {run} can't be written: "
            demand(program.text.startswith(line), line, program.text)
            demand(contents(folder) == before, "nothing touched", sorted(contents(folder)))
        return {"exit_code": _STORAGE, "sha256": place.finish()}


def shared(bench: Bench) -> Facts:
    """Train where another process trains: refused, its holder named, and that one unaffected."""
    with bench.at("in-use") as place:
        first = place.begun(LONG)
        first.signal(signal.SIGSTOP)  # so that it can't end before the second one looks
        before = contents(place.run)
        said = place.start.done(*bench.words(LONG, f"run_dir={place.run}"), code=_IN_USE)
        first_named = f"is in use by process {first.pid} on {os.uname().nodename}"
        demand(first_named in said, first_named, said)
        demand(contents(place.run) == before, "nothing touched", "other files")
        first.signal(signal.SIGCONT)
        demand(first.wait() == 0, "exit code 0 of the first", f"{first.code}:\n{first.text}")
        return {"exit_code": _IN_USE, "sha256": place.same(LONG)}


def _missed(program: Program, reason: str) -> None:
    """Look whether a run ended for want of checkpoints, after warnings.

    Raises:
        Broken: it did not.
    """
    program.wait()
    demand(program.code == _STORAGE, f"exit code {_STORAGE}", f"{program.code}:\n{program.text}")
    demand_equal(program.text.count("training goes on"), 2, "warnings")
    demand(reason in program.last_line, reason, program.text)
    missed = "3 checkpoints in a row were missed"
    demand(missed in program.last_line, missed, program.last_line)


@contextmanager
def _inside(program: Program, folder: Path) -> Iterator[Path]:
    """Yield a folder as a program sees it, also after it ended."""
    seen = Path(f"/proc/{program.pid}/root") / folder.relative_to("/")
    number = os.open(seen, os.O_RDONLY | os.O_DIRECTORY)  # its disk lives on with it
    try:
        yield Path(f"/proc/self/fd/{number}")
    finally:
        os.close(number)


@contextmanager
def _unwritable(folder: Path) -> Iterator[dict[str, Any]]:
    """Yield what a program leaves so that a folder can't be written: for root a mode is none."""
    if os.geteuid() == 0:
        yield {"read_only": str(folder)}
        return
    mode = folder.stat().st_mode
    folder.chmod(0o555)
    try:
        yield {}
    finally:
        folder.chmod(mode)


def _fill(ballast: Path) -> None:
    with ballast.open("wb", buffering=0) as file:
        for _ in range(_SMALL_BYTES // 4096 + 1):
            try:
                file.write(bytes(4096))
            except OSError:
                return
    raise Broken("a full disk", "a disk that takes more than its size")
