"""Checkpoints: their bytes, how long one holds a step, and what one an epoch costs in all.

One run of `vitx train`'s own trainer takes turns of an epoch each: one without a checkpoint, one
that is begun by handing a snapshot to the thread that writes, and ended when that is committed.
Which of a pair is first changes from pair to pair. Beside it stand, with nothing else going on,
a commit (the check for finite values, sha256, fsync of every file and folder), sha256 alone, and a
plain write of as many bytes with one fsync.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from machine import CpuShare, parse, print_record, print_table

from vitx.runtime.openmp import wait_politely

wait_politely()  # as the command does, before torch is imported

from scipy import stats  # noqa: E402

from vitx.assemble import make_trainer  # noqa: E402
from vitx.checkpoint.manifest import sha256_of  # noqa: E402
from vitx.checkpoint.store import commit, load  # noqa: E402
from vitx.checkpoint.writer import Due, Writer  # noqa: E402
from vitx.config.resolve import resolve  # noqa: E402
from vitx.config.schema import TrainConfig  # noqa: E402
from vitx.config.store import compose  # noqa: E402
from vitx.parts import gather  # noqa: E402
from vitx.runtime.signals import StopRequest  # noqa: E402
from vitx.train.events import Callback  # noqa: E402
from vitx.train.trainer import Trainer  # noqa: E402


class TimedWriter(Writer):
    """A writer that keeps the seconds of each write."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, keep=2, before_commit=lambda: None, say=print)
        self.seconds: list[float] = []

    def _write(self, due: Due) -> None:
        started = time.perf_counter()
        super()._write(due)
        self.seconds.append(time.perf_counter() - started)


class Turns(Callback):
    """Lets every other turn of some steps have a checkpoint.

    Attributes:
        held: seconds that a step was held, for each checkpoint.
        turns: seconds of each turn: without a checkpoint, and with one.
    """

    def __init__(self, folder: Path, steps: int) -> None:
        self.writer, self._steps = TimedWriter(folder), steps
        self.held: list[float] = []
        self.turns: dict[bool, list[float]] = {False: [], True: []}
        self._number, self._started = -1, 0.0  # the first turn only warms up

    def at_boundary(self, trainer: Trainer) -> None:
        """End a turn and begin the next where it is time."""
        if trainer.state.step % self._steps:
            return
        if trainer.state.step:
            self.writer.finish()
            if self._number >= 0:
                seconds = time.perf_counter() - self._started
                self.turns[self._saves(self._number)].append(seconds)
            self._number += 1
        os.sync()  # what one turn left for the disk is not written in the other's time
        self._started = time.perf_counter()
        if self._number < 0 or self._saves(self._number):
            self.writer.hand_over(trainer.snapshot(), best_step=None)
            self.held.append(time.perf_counter() - self._started)

    @staticmethod
    def _saves(number: int) -> bool:
        return number % 4 in (1, 2)  # without, with; with, without; ...

    def close(self) -> None:
        """End the thread."""
        self.writer.close()


def take_turns(
    folder: Path, *, model: str, device: str, pairs: int, steps: int | None
) -> tuple[Turns, int]:
    """Train in turns; return what they took, and the steps of a turn."""
    words = [f"model={model}", "ema.decay=0.999", f"runtime.device={device}"]
    config = resolve(compose("train", words), TrainConfig)
    steps = steps or gather(config, start_step=0).plan.steps_per_epoch
    words.append(f"epochs={steps * (2 * pairs + 1)}st")
    config = resolve(compose("train", words), TrainConfig)
    trainer = make_trainer(config, gather(config, start_step=0), stop=StopRequest())
    turns = Turns(folder, steps)
    trainer.callbacks = [turns]
    try:
        trainer.fit()
    finally:
        trainer.close()
    return turns, steps


