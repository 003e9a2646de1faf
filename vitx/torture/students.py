"""Students whose teacher stands beside them."""

from __future__ import annotations

import signal

from vitx.torture.bench import LONG, Bench
from vitx.torture.identity import logged, total
from vitx.torture.verdicts import Facts, demand_equal

_PREEMPTED = 75
_STOP = 5  # no checkpoint is due there


def killed(bench: Bench) -> Facts:
    """Teach a student, stop it, kill it, and go on."""
    with bench.at("distill") as place:
        teacher, whole = place.folder / "teacher", place.folder / "whole"
        place.start.done(*bench.words(f"run_dir={teacher}"))
        words = ("distill", *bench.words()[1:], LONG, "teacher=run", f"teacher.weights={teacher}")
        place.start.done(*words, f"run_dir={whole}")
        words = (*words, f"run_dir={place.run}")
        place.start.done(*words, f"stop_at={_STOP}st", code=_PREEMPTED)
        program = place.start(*words)
        program.reaches(lambda: logged(place.run) > _STOP + 3, what="some steps")
        program.signal(signal.SIGKILL)
        program.wait()
        place.start.done(*words)
        demand_equal(total(place.run), total(whole), "the sha256 of an undisturbed run,")
        return {"stops": 1, "kills": 1, "sha256": total(place.run)}
