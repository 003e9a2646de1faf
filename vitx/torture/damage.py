"""Checkpoints that are not what was written any more."""

from __future__ import annotations

import itertools
import os
import random
import re
import shutil
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from vitx.torture.bench import Bench, Place, goes_on_at
from vitx.torture.identity import checkpoint, contents, newest
from vitx.torture.verdicts import Facts, demand, demand_equal

Damage = Callable[[Path, random.Random], str]
"""Damages a checkpoint; returns a pattern of the file that has to be named."""

_STORAGE = 4
_STEPS = (4, 5)  # of the two checkpoints that there are


def damaged(bench: Bench) -> Facts:
    """Damage the newest checkpoint in every way: it is named, set aside and passed over."""
    draw = bench.draw("damage")
    with bench.at("damage") as place:
        place.stop_at(_STEPS[0])
        place.stop_at(_STEPS[1])
        files = sorted(file.name for file in newest(place.run).iterdir())
        done = 0
        for name, damage in _damages(files):
            run = place.folder / f"run-{name}"
            shutil.copytree(place.run, run)
            _passed_over(place, run, damage(newest(run), draw))
            shutil.rmtree(run)
            done += 1
            bench.say(f"{done} damaged checkpoints, each passed over")
        return {"damages": done, "files": len(files), "sha256": bench.reference()}


def unreadable(bench: Bench) -> Facts:
    """Have the newest checkpoint answer with an error of its disk: refused, nothing touched."""
    with bench.at("unreadable") as place:
        for step in _STEPS:
            place.stop_at(step)
        manifest, before = newest(place.run) / "manifest.json", contents(place.run)
        program = place.train(apart={"failing": str(manifest)})
        program.wait()
        demand(program.code == _STORAGE, f"exit code {_STORAGE}", program.text)
        told = f"{manifest} can't be read: Input/output error; nothing was changed"
        demand(told in program.text, told, program.text)
        demand(contents(place.run) == before, "nothing touched", "other files")
        return {"exit_code": _STORAGE, "sha256": place.finish()}


def _passed_over(place: Place, run: Path, named: str) -> None:
    """Go on with a run whose newest checkpoint is damaged.

    Raises:
        Broken: it is used, not named, not set aside, or the end is another.
    """
    before, damaged_step = _STEPS
    said = place.start.done(*place.bench.words(), f"run_dir={run}")
    told = re.search(rf"step-{damaged_step:08d} is damaged: (\S+)", said)
    demand(told and re.fullmatch(named, told[1]), f"{named} to be named as damaged", said)
    demand_equal(goes_on_at(said), before, "to go on at step")
    aside = checkpoint(run, damaged_step).with_suffix(".corrupt")
    demand(aside.is_dir(), f"{aside.name} set aside", sorted((run / "checkpoints").iterdir()))
    place.same(run=run)


def _damages(files: list[str]) -> Iterator[tuple[str, Damage]]:
    for kind, damage in (("cut", _cut), ("flip", _flip), ("delete", _delete)):
        for file in files:
            yield f"{kind}-{file}", partial(damage, file)
    for first, second in itertools.pairwise(files):
        yield f"swap-{first}-{second}", partial(_swap, first, second)


def _cut(file: str, folder: Path, draw: random.Random) -> str:
    size = (folder / file).stat().st_size
    os.truncate(folder / file, draw.randrange(size))
    return re.escape(file)


def _flip(file: str, folder: Path, draw: random.Random) -> str:
    content = bytearray((folder / file).read_bytes())
    bit = draw.randrange(8 * len(content))
    content[bit // 8] ^= 1 << bit % 8
    (folder / file).write_bytes(content)
    return re.escape(file)


def _delete(file: str, folder: Path, _: random.Random) -> str:
    (folder / file).unlink()
    return re.escape(file)


def _swap(first: str, second: str, folder: Path, _: random.Random) -> str:
    content = (folder / first).read_bytes()
    (folder / second).replace(folder / first)
    (folder / second).write_bytes(content)
    return f"{re.escape(first)}|{re.escape(second)}"