def median_interval(values: list[float]) -> tuple[float, float, float]:
    """Return the median and its 95 % interval by order statistics, which assume no shape."""
    ordered = sorted(values)
    rank = int(stats.binom.ppf(0.025, len(ordered), 0.5))
    return statistics.median(ordered), ordered[max(0, rank - 1)], ordered[-max(1, rank)]


def seconds_of(action: Callable[[], object], *, runs: int) -> list[float]:
    """Return the wall-clock seconds of each run of an action, with nothing left to write before."""
    seconds = []
    for _ in range(runs):
        os.sync()
        started = time.perf_counter()
        action()
        seconds.append(time.perf_counter() - started)
    return seconds


def write_plainly(path: Path, data: bytes) -> None:
    """Write a file and force it onto the disk."""
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="xcit_n12")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--pairs", type=int, default=12, help="turns with and without a checkpoint")
    parser.add_argument("--steps", type=int, help="training steps of a turn; default: an epoch")
    parser.add_argument("--runs", type=int, default=7, help="commits that are timed")
    parser.add_argument("--folder", type=Path, help="on the disk that matters; default: temporary")
    args = parse(parser)
    with tempfile.TemporaryDirectory(prefix="vitx-checkpoint-", dir=args.folder) as name:
        folder, share = Path(name), CpuShare(os.getpgrp())
        turns, steps = take_turns(
            folder / "run",
            model=args.model,
            device=args.device,
            pairs=args.pairs,
            steps=args.steps,
        )
        others = share.of_others()
        newest = max((folder / "run").iterdir())
        files = sorted(newest.iterdir())
        size = sum(file.stat().st_size for file in files)
        snapshot = load(newest).copied()
        found = {
            "held for the copy": turns.held[1:],
            "written beside training": turns.writer.seconds[1:],
            "commit alone": seconds_of(lambda: commit(folder / "again", snapshot), runs=args.runs),
            "sha256 alone": seconds_of(lambda: [sha256_of(file) for file in files], runs=args.runs),
            "plain write, fsync": seconds_of(
                lambda: write_plainly(folder / "plain", bytes(size)), runs=args.runs
            ),
        }
    medians = {name: statistics.median(each) for name, each in found.items()}
    print_table(
        f"a checkpoint of {args.model}: {size / 1e6:.1f} MB in {len(files)} files",
        ("", "median s", "least", "most", "MB/s"),
        [
            (
                name,
                f"{medians[name]:.4f}",
                f"{min(each):.4f}",
                f"{max(each):.4f}",
                f"{size / 1e6 / medians[name]:.0f}",
            )
            for name, each in found.items()
        ],
    )
    without, with_ = turns.turns[False], turns.turns[True]
    added = [saving - plain for plain, saving in zip(without, with_, strict=True)]
    overhead = [saving / plain - 1 for plain, saving in zip(without, with_, strict=True)]
    turn_s = statistics.median(without)
    share_of, low, high = median_interval(overhead)
    added_s, least_s, most_s = median_interval(added)
    print(
        f"\n{len(added)} pairs of turns of {steps} steps, {turn_s:.2f} s without a checkpoint; "
        f"{100 * others:.0f} % of the machine went to others\n"
        f"one checkpoint a turn adds {100 * share_of:.2f} % (95 % interval {100 * low:.2f} to "
        f"{100 * high:.2f}): {added_s:.3f} s ({least_s:.3f} to {most_s:.3f})"
    )
    print_record(
        "checkpoint",
        {
            "model": args.model,
            "device": args.device,
            "bytes": size,
            "turn_seconds": round(turn_s, 3),
            "steps": steps,
        }
        | {"overhead": [round(each, 5) for each in (share_of, low, high)]}
        | {"added_seconds": [round(each, 4) for each in (added_s, least_s, most_s)]}
        | {"turn_seconds": round(turn_s, 3)}
        | {"of_others": round(others, 3), "pairs": len(added)}
        | {
            f"{name.replace(', ', '_').replace(' ', '_')}_seconds": round(each, 4)
            for name, each in medians.items()
        },
    )


if __name__ == "__main__":
    main()
