"""What a teacher costs: plain training, a teacher that is asked, stored answers, timm's train.py.

All train the ViT-Ti with patch 4 of `train_speed.py` on the same pictures of 32 px and take turns
as there. The teacher is a ViT-S of 14 blocks with random weights, from one file: over 4 times the
multiply-accumulates of the student. The stored answers are those of one epoch, which repeats
(`teacher.reuse_epochs=1`); it is asked in the first, which is not counted. timm's loss is its
logit distillation, with equal weights.

timm's train.py is not part of the package; see `train_speed.py`.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
from machine import parse, print_record, print_table
from safetensors.torch import save_file
from training.contestants import (
    BATCH,
    CLASSES,
    IMAGE_PX,
    PATCH_PX,
    TIMM_MODEL,
    Contestant,
    timm_contestant,
    vitx_contestant,
    write_pictures,
)
from training.turns import cells, paired_ratio, take_rounds

from vitx.config.schema import ModelConfig
from vitx.models.build import Fit
from vitx.models.size import measure_size
from vitx.runtime.torchvision_ops import declare_missing_ops

TEACHER, BLOCKS = "vit_small_patch16_224", 14
PLAIN, ASKED, STORED, TIMM = "plain", "teacher asked", "answers stored", "timm train.py"


def write_teacher(folder: Path) -> Path:
    """Write a teacher's weights, and what timm wants to know of them; return the folder."""
    declare_missing_ops()
    import timm

    torch.manual_seed(0)
    own = {"patch_size": PATCH_PX, "img_size": IMAGE_PX, "depth": BLOCKS}
    model = timm.create_model(TEACHER, num_classes=CLASSES, **own)
    folder.mkdir()
    save_file(model.state_dict(), folder / "model.safetensors")
    card = {
        "architecture": TEACHER,
        "num_classes": CLASSES,
        "model_args": own,
        "pretrained_cfg": {
            "num_classes": CLASSES,
            "input_size": [3, IMAGE_PX, IMAGE_PX],
            "fixed_input_size": True,
            "first_conv": "patch_embed.proj",
            "classifier": "head",
        },
    }
    (folder / "config.json").write_text(json.dumps(card))
    return folder


def cost_ratio() -> float:
    """Return the multiply-accumulates of the teacher over those of the student."""
    fit = Fit(num_classes=CLASSES, channels=3, image_px=IMAGE_PX)
    teacher = ModelConfig(name=TEACHER, patch_px=PATCH_PX, args={"depth": BLOCKS})
    student = ModelConfig(name=TIMM_MODEL, patch_px=PATCH_PX)
    return measure_size(teacher, fit).macs / measure_size(student, fit).macs


def contestants(args: argparse.Namespace, folder: Path) -> list[Contestant]:
    """Return who takes turns, with runs under `folder`."""
    data = write_pictures(folder / "data", train=args.steps * BATCH, val=BATCH).resolve()
    teacher = write_teacher(folder / "teacher").resolve()
    taught = ("teacher=timm", f"teacher.name={TEACHER}", f"+teacher.args.depth={BLOCKS}")
    taught += (f"teacher.patch_px={PATCH_PX}", f"teacher.weights={teacher / 'model.safetensors'}")
    taught += (f"teacher.precision={args.precision}",)  # as timm's
    taught += ("distillation=soft", "distillation.weight=0.5", "distillation.temperature=4")
    stored = ("teacher.cache=outputs", "teacher.reuse_epochs=1")
    found = [
        vitx_contestant(data, folder, args.precision, name=PLAIN),
        vitx_contestant(data, folder, args.precision, *taught, verb="distill", name=ASKED),
        vitx_contestant(
            data, folder, args.precision, *taught, *stored, verb="distill", name=STORED
        ),
    ]
    if args.timm_train:
        more = ("--workers", "1", "--kd-model-name", f"local-dir:{teacher}")
        more += ("--kd-distill-type", "logit", "--kd-temperature", "4.0")
        more += ("--task-loss-weight", "0.5", "--distill-loss-weight", "0.5")
        found.append(timm_contestant(args.timm_train, data, folder, args.precision, *more))
    return found


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--timm-train", type=Path, default=os.environ.get("TIMM_TRAIN"))
    parser.add_argument("--precision", choices=("fp32", "bf16"), default="fp32")
    parser.add_argument("--rounds", type=int, default=5, help="epochs of each that are counted")
    parser.add_argument("--steps", type=int, default=16, help="steps to an epoch")
    parser.add_argument("--limit-s", type=float, default=300.0)
    args = parse(parser)
    # A stopped contestant must not outlive this process.
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: sys.exit(1))
    with tempfile.TemporaryDirectory(prefix="vitx-distillation-") as name:
        folder = Path(name)
        os.environ["VITX_CACHE"] = str(folder / "cache")
        rates, repeated = take_rounds(
            contestants(args, folder),
            samples=args.steps * BATCH,
            rounds=args.rounds,
            limit_s=args.limit_s,
        )
    ratio = cost_ratio()
    rows = [(name, *cells(each)) for name, each in rates.items()]
    title = f"{args.precision}, images/s; the teacher costs {ratio:.1f} times the student"
    print_table(title, ("", "median", "least", "most"), rows)
    figures: dict[str, Any] = {
        "precision": args.precision,
        "teacher_macs / student_macs": round(ratio, 2),
        "images_per_second": {
            name: round(statistics.median(each), 2) for name, each in rates.items()
        },
        "rounds": len(rates[PLAIN]),
        "rounds_repeated": repeated,
    }
    for ours, theirs, target in (
        (STORED, PLAIN, 0.9),
        (ASKED, PLAIN, None),
        (ASKED, TIMM, 1.0),
        (STORED, TIMM, 2.0),
    ):
        if theirs not in rates:
            continue
        middle, low, high = paired_ratio(rates[ours], rates[theirs])
        wanted = f"  (target {target:.1f})" if target else ""
        print(f"{ours} / {theirs}: {middle:.3f}, 95 % interval {low:.3f} to {high:.3f}{wanted}")
        figures[f"{ours} / {theirs}"] = [round(each, 4) for each in (middle, low, high)]
    if not args.timm_train:
        print(
            "\ntimm's train.py was not measured: name it with --timm-train PATH or TIMM_TRAIN=PATH"
        )
    print_record("distillation", figures)


if __name__ == "__main__":
    main()
