"""The same bytes with any number of processes: loaders, ranks, ranks of an evaluation."""

from __future__ import annotations

from vitx.torture.bench import TWO, Bench
from vitx.torture.identity import read, total
from vitx.torture.verdicts import Facts, demand_equal

LOADERS = (0, 1, 2, 4)
RANKS = (1, 2, 4)
EVALUATING = (1, 2, 3)

_PREEMPTED = 75
_STOPS = (1, 3, 5, 7, 9, 11)


def of_loaders(bench: Bench) -> Facts:
    """Train with other numbers of loader processes."""
    with bench.at("loaders") as place:
        for workers in LOADERS:
            place.finish(f"dataset.workers={workers}", run=place.folder / f"{workers}")
        return {"loaders": [*LOADERS], "sha256": bench.reference()}


def of_ranks(bench: Bench) -> Facts:
    """Train with other numbers of ranks."""
    bench.need_devices(2)
    numbers = [ranks for ranks in RANKS if ranks <= bench.devices]
    with bench.at("worlds") as place:
        for ranks in numbers:
            place.finish(f"runtime.devices={ranks}", run=place.folder / f"{ranks}")
        return {"ranks": numbers, "sha256": bench.reference()}


def changing(bench: Bench) -> Facts:
    """Go on with another number of ranks, twice."""
    bench.need_devices(2)
    course = [min(ranks, bench.devices) for ranks in (2, 1, 4)]
    with bench.at("other-world") as place:
        for stop, ranks in zip((4, 8), course, strict=False):
            place.stop_at(stop, f"runtime.devices={ranks}")
        sha256 = place.finish(f"runtime.devices={course[-1]}")
        return {"course": course, "sha256": sha256}


def in_parts(bench: Bench) -> Facts:
    """Train a model in parts on two ranks, and stop it at each odd step."""
    bench.need_devices(2)
    words = (TWO, "runtime.exact_world=false", "runtime.strategy=fsdp")
    with bench.at("fsdp") as place:
        whole, parts = place.folder / "whole", place.folder / "parts"
        place.start.done(*bench.words(*words, f"run_dir={whole}"))
        for step in _STOPS:
            typed = (f"stop_at={step}st", f"run_dir={parts}")
            place.start.done(*bench.words(*words, *typed), code=_PREEMPTED)
        place.start.done(*bench.words(*words, f"run_dir={parts}"))
        demand_equal(total(parts), total(whole), "the sha256 of an undisturbed run,")
        return {"stops": len(_STOPS), "sha256": total(parts)}


def of_evaluation(bench: Bench) -> Facts:
    """Measure a run with other numbers of ranks: the same numbers for every picture."""
    import pyarrow.parquet as pq

    numbers = [ranks for ranks in EVALUATING if ranks <= bench.devices]
    with bench.at("evaluation") as place:
        place.finish()
        found = []
        for ranks in numbers:
            on = (f"device={bench.device}", f"devices={ranks}")
            place.start.done("eval", f"run={place.run}", "batch_size=4", *on)
            said = place.run / "eval"
            found.append((read(said / "val.json"), pq.read_table(said / "val.parquet")))
        for ranks, (said, table) in zip(numbers, found, strict=True):
            demand_equal(said, found[0][0], f"the result of one process on {ranks},")
            demand_equal(table.equals(found[0][1]), True, f"equal predictions on {ranks} processes")
        return {"ranks": numbers, "top1": found[0][0]["top1"], "pictures": found[0][0]["count"]}
