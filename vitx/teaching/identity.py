"""Whose answers stored ones are, and to which pictures: all that decides them."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import torch

from vitx.config.resolve import to_plain
from vitx.config.schema import DistillConfig, Keeping, Mixed
from vitx.data.sources import Splits
from vitx.models.of_run import picture_format
from vitx.teaching.build import Hired, Where

# A batch is mixed by its step, which follows from the length of an epoch.
_MIXES = ("mixup", "cutmix", "mix_prob", "mix_switch_prob", "mix_mode", "epoch_multiple")
# What decides neither the pictures nor, where they are not mixed, what is said of them.
_NOT_OF_PICTURES = (*_MIXES, "label_smoothing", "eval_crop_ratio")
# What only says which pictures these are; their fingerprint and a sample of their bytes do that.
_WHICH_PICTURES = (
    *("kind", "path", "subset", "revision", "train_split", "val_split", "hold_out", "limit"),
    *("image_column", "label_column", "num_classes", "bad_image_limit", "workers"),
    *("image_px", "mean", "std"),  # as settled in `pictures`
)
_LIBRARIES = ("vitx", "torch", "torchvision", "timm", "numpy", "pillow")


def mixes_answers(config: DistillConfig) -> bool:
    """Return whether the answers to two pictures stand for that to their mixture."""
    stored = config.teacher.cache is Keeping.outputs
    return stored and _is_mixed(config) and config.teacher.mixed is Mixed.mix


def identity(config: DistillConfig, teacher: Hired, splits: Splits, where: Where) -> dict[str, Any]:
    """Return all that decides what a teacher says of the samples of a run, as plain data.

    A batch is part of it where pictures are mixed in it. Where they are not, its size moves the
    last bits of an answer and is left out.
    """
    own, augmentation = teacher.plan.config, to_plain(config.augmentation)
    left_out: Sequence[str] = _NOT_OF_PICTURES
    batch = None
    if _is_mixed(config) and not mixes_answers(config):
        left_out = [name for name in left_out if name not in _MIXES]
        batch = [config.batch_size, config.micro_batch]
    dataset = to_plain(config.dataset)
    return {
        "teacher": {
            "sha256": teacher.sha256,
            "model": to_plain(own.model) | {"weights": None, "run_weights": None},
            "pictures": asdict(picture_format(own)),
            "crop_ratio": teacher.plan.crop_ratio,
        },
        "data": [splits.fingerprint(), splits.sample],
        "dataset": {name: value for name, value in dataset.items() if name not in _WHICH_PICTURES},
        "pictures": asdict(picture_format(config)),
        "augmentation": {
            name: value for name, value in augmentation.items() if name not in left_out
        },
        "batch": batch,
        "seed": config.seed,
        "computed": [where.device.type, teacher.model.precision.name, torch.get_num_threads()],
        "versions": {name: importlib.metadata.version(name) for name in _LIBRARIES},
    }


def _is_mixed(config: DistillConfig) -> bool:
    return config.augmentation.mixup > 0 or config.augmentation.cutmix > 0
