"""What the faults share: folders, pictures, programs, and what runs come to undisturbed."""

from __future__ import annotations

import json
import random
import re
import shutil
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Any

from vitx.torture.identity import acknowledged, checkpoints, logged, total
from vitx.torture.pictures import write_pictures
from vitx.torture.programs import Program, Programs
from vitx.torture.small_run import EVERYTHING, TINY
from vitx.torture.verdicts import Lacking, demand, demand_equal

# Passes of two pictures, whose sum is the same on 1, 2 and 4 processes to the last bit.
WORDS = (
    *TINY,
    *EVERYTHING,
    "runtime.micro_batch=2",
    "runtime.exact_world=true",
    "runtime.step_timeout_s=30",
    "checkpoint.every=2st",
)
TWO = "runtime.devices=2"
LONG = "epochs=8ep"  # 48 steps: long enough for a fault to hit it

_GOES_ON = re.compile(r"^resumed +at step (\d+) of", re.MULTILINE)


@dataclass
class Bench:
    """Where faults are inflicted.

    Attributes:
        folder: where everything is put.
        kills: how many processes the row of kills ends.
        devices: most processes of a run.
        seed: of what is drawn.
        say: tells how far it is.
    """

    folder: Path
    kills: int = 20
    devices: int = 4
    seed: int = 0
    say: Callable[[str], object] = lambda _: None
    _references: dict[tuple[str, ...], str] = field(default_factory=dict)
    _turn: threading.RLock = field(default_factory=threading.RLock)

    @cached_property
    def pictures(self) -> Path:
        """48 pictures to train on, 21 to measure."""
        return write_pictures(self.folder / "pictures")

    def training_pictures(self) -> list[Path]:
        """Return the files of all pictures to train on."""
        return sorted((self.pictures / "train").glob("*/*"))

    def validation_pictures(self) -> list[Path]:
        """Return the files of all pictures to measure."""
        return sorted((self.pictures / "val").glob("*/*"))

    def words(self, *more: str) -> tuple[str, ...]:
        """Return the words of a run with augmentation, mixup, dropout, average, accumulation."""
        return ("train", *WORDS, f"dataset.path={self.pictures}", *more)

    def draw(self, name: str) -> random.Random:
        """Return what a fault draws from: a function of the seed and its name."""
        return random.Random(f"{self.seed} {name}")  # noqa: S311 (nothing is kept secret)

    def reference(self, *more: str) -> str:
        """Return what a run comes to when nothing happens to it, on one process, as `total`."""
        with self._turn:
            if more not in self._references:
                folder = self.folder / f"reference-{len(self._references)}"
                folder.mkdir()
                programs = Programs(folder)
                programs.done(*self.words(*more), f"run_dir={folder / 'run'}")
                self._references[more] = total(folder / "run")
        return self._references[more]

    def at(self, name: str) -> Place:
        """Return a place for a fault of this name."""
        folder = self.folder / name
        folder.mkdir()
        return Place(self, folder)

    def need_devices(self, devices: int) -> None:
        """Go on where runs of so many processes are wanted.

        Raises:
            Lacking: they are not.
        """
        if devices > self.devices:
            raise Lacking(f"devices={self.devices}, and this takes {devices}")


class Place:
    """One fault's folder, the programs in it, and its run."""

    def __init__(self, bench: Bench, folder: Path) -> None:
        self.bench, self.folder = bench, folder
        self.start = Programs(folder)
        self.run = folder / "run"

    def __enter__(self) -> Place:
        return self

    def __exit__(self, *_: object) -> None:
        self.start.close()

    def own_pictures(self) -> Path:
        """Return a copy of the pictures that no other fault touches."""
        return Path(shutil.copytree(self.bench.pictures, self.folder / "pictures"))

    def train(
        self,
        *more: str,
        run: Path | None = None,
        stopped: bool = False,
        apart: Mapping[str, Any] = MappingProxyType({}),
    ) -> Program:
        """Start training, or go on with it; `stopped` and `apart` as of `Programs`."""
        words = self.bench.words(*more, f"run_dir={run or self.run}")
        return self.start(*words, stopped=stopped, apart=apart)

    def begun(self, *more: str, steps: int = 2, run: Path | None = None) -> Program:
        """Start training, and return once it has done that many steps more."""
        before = logged(run or self.run)
        program = self.train(*more, run=run)
        program.reaches(
            lambda: logged(run or self.run) >= before + steps, what=f"{steps} steps more"
        )
        return program

    def stop_at(self, step: int, *more: str) -> None:
        """Train up to a step, or go on up to it."""
        self.start.done(
            *self.bench.words(*more, f"run_dir={self.run}", f"stop_at={step}st"), code=75
        )

    def finish(self, *more: str, run: Path | None = None) -> str:
        """Go on at the newest checkpoint, to the end of an undisturbed run.

        Returns:
            Its sha256.

        Raises:
            Broken: it is another.
        """
        run = run or self.run
        before = acknowledged(run)
        said = self.start.done(*self.bench.words(*more, f"run_dir={run}"))
        demand_equal(goes_on_at(said), before, "to go on at the newest checkpoint, step")
        return self.same(*more, run=run)

    def same(self, *more: str, run: Path | None = None) -> str:
        """Look whether a finished run is what it comes to undisturbed.

        Returns:
            The sha256 of both.

        Raises:
            Broken: it is not.
        """
        run = run or self.run
        check_rows(run)
        came, expected = total(run), self.bench.reference(*_of_the_result(more))
        demand_equal(came, expected, "the sha256 of an undisturbed run,")
        return came


def goes_on_at(text: str) -> int:
    """Return the step that a program said it goes on from; 0 where it began."""
    found = _GOES_ON.search(text)
    return int(found[1]) if found else 0


def check_rows(run: Path) -> None:
    """Look whether metrics.jsonl has each step once, up to the newest checkpoint at least.

    Raises:
        Broken: it has not.
    """
    steps = [row["step"] for row in whole_rows(run)]
    demand_equal(steps, [*range(1, len(steps) + 1)], "each step once in metrics.jsonl,")
    # The row of a step that asked for a stop waits inside its checkpoint.
    least = acknowledged(run) - 1
    demand(len(steps) >= least, f"rows up to step {least}", f"{len(steps)} rows")
    temporary = [*(run / "checkpoints").glob(".tmp-*")]
    demand(len(temporary) <= 2, "at most one write and one removal undone", temporary)


def whole_rows(run: Path) -> list[dict[str, Any]]:
    """Return the rows of metrics but for one that is cut off in the middle."""
    path = run / "metrics.jsonl"
    if not path.exists():
        return []
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    return [json.loads(line) for line in lines if line.endswith("\n")]


def kept(run: Path) -> dict[str, bytes]:
    """Return the files of the acknowledged checkpoints."""
    return {
        f"{folder.name}/{file.name}": file.read_bytes()
        for folder in checkpoints(run)
        for file in folder.iterdir()
    }


# What may differ between sessions of a run, and changes nothing of its result.
_MAY_CHANGE = (
    "dataset.path=",
    "runtime.devices=",
    "runtime.max_restarts=",
    "runtime.step_timeout_s=",
    "dataset.workers=",
)


def _of_the_result(words: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(word for word in words if not word.startswith(_MAY_CHANGE))
