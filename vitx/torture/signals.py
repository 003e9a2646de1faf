"""Signals that ask a run to stop, in a step and in an evaluation, to all of it or to one rank."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

from vitx.torture.bench import TWO, Bench, Place, kept
from vitx.torture.identity import read
from vitx.torture.programs import Program, held
from vitx.torture.verdicts import Facts, demand, demand_equal

SIGNALS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2, signal.SIGHUP, signal.SIGINT)
SAVED_WITHIN_S = 20.0
AT_ONCE_S = 5.0

_NOTED_S = 0.25  # two signals within 0.1 s are one request
_PREEMPTED, _INTERRUPTED = 75, 130
_MANY_EVALUATIONS = "evaluation.every=2st"


def in_a_step(bench: Bench) -> Facts:
    """Ask in the middle of a step: it is done, saved, and the run goes on behind it."""
    with bench.at("signal-step") as place:
        for number in SIGNALS:
            program = _asked(place, number, bench.training_pictures())
            _saved(place, program, number)
        return {"signals": len(SIGNALS), "sha256": place.finish()}


def in_an_evaluation(bench: Bench) -> Facts:
    """Ask in the middle of an evaluation: it is left, and made again."""
    with bench.at("signal-evaluation") as place:
        for number in SIGNALS:
            program = _asked(place, number, bench.validation_pictures(), _MANY_EVALUATIONS)
            _saved(place, program, number)
        return {"signals": len(SIGNALS), "sha256": place.finish(_MANY_EVALUATIONS)}


def twice(bench: Bench) -> Facts:
    """Ask twice: it leaves at once, and what was saved before is as it was."""
    pictures = {"step": bench.training_pictures(), "evaluation": bench.validation_pictures()}
    with bench.at("signal-twice") as place:
        place.stop_at(3, _MANY_EVALUATIONS)
        for held_up in pictures.values():
            for number in SIGNALS:
                _leaves_at_once(place, number, held_up)
        facts = {"signals": 2 * len(SIGNALS) * len(pictures)}
        return {**facts, "sha256": place.finish(_MANY_EVALUATIONS)}


def to_one_rank(bench: Bench) -> Facts:
    """Ask one rank of two: both stop at the same step."""
    bench.need_devices(2)
    with bench.at("signal-rank") as place:
        for place_of, pictures in (
            ("step", bench.training_pictures()),
            ("evaluation", bench.validation_pictures()),
        ):
            for turn, number in enumerate(SIGNALS):
                rank = turn % 2 if place_of == "step" else 1 - turn % 2
                program = _asked(place, number, pictures, TWO, _MANY_EVALUATIONS, rank=rank)
                _saved(place, program, number)
        return {"signals": 2 * len(SIGNALS), "sha256": place.finish(TWO, _MANY_EVALUATIONS)}


def _asked(
    place: Place, number: int, pictures: list[Path], *words: str, rank: int | None = None
) -> Program:
    """Start training, send a signal while it waits for a picture, and let it go on."""
    with held(*pictures) as somebody_waits:
        program = place.train(*words)
        program.reaches(somebody_waits, what="a picture that it waits for")
        os.kill(program.pid if rank is None else program.children()[rank], number)
        time.sleep(_NOTED_S)
        demand(program.running(), "to do what it had begun", f"its end:\n{program.text}")
    return program


def _saved(place: Place, program: Program, number: signal.Signals) -> None:
    """Look whether it stopped as it was asked to, and leaves nobody.

    Raises:
        Broken: it did not, or does.
    """
    code = _code(number)
    program.wait(SAVED_WITHIN_S)
    demand(program.code == code, f"exit code {code} after {number.name}", _end(program))
    said = f"vitx train: stopped by {number.name}"
    demand(program.last_line.startswith(said), said, program.last_line)
    record = read(place.run / "run.json")
    came = (record["status"], record["exit_code"])
    demand_equal(came, ("preempted", code), "status and exit code in run.json")
    demand_equal(program.session(), set(), "processes left")


def _leaves_at_once(place: Place, number: signal.Signals, pictures: list[Path]) -> None:
    """Send a signal twice while training waits for a picture, and let it not go on.

    Raises:
        Broken: it does not end, or changed what was saved.
    """
    before = kept(place.run)
    with held(*pictures) as somebody_waits:
        program = place.train(_MANY_EVALUATIONS)
        program.reaches(somebody_waits, what="a picture that it waits for")
        before |= kept(place.run)
        program.signal(number)
        time.sleep(_NOTED_S)
        demand(program.running(), "to do what it had begun", f"its end:\n{program.text}")
        program.signal(number)
        demand(
            program.wait(AT_ONCE_S) == _code(number), f"exit code {_code(number)}", _end(program)
        )
    program.leaves_nothing()
    after = kept(place.run)
    changed = [name for name, content in before.items() if after.get(name, content) != content]
    demand_equal(changed, [], "files of checkpoints changed")


def _code(number: int) -> int:
    return _INTERRUPTED if number == signal.SIGINT else _PREEMPTED


def _end(program: Program) -> str:
    return f"{program.code}:\n{program.text}"
