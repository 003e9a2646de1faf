"""Paths, environments and networks that a run should not care about."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time

from vitx.torture.bench import TWO, Bench
from vitx.torture.programs import places
from vitx.torture.verdicts import Facts, demand

NAMES = (
    "with a space",
    "emoji 🦒 ünï",
    "two\nlines",
    "l" + 199 * "o",
    "a=b,[c]{d}$e'f",
)
_RANK_LOST = 6
_COLD_START_S = 120.0  # an interpreter of its own, on a machine that is busy
_FOREIGN = {
    "TZ": "Pacific/Chatham",  # 12:45 ahead
    "LC_ALL": "C",
    "PYTHONUTF8": "0",  # else Python takes C for UTF-8
    "PYTHONCOERCECLOCALE": "0",
}
_TO_COME_S = time.time() + 60 * 365.25 * 86400
_KEPT = ("PATH", "LD_LIBRARY_PATH", "TMPDIR", "VIRTUAL_ENV")


def odd_paths(bench: Bench) -> Facts:
    """Have data and run stand below folders of odd names."""
    with bench.at("paths") as place:
        for number, name in enumerate(NAMES):
            folder = place.folder / name
            shutil.copytree(bench.pictures, folder / "pictures")
            run = folder / f"run {number}"
            words = (f"dataset.path={folder / 'pictures'}", f"run_dir={run}")
            place.start.done(*bench.words(*words))
            place.same(run=run)
        return {"paths": len(NAMES), "sha256": bench.reference()}


def foreign(bench: Bench) -> Facts:
    """Start an interpreter elsewhere in time, with the locale C and without a home."""
    with bench.at("environment") as place:
        kept = {name: os.environ[name] for name in _KEPT if name in os.environ}
        run = place.folder / "ünï"
        ended = subprocess.run(  # noqa: S603 (words of our own)
            [sys.executable, "-P", "-m", "vitx", *bench.words(f"run_dir={run}")],
            cwd=place.folder,
            env={**kept, **_FOREIGN, "PYTHONPATH": places()},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=_COLD_START_S,
            check=False,
        )
        said = ended.stdout.decode(errors="replace")
        demand(ended.returncode == 0, "exit code 0", f"{ended.returncode}:\n{said}")
        return {"unset": "HOME", **_FOREIGN, "sha256": place.same(run=run)}


def set_back(bench: Bench) -> Facts:
    """Go on with a run all of whose files are of a time to come: its clock was set back."""
    with bench.at("clock") as place:
        place.stop_at(3)
        for path in (place.run, *place.run.rglob("*")):
            os.utime(path, (_TO_COME_S, _TO_COME_S))
        return {"years": 60, "sha256": place.finish()}


def offline(bench: Bench) -> Facts:
    """Train without a network, not even to this machine."""
    with bench.at("no-network") as place:
        program = place.train(apart={"network": True})
        demand(program.wait() == 0, "exit code 0", f"{program.code}:\n{program.text}")
        if bench.devices > 1:  # which need the loopback interface
            two = place.train(TWO, run=place.folder / "two", apart={"network": True})
            two.wait()
            told = "the loopback interface is down"
            demand(two.code == _RANK_LOST, f"exit code {_RANK_LOST}", f"{two.code}:\n{two.text}")
            demand(told in two.last_line, told, two.text)
        return {"sha256": place.same()}
