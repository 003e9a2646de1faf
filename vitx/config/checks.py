"""Checks of a training configuration that need neither data nor torch: all problems at once."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator

from vitx.config.duration import Duration
from vitx.config.passes import pass_size
from vitx.config.schema import (
    AugmentationConfig,
    DatasetConfig,
    DatasetKind,
    DistillConfig,
    EvalConfig,
    Keeping,
    Precision,
    RuntimeConfig,
    ScheduleKind,
    Strategy,
    TeacherSource,
    TrainConfig,
)
from vitx.config.texts import problems_in_texts
from vitx.errors import UsageError

INTERPOLATIONS = ("bicubic", "bilinear", "random")
# timm passes over a part without a number in silence.
_POLICY_PART = re.compile(r"[a-z]+\d+(\.\d+)?|t.+")


def problems_of(config: object) -> list[str]:
    """Return what is wrong with a configuration, one sentence each; empty where it is fine."""
    try:
        match config:
            case TrainConfig():
                return [*_problems_of_train(config), *problems_in_texts(config)]
            case EvalConfig():
                return [*_problems_of_eval(config), *problems_in_texts(config)]
    except OverflowError as error:
        return [f"a number is too large to compute with ({error})"]
    except TypeError as error:  # OmegaConf lets a mapping into a list of numbers
        return [f"a list of numbers holds something else ({error})"]
    return []


def _problems_of_train(config: TrainConfig) -> list[str]:
    return [
        *_durations(config),
        *_batch(config),
        *_ranges(config),
        *_dataset(config.dataset),
        *_augmentation(config.augmentation),
        *(_distillation(config) if isinstance(config, DistillConfig) else ()),
    ]


def _problems_of_eval(config: EvalConfig) -> list[str]:
    numbers = {
        "batch_size": (config.batch_size, 1),
        "workers": (config.workers, 0),
        "average": (config.average, 1),
        "bins": (config.bins, 1),
        "probe.epochs": (config.probe.epochs, 1),
        "probe.seeds": (config.probe.seeds, 1),
        **{f"probe.k={k}": (k, 1) for k in config.probe.k},
        **{f"probe.shots={shots}": (shots, 1) for shots in config.probe.shots},
        **{f"resolutions={px}": (px, 1) for px in config.resolutions},
    }
    return [
        problem
        for name, (value, least) in numbers.items()
        if value is not None
        for problem in _at_least(name, value, least)
    ]


def _durations(config: TrainConfig) -> Iterator[str]:
    settings = {
        "epochs": config.epochs,
        "stop_at": config.stop_at,
        "schedule.late": config.schedule.late,
        "schedule.warmup": config.schedule.warmup,
        "schedule.decay_every": config.schedule.decay_every,
        "checkpoint.every": config.checkpoint.every,
        "evaluation.every": config.evaluation.every,
        "logger.every": config.logger.every,
    }
    for setting, text in settings.items():
        if text is None:
            continue
        yield from _duration(setting, text)


def _duration(setting: str, text: str) -> Iterator[str]:
    try:
        duration = Duration.parse(text, setting=setting)
    except UsageError as error:
        yield str(error)
        return
    if setting.endswith("epochs") and duration.unit == "%":
        yield f"{setting}={text}: expected epochs or steps, such as 30ep or 5000st"
    if setting not in ("schedule.warmup", "schedule.late", "stop_at") and duration.amount == 0:
        yield f"{setting}={text}: expected more than nothing"


def _batch(config: TrainConfig) -> Iterator[str]:
    batch, micro = config.batch_size, config.runtime.micro_batch
    if batch < 1:
        yield f"batch_size={batch}: expected at least 1"
        return
    if micro is not None and micro < 1:
        yield f"runtime.micro_batch={micro}: expected at least 1"
        return
    devices = config.runtime.devices
    if devices is not None and devices < 1:
        yield f"runtime.devices={devices}: expected at least 1, or null for all GPUs"
        return
    try:
        pass_size(config, devices or 1)
    except UsageError as error:
        yield str(error)


def _ranges(config: TrainConfig) -> Iterator[str]:
    optimizer, schedule = config.optimizer, config.schedule
    yield from _within("model.drop_path", config.model.drop_path, 0, 1, below=True)
    yield from _within("model.dropout", config.model.dropout, 0, 1, below=True)
    yield from _finite_at_least("optimizer.lr", optimizer.lr, 0)
    yield from _within("optimizer.momentum", optimizer.momentum, 0, 1, below=True)
    if (betas := optimizer.betas) is not None:
        if len(betas) < 2 or not all(0 <= beta < 1 for beta in betas):
            yield f"optimizer.betas={betas}: expected such as [0.9,0.999], each below 1"
        elif len(betas) > 2 and optimizer.name.startswith("adam"):
            yield f"optimizer.betas={betas}: {optimizer.name} takes two"
    yield from _finite_at_least("schedule.decay_rate", schedule.decay_rate, 0)
    yield from _at_least("optimizer.weight_decay", optimizer.weight_decay, 0)
    yield from _at_least("schedule.warmup_lr", schedule.warmup_lr, 0)
    yield from _at_least("schedule.min_lr", schedule.min_lr, 0)
    yield from _falling(config)
    yield from _at_least("seed", config.seed, 0)
    yield from _at_least("runtime.max_restarts", config.runtime.max_restarts, 0)
    yield from _processes(config.runtime)
    yield from _at_least("checkpoint.keep", config.checkpoint.keep, 2)
    wandb = config.logger.wandb
    yield from _at_least("logger.wandb.init_timeout_s", wandb.init_timeout_s, 1)
    yield from _at_least("logger.wandb.finish_timeout_s", wandb.finish_timeout_s, 1)
    optional_positive = {
        "model.image_px": config.model.image_px,
        "dataset.image_px": config.dataset.image_px,
        "model.patch_px": config.model.patch_px,
        "optimizer.lr_batch": optimizer.lr_batch,
        "evaluation.batch_size": config.evaluation.batch_size,
        "runtime.threads": config.runtime.threads,
        "runtime.step_timeout_s": config.runtime.step_timeout_s,
        "runtime.setup_timeout_s": config.runtime.setup_timeout_s,
    }
    for name, value in optional_positive.items():
        if value is not None:
            yield from _at_least(name, value, 1)
    if optimizer.layer_decay is not None and not 0 < optimizer.layer_decay <= 1:
        yield f"optimizer.layer_decay={optimizer.layer_decay}: expected more than 0, at most 1"
    if optimizer.clip_each and optimizer.clip_norm is None:
        yield "optimizer.clip_each needs optimizer.clip_norm; type optimizer.clip_norm=3"
    if optimizer.clip_norm is not None and not optimizer.clip_norm > 0:
        yield f"optimizer.clip_norm={optimizer.clip_norm}: expected more than 0, or null for none"
    if config.ema.decay is not None:
        yield from _within("ema.decay", config.ema.decay, 0, 1, below=True)


def _processes(runtime: RuntimeConfig) -> Iterator[str]:
    if runtime.devices is None and ":" in runtime.device:
        kind = runtime.device.partition(":")[0]
        yield (
            f"runtime.device={runtime.device} is one device, runtime.devices=null is a process "
            f"for each; set runtime.device={kind}, or type how many share that one"
        )
    if (runtime.devices or 1) > 1 and ":" in runtime.device and runtime.strategy is Strategy.fsdp:
        yield (
            f"runtime.device={runtime.device}: parts of a model on one device save nothing; "
            "strategy=ddp shares it"
        )
    if runtime.exact_world and runtime.strategy is Strategy.fsdp:
        yield "runtime.exact_world=true: every process needs the whole model; strategy=ddp has it"
    if runtime.strategy is Strategy.fsdp and runtime.compile:
        yield "runtime.strategy=fsdp: a compiled model can't be parted; set runtime.compile=false"
    if runtime.exact_world and runtime.compile:
        yield "runtime.exact_world=true: compiled kernels may differ; set runtime.compile=false"


def _falling(config: TrainConfig) -> Iterator[str]:
    optimizer, schedule = config.optimizer, config.schedule
    falls = schedule.kind in (ScheduleKind.cosine, ScheduleKind.linear)
    peak = 0.0 if optimizer.lr_batch == 0 else optimizer.peak_lr(config.batch_size)
    if falls and schedule.min_lr > peak > 0:
        yield (
            f"schedule.min_lr={schedule.min_lr:g} is above the peak learning rate, {peak:g}; "
            f"set schedule.min_lr={peak / 100:g}"
        )


def _dataset(dataset: DatasetConfig) -> Iterator[str]:
    if dataset.kind is not DatasetKind.digits and not dataset.path:
        yield f"dataset.path is needed for dataset={dataset.kind.name}; type dataset.path=PATH"
    if dataset.channels not in (1, 3):
        yield f"dataset.channels={dataset.channels}: expected 3 (RGB) or 1 (grey)"
    for name, values in (("mean", dataset.mean), ("std", dataset.std)):
        if values is not None and len(values) != dataset.channels:
            expected = f"{dataset.channels}, one a channel"
            yield f"dataset.{name} has {len(values)} values; expected {expected}"
    if dataset.mean is not None and not all(math.isfinite(value) for value in dataset.mean):
        yield f"dataset.mean={dataset.mean}: expected finite numbers"
    if dataset.std is not None and not all(0 < value < math.inf for value in dataset.std):
        yield f"dataset.std={dataset.std}: expected numbers above 0"
    yield from _at_least("dataset.max_pixels", dataset.max_pixels, 1)
    if dataset.workers is not None:
        yield from _at_least("dataset.workers", dataset.workers, 0)
    if dataset.limit is not None:
        yield from _at_least("dataset.limit", dataset.limit, 1)
    if dataset.num_classes is not None:
        yield from _at_least("dataset.num_classes", dataset.num_classes, 1)
    if not 0 < dataset.hold_out < 1:
        yield f"dataset.hold_out={dataset.hold_out}: expected a share between 0 and 1, such as 0.1"
    yield from _within("dataset.bad_image_limit", dataset.bad_image_limit, 0, 1)


def _augmentation(augmentation: AugmentationConfig) -> Iterator[str]:
    for name in ("hflip", "vflip", "erase_prob", "mix_prob", "mix_switch_prob"):
        yield from _within(f"augmentation.{name}", getattr(augmentation, name), 0, 1)
    yield from _within(
        "augmentation.label_smoothing", augmentation.label_smoothing, 0, 1, below=True
    )
    if augmentation.color_jitter is not None:
        yield from _at_least("augmentation.color_jitter", augmentation.color_jitter, 0)
    for name in ("mixup", "cutmix", "pad_px"):
        yield from _at_least(f"augmentation.{name}", getattr(augmentation, name), 0)
    for name in ("repeats", "epoch_multiple", "erase_count"):
        yield from _at_least(f"augmentation.{name}", getattr(augmentation, name), 1)
    if not 0 < augmentation.eval_crop_ratio <= 1:
        yield (
            f"augmentation.eval_crop_ratio={augmentation.eval_crop_ratio}: "
            "expected more than 0, at most 1"
        )
    for name in ("scale", "ratio"):
        pair = getattr(augmentation, name)
        if len(pair) != 2 or not 0 < pair[0] <= pair[1]:
            yield f"augmentation.{name}={pair}: expected [smallest,largest], both above 0"
    for part in (augmentation.auto_augment or "").split("-")[1:]:
        if not _POLICY_PART.fullmatch(part):
            yield (
                f"augmentation.auto_augment={augmentation.auto_augment}: '{part}' is no letters "
                "with a number; expected such as rand-m9-mstd0.5-inc1"
            )
    choices = {
        "interpolation": INTERPOLATIONS,
        "erase_mode": ("const", "rand", "pixel"),
        "pad_mode": ("reflect", "constant"),
        "mix_mode": ("batch", "pair", "elem"),
    }
    for name, known in choices.items():
        if (value := getattr(augmentation, name)) not in known:
            yield f"augmentation.{name}={value}: expected one of {', '.join(known)}"


def _distillation(config: DistillConfig) -> Iterator[str]:
    teacher, distillation = config.teacher, config.distillation
    for number, source in enumerate(teacher.sources):
        yield from _source(source, f"teacher.also[{number - 1}]" if number else "teacher")
    for name in ("top_k", "reuse_epochs"):
        if (value := getattr(teacher, name)) is not None:
            yield from _at_least(f"teacher.{name}", value, 1)
    if teacher.cache_precision is Precision.auto:
        yield "teacher.cache_precision=auto: expected fp32, bf16 or fp16"
    if distillation.features and config.runtime.strategy is Strategy.fsdp:
        yield "distillation.features: needs the whole model; set runtime.strategy=ddp"
    if distillation.features and (teacher.also or teacher.cache is not Keeping.none):
        yield "distillation.features: needs one teacher that is asked; also and cache go without"
    yield from _finite_at_least("distillation.feature_weight", distillation.feature_weight, 0)
    yield from _within("distillation.weight", distillation.weight, 0, 1)
    if not 0 < distillation.temperature < math.inf:
        yield f"distillation.temperature={distillation.temperature}: expected more than 0"


def _source(source: TeacherSource, at: str) -> Iterator[str]:
    if source.name is None and source.weights is None:
        yield f"{at}.name is needed: an architecture, or a run in {at}.weights"
    if source.image_px is not None:
        yield from _at_least(f"{at}.image_px", source.image_px, 1)
    if not 0 < source.crop_ratio <= 1:
        yield f"{at}.crop_ratio={source.crop_ratio}: expected more than 0, at most 1"
    yield from _duration(f"{at}.epochs", source.epochs)


def _within(
    name: str, value: float, low: float, high: float, *, below: bool = False
) -> Iterator[str]:
    if not low <= value <= high or (below and value == high):
        yield f"{name}={value}: expected {low} to {'below ' if below else ''}{high}"


def _finite_at_least(name: str, value: float, low: float) -> Iterator[str]:
    if not low <= value < math.inf:
        yield f"{name}={value}: expected a finite number of at least {low}"


def _at_least(name: str, value: float, low: float) -> Iterator[str]:
    if not value >= low:
        yield f"{name}={value}: expected at least {low}"
