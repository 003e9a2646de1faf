"""The data and what happens to a picture."""

from __future__ import annotations

from dataclasses import dataclass, field

from vitx.config.schema.choices import BadImage, Crop, DatasetKind


@dataclass(kw_only=True)
class DatasetConfig:
    """A labelled image dataset with a training and a validation split."""

    kind: DatasetKind = DatasetKind.digits
    """digits (embedded), folder (class folders) or hub (a Hugging Face dataset, anywhere)."""
    path: str | None = field(default=None, metadata={"path": True, "may_change": True})
    """folder: the directory that holds train/; hub: org/name or a local directory."""
    subset: str | None = None
    """hub: the dataset's configuration name; null is its default."""
    revision: str | None = None
    """hub: commit, tag or branch; null is the newest."""
    train_split: str = "train"
    """Name of the training split."""
    val_split: str | None = None
    """Name of the validation split; null takes val, validation, valid or test, else a hold-out."""
    hold_out: float = 0.1
    """Share of the training split held out, stratified, when there is no validation split."""
    limit: int | None = None
    """Use at most so many pictures of each split, stratified; null uses all."""
    image_column: str = "image"
    """hub: the column of pictures."""
    label_column: str = "label"
    """hub: the column of labels."""
    num_classes: int | None = None
    """Number of classes; null takes it from the class names, else from the training labels."""
    image_px: int | None = None
    """Side of the square picture the model sees, in pixels; null is model.image_px."""
    channels: int = 3
    """3 (RGB) or 1 (grey)."""
    mean: list[float] | None = None
    """Normalisation mean per channel in [0, 1]; null is the model's own, or 0.5 for grey."""
    std: list[float] | None = None
    """Normalisation standard deviation per channel; null as for mean."""
    mirror: bool = True
    """Whether a mirrored picture keeps its label; false switches horizontal flips off."""
    bad_image: BadImage = field(default=BadImage["raise"], metadata={"may_change": True})
    """A picture that can't be decoded: raise ends the run, skip replaces and counts it."""
    bad_image_limit: float = field(default=0.001, metadata={"may_change": True})
    """skip: largest share of the split that may be bad (one picture is always allowed)."""
    max_pixels: int = 50_000_000
    """Pictures with more pixels than this count as bad and are never decoded."""
    workers: int | None = field(default=None, metadata={"may_change": True})
    """Loader processes; null chooses. Changes the speed, never the result."""


@dataclass(kw_only=True)
class AugmentationConfig:
    """What happens to a training picture and to a training batch, by the papers' terms."""

    crop: Crop = Crop.random_resized
    """random_resized (area and aspect drawn), resize (no crop), pad (pad, random crop)."""
    scale: list[float] = field(default_factory=lambda: [0.08, 1.0])
    """random_resized: smallest and largest share of the area."""
    ratio: list[float] = field(default_factory=lambda: [0.75, 4 / 3])
    """random_resized: smallest and largest aspect ratio."""
    pad_px: int = 4
    """pad: border in pixels."""
    pad_mode: str = "reflect"
    """pad: what the border holds, reflect (the picture mirrored) or constant (black)."""
    interpolation: str = "bicubic"
    """bicubic, bilinear or random, for training; evaluation uses bicubic where this is random."""
    hflip: float = 0.5
    """Probability of a horizontal flip."""
    vflip: float = 0.0
    """Probability of a vertical flip."""
    auto_augment: str | None = None
    """timm string: rand-m9-mstd0.5-inc1 (RandAugment), 3a (3-Augment), original, augmix-m3-w3."""
    color_jitter: float | None = None
    """Strength of brightness, contrast, saturation jitter; unused with RandAugment, as in timm."""
    erase_prob: float = 0.0
    """Random erasing: probability."""
    erase_mode: str = "pixel"
    """Random erasing: fill with const, rand (one colour) or pixel (noise)."""
    erase_count: int = 1
    """Random erasing: largest number of boxes."""
    repeats: int = 1
    """Repeated augmentation: copies of a picture in a row; an epoch keeps its number of samples."""
    epoch_multiple: int = 1
    """Samples of an epoch are rounded down to a multiple of it; DeiT's and XCiT's sampler: 256."""
    mixup: float = 0.0
    """Alpha of mixup's Beta distribution; 0 is off."""
    cutmix: float = 0.0
    """Alpha of cutmix's Beta distribution; 0 is off."""
    mix_prob: float = 1.0
    """Probability that a batch is mixed at all."""
    mix_switch_prob: float = 0.5
    """Probability of cutmix rather than mixup when both are on."""
    mix_mode: str = "batch"
    """Draw the mixing share per batch, pair or elem."""
    label_smoothing: float = 0.0
    """Share of the target spread evenly over all classes."""
    eval_crop_ratio: float = 0.875
    """Evaluation: side of the centre crop over side of the resized picture."""
