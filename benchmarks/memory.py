"""Memory: does a long training run grow? Resident memory over the steps of a tiny model.

Everything that could keep something is on: augmentation, mixing, the average of the weights, and
logging, evaluation and checkpoints many times over. The first steps fill caches and are left out.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from machine import parse, print_record, print_table

WARM_STEPS = 500
TARGET = 0.05  # of the median: most growth from there to the end
MIB = 2**20
# A transformer of one block 32 wide: the loop around it is what is measured.
TINY = (
    "model=timm",
    "model.name=vit_tiny_patch16_224",
    "model.patch_px=4",
    "model.drop_path=0.1",
    "model.args.embed_dim=32",
    "model.args.depth=1",
    "model.args.num_heads=2",
)
BUSY = (
    "dataset=digits",
    "dataset.workers=1",
    "augmentation=deit",
    "ema.decay=0.99",
    "batch_size=16",
    "logger.every=5st",
    "evaluation.every=50st",
    "checkpoint.every=50st",
    "runtime.device=cpu",
)


@dataclass(frozen=True, kw_only=True)
class Growth:
    """Resident memory of one process in bytes, by a straight line after the warm-up.

    Attributes:
        median: after the warm-up.
        slope: bytes a step.
        share: growth from the warm-up to the last step, relative to the median.
    """

    median: float
    slope: float
    share: float


def resident_bytes(process: int) -> int:
    """Return the resident memory of a process, 0 where it is gone."""
    try:
        lines = Path(f"/proc/{process}/status").read_text(encoding="utf-8").splitlines()
    except OSError:
        return 0
    kib = next((line.split()[1] for line in lines if line.startswith("VmRSS:")), "0")
    return 1024 * int(kib)


def children_of(process: int) -> list[int]:
    """Return the processes a process started: the loaders."""
    try:
        text = Path(f"/proc/{process}/task/{process}/children").read_text(encoding="utf-8")
    except OSError:
        return []
    return [int(word) for word in text.split()]


def watch(steps: int, folder: Path) -> np.ndarray:
    """Train and watch.

    Returns:
        [N, 3]: step, and bytes of the training process and of its largest loader, a row a sample.

    Raises:
        SystemExit: training failed.
    """
    run = folder / "run"
    command = [sys.executable, "-m", "vitx", "train", *TINY, *BUSY]
    command += [f"epochs={steps}st", f"run_dir={run}"]
    samples = []
    with (folder / "log.txt").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)  # noqa: S603
        try:
            while process.poll() is None:
                step = _last_step(run / "metrics.jsonl")
                # The largest, not the sum: those of an evaluation come and go.
                loader = max(map(resident_bytes, children_of(process.pid)), default=0)
                if step:
                    samples.append((step, resident_bytes(process.pid), loader))
                time.sleep(0.1)
        finally:
            process.kill()
            process.wait()
    if process.returncode != 0:
        raise SystemExit((folder / "log.txt").read_text(errors="replace"))
    return np.array([each for each in samples if min(each) > 0])


def growth(steps: np.ndarray, resident: np.ndarray) -> Growth:
    """Fit a straight line to what was resident after the warm-up."""
    late = steps > WARM_STEPS
    slope = float(np.polyfit(steps[late], resident[late], 1)[0])
    median = float(np.median(resident[late]))
    return Growth(median=median, slope=slope, share=slope * float(steps[-1] - WARM_STEPS) / median)


def _last_step(metrics: Path) -> int:
    if not metrics.exists():
        return 0
    with metrics.open("rb") as file:
        file.seek(max(0, metrics.stat().st_size - 2048))
        lines = file.read().splitlines()
    # The last line may be cut at its start or, for a moment, at its end.
    marks = [line for line in lines[:-1] if line.startswith(b'{"step":')]
    return int(marks[-1].split(b":")[1].split(b",")[0]) if marks else 0


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--steps", type=int, default=2000, help=f"more than {WARM_STEPS}")
    steps = parse(parser).steps
    if not Path("/proc/self/status").exists():
        raise SystemExit("memory.py reads /proc, which this system has not")
    with tempfile.TemporaryDirectory(prefix="vitx-memory-") as name:
        samples = watch(steps, Path(name))
    found = {
        "training process": growth(samples[:, 0], samples[:, 1]),
        "its largest loader": growth(samples[:, 0], samples[:, 2]),
    }
    print_table(
        f"resident memory over {steps} steps, after step {WARM_STEPS}",
        ("", "median MiB", "bytes a step", "growth", f"within {100 * TARGET:.0f} %"),
        [
            (
                name,
                f"{each.median / MIB:.1f}",
                f"{each.slope:.0f}",
                f"{100 * each.share:+.2f} %",
                "yes" if each.share <= TARGET else "no",
            )
            for name, each in found.items()
        ],
    )
    print_record(
        "memory",
        {
            name: {
                "median_bytes": round(each.median),
                "bytes_per_step": round(each.slope, 1),
                "growth": round(each.share, 5),
            }
            for name, each in found.items()
        }
        | {"steps": steps, "samples": len(samples)},
    )


if __name__ == "__main__":
    main()
