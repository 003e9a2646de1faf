"""`scale=smoke`: the same experiment in about a minute of a CPU, every setting with its meaning.

The data become a few embedded digits, a run becomes five short epochs. Durations shrink in
proportion and never to nothing, the learning rate stays what its rule gives at the full batch, and
pictures become small while larger ones stay larger.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator

from vitx.config.duration import Duration
from vitx.config.schema import DistillConfig, TrainConfig

EPOCHS, STEPS_PER_EPOCH, BATCH = 5, 4, 8
_CELLS = 2  # patches along a side where the published picture has 224 pixels
_PATCH = re.compile(r"patch(\d+)|_p(\d+)_|_s(32)_|_s16_p(8)_")


def smoke_overrides(config: TrainConfig) -> list[str]:
    """Return what to type behind the overrides of a stage, from its full configuration."""
    return [
        "dataset=digits",
        "dataset.channels=3",
        "dataset.mirror=true",
        f"dataset.limit={STEPS_PER_EPOCH * BATCH}",
        f"dataset.image_px={_image_px(config)}",
        f"batch_size={BATCH}",
        "runtime.micro_batch=null",
        f"optimizer.lr={config.optimizer.peak_lr(config.batch_size)}",
        "optimizer.lr_batch=null",
        f"augmentation.epoch_multiple={min(config.augmentation.epoch_multiple, BATCH)}",
        *_durations(config),
        *_teacher(config),
    ]


def _teacher(config: TrainConfig) -> list[str]:
    # Nothing is downloaded for a rehearsal: the teacher is trained on the same few digits.
    if not isinstance(config, DistillConfig):
        return []
    # A small one of the family that all recipes take theirs from.
    return [
        "teacher.name=regnety_002",
        "teacher.weights=null",
        "teacher.image_px=null",
        "teacher.epochs=1ep",
    ]


def _image_px(config: TrainConfig) -> int:
    px = config.image_px
    if px <= 64:
        return px
    match = _PATCH.search(config.model.name)
    patch = int(next(filter(None, match.groups()))) if match else 32
    return patch * math.ceil(_CELLS * px / 224)


def _durations(config: TrainConfig) -> Iterator[str]:
    whole = Duration.parse(config.epochs, setting="epochs")
    in_epochs = whole.unit == "ep"
    yield f"epochs={EPOCHS}ep" if in_epochs else f"epochs={EPOCHS * STEPS_PER_EPOCH}st"
    schedule = config.schedule
    settings = {
        "schedule.warmup": schedule.warmup,
        "schedule.late": schedule.late,
        "schedule.decay_every": schedule.decay_every,
    }
    for name, text in settings.items():
        duration = Duration.parse(text, setting=name)
        if duration.unit == "%" or not duration.amount:
            continue
        yield f"{name}={_shrunk(duration, whole)}"
    yield "logger.every=1st"
    yield "evaluation.every=100%"
    yield "checkpoint.every=100%"


def _shrunk(duration: Duration, whole: Duration) -> str:
    """Return a duration in proportion, at least one unit; an eighth of the run of other units."""
    share = duration.amount / whole.amount if duration.unit == whole.unit else 1 / 8
    if duration.unit == "ep":
        return f"{max(1, round(share * EPOCHS))}ep"
    return f"{max(1, round(share * EPOCHS * STEPS_PER_EPOCH))}st"
