"""Checkpoints: seconds and bytes of one commit, and its share of an epoch.

`vitx train` takes a few steps and saves; what it saved is then committed again and again, with
all that makes it durable: the copy, the check for finite values, sha256, and fsync of every file
and folder. Beside it stand sha256 alone and a plain write of as many bytes with one fsync.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from machine import parse, print_record, print_table

from vitx.checkpoint.manifest import sha256_of
from vitx.checkpoint.store import commit, load, path_of
from vitx.loggers.jsonl import read_rows

PREEMPTED = 75


def take_steps(run: Path, *, model: str, steps: int) -> tuple[float, float]:
    """Train a few steps.

    Returns:
        The median seconds of a step, and the steps of an epoch.

    Raises:
        SystemExit: training failed.
    """
    command = [sys.executable, "-m", "vitx", "train", f"model={model}", f"run_dir={run}"]
    command += [f"stop_at={steps}st", "logger.every=1st", "ema.decay=0.999", "runtime.device=cpu"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
    if done.returncode != PREEMPTED:
        raise SystemExit(f"{done.stdout}{done.stderr}\nvitx ended with code {done.returncode}")
    rows = read_rows(run / "metrics.jsonl")
    seconds = [after["seconds"] - row["seconds"] for row, after in zip(rows, rows[1:])]  # noqa: B905
    return statistics.median(seconds), rows[-1]["step"] / rows[-1]["epoch"]


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
    parser.add_argument("--model", default="xcit_s12")
    parser.add_argument("--steps", type=int, default=6, help="training steps that are timed")
    parser.add_argument("--runs", type=int, default=7, help="commits that are timed")
    parser.add_argument("--folder", type=Path, help="on the disk that matters; default: temporary")
    args = parse(parser)
    with tempfile.TemporaryDirectory(prefix="vitx-checkpoint-", dir=args.folder) as name:
        folder = Path(name)
        step_s, epoch_steps = take_steps(folder / "run", model=args.model, steps=args.steps)
        saved = path_of(folder / "run" / "checkpoints", args.steps)
        files = sorted(saved.iterdir())
        size = sum(file.stat().st_size for file in files)
        snapshot = load(saved)
        found = {
            "commit": seconds_of(lambda: commit(folder / "again", snapshot), runs=args.runs),
            "sha256 alone": seconds_of(lambda: [sha256_of(file) for file in files], runs=args.runs),
            "plain write, fsync": seconds_of(
                lambda: write_plainly(folder / "plain", bytes(size)), runs=args.runs
            ),
        }
    epoch_s = step_s * epoch_steps
    medians = {name: statistics.median(each) for name, each in found.items()}
    print_table(
        f"a checkpoint of {args.model}: {size / 1e6:.1f} MB in {len(files)} files",
        ("", "median s", "least", "most", "MB/s"),
        [
            (
                name,
                f"{medians[name]:.3f}",
                f"{min(each):.3f}",
                f"{max(each):.3f}",
                f"{size / 1e6 / medians[name]:.0f}",
            )
            for name, each in found.items()
        ],
    )
    share = medians["commit"] / (epoch_s + medians["commit"])
    print(f"an epoch of the default dataset: {epoch_steps:.0f} steps of {step_s:.3f} s; "
          f"one commit an epoch is {100 * share:.2f} % of the time")  # fmt: skip
    print_record(
        "checkpoint",
        {"model": args.model, "bytes": size, "epoch_seconds": round(epoch_s, 2)}
        | {"share_of_epoch": round(share, 5)}
        | {f"{name.replace(' ', '_')}_seconds": round(each, 4) for name, each in medians.items()},
    )


if __name__ == "__main__":
    main()
