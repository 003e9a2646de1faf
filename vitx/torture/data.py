"""Pictures that can't be read, and steps whose gradient is no number."""

from __future__ import annotations

import re
from pathlib import Path

from vitx.torture.bench import TWO, Bench, Place
from vitx.torture.identity import checkpoints, newest, read, total
from vitx.torture.verdicts import Facts, demand, demand_equal

_DATA, _NON_FINITE, _PREEMPTED = 3, 5, 75
_STOPS = (1, 3, 5, 7, 9, 11)  # where no checkpoint is due
_BAD = "train/ape/03.png"
_SKIP = ("dataset.bad_image=skip", "dataset.bad_image_limit=0.5")
# Finite at first: the rate multiplies until an activation overflows.
_DIVERGES = (
    "optimizer=sgd",
    "optimizer.lr=1e30",
    "schedule.warmup=10st",
    "schedule.warmup_lr=1e-6",
    "checkpoint.every=1st",
    "evaluation.every=100ep",
)
# Black is 0 and stays it; a white picture is beyond what fp32 holds.
_OVERFLOWS = (
    "dataset.mean=[0,0,0]",
    "dataset.std=[1e-39,1e-39,1e-39]",
    "augmentation=none",
    "evaluation.every=100ep",
)


def unreadable(bench: Bench) -> Facts:
    """Damage a picture: the run ends and names it, or goes on without it, always alike."""
    with bench.at("bad-picture") as place:
        pictures = place.own_pictures()
        file = pictures / _BAD
        file.write_bytes(file.read_bytes()[:60])
        words, two = (f"dataset.path={pictures}",), bench.devices > 1
        said = [
            place.start.done(
                *bench.words(*words, *more, f"run_dir={place.folder / 'raise'}"), code=_DATA
            ).splitlines()[-1]
            for more in ((), *([(TWO,)] if two else []))
        ]
        demand(Path(_BAD).name in said[0], f"{_BAD} to be named", said[0])
        demand(said[0] == said[-1], f"of two processes {said[0]}", said[-1])
        found = set[str]()
        for more in (("dataset.workers=0",), ("dataset.workers=2",), *([(TWO,)] if two else [])):
            run = place.folder / f"skip-{len(found)}-{more[0]}"
            place.start.done(*bench.words(*words, *_SKIP, *more, f"run_dir={run}"))
            demand(read(run / "result.json")["train_skipped"], "pictures skipped", "none")
            found.add(total(run))
        demand(len(found) == 1, "one sha256 with bad_image=skip", sorted(found))
        return {"exit_code": _DATA, "sha256_skipping": found.pop()}


def diverging(bench: Bench) -> Facts:
    """Let a run diverge: it ends before it spoils its weights, whatever non_finite says."""
    with bench.at("diverge") as place:
        for policy in ("raise", "skip", "rollback"):
            run = place.folder / policy
            words = bench.words(*_DIVERGES, f"non_finite={policy}", "epochs=40ep", f"run_dir={run}")
            first = place.start.done(*words, code=_NON_FINITE).splitlines()[-1]
            demand("gradient norm is" in first, "the gradient norm to be told", first)
            for folder in checkpoints(run):
                claim = read(folder / "manifest.json")["finite"]
                demand_equal(claim, _finite(folder), f"finite in the manifest of {folder.name}")
            demand(any(map(_finite, checkpoints(run))), "a checkpoint that is finite", "none")
        return {"exit_code": _NON_FINITE, "policies": 3}


def not_a_number(bench: Bench) -> Facts:
    """Have one picture overflow: its step ends the run, is left out, or sends it back."""
    with bench.at("nan") as place:
        words = (*_OVERFLOWS, f"dataset.path={_black_but_one(place)}")
        run = place.folder / "raise"
        said = place.start.done(*bench.words(*words, f"run_dir={run}"), code=_NON_FINITE)
        demand(re.search(r"named in .*non_finite/step-\d{8}\.json", said), "its rows named", said)
        facts: Facts = {"exit_code": _NON_FINITE}
        for policy, told in (("skip", "the step is left out"), ("rollback", "weights are again")):
            hashes = set[str]()
            for devices in (1, 2)[: bench.devices]:
                run = place.folder / f"{policy}-{devices}"
                more = (f"non_finite={policy}", f"runtime.devices={devices}", f"run_dir={run}")
                said = place.start.done(*bench.words(*words, *more))
                demand(told in said, told, said)
                demand(_finite(newest(run)), "finite weights", "others")
                hashes.add(total(run))
            run = place.folder / f"{policy}-stopped"
            for step in _STOPS:
                typed = (f"non_finite={policy}", f"stop_at={step}st", f"run_dir={run}")
                place.start.done(*bench.words(*words, *typed), code=_PREEMPTED)
            place.start.done(*bench.words(*words, f"non_finite={policy}", f"run_dir={run}"))
            hashes.add(total(run))
            demand(len(hashes) == 1, f"one sha256 with non_finite={policy}", sorted(hashes))
            facts[f"sha256_{policy}"] = hashes.pop()
        return facts


def _black_but_one(place: Place) -> Path:
    """Return a copy of the pictures, all black but for a white one."""
    from PIL import Image

    pictures = place.own_pictures()
    for file in pictures.glob("*/*/*"):
        Image.new("RGB", (12, 12)).save(file)
    Image.new("RGB", (12, 12), "white").save(pictures / _BAD)
    return pictures


def _finite(folder: Path) -> bool:
    """Say whether every number in a checkpoint is finite."""
    import numpy as np
    from safetensors.numpy import load_file

    files = folder.glob("*.safetensors")
    return all(np.isfinite(each).all() for file in files for each in load_file(file).values())
