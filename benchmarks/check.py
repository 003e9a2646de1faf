"""The estimates of `vitx check` beside what the runs then take: memory and seconds per epoch."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

from machine import parse, print_record, print_table

TARGET = 0.25  # most relative error
EPOCHS = 2  # the first finds nothing in place and is left out
# What it is, and what is typed. Digits at any size: what they show makes no difference here.
CASES = {
    "the default": [],
    "ViT-Ti/4, average kept": ["model=vit_ti16", "model.patch_px=4", "ema.decay=0.99"],
    "AlterNet-18": ["model=alternet_18_cifar", "dataset.limit=320"],
    "ViT-Ti/16, 224 px": ["model=vit_ti16", "dataset.image_px=224", "dataset.limit=192"],
    "DeiT-S bf16, 224 px": [
        "model=deit_s",
        "dataset.image_px=224",
        "dataset.limit=128",
        "precision=bf16",
        "batch_size=32",
    ],
    "XCiT-T12, 224 px, 4 passes of 8": [
        "model=xcit_t12",
        "dataset.image_px=224",
        "dataset.limit=128",
        "batch_size=32",
        "runtime.micro_batch=8",
    ],
    "evaluating 256 at a time, 224 px": [
        "model=timm",
        "model.name=resnet18",
        "dataset.image_px=224",
        "dataset.limit=256",
        "batch_size=16",
        "evaluation.batch_size=256",
    ],
    "loading is slower, 224 px": [
        "model=timm",
        "model.name=vit_tiny_patch16_224",
        "model.patch_px=32",
        "model.args.embed_dim=32",
        "model.args.depth=1",
        "model.args.num_heads=2",
        "dataset.image_px=224",
        "augmentation=deit",
    ],
}
ESTIMATE = """
import json, sys
from vitx.runtime.openmp import wait_politely
wait_politely()
from vitx.config.jobs import read_command_line
from vitx.config.resolve import resolve
from vitx.config.schema import TrainConfig
from vitx.assemble import make_trainer
from vitx.estimate import estimate
from vitx.parts import gather
from vitx.runtime.signals import StopRequest
from vitx.trial import try_out
config = resolve(read_command_line("train", sys.argv[1:]).jobs[0].config, TrainConfig)
parts = gather(config, start_step=0)
trial = try_out(config, parts, make_trainer(config, parts, stop=StopRequest()))
cost = estimate(config, parts, trial)
print(json.dumps([cost.memory_bytes, cost.epoch_s, trial.pictures]))
"""


def measure(words: list[str], run: Path) -> tuple[float, float]:
    """Train for some epochs.

    Args:
        words: what to train.
        run: run directory.

    Returns:
        Most memory in bytes, and seconds of training for an epoch.
    """
    more = [f"run_dir={run}", f"epochs={EPOCHS}", "logger.every=1ep"]
    _run("-m", "vitx", "train", *words, *more)
    rows = [json.loads(row) for row in (run / "metrics.jsonl").read_text().splitlines()]
    result = json.loads((run / "result.json").read_text())
    per_epoch = (rows[-1]["seconds"] - rows[0]["seconds"]) / (rows[-1]["epoch"] - rows[0]["epoch"])
    return result["peak_memory_bytes"], per_epoch


def _run(*words: str) -> str:
    program = [sys.executable, *words]
    return subprocess.run(program, check=True, capture_output=True, text=True).stdout  # noqa: S603


def main() -> None:
    """Print estimates, measurements and their ratio."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="", help="part of a case's name")
    only = parse(parser).only
    rows, worst = [], 0.0
    for name, words in CASES.items():
        if only not in name:
            continue
        memory, epoch_s, pictures = json.loads(_run("-c", ESTIMATE, *words).splitlines()[-1])
        with tempfile.TemporaryDirectory() as folder:
            real_memory, real_epoch_s = measure(words, Path(folder) / "run")
        ratios = (memory / real_memory, epoch_s / real_epoch_s)
        worst = max(worst, *(abs(ratio - 1) for ratio in ratios))
        rows.append(
            (
                name,
                f"{pictures}",
                f"{memory / 2**20:.0f}",
                f"{real_memory / 2**20:.0f}",
                f"{ratios[0]:.2f}",
                f"{epoch_s:.2f}",
                f"{real_epoch_s:.2f}",
                f"{ratios[1]:.2f}",
            )
        )
        print(" ".join(rows[-1]), flush=True)
    header = ("run", "tried", "MiB", "real", "ratio", "s an epoch", "real", "ratio")
    print_table("vitx check: estimates and what it came to", header, rows)
    print(f"\nworst error {worst:.0%}; target {TARGET:.0%}")
    print_record("check", {"worst_error": round(worst, 3)})


if __name__ == "__main__":
    main()
