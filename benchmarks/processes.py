"""What several processes gain, and what runtime.exact_world costs, on this machine.

Each contestant is `vitx train` for some steps, started anew in each round; contestants take turns
within a round. Rates are those of metrics.jsonl, the first rows left out. Every process computes
with one thread, so that one and two of them can be compared.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from machine import parse, print_record, print_table
from training.turns import paired_ratio

VITX = Path(sys.executable).with_name("vitx")
BATCH, PASSES = 64, 8  # PASSES: of runtime.exact_world
ROW_STEPS, WARM_ROWS = 5, 2
SMALL = f"runtime.micro_batch={BATCH // PASSES}"
EXACT = "runtime.exact_world=true"
CONTESTANTS = {
    "one process": (),
    f"one, {PASSES} passes": (SMALL,),
    "one, exact_world": (EXACT,),
    "two": ("runtime.devices=2",),
    f"two, {PASSES} passes": ("runtime.devices=2", SMALL),
    "two, exact_world": ("runtime.devices=2", EXACT),
}


def images_per_second(folder: Path, words: tuple[str, ...], *, steps: int) -> float:
    """Train for some steps; return the median rate of its rows but the first."""
    run_dir = folder / "run"
    command = [VITX, "train", f"run_dir={run_dir}", "resume=never", f"epochs={steps}st"]
    command += ["runtime.threads=1", "dataset.workers=0", f"logger.every={ROW_STEPS}st"]
    command += [f"batch_size={BATCH}", "evaluation.every=100ep", "checkpoint.every=100ep", *words]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)  # noqa: S603 (our own words)
    lines = (run_dir / "metrics.jsonl").read_text().splitlines()
    rates = [json.loads(line)["train/images_per_second"] for line in lines[WARM_ROWS:]]
    return statistics.median(rates)


def main() -> None:
    """Print rates, and ratios with their intervals."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("words", nargs="*", help="settings of vitx train, such as model=vit_ti8")
    args = parse(parser)
    rates: dict[str, list[float]] = {name: [] for name in CONTESTANTS}
    for number in range(args.rounds):
        names = list(CONTESTANTS)
        for name in names if number % 2 == 0 else reversed(names):
            with tempfile.TemporaryDirectory() as folder:
                words = (*CONTESTANTS[name], *args.words)
                rates[name].append(images_per_second(Path(folder), words, steps=args.steps))
    first = rates["one process"]
    rows = []
    for name, own in rates.items():
        middle, low, high = paired_ratio(own, first)
        ratio = f"{middle:.3f} ({low:.3f} to {high:.3f})"
        rows.append((name, f"{statistics.median(own):.1f}", ratio))
    print_table(
        f"{BATCH} pictures a step, one thread a process, {args.rounds} rounds",
        ("", "images/s", "to one process (95 % interval)"),
        rows,
    )
    for several in ("one", "two"):
        middle, low, high = paired_ratio(
            rates[f"{several}, exact_world"], rates[f"{several}, {PASSES} passes"]
        )
        print(f"exact_world / the same passes, {several}: {middle:.3f}, {low:.3f} to {high:.3f}")
    print_record("processes", {"rates": rates, "words": args.words, "cores": os.cpu_count()})


if __name__ == "__main__":
    main()
