"""Loader processes that are killed or hang."""

from __future__ import annotations

import os
import signal

from vitx.torture.bench import LONG, Bench, Place
from vitx.torture.programs import Program
from vitx.torture.verdicts import Facts, demand

_DATA = 3
_NOTICED_WITHIN_S = 10.0
_TIMEOUT_S = 120.0  # after which a silent loader is taken for hung


def killed(bench: Bench) -> Facts:
    """Kill a loader process: the run ends and says what to type."""
    with bench.at("kill-loader") as place:
        program = place.begun(LONG, "dataset.workers=2")
        os.kill(program.children()[-1], signal.SIGKILL)
        _ended(program, _NOTICED_WITHIN_S)
        return _gone_on_with(place)


def hung(bench: Bench) -> Facts:
    """Stop a loader process as if it hung: the run ends in time."""
    with bench.at("hang-loader") as place:
        # Others hold up whoever opens their pictures meanwhile.
        pictures = f"dataset.path={place.own_pictures()}"
        program = place.begun(LONG, "dataset.workers=1", pictures)
        os.kill(program.children()[-1], signal.SIGSTOP)
        _ended(program, _TIMEOUT_S + _NOTICED_WITHIN_S)
        return _gone_on_with(place, pictures)


def _ended(program: Program, within_s: float) -> None:
    """Look whether a run ended for want of its loader and says so.

    Raises:
        Broken: it does not.
    """
    program.wait(within_s)
    demand(program.code == _DATA, f"exit code {_DATA}", f"{program.code}:\n{program.text}")
    demand("dataset.workers=0" in program.last_line, "dataset.workers=0", program.last_line)
    demand("Traceback" not in program.text, "no traceback", program.text)
    program.leaves_nothing()


def _gone_on_with(place: Place, *more: str) -> Facts:
    return {"exit_code": _DATA, "sha256": place.finish(LONG, *more)}
