"""Training speed: vitx beside timm's own train.py, and how much of the machine training uses.

Both programs train ViT-Ti with patch 4 on the same pictures of 32 px with DeiT's augmentation,
AdamW, an average of the weights, logging and a checkpoint every epoch, in one precision at a time.
They take turns of a second: one trains while the other is stopped (SIGSTOP), so that both meet
the same machine, however its speed changes. A round is an epoch of each, from one checkpoint to
the next; start-up and the first epoch are not counted. After it, the bare eager step of the same
model and a matrix product are measured. A round in which other processes took more than a little
of the CPU is trained again and not counted.

timm's train.py is not part of the package; take it from its repository, at the tag of the
installed version, and name it with --timm-train or $TIMM_TRAIN. Without it vitx is measured alone.
"""

from __future__ import annotations

import argparse
import os
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from machine import matmul_rate, parse, print_record, print_table
from training.contestants import (
    BATCH,
    IMAGE_PX,
    PATCH_PX,
    TIMM_MODEL,
    Contestant,
    timm_contestant,
    vitx_contestant,
    write_pictures,
)
from training.turns import cells, paired_ratio, take_rounds

from vitx.runtime.torchvision_ops import declare_missing_ops

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
TARGET = 1.0  # times timm's rate, in both precisions
EAGER_STEPS = 4


class EagerStep:
    """The bare training step: no loader, average, logging or checkpoint."""

    def __init__(self, precision: str) -> None:
        declare_missing_ops()
        import timm

        self._autocast = torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16")
        self.model = timm.create_model(
            TIMM_MODEL, patch_size=PATCH_PX, img_size=IMAGE_PX, num_classes=10
        )
        self._optimizer = torch.optim.AdamW(self.model.parameters(), fused=True)
        self._images = torch.randn(BATCH, 3, IMAGE_PX, IMAGE_PX)
        self._targets = torch.randn(BATCH, 10).softmax(1)
        self.rate(steps=2)

    def rate(self, *, steps: int) -> float:
        """Return images per second over some steps."""
        started = time.perf_counter()
        for _ in range(steps):
            with self._autocast:
                logits = self.model(self._images)
            torch.nn.functional.cross_entropy(logits.float(), self._targets).backward()
            self._optimizer.step()
            self._optimizer.zero_grad()
        return steps * BATCH / (time.perf_counter() - started)


def training_gflop(model: torch.nn.Module) -> float:
    """Return 1e9 operations to train on a picture: 2 to a MAC, and backward twice the forward."""
    from torch.nn.attention import SDPBackend, sdpa_kernel
    from torch.utils.flop_counter import FlopCounterMode

    # The counter does not know the fused attention of the CPU.
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH), torch.no_grad():
        model(torch.zeros(1, 3, IMAGE_PX, IMAGE_PX))
    return 3.0 * counter.get_total_flops() / 1e9


@dataclass(kw_only=True)
class Measured:
    """One precision: images/s of each contestant by round, and the yardsticks by round."""

    rates: dict[str, list[float]]
    eager: list[float]
    matmul_gflops: list[float]
    image_gflop: float
    repeated: int


def take_turns(
    contestants: Sequence[Contestant], precision: str, *, samples: int, rounds: int, limit_s: float
) -> Measured:
    """Let the contestants train an epoch each, round after round.

    Args:
        contestants: who takes turns.
        precision: of all of them.
        samples: pictures to an epoch.
        rounds: wanted.
        limit_s: seconds after which no round is repeated, and none begun but the second.

    Returns:
        What was measured in the rounds that count.
    """
    step = EagerStep(precision)
    eager: list[float] = []
    matmul_gflops: list[float] = []

    def measure_yardsticks() -> None:
        eager.append(step.rate(steps=EAGER_STEPS))
        matmul_gflops.append(matmul_rate(DTYPES[precision], seconds=0.5))

    rates, repeated = take_rounds(
        contestants,
        samples=samples,
        rounds=rounds,
        limit_s=limit_s,
        after_round=measure_yardsticks,
    )
    return Measured(
        rates=rates,
        eager=eager,
        matmul_gflops=matmul_gflops,
        image_gflop=training_gflop(step.model),
        repeated=repeated,
    )


