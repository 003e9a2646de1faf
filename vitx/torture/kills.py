"""SIGKILL at random moments, to runs of one process and of two."""

from __future__ import annotations

import contextlib
import os
import random
import re
import shutil
import signal
import time
from collections import Counter
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from vitx.torture.bench import LONG, Bench, Place, check_rows, goes_on_at
from vitx.torture.beside import beside
from vitx.torture.identity import acknowledged, logged, total
from vitx.torture.programs import Program, until
from vitx.torture.verdicts import Facts, demand, demand_equal

_LOADS_S = 0.7  # a start takes about this; half of the kills are drawn from it and what follows
_TRAINS_S = 0.6
_RANK_LOST = 6
_BEGUN = re.compile(r"^(resumed|epoch) ", re.MULTILINE)


@dataclass
class _Tally:
    """What was done.

    Attributes:
        asked: how many kills are asked for.
        kills: how many there were.
        of: what was killed, how often.
        runs_finished: how many runs came to their end, all with the same bytes.
        seen: step of the newest checkpoint just before the latest kill.
    """

    asked: int
    kills: int = 0
    of: Counter[str] = field(default_factory=Counter)
    runs_finished: int = 0
    seen: int = 0


def at_random_moments(bench: Bench) -> Facts:
    """Kill runs again and again, go on with each to its end, and begin the next."""
    expected = bench.reference(LONG)
    worlds = (1, 2) if bench.devices > 1 else (1,)
    shares = [bench.kills // len(worlds)] * len(worlds)
    shares[0] += bench.kills - sum(shares)
    tallies = {devices: _Tally(share) for devices, share in zip(worlds, shares, strict=True)}
    waits = [  # runs of one process and runs of two do not wait for each other
        beside(partial(_kill, bench, devices, tally, expected))
        for devices, tally in tallies.items()
    ]
    for wait in waits:
        wait()
    return {
        "kills": sum(tally.kills for tally in tallies.values()),
        "acknowledged_steps_lost": 0,  # one that is ends it
        "runs_finished": sum(tally.runs_finished for tally in tallies.values()),
        "killed": dict(sum((tally.of for tally in tallies.values()), Counter())),
        "sha256": expected,
    }


def _kill(bench: Bench, devices: int, tally: _Tally, expected: str) -> None:
    """Kill so many times; every run that gets through has to come to what is expected."""
    draw = bench.draw(f"kill {devices}")
    with bench.at(f"kill-{devices}") as place:
        while tally.kills < tally.asked or acknowledged(place.run):
            _session(place, devices, draw, tally)
            if (place.run / "result.json").exists():
                demand_equal(total(place.run), expected, "the sha256 of an undisturbed run,")
                tally.runs_finished += 1
                shutil.rmtree(place.run)
            bench.say(
                f"kill: {tally.kills} of {tally.asked} in runs on {devices} processes, "
                f"{tally.runs_finished} went through with the same bytes"
            )


def _session(place: Place, devices: int, draw: random.Random, tally: _Tally) -> None:
    """Begin a run or go on with it; kill it unless there were kills enough."""
    before = tally.seen = acknowledged(place.run)
    program = place.train(LONG, f"runtime.devices={devices}")
    if tally.kills < tally.asked:
        _strike(program, place.run, devices, draw, tally)
    program.wait(120.0)
    program.leaves_nothing()
    _judge(program, place.run, before, tally)


def _strike(program: Program, run: Path, devices: int, draw: random.Random, tally: _Tally) -> None:
    """Kill a program, or a rank of it, at a moment that is drawn."""
    if draw.random() < 0.5:
        wait_s = draw.uniform(0, _LOADS_S + _TRAINS_S)  # anywhere, the start among it
    else:
        rows = logged(run)
        until(lambda: logged(run) > rows or not program.running(), what="a step")
        wait_s = draw.uniform(0, _TRAINS_S)
    time.sleep(wait_s)
    whom, pid = _victim(program, devices, draw)
    tally.seen = acknowledged(run)
    if program.running():
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
            tally.kills += 1
            tally.of[whom] += 1


def _victim(program: Program, devices: int, draw: random.Random) -> tuple[str, int]:
    """Draw launcher or rank; return what it is called, and its id."""
    if devices == 1:
        return "process", program.pid
    if number := draw.randrange(devices + 1):
        with contextlib.suppress(OSError, IndexError):  # there may be no ranks yet, or no more
            return f"rank {number - 1}", program.children()[number - 1]
    return "launcher", program.pid


def _judge(program: Program, run: Path, before: int, tally: _Tally) -> None:
    """Look at what a session went on from, and at what it left.

    Raises:
        Broken: something that was acknowledged is lost.
    """
    codes = (0, -signal.SIGKILL, _RANK_LOST)
    demand(program.code in codes, f"exit code of {codes}", f"{program.code}:\n{program.text}")
    if _BEGUN.search(program.text):
        demand_equal(goes_on_at(program.text), before, "to go on at the newest checkpoint, step")
    least = tally.seen
    demand(acknowledged(run) >= least, f"checkpoint {least} or newer", acknowledged(run))
    check_rows(run)
