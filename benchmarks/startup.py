"""Start-up: how long the words typed most often take to answer, each in a fresh process."""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from machine import parse, print_record, print_table

VITX = str(Path(sys.executable).with_name("vitx"))
# What is run, and the most seconds it should take; completion is called as the shell calls it.
WORDS: dict[str, tuple[Sequence[str], float | None]] = {
    "python -c pass": ((sys.executable, "-c", "pass"), None),
    "vitx --help": ((VITX, "--help"), 0.1),
    "vitx train --help": ((VITX, "train", "--help"), 0.7),
    "completing a verb": ((VITX, "__complete", ""), 0.5),
    "completing model=": ((VITX, "__complete", "train", "model="), 0.5),
    "completing optimizer.": ((VITX, "__complete", "train", "optimizer."), 0.5),
    "vitx train --cfg job": ((VITX, "train", "--cfg", "job"), None),
}


def seconds_of(command: Sequence[str]) -> float:
    """Return the wall-clock seconds of a process from start to end."""
    started = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)  # noqa: S603
    return time.perf_counter() - started


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=15, help="of each, after one to warm up")
    runs = parse(parser).runs
    seconds: dict[str, list[float]] = {name: [] for name in WORDS}
    for number in range(runs + 1):  # in turn, so that all meet the same machine
        for name, (command, _) in WORDS.items():
            spent = seconds_of(command)
            if number > 0:
                seconds[name].append(spent)
    medians = {name: statistics.median(each) for name, each in seconds.items()}
    rows = [
        (
            name,
            f"{medians[name]:.3f}",
            f"{min(seconds[name]):.3f}",
            f"{max(seconds[name]):.3f}",
            "" if target is None else f"{target:.1f}",
        )
        for name, (_, target) in WORDS.items()
    ]
    print_table(
        f"start-up, seconds over {runs} runs", ("", "median", "least", "most", "target"), rows
    )
    print_record("startup", {name: round(each, 4) for name, each in medians.items()})


if __name__ == "__main__":
    main()