def report(precision: str, measured: Measured) -> dict[str, Any]:
    """Print one precision; return its figures."""
    rows = [(name, *cells(rates)) for name, rates in measured.rates.items()]
    rows.append(("bare eager step", *cells(measured.eager)))
    print_table(f"{precision}, images/s", ("", "median", "least", "most"), rows)
    ours = measured.rates["vitx"]
    shares = [
        rate * measured.image_gflop / matmul
        for rate, matmul in zip(ours, measured.matmul_gflops, strict=True)
    ]
    figures: dict[str, Any] = {
        "images_per_second": {
            name: round(statistics.median(rates), 2) for name, rates in measured.rates.items()
        },
        "eager_images_per_second": round(statistics.median(measured.eager), 2),
        "matmul_gflops": round(statistics.median(measured.matmul_gflops)),
        "training_gflop_per_image": round(measured.image_gflop, 4),
        "share_of_matmul_rate": round(statistics.median(shares), 4),
        "rounds": len(ours),
        "rounds_repeated": measured.repeated,
    }
    print(f"vitx computes {statistics.median(ours) * measured.image_gflop:.0f} GFLOP/s, "
          f"{100 * statistics.median(shares):.1f} % of a matrix product's "
          f"{statistics.median(measured.matmul_gflops):.0f}")  # fmt: skip
    for name, theirs in [*list(measured.rates.items())[1:], ("bare eager step", measured.eager)]:
        ratio, low, high = paired_ratio(ours, theirs)
        target = f"  (target {TARGET:.2f})" if name.startswith("timm") else ""
        print(f"vitx / {name}: {ratio:.3f}, 95 % interval {low:.3f} to {high:.3f}{target}")
        figures[f"vitx / {name}"] = [round(each, 4) for each in (ratio, low, high)]
    return figures


def measure(precision: str, args: argparse.Namespace, folder: Path) -> Measured:
    """Measure one precision with runs under `folder`."""
    data = args.data or write_pictures(folder / "data", train=args.steps * BATCH, val=BATCH)
    data = data.resolve()
    contestants = [vitx_contestant(data, folder, precision)]
    if args.timm_train:
        workers = ("--workers", str(args.timm_workers))
        contestants.append(timm_contestant(args.timm_train, data, folder, precision, *workers))
    pictures = sum(path.is_file() for path in (data / "train").glob("*/*"))
    return take_turns(
        contestants,
        precision,
        samples=pictures // BATCH * BATCH,
        rounds=args.rounds,
        limit_s=args.limit_s,
    )


def main() -> None:
    """Measure every precision and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--timm-train", type=Path, default=os.environ.get("TIMM_TRAIN"))
    parser.add_argument("--timm-workers", type=int, default=1, help="its loader processes")
    parser.add_argument("--precision", choices=DTYPES, nargs="+", default=list(DTYPES))
    parser.add_argument("--rounds", type=int, default=5, help="epochs of each that are counted")
    parser.add_argument("--steps", type=int, default=20, help="steps to an epoch, without --data")
    parser.add_argument("--limit-s", type=float, default=300.0, help="seconds per precision")
    parser.add_argument("--data", type=Path, help="image folder with train/ and val/")
    args = parse(parser)
    # A stopped contestant must not outlive this process.
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: sys.exit(1))
    figures = {}
    for precision in args.precision:
        with tempfile.TemporaryDirectory(prefix="vitx-train-speed-") as name:
            figures[precision] = report(precision, measure(precision, args, Path(name)))
    if not args.timm_train:
        print("\ntimm's train.py was not measured: take it from its repository, at the tag of")
        print("the installed timm, and name it with --timm-train PATH or TIMM_TRAIN=PATH")
    print_record("train_speed", figures)


if __name__ == "__main__":
    main()
