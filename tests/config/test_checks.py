"""Every range has both its sides tried, and all problems are told at once."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from vitx.config.checks import problems_of
from vitx.config.schema import DatasetKind, TrainConfig

NAN, INF = float("nan"), float("inf")


def changed(values: dict[str, Any]) -> TrainConfig:
    """Return the default configuration with settings changed by their dotted names."""
    config = TrainConfig()
    config.model.name = "vit_tiny_patch16_224"
    for name, value in values.items():
        *parents, last = name.split(".")
        section: Any = config
        for parent in parents:
            section = getattr(section, parent)
        assert last in {field.name for field in dataclasses.fields(section)}
        setattr(section, last, value)
    return config


def test_the_default_has_no_problem() -> None:
    assert problems_of(changed({})) == []


WRONG = {
    "epochs": ["ten", "5%", "0", "0st", "-3"],
    "stop_at": ["soon", "1.5st"],
    "schedule.warmup": ["-1ep", "200%"],
    "schedule.decay_every": ["0ep", "x"],
    "checkpoint.every": ["0st", "never"],
    "evaluation.every": ["0%", ""],
    "logger.every": ["0", "10steps"],
    "batch_size": [0, -8],
    "runtime.micro_batch": [0, -1, 24],
    "model.drop_path": [-0.1, 1.0, NAN],
    "model.dropout": [-0.1, 1.0, NAN],
    "model.patch_px": [0, -4],
    "optimizer.lr": [-1e-3, NAN],
    "optimizer.lr_batch": [0, -512],
    "optimizer.weight_decay": [-0.1, NAN],
    "optimizer.layer_decay": [0.0, -0.5, 1.01, NAN],
    "optimizer.clip_norm": [0.0, -1.0],
    "schedule.warmup_lr": [-1e-9, NAN],
    "schedule.min_lr": [-1e-9, NAN, 0.1],
    "ema.decay": [-0.1, 1.0, NAN],
    "seed": [-1],
    "checkpoint.keep": [1, 0],
    "evaluation.batch_size": [0],
    "runtime.threads": [0],
    "dataset.channels": [0, 2, 4],
    "dataset.mean": [[0.5], [], [0.5] * 4],
    "dataset.std": [[0.5, 0.5]],
    "dataset.image_px": [0, -32],
    "dataset.max_pixels": [0],
    "dataset.workers": [-1],
    "dataset.num_classes": [0],
    "dataset.hold_out": [0.0, 1.0, 1.5, -0.1, NAN],
    "dataset.bad_image_limit": [-0.1, 1.1, NAN],
    "augmentation.hflip": [-0.1, 1.1, NAN],
    "augmentation.vflip": [-0.1, 1.1, NAN],
    "augmentation.erase_prob": [-0.1, 1.1, NAN],
    "augmentation.mix_prob": [-0.1, 1.1, NAN],
    "augmentation.mix_switch_prob": [-0.1, 1.1, NAN],
    "augmentation.label_smoothing": [-0.1, 1.0, NAN],
    "augmentation.mixup": [-0.1, NAN],
    "augmentation.cutmix": [-0.1, NAN],
    "augmentation.pad_px": [-1],
    "augmentation.repeats": [0],
    "augmentation.erase_count": [0],
    "augmentation.eval_crop_ratio": [0.0, -0.5, 1.1, NAN],
    "augmentation.scale": [[], [0.5], [0.5, 0.2], [0.0, 1.0], [-1.0, 1.0], [0.1, 0.2, 0.3]],
    "augmentation.ratio": [[1.0], [2.0, 1.0], [0.0, 1.0], [NAN, 1.0]],
    "augmentation.interpolation": ["nearest", "Bicubic", ""],
    "augmentation.erase_mode": ["noise"],
    "augmentation.auto_augment": ["rand-m9-mX", "rand-", "rand-9", "augmix-m3-wide"],
    "augmentation.mix_mode": ["half"],
}
RIGHT = {
    "epochs": ["1", "0.5ep", "1st", "300ep"],
    "stop_at": [None, "0st", "50%", "3ep"],
    "schedule.warmup": ["0", "0st", "5ep", "50%"],
    "batch_size": [1, 64, 1437],
    "runtime.micro_batch": [None, 1, 32, 64, 1000],
    "model.drop_path": [0.0, 0.999],
    "model.patch_px": [None, 1],
    "optimizer.lr": [0.0, 5e-4],
    "optimizer.lr_batch": [None, 1, 512],
    "optimizer.layer_decay": [None, 1e-3, 1.0],
    "optimizer.clip_norm": [None, 1e-3],
    "ema.decay": [None, 0.0, 0.99996],
    "checkpoint.keep": [2, 100],
    "dataset.workers": [None, 0, 16],
    "dataset.mean": [None, [0.5, 0.5, 0.5]],
    "dataset.hold_out": [0.01, 0.99],
    "dataset.bad_image_limit": [0.0, 1.0],
    "augmentation.hflip": [0.0, 1.0],
    "augmentation.label_smoothing": [0.0, 0.999],
    "augmentation.mixup": [0.0, 0.8],
    "augmentation.eval_crop_ratio": [0.001, 1.0],
    "augmentation.scale": [[1.0, 1.0], [0.08, 1.0]],
    "augmentation.interpolation": ["bicubic", "bilinear", "random"],
    "augmentation.auto_augment": [None, "3a", "rand-m9-mstd0.5-inc1", "augmix-m3-w3", "v0-mstd1"],
    "augmentation.erase_mode": ["const", "rand", "pixel"],
    "augmentation.mix_mode": ["batch", "pair", "elem"],
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_values(name: str) -> None:
    for value in WRONG[name]:
        (problem,) = problems_of(changed({name: value}))
        assert name in problem, value
        assert "\n" not in problem


@pytest.mark.parametrize("name", RIGHT)
def test_right_values(name: str) -> None:
    for value in RIGHT[name]:
        assert problems_of(changed({name: value})) == [], value


# What a run would only find out about in the middle, or not at all.
UNSEEN = {
    "dataset.std": [[0.5, 0.0, 0.5], [-1.0, 1.0, 1.0]],
    "dataset.mean": [[NAN, 0.5, 0.5]],
    "optimizer.lr": [INF],
    "optimizer.clip_norm": [NAN],
    "optimizer.betas": [[0.9], [0.9, 1.0], [0.9, 0.99, 0.999]],
    "optimizer.momentum": [-0.1, NAN],
    "schedule.decay_rate": [-1.0, NAN],
    "augmentation.color_jitter": [-0.4],
    "logger.wandb.init_timeout_s": [-1],
}


@pytest.mark.parametrize("name", UNSEEN)
def test_wrong_values_that_pass(name: str) -> None:
    for value in UNSEEN[name]:
        assert problems_of(changed({name: value})), value


def test_several_problems_are_told_together() -> None:
    problems = problems_of(
        changed(
            {
                "epochs": "5%",
                "model.drop_path": 2.0,
                "dataset.channels": 2,
                "dataset.hold_out": 0.0,
                "augmentation.scale": [1.0],
                "augmentation.mix_mode": "half",
                "checkpoint.keep": 1,
            }
        )
    )
    assert len(problems) == 7
    for name in ("epochs", "drop_path", "channels", "hold_out", "scale", "mix_mode", "keep"):
        assert sum(name in problem for problem in problems) == 1


def test_a_batch_that_can_not_be_cut_is_told_the_nearest_that_can() -> None:
    (problem,) = problems_of(changed({"batch_size": 1000, "runtime.micro_batch": 64}))
    assert problem.endswith("set batch_size=960 or 1024")
    assert problems_of(changed({"batch_size": 960, "runtime.micro_batch": 64})) == []
    assert problems_of(changed({"batch_size": 1024, "runtime.micro_batch": 64})) == []


@pytest.mark.parametrize("kind", ["mixup", "cutmix"])
def test_mixing_needs_pairs(kind: str) -> None:
    odd = {"batch_size": 63, f"augmentation.{kind}": 0.8}
    (problem,) = problems_of(changed(odd))
    assert "63" in problem
    assert "batch_size=64" in problem
    assert problems_of(changed({"batch_size": 63})) == []
    (problem,) = problems_of(changed(odd | {"batch_size": 60, "runtime.micro_batch": 15}))
    assert "15" in problem


def test_mixing_that_needs_pairs_of_a_micro_batch_says_what_to_type() -> None:
    config = {"batch_size": 60, "runtime.micro_batch": 15, "augmentation.mixup": 0.8}
    (problem,) = problems_of(changed(config))
    assert "runtime.micro_batch=" in problem


def test_a_dataset_of_files_needs_a_path() -> None:
    for kind in (DatasetKind.folder, DatasetKind.hub):
        (problem,) = problems_of(changed({"dataset.kind": kind}))
        assert "dataset.path=" in problem
        assert problems_of(changed({"dataset.kind": kind, "dataset.path": "x"})) == []


def test_grey_takes_one_mean() -> None:
    grey = {"dataset.channels": 1, "dataset.mean": [0.1], "dataset.std": [0.2]}
    assert problems_of(changed(grey)) == []
