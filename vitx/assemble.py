"""From a configuration to a trainer: the table of contents of a run."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import torch
from torch import nn

from vitx.callbacks.checkpointing import Checkpointing
from vitx.callbacks.evaluation import Evaluation
from vitx.callbacks.guard import Guard
from vitx.callbacks.metrics import Metrics
from vitx.callbacks.progress import ShowProgress
from vitx.callbacks.stop_at import StopAt
from vitx.checkpoint.initial import start_from_weights
from vitx.config.duration import Duration
from vitx.config.schema import AugmentationConfig, BadImage, DatasetConfig, Precision, TrainConfig
from vitx.data.augment import PictureFormat, build_eval_transform, build_train_transform
from vitx.data.loader import TrainStream, choose_workers
from vitx.data.mixing import Mixing
from vitx.data.sampler import MicroBatchSampler
from vitx.data.samples import BadImagePolicy, Decoder, EvalSamples, TrainSamples
from vitx.data.sources import LabelledImages, Splits, load_splits
from vitx.errors import DataError, UsageError
from vitx.evaluate.loop import Evaluator
from vitx.loggers.base import Logger
from vitx.loggers.console import Console, ProgressLogger
from vitx.models.build import Fit, build_model, normalisation
from vitx.models.transfer import Transfer
from vitx.objectives.classification import build_objective
from vitx.optim.build import build_optimizer
from vitx.optim.ema import build_ema
from vitx.optim.groups import build_groups
from vitx.optim.schedule import Schedule
from vitx.records import Plan
from vitx.runs import RunDir
from vitx.runtime.device import choose_device, choose_precision
from vitx.runtime.seeds import derive, set_random_state
from vitx.runtime.signals import StopRequest
from vitx.train.events import Every
from vitx.train.state import TrainState
from vitx.train.trainer import Trainer

_THREADS = torch.get_num_threads()  # of this process, before a job of a sweep changes it
_MOST_EVALUATED = 256  # pictures in a forward pass, where nothing is set


@dataclass(frozen=True, kw_only=True)
class Machine:
    """Where a run computes, settled."""

    device: torch.device
    precision: Precision
    workers: int
    threads: int


@dataclass(frozen=True, kw_only=True)
class Assembly:
    """A trainer with the parts that the command still speaks of."""

    trainer: Trainer
    transfer: Transfer | None
    splits: Splits
    machine: Machine
    evaluation: Evaluation


def assemble(
    config: TrainConfig,
    run: RunDir,
    *,
    stop: StopRequest,
    console: Console,
    loggers: list[Logger],
    start_step: int,
) -> Assembly:
    """Build everything a run needs; nothing is trained yet and nothing but logs is written.

    Args:
        config: the whole configuration.
        run: where checkpoints go.
        stop: what the trainer polls.
        console: what is said goes there.
        loggers: take the rows; the progress display joins them.
        start_step: step that the display starts at; weights to start from are taken at 0.

    Returns:
        The trainer, at step 0.
    """
    machine = settle_machine(config)
    splits = load_splits(config.dataset)
    plan = make_plan(config, samples=len(splits.train))
    model = make_model(config, num_classes=len(splits.classes), device=machine.device)
    # Later, a checkpoint replaces them, and where they came from may be gone.
    taken = start_from_weights(model, config.model, splits.classes) if start_step == 0 else None
    optimizer = build_optimizer(
        build_groups(model, config.optimizer),
        config.optimizer,
        lr=config.optimizer.peak_lr(config.batch_size),
    )
    display = ProgressLogger(console, plan, start_step=start_step)
    loggers.append(display)
    evaluator = make_evaluator(config, splits.val, machine)
    evaluation = Evaluation(
        evaluator, Every(config.evaluation.every, plan, setting="evaluation.every")
    )
    trainer = Trainer(
        model=model,
        forward=_compiled(model) if config.runtime.compile else model,
        objective=build_objective(
            config.objective, label_smoothing=config.augmentation.label_smoothing
        ),
        optimizer=optimizer,
        schedule=Schedule(optimizer, config.schedule, plan),
        ema=build_ema(model, config.ema),
        open_stream=partial(_open_stream, config, splits, plan, machine),
        plan=plan,
        device=machine.device,
        precision=machine.precision,
        seed=config.seed,
        clip_norm=config.optimizer.clip_norm,
        clip_each=config.optimizer.clip_each,
        stop=stop,
        callbacks=[
            Guard(),
            ShowProgress(display),
            evaluation,
            Metrics(loggers, Every(config.logger.every, plan, setting="logger.every"), evaluation),
            *_stop_at(config, plan, stop),
            Checkpointing(
                run.checkpoints,
                Every(config.checkpoint.every, plan, setting="checkpoint.every"),
                keep=config.checkpoint.keep,
                evaluation=evaluation,
                loggers=loggers,
                say=console.say,
            ),
        ],
    )
    return Assembly(
        trainer=trainer,
        transfer=taken,
        splits=splits,
        machine=machine,
        evaluation=evaluation,
    )


def check_parts(config: TrainConfig) -> None:
    """Try what a configuration names, but for the data: device, model, optimizer, augmentation.

    Raises:
        UsageError: training would refuse it.
    """
    choose_device(config.runtime.device)
    dataset = config.dataset
    fit = Fit(
        num_classes=dataset.num_classes or 2, channels=dataset.channels, image_px=config.image_px
    )
    try:
        with torch.device("meta"):
            build_model(config.model, fit)
    except UsageError:
        build_model(config.model, fit)  # not every model can be built without memory
    build_optimizer([{"params": [nn.Parameter(torch.zeros(1))]}], config.optimizer, lr=1.0)
    build_train_transform(config.augmentation, picture_format(config), mirror=dataset.mirror)


def settle_machine(config: TrainConfig) -> Machine:
    """Settle device, precision, loader processes and threads."""
    threads = config.runtime.threads or _THREADS
    if threads != torch.get_num_threads():
        torch.set_num_threads(threads)
    device = choose_device(config.runtime.device)
    return Machine(
        device=device,
        precision=choose_precision(config.precision, device),
        workers=choose_workers(config.dataset.workers, device),
        threads=torch.get_num_threads(),
    )


def make_plan(config: TrainConfig, *, samples: int) -> Plan:
    """Settle the length of the run in steps.

    Returns:
        The plan; what is left of an epoch after its last whole batch is not in it.

    Raises:
        DataError: there are fewer training samples than one batch has.
    """
    multiple = config.augmentation.epoch_multiple
    steps_per_epoch = samples // multiple * multiple // config.batch_size
    if steps_per_epoch == 0:
        raise DataError(
            f"batch_size={config.batch_size} is more than the {samples} training samples"
            f"{f', in multiples of {multiple}' if multiple > 1 else ''}; set a smaller one"
        )
    length = Duration.parse(config.epochs, setting="epochs")
    total = length.steps(steps_per_epoch=steps_per_epoch, total_steps=0)
    return Plan(
        steps_per_epoch=steps_per_epoch,
        total_steps=max(1, total),
        batch_size=config.batch_size,
        micro_batch=config.micro_batch,
    )


def make_model(config: TrainConfig, *, num_classes: int, device: torch.device) -> nn.Module:
    """Build the model on its device, as its seed initialises it."""
    dataset = config.dataset
    set_random_state(derive("init", config.seed))
    fit = Fit(num_classes=num_classes, channels=dataset.channels, image_px=config.image_px)
    model = build_model(config.model, fit)
    layout = torch.channels_last if config.runtime.channels_last else torch.contiguous_format
    return model.to(device=device, memory_format=layout)  # type: ignore[call-overload, no-any-return]


def make_evaluator(config: TrainConfig, images: LabelledImages, machine: Machine) -> Evaluator:
    """Build what scores a model of this run, during training and afterwards alike."""
    samples = EvalSamples(
        _decoder(config.dataset, images),
        build_eval_transform(config.augmentation, picture_format(config)),
    )
    return Evaluator(
        samples,
        batch_size=config.evaluation.batch_size or min(2 * config.micro_batch, _MOST_EVALUATED),
        workers=machine.workers,
        device=machine.device,
        precision=machine.precision,
        channels_last=config.runtime.channels_last,
        bad_images=_bad_images(config.dataset, images),
    )


def picture_format(config: TrainConfig) -> PictureFormat:
    """Return what the run's model wants to see."""
    mean, std = normalisation(config.model, config.dataset.channels)
    return PictureFormat(
        image_px=config.image_px,
        mean=tuple(config.dataset.mean or mean),
        std=tuple(config.dataset.std or std),
    )


