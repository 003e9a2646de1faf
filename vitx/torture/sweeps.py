"""SIGKILL to a sweep, which then goes on."""

from __future__ import annotations

import signal

from vitx.torture.bench import Bench, check_rows
from vitx.torture.identity import contents, logged, total
from vitx.torture.verdicts import Facts, demand, demand_equal

_JOBS = 3
_LENGTH = "epochs=4ep"  # 24 steps
_STEPS = 8  # of the second job, a checkpoint behind it
_SEEDS = "seed=" + ",".join(map(str, range(_JOBS)))


def killed(bench: Bench) -> Facts:
    """Kill a sweep in its second job: that and the third go on, the first is left alone."""
    with bench.at("sweep") as place:
        folder = place.folder / "sweep"
        runs = [folder / f"{number}-seed={number}" for number in range(_JOBS)]
        verb, *words = bench.words(_LENGTH, _SEEDS, f"hydra.sweep.dir={folder}")
        program = place.start(verb, "-m", *words)
        program.reaches(lambda: logged(runs[1]) >= _STEPS, what="some steps of the second job")
        program.signal(signal.SIGKILL)
        program.wait()
        demand_equal(program.code, -signal.SIGKILL, "exit code")
        finished = contents(runs[0])

        said = place.start.done("sweep", "status", str(folder))
        standing = "1 finished, 1 stopped, 1 waiting"
        demand(standing in said, standing, said)
        place.start.done("sweep", "resume", str(folder))
        demand(contents(runs[0]) == finished, "a finished job left alone", "other files")
        sums = []
        for number, run in enumerate(runs):
            check_rows(run)
            sums.append(total(run))
            expected = bench.reference(_LENGTH, f"seed={number}")
            demand_equal(sums[-1], expected, f"job {number}: the sha256 of an undisturbed run,")
        return {"kills": 1, "jobs": _JOBS, "sha256": sums[1]}  # of the killed one
