"""What a run is made of, each part from the configuration by itself."""

from __future__ import annotations

import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import nn

from vitx.checkpoint.initial import start_from_weights
from vitx.config.duration import Duration
from vitx.config.schema import (
    BadImage,
    DatasetConfig,
    DistillConfig,
    EvalCrop,
    Precision,
    Strategy,
    TrainConfig,
)
from vitx.data.augment import build_eval_transform, build_train_transform
from vitx.data.loader import choose_workers
from vitx.data.samples import BadImagePolicy, Decoder, EvalSamples
from vitx.data.sources import LabelledImages, Splits, load_splits
from vitx.errors import DataError, Problems, StorageError, UsageError
from vitx.evaluate.loop import Evaluator
from vitx.evaluate.suites.suite import Part
from vitx.models.build import Fit, build_model
from vitx.models.of_run import make_model, picture_format
from vitx.models.transfer import Transfer
from vitx.optim.build import build_optimizer
from vitx.records import Plan
from vitx.runtime.device import choose_device, choose_precision
from vitx.runtime.world import ALONE, World
from vitx.teaching.build import Where, make_feature_matching, make_teacher
from vitx.teaching.plan import plan_together
from vitx.teaching.tutor import Tutor, make_tutor

_THREADS = torch.get_num_threads()  # of this process, before a job of a sweep changes it


@dataclass(frozen=True, kw_only=True)
class Machine:
    """Where a rank of a run computes, settled, and the ranks beside it.

    Attributes:
        device: of the model.
        precision: of a forward pass.
        workers: loader processes.
        threads: of torch on the CPU.
        world: the ranks.
        sharded: each of them holds a part of the model.
    """

    device: torch.device
    precision: Precision
    workers: int
    threads: int
    world: World = ALONE
    sharded: bool = False


@dataclass(frozen=True, kw_only=True)
class Parts:
    """What a run is made of.

    Attributes:
        machine: where it computes.
        splits: its data.
        plan: its length.
        model: on its device.
        transfer: what became of the weights it starts from; None where they are random.
        tutor: who says what its teachers think; None where it has none.
    """

    machine: Machine
    splits: Splits
    plan: Plan
    model: nn.Module
    transfer: Transfer | None
    tutor: Tutor | None


def gather(
    config: TrainConfig,
    *,
    start_step: int,
    rehearsal: bool = False,
    say: Callable[[str], None] = print,
    world: World = ALONE,
) -> Parts:
    """Build the parts of a run; nothing is written.

    Args:
        config: the whole configuration, the pictures of a pass settled.
        start_step: weights to start from are taken at 0 only: later, a checkpoint replaces them,
            and where they came from may be gone.
        rehearsal: a teacher that is still to be trained does with random weights, and what
            teachers say is not stored.
        say: takes what happens to stored answers of teachers.
        world: the ranks of the run.

    Returns:
        The parts, the model on its device.

    Raises:
        StorageError: the teacher is still to be trained.
        DataError: the ranks have not the same data.
    """
    machine = settle_machine(config, world)
    splits = load_splits(config.dataset)
    refuse_different_data(splits, world)
    plan = make_plan(config, samples=len(splits.train))
    classes = len(splits.classes)
    # One that fits on no device whole is taken apart before it goes there.
    first = torch.device("cpu") if machine.sharded else machine.device
    model = make_model(config, num_classes=classes, device=first)
    taken = None
    if start_step == 0 and world.leads:
        taken = start_from_weights(model, config.model, splits.classes)
    if start_step == 0 and config.model.weights is not None:
        world.share_in_place([*model.parameters(), *model.buffers()])
    tutor = None
    if isinstance(config, DistillConfig):
        where = Where(device=machine.device, precision=machine.precision)
        tutor = _make_tutor(config, splits, where, rehearsal=rehearsal, say=say, world=world)
        tutor.refuse_small_disk(plan)
    return Parts(
        machine=machine,
        splits=splits,
        plan=plan,
        model=model,
        transfer=taken,
        tutor=tutor,
    )


