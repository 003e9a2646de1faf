"""A stored answer is of all that decides it, and of nothing else."""

from __future__ import annotations

import dataclasses
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image, ImageOps

from tests.commands.distilling import configured
from tests.teaching.hired import HERE, hire
from tests.train.tiny import TINY, write_pictures
from vitx.config.schema import AugmentationConfig, DatasetConfig, Precision
from vitx.data.sources import Splits, load_splits
from vitx.teaching.identity import identity

# Another value for every setting of the sections that pictures come from: with the names of those
# that decide what is said of a mixed picture.
DECIDES = {
    "augmentation": {
        "crop": "resize", "scale": "[0.5,1.0]", "ratio": "[0.9,1.1]", "pad_px": "2",
        "pad_mode": "constant", "interpolation": "bilinear", "hflip": "0.1", "vflip": "0.3",
        "auto_augment": "rand-m5-n1", "color_jitter": "0.2", "erase_prob": "0.1",
        "erase_mode": "const", "erase_count": "2", "repeats": "2", "epoch_multiple": "5",
        "mixup": "0.5", "cutmix": "0.5", "mix_prob": "0.9", "mix_switch_prob": "0.1",
        "mix_mode": "elem",
    },
    "dataset": {
        "image_px": "32", "channels": "1", "mean": "[0.1,0.1,0.1]", "std": "[0.3,0.3,0.3]",
        "mirror": "false", "bad_image": "skip", "max_pixels": "100000",
    },
}  # fmt: skip
DECIDES_NOTHING = {
    "augmentation": {"label_smoothing": "0.3", "eval_crop_ratio": "0.5"},
    # These say which pictures there are; the data's own fingerprint does that.
    "dataset": dict.fromkeys((
        "kind", "path", "subset", "revision", "train_split", "val_split", "hold_out", "limit",
        "image_column", "label_column", "num_classes", "bad_image_limit", "workers",
    )),
}  # fmt: skip
BESIDES = {
    "seed=3": True, "batch_size=16": True, "runtime.micro_batch=8": True, "optimizer.lr=0.5": False,
    "model=vit_ti16": False, "epochs=9": False, "distillation.weight=0.1": False,
}  # fmt: skip
TYPED = {
    f"{section}.{name}={value}": table is DECIDES
    for table in (DECIDES, DECIDES_NOTHING)
    for section, values in table.items()
    for name, value in values.items()
    if value is not None
} | BESIDES


def test_every_setting_of_pictures_is_accounted_for() -> None:
    for section, schema in (("augmentation", AugmentationConfig), ("dataset", DatasetConfig)):
        known = DECIDES[section].keys() | DECIDES_NOTHING[section].keys()
        assert known == {item.name for item in dataclasses.fields(schema)}


@pytest.mark.parametrize("word", TYPED)
def test_an_answer_is_of_all_that_decides_it(word: str, words: tuple[str, ...]) -> None:
    before, after = configured(*words), configured(*words, word)
    splits = load_splits(before.dataset)
    teacher = hire(before, 0)
    changed = identity(before, teacher, splits, HERE) != identity(after, teacher, splits, HERE)
    assert changed is TYPED[word]


def test_pictures_that_change_and_keep_their_size_are_others(tmp_path: Path) -> None:
    root = write_pictures(tmp_path / "pictures")
    for path in root.rglob("*.png"):
        Image.open(path).save(path.with_suffix(".bmp"))
        path.unlink()
    config = configured(*TINY, f"dataset.path={root}", "teacher=timm", "teacher.name=resnet10t")
    teacher = hire(config, 0)
    before = load_splits(config.dataset)
    first = identity(config, teacher, before, HERE)
    spoiled = sorted((root / "train").rglob("*.bmp"))[-1]
    size = spoiled.stat().st_size
    ImageOps.invert(Image.open(spoiled)).save(spoiled)
    assert spoiled.stat().st_size == size
    after = load_splits(config.dataset)
    assert after.fingerprint() == before.fingerprint()
    assert identity(config, teacher, after, HERE) != first


def test_without_mixing_all_batch_sizes_share(words: tuple[str, ...]) -> None:
    off = ("augmentation.mixup=0", "augmentation.cutmix=0")
    for more in (off, ("teacher.cache=outputs", "teacher.mixed=mix")):
        before = configured(*words, *more)
        after = configured(*words, *more, "batch_size=16", "augmentation.epoch_multiple=5")
        splits = load_splits(before.dataset)
        teacher = hire(before, 0)
        assert identity(before, teacher, splits, HERE) == identity(after, teacher, splits, HERE)


def test_an_answer_is_of_its_teacher_and_its_data(words: tuple[str, ...]) -> None:
    config = configured(*words)
    splits = load_splits(config.dataset)
    ours = identity(config, hire(config, 0), splits, HERE)
    other_data = Splits(
        train=splits.train, val=splits.val, classes=("x", *splits.classes[1:]), notes=()
    )
    cropped = replace(hire(config, 0), plan=replace(hire(config, 0).plan, crop_ratio=0.5))
    in_bf16 = hire(config, 0)
    in_bf16.model.precision = Precision.bf16
    for theirs in (
        identity(config, hire(config, 1), splits, HERE),
        identity(config, cropped, splits, HERE),
        identity(config, hire(config, 0), other_data, HERE),
        identity(config, in_bf16, splits, HERE),
    ):
        assert theirs != ours