def _open_stream(
    config: TrainConfig, splits: Splits, plan: Plan, machine: Machine, state: TrainState
) -> TrainStream:
    augmentation: AugmentationConfig = config.augmentation
    samples = TrainSamples(
        _decoder(config.dataset, splits.train),
        build_train_transform(augmentation, picture_format(config), mirror=config.dataset.mirror),
        seed=config.seed,
    )
    sampler = MicroBatchSampler(
        plan,
        samples=len(splits.train),
        seed=config.seed,
        repeats=augmentation.repeats,
        start_step=state.step,
    )
    return TrainStream(
        samples,
        sampler,
        Mixing(augmentation, num_classes=len(splits.classes), seed=config.seed),
        device=machine.device,
        workers=machine.workers,
        channels_last=config.runtime.channels_last,
        bad_images=_bad_images(config.dataset, splits.train),
        bad_rows=state.bad_rows,
    )


def _decoder(config: DatasetConfig, images: LabelledImages) -> Decoder:
    return Decoder(images=images, channels=config.channels, max_pixels=config.max_pixels)


def _bad_images(config: DatasetConfig, images: LabelledImages) -> BadImagePolicy:
    return BadImagePolicy(
        images=images,
        skip=config.bad_image is BadImage["skip"],
        limit=max(1, int(config.bad_image_limit * len(images))),
    )


def _stop_at(config: TrainConfig, plan: Plan, stop: StopRequest) -> list[StopAt]:
    if config.stop_at is None:
        return []
    step = plan.steps_in(config.stop_at, setting="stop_at")
    return [StopAt(step, stop, reason=f"stop_at={config.stop_at}")]


def _compiled(model: nn.Module) -> nn.Module:
    compiled = torch.compile(model)
    assert isinstance(compiled, nn.Module)  # noqa: S101 (torch.compile of a module is one)
    return compiled