def find_problems(
    config: TrainConfig, problems: Problems, *, without: frozenset[str] = frozenset()
) -> None:
    """Try each part by itself: what is wrong with one does not hide the others.

    Args:
        config: names them.
        problems: takes what training would be refused for.
        without: `dataset`: the data are not looked for, nor the weights to start from; `model`.
    """
    tried, dataset, tutor = problems.tried, config.dataset, None
    classes: Sequence[str] = [""] * (dataset.num_classes or 2)
    tried(lambda: choose_device(config.runtime.device))
    if "dataset" not in without and (splits := tried(lambda: load_splits(dataset))) is not None:
        classes = splits.classes
        plan = tried(lambda: make_plan(config, samples=len(splits.train)))
        if isinstance(config, DistillConfig):
            cpu = Where(device=torch.device("cpu"), precision=Precision.fp32)
            tutor = tried(lambda: _make_tutor(config, splits, cpu, rehearsal=True))
            if tutor is not None and plan is not None:
                tried(lambda: tutor.refuse_small_disk(plan))
    fit = Fit(num_classes=len(classes), channels=dataset.channels, image_px=config.image_px)
    built = "model" not in without and tried(lambda: _model_to_look_at(config, fit)) is not None
    if built and "dataset" not in without:
        tried(lambda: start_from_weights(build_model(config.model, fit), config.model, classes))
    matched = isinstance(config, DistillConfig) and config.distillation.features
    if built and matched and tutor is not None:
        taught, student = tutor.teachers, build_model(config.model, fit)
        tried(lambda: make_feature_matching(config, student, taught))
    placeholder = [{"params": [nn.Parameter(torch.zeros(1))]}]
    tried(lambda: build_optimizer(placeholder, config.optimizer, lr=1.0))
    picture = picture_format(config)
    tried(lambda: build_train_transform(config.augmentation, picture, mirror=dataset.mirror))


def _make_tutor(
    config: DistillConfig,
    splits: Splits,
    where: Where,
    *,
    rehearsal: bool,
    say: Callable[[str], None] = print,
    world: World = ALONE,
) -> Tutor:
    plans = plan_together(config, splits, world)
    for found in plans:
        if found.file is None and not rehearsal:
            raise StorageError(f"{found.origin}: the teacher is not trained yet")
    classes = len(splits.classes)
    teachers = [make_teacher(each, config, where, classes=classes, world=world) for each in plans]
    return make_tutor(teachers, config, splits, where, say=say, read_only=rehearsal)


def _model_to_look_at(config: TrainConfig, fit: Fit) -> nn.Module:
    try:
        with torch.device("meta"):
            return build_model(config.model, fit)
    except UsageError:
        return build_model(config.model, fit)  # not every model can be built without memory


def refuse_different_data(splits: Splits, world: World) -> None:
    """Compare what the ranks have found.

    Raises:
        DataError: it is not the same.
    """
    found = world.gather([socket.gethostname(), splits.fingerprint()] if world.size > 1 else [])
    for host, fingerprint in found[1:]:
        if fingerprint != found[0][1]:
            raise DataError(
                f"the dataset on {host} is not the one on {found[0][0]} (fingerprints {fingerprint}"
                f" and {found[0][1]}); every machine needs the same data at the same path"
            )


def settle_machine(config: TrainConfig, world: World = ALONE) -> Machine:
    """Settle device, precision, loader processes and threads."""
    threads = config.runtime.threads or max(1, _THREADS // world.local_size)
    if config.runtime.exact_world and config.runtime.threads is None:
        threads = 1  # the one number that goes with any number of processes
    if threads != torch.get_num_threads():
        torch.set_num_threads(threads)
    device = choose_device(config.runtime.device, world.local_rank if world.size > 1 else None)
    return Machine(
        device=device,
        precision=choose_precision(config.precision, device),
        workers=choose_workers(config.dataset.workers, device),
        threads=torch.get_num_threads(),
        world=world,
        sharded=world.size > 1 and config.runtime.strategy is Strategy.fsdp,
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
        reuse_epochs=config.teacher.reuse_epochs if isinstance(config, DistillConfig) else None,
    )


def make_evaluator(config: TrainConfig, images: LabelledImages, machine: Machine) -> Evaluator:
    """Build what scores a model of this run, during training and afterwards alike."""
    return make_part_evaluator(config, Part(images=images), machine)


def make_part_evaluator(
    config: TrainConfig, part: Part, machine: Machine, *, crop: EvalCrop = EvalCrop.own
) -> Evaluator:
    """Build what scores a model of this run on a part of a suite, shown with a crop."""
    images, seen = part.images, picture_format(config)
    if part.image_px is not None:
        seen = replace(seen, image_px=part.image_px)
    samples = EvalSamples(
        make_decoder(config.dataset, images),
        build_eval_transform(config.augmentation, seen, part.crop or crop),
        part.change,
    )
    return Evaluator(
        samples,
        batch_size=config.evaluation_batch,
        workers=machine.workers,
        device=machine.device,
        precision=machine.precision,
        channels_last=config.runtime.channels_last,
        bad_images=bad_image_policy(config.dataset, images),
        head=config.evaluation.head,
        rules=part.rules,
        world=machine.world,
    )


def make_decoder(config: DatasetConfig, images: LabelledImages) -> Decoder:
    """Return what decodes rows of a split."""
    return Decoder(images=images, channels=config.channels, max_pixels=config.max_pixels)


def bad_image_policy(config: DatasetConfig, images: LabelledImages) -> BadImagePolicy:
    """Return what is done about rows of a split that can't be decoded."""
    return BadImagePolicy(
        images=images,
        skip=config.bad_image is BadImage["skip"],
        limit=max(1, int(config.bad_image_limit * len(images))),
    )
