"""From a configuration to a trainer: the table of contents of a run."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import nn

from vitx.callbacks.checkpointing import Checkpointing
from vitx.callbacks.evaluation import Evaluation
from vitx.callbacks.guard import Guard
from vitx.callbacks.metrics import Metrics
from vitx.callbacks.progress import ShowProgress
from vitx.callbacks.stop_at import StopAt
from vitx.config.schema import DistillConfig, TrainConfig
from vitx.data.augment import build_train_transform
from vitx.data.loader import TrainStream
from vitx.data.mixing import Mixing
from vitx.data.sampler import MicroBatchSampler
from vitx.data.samples import TrainSamples
from vitx.errors import UsageError
from vitx.loggers.base import Logger
from vitx.loggers.console import Console, ProgressLogger
from vitx.models.of_run import picture_format
from vitx.objectives.classification import Objective, build_loss, build_objective
from vitx.objectives.distillation import build_distillation
from vitx.objectives.features import FeatureMatching
from vitx.optim.build import build_optimizer
from vitx.optim.ema import build_ema
from vitx.optim.groups import build_groups
from vitx.optim.schedule import Schedule
from vitx.parts import (
    Parts,
    bad_image_policy,
    gather,
    make_decoder,
    make_evaluator,
)
from vitx.records import Plan
from vitx.runs import RunDir
from vitx.runtime.signals import StopRequest
from vitx.runtime.world import ALONE, World
from vitx.teaching.build import make_feature_matching
from vitx.teaching.identity import mixes_answers
from vitx.train.batch_norm import synchronise
from vitx.train.events import Every
from vitx.train.exact_world import Summed
from vitx.train.gradients import Accumulated, Averaged, Gradients
from vitx.train.sharded import Sharded, shard
from vitx.train.state import TrainState
from vitx.train.trainer import Trainer


@dataclass(frozen=True, kw_only=True)
class Assembly:
    """A trainer with the parts that the command still speaks of."""

    trainer: Trainer
    parts: Parts
    evaluation: Evaluation

    def close(self) -> None:
        """End the loader processes; store what teachers said."""
        self.trainer.close()
        if self.parts.tutor is not None:
            self.parts.tutor.close()


def assemble(
    config: TrainConfig,
    run: RunDir,
    *,
    stop: StopRequest,
    console: Console,
    loggers: list[Logger],
    start_step: int,
    world: World = ALONE,
) -> Assembly:
    """Build everything a run needs; nothing is trained yet and nothing but logs is written.

    Args:
        config: the whole configuration, the pictures of a pass settled.
        run: where checkpoints go.
        stop: what the trainer polls.
        console: what is said goes there.
        loggers: take the rows; the progress display joins them.
        start_step: step that the display starts at; weights to start from are taken at 0.
        world: the ranks of the run.

    Returns:
        The trainer, at step 0.
    """
    parts = gather(config, start_step=start_step, say=console.say, world=world)
    plan = parts.plan
    trainer = make_trainer(config, parts, stop=stop)
    display = ProgressLogger(console, plan, start_step=start_step)
    loggers.append(display)
    evaluation = Evaluation(
        make_evaluator(config, parts.splits.val, parts.machine),
        Every(config.evaluation.every, plan, setting="evaluation.every"),
    )
    saved = Every(config.checkpoint.every, plan, setting="checkpoint.every")
    checkpointing = Checkpointing(
        run.checkpoints,
        saved,
        keep=config.checkpoint.keep,
        background=config.checkpoint.background,
        evaluation=evaluation,
        loggers=loggers,
        say=console.say,
    )
    trainer.callbacks = [
        Guard(config.non_finite, run, saved=saved, settle=checkpointing.settle, say=console.say),
        ShowProgress(display),
        evaluation,
        Metrics(
            loggers, Every(config.logger.every, plan, setting="logger.every"), evaluation, world
        ),
        *_stop_at(config, plan, stop),
        checkpointing,
    ]
    return Assembly(trainer=trainer, parts=parts, evaluation=evaluation)


def make_trainer(config: TrainConfig, parts: Parts, *, stop: StopRequest) -> Trainer:
    """Build the trainer without its callbacks, at step 0."""
    model, machine = parts.model, parts.machine
    ema = build_ema(model, config.ema, in_parts=machine.sharded)  # a copy that nobody listens to
    if machine.sharded:
        for each in (model, *([] if ema is None else [ema.module])):
            shard(each, machine.device, machine.world)
    teachers = () if parts.tutor is None else parts.tutor.teachers
    matching = make_feature_matching(config, model, teachers)
    groups = build_groups(model, config.optimizer)
    if matching is not None:
        groups += build_groups(matching, replace(config.optimizer, decay_also=[], decay_never=[]))
    optimizer = build_optimizer(
        groups, config.optimizer, lr=config.optimizer.peak_lr(config.batch_size)
    )
    return Trainer(
        model=model,
        helper=matching,
        gradients=_gradients(config, parts, matching),
        objective=_objective(config, parts, matching),
        optimizer=optimizer,
        schedule=Schedule(optimizer, config.schedule, parts.plan),
        ema=ema,
        open_stream=partial(open_stream, config, parts),
        plan=parts.plan,
        device=parts.machine.device,
        precision=parts.machine.precision,
        seed=config.seed,
        clip_norm=config.optimizer.clip_norm,
        clip_each=config.optimizer.clip_each,
        stop=stop,
        world=parts.machine.world,
    )


def _gradients(config: TrainConfig, parts: Parts, helper: nn.Module | None) -> Gradients:
    model, plan, world = parts.model, parts.plan, parts.machine.world
    forward = _compiled(model) if config.runtime.compile else model
    passes = len(plan.passes(world.rank, world.size))
    if config.runtime.exact_world:
        trained = nn.ModuleList([model] if helper is None else [model, helper])
        return Summed(forward, trained, accumulation=plan.accumulation, world=world)
    if world.size == 1:
        return Accumulated(forward, passes=passes)
    synchronise(model, parts.machine.device)
    if parts.machine.sharded:
        return Sharded(forward, passes=passes)
    return Averaged(forward, helper, passes=passes, world=world)


def _objective(config: TrainConfig, parts: Parts, matching: FeatureMatching | None) -> Objective:
    smoothing = config.augmentation.label_smoothing
    if not isinstance(config, DistillConfig) or parts.tutor is None:
        return build_objective(config.objective, label_smoothing=smoothing)
    # timm's models with a distillation token give one logit until they are told otherwise.
    give_both = getattr(parts.model, "set_distilled_training", None)
    if give_both is not None:
        give_both(True)
    loss = build_loss(config.objective, label_smoothing=smoothing)
    return build_distillation(config.distillation, loss, parts.tutor, matching)


def open_stream(config: TrainConfig, parts: Parts, state: TrainState) -> TrainStream:
    """Open the training batches from a state on."""
    augmentation, splits, machine = config.augmentation, parts.splits, parts.machine
    samples = TrainSamples(
        make_decoder(config.dataset, splits.train),
        build_train_transform(augmentation, picture_format(config), mirror=config.dataset.mirror),
        seed=config.seed,
    )
    sampler = MicroBatchSampler(
        parts.plan,
        samples=len(splits.train),
        seed=config.seed,
        passes=parts.plan.passes(machine.world.rank, machine.world.size),
        repeats=augmentation.repeats,
        start_step=state.step,
    )
    return TrainStream(
        samples,
        sampler,
        Mixing(
            augmentation,
            num_classes=len(splits.classes),
            seed=config.seed,
            keep_unmixed=isinstance(config, DistillConfig) and mixes_answers(config),
        ),
        device=machine.device,
        workers=machine.workers,
        channels_last=config.runtime.channels_last,
        bad_images=bad_image_policy(config.dataset, splits.train),
        bad_rows=state.bad_rows,
    )


def _stop_at(config: TrainConfig, plan: Plan, stop: StopRequest) -> list[StopAt]:
    if config.stop_at is None:
        return []
    step = plan.steps_in(config.stop_at, setting="stop_at")
    return [StopAt(step, stop, reason=f"stop_at={config.stop_at}")]


def refuse_broken_compiler() -> None:
    """Try `torch.compile` on a trifle.

    Raises:
        UsageError: it does not work here.
    """
    try:
        torch.compile(lambda number: number + 1)(torch.ones(2))
    except Exception as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise UsageError(
            f"runtime.compile=true: torch.compile does not work here: {reason}"
        ) from error


def _compiled(model: nn.Module) -> nn.Module:
    refuse_broken_compiler()
    compiled = torch.compile(model)
    assert isinstance(compiled, nn.Module)  # noqa: S101 (torch.compile of a module is one)
    return compiled
