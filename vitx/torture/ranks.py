"""Ranks that are killed or hang, and a launcher that is killed."""

from __future__ import annotations

import os
import signal

from vitx.torture.bench import LONG, TWO, Bench
from vitx.torture.identity import read
from vitx.torture.programs import Program
from vitx.torture.verdicts import Facts, demand, demand_equal

_RANK_LOST = 6
_TIMEOUT_S = 4
_LAST_WORDS_S = 10.0  # what a rank that waits too long, and its supervisor, take beyond it


def killed(bench: Bench) -> Facts:
    """Kill each rank in turn: the other ends, the lost one is named, the run goes on."""
    bench.need_devices(2)
    with bench.at("kill-rank") as place:
        for number in (0, 1):
            program = place.begun(LONG, TWO)
            rank = program.children()[number]
            os.kill(rank, signal.SIGKILL)
            program.wait(15.0)
            _named(program, f"rank {number} (process {rank}) was ended by SIGKILL")
        return {"kills": 2, "exit_code": _RANK_LOST, "sha256": place.finish(LONG, TWO)}


def restarted(bench: Bench) -> Facts:
    """Kill a rank of a run that may begin again by itself."""
    bench.need_devices(2)
    with bench.at("restart") as place:
        program = place.begun(LONG, TWO, "runtime.max_restarts=1")
        os.kill(program.children()[1], signal.SIGKILL)
        demand(program.wait() == 0, "exit code 0", f"{program.code}:\n{program.text}")
        demand_equal(read(place.run / "run.json")["sessions"], 2, "sessions")
        return {"sessions": 2, "sha256": place.same(LONG)}


def hung(bench: Bench) -> Facts:
    """Stop a rank as if it hung: the run ends within its timeout and says where it stood."""
    bench.need_devices(2)
    timeout = f"runtime.step_timeout_s={_TIMEOUT_S}"
    with bench.at("hang-rank") as place:
        program = place.begun(LONG, TWO, timeout)
        rank = program.children()[1]
        os.kill(rank, signal.SIGSTOP)
        program.wait(_TIMEOUT_S + _LAST_WORDS_S)
        _named(program, f"rank 1 (process {rank}) kept the others waiting")
        stack = "most recent call first"
        demand(stack in program.text, "the stack of the rank that hung", program.text)
        return {"timeout_s": _TIMEOUT_S, "exit_code": _RANK_LOST, "sha256": place.finish(LONG, TWO)}


def stopped(bench: Bench) -> Facts:
    """Stop all ranks at once, when none can miss another: the run ends all the same."""
    bench.need_devices(2)
    with bench.at("stop-ranks") as place:
        program = place.begun(LONG, TWO, f"runtime.step_timeout_s={_TIMEOUT_S}")
        for rank in program.children():
            os.kill(rank, signal.SIGSTOP)
        program.wait(_TIMEOUT_S + _LAST_WORDS_S)
        _named(program, f"was stopped by a signal for {_TIMEOUT_S} s")
        return {"timeout_s": _TIMEOUT_S, "exit_code": _RANK_LOST, "sha256": place.finish(LONG, TWO)}


def orphaned(bench: Bench) -> Facts:
    """Kill the launcher of two ranks with loaders: all of them are gone soon."""
    bench.need_devices(2)
    with bench.at("kill-launcher") as place:
        program = place.begun(LONG, TWO, "dataset.workers=1")
        processes = len(program.session())
        demand(processes >= 5, "a launcher, two ranks and a loader each", processes)
        program.signal(signal.SIGKILL)
        program.wait()
        program.leaves_nothing()
        return {"processes": processes, "left": 0, "sha256": place.finish(LONG, TWO)}


def _named(program: Program, said: str) -> None:
    """Look whether a run ended for a lost rank and says so.

    Raises:
        Broken: it does not.
    """
    demand(
        program.code == _RANK_LOST, f"exit code {_RANK_LOST}", f"{program.code}:\n{program.text}"
    )
    demand(said in program.last_line, said, program.last_line)
    demand("Traceback" not in program.text, "no traceback", program.text)
    program.leaves_nothing()
