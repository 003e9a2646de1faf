"""What is said before and after training, in lines."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from vitx.commands.opening import Opened
from vitx.config.schema import TrainConfig
from vitx.models.build import count_parameters
from vitx.models.of_run import picture_format
from vitx.optim.groups import summarise
from vitx.parts import Machine, Parts
from vitx.records import Plan
from vitx.teaching.tutor import Tutor
from vitx.train.trainer import Trainer


def opening_lines(
    opened: Opened, trainer: Trainer, parts: Parts, *, step: int | None = None
) -> Iterator[str]:
    """Say what will run: everything that was derived rather than typed.

    Args:
        opened: run directory and configuration.
        trainer: as assembled.
        parts: what it was assembled from.
        step: where it goes on; None where it begins.

    Yields:
        Lines, each of what its first word says.
    """
    config, machine, dataset = opened.config, parts.machine, opened.config.dataset
    plan, splits = parts.plan, parts.splits
    yield line("run", str(opened.run.path))
    yield line(
        "data",
        f"{dataset.kind.name}{' ' + dataset.path if dataset.path else ''}: "
        f"{len(splits.train)} to train on, {len(splits.val)} to measure, "
        f"{len(splits.classes)} classes",
    )
    for note in splits.notes:
        yield line("", note)
    yield line("pictures", _pictures(config))
    yield line(
        "model", f"{config.model.name}, {count_parameters(trainer.model) / 1e6:.2f} M parameters"
    )
    if parts.transfer is not None:
        yield line("weights", f"{parts.transfer.loaded} tensors of {parts.transfer.origin}")
        for note in parts.transfer.notes():
            yield line("", note)
    if parts.tutor is not None:
        yield from _teachers(parts.tutor, plan)
    yield line("batch", _batch(plan, machine))
    yield line("length", f"{plan.total_steps} steps, {plan.steps_per_epoch} to the epoch")
    yield line("optimizer", _optimizer(config))
    for group in summarise(trainer.optimizer.param_groups):
        scale = f", learning rate x {group.lr_scale:.4g}" if group.lr_scale != 1 else ""
        yield line(
            "",
            f"weight decay {group.weight_decay:g} on {group.parameters:,} parameters "
            f"in {group.tensors} tensors{scale}",
        )
    yield line(
        "machine",
        f"{_processes(config, machine)}{machine.device}, {machine.precision.name}, "
        f"{machine.threads} threads, {machine.workers} loader processes, torch {torch.__version__}",
    )
    if step is not None:
        yield line("resumed", f"at step {step} of {plan.total_steps}")
    if config.stop_at is not None:
        end = plan.steps_in(config.stop_at, setting="stop_at")
        if not (step or 0) < end < plan.total_steps:
            yield line("", f"stop_at={config.stop_at} is not ahead: training goes on to its end")


def closing_lines(opened: Opened, result: dict[str, Any], *, alone: bool) -> Iterator[str]:
    """Say what came out, where it is, and, where it is all that was asked for, what to try next."""
    run = opened.run.path
    yield f"\n{result_line(result)}"
    yield from head_lines(result)
    for number, what in (
        (result["train_skipped"], "training pictures could not be decoded and were replaced"),
        (result["skipped"], "validation pictures could not be decoded and are not counted"),
    ):
        if number:
            yield f"{number} {what}"
    yield f"results in {run}: result.json, metrics.jsonl, {result['checkpoint']}"
    if not alone:
        return
    program = _program()
    yield "next:"
    yield f"  {program} eval run={_quoted(run)}"
    yield f"  {program} train model=xcit_s12"
    yield f"  {program} train -m model=xcit_n12,vit_ti8 seed=0,1"


def result_line(result: dict[str, Any]) -> str:
    """Say what an evaluation came to, from `EvalResult.as_dict()`."""
    low, high = result["top1_interval"]
    loss = f", loss {result['loss']:.4f}" if "loss" in result else ""
    return (
        f"top-1 {result['top1']:.2f} % (95 % interval {low:.2f} to {high:.2f}), "
        f"top-5 {result['top5']:.2f} %{loss} on {result['count']} pictures"
    )


def head_lines(result: dict[str, Any]) -> Iterator[str]:
    """Say what each head of a distillation token, and each fusion of the two, came to."""
    if heads := result.get("heads"):
        each = (f"{name.replace('_', ' ')} {own['top1']:.2f} %" for name, own in heads.items())
        yield f"heads: top-1 of {', '.join(each)}"


def line(name: str, text: str) -> str:
    """Return a line of a report: its name, then what there is to say."""
    return f"{name:<10} {text}"


def _pictures(config: TrainConfig) -> str:
    picture = picture_format(config)
    mean = ", ".join(f"{value:.4g}" for value in picture.mean)
    std = ", ".join(f"{value:.4g}" for value in picture.std)
    flips = ""
    if config.augmentation.hflip and not config.dataset.mirror:
        flips = "; no flips, a mirrored picture is another class"
    return (
        f"{picture.channels} x {picture.image_px} x {picture.image_px}, "
        f"mean {mean}, deviation {std}{flips}"
    )


def _teachers(tutor: Tutor, plan: Plan) -> Iterator[str]:
    for each in tutor.teachers:
        found = each.plan
        where = f" of {found.origin}" if found.file else ""
        millions = sum(tensor.numel() for tensor in each.model.parameters()) / 1e6
        yield line(
            "teacher",
            f"{found.config.model.name}{where}, {millions:.2f} M parameters, "
            f"{each.model.precision.name}",
        )
        if found.why:
            yield line("", f"is trained first, in {found.origin}: {found.why}")
    for told in tutor.lines(plan):
        yield line("", told)


def _batch(plan: Plan, machine: Machine) -> str:
    passes = ""
    if plan.accumulation > 1:
        passes = f" in {plan.accumulation} passes of {plan.micro_batch}"
        if machine.world.size > 1:
            each = plan.accumulation // machine.world.size
            passes += f", {each} on each of {machine.world.size} processes"
    return f"{plan.batch_size} pictures a step{passes}"


def _processes(config: TrainConfig, machine: Machine) -> str:
    if machine.world.size == 1:
        return ""
    how = "exact_world" if config.runtime.exact_world else config.runtime.strategy.name
    where = "all" if ":" in config.runtime.device else "each"
    return f"{machine.world.size} processes ({how}), {where} on "


def _optimizer(config: TrainConfig) -> str:
    optimizer = config.optimizer
    lr = optimizer.peak_lr(config.batch_size)
    derived = ""
    if optimizer.lr_batch is not None:
        derived = f" = {optimizer.lr:g} x {config.batch_size} / {optimizer.lr_batch}"
    return (
        f"{optimizer.name}, peak learning rate {lr:g}{derived}, {config.schedule.kind.name} "
        f"after {config.schedule.warmup} of warm-up"
    )


def _program() -> str:
    """Return how this program is called from here."""
    program = Path(sys.executable).parent / "vitx"
    if (found := shutil.which("vitx")) and Path(found).resolve() == program.resolve():
        return "vitx"
    return os.path.relpath(program) if program.exists() else "python -m vitx"


def _quoted(path: Path) -> str:
    import shlex

    return shlex.quote(str(path))
