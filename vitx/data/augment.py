"""Pictures to tensors: timm's transforms, chosen by configuration.

They draw from the global random states, which the caller sets for every sample beforehand.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from PIL.Image import Image
from torch import Tensor

from vitx.config.schema import AugmentationConfig, Crop, EvalCrop
from vitx.errors import UsageError
from vitx.records import PictureFormat
from vitx.runtime.torchvision_ops import declare_missing_ops

Transform = Callable[[Image], Tensor]
_CROP_RATIOS = {
    EvalCrop.c875: 0.875,
    EvalCrop.c900: 0.9,
    EvalCrop.c950: 0.95,
    EvalCrop.c1000: 1.0,
    EvalCrop.squash: 1.0,
}


class ToNormalized:
    """Picture to normalised [C, H, W] float32: the bits of torchvision's ToTensor and Normalize.

    Those two take three times as long for a picture of 224 px.
    """

    def __init__(self, mean: Sequence[float], std: Sequence[float]) -> None:
        self._mean, self._std = (torch.tensor(each).view(-1, 1, 1) for each in (mean, std))

    def __call__(self, picture: Image) -> Tensor:
        """Return a picture of mode L or RGB as a tensor."""
        rows = np.array(picture).reshape(picture.height, picture.width, -1)
        planes = rows.transpose(2, 0, 1).astype(np.float32, order="C")
        return torch.from_numpy(planes).div_(255).sub_(self._mean).div_(self._std)


def build_train_transform(
    config: AugmentationConfig, picture: PictureFormat, *, mirror: bool
) -> Transform:
    """Return the training transform: PIL picture to normalised [C, H, W] float tensor.

    Args:
        config: what to draw.
        picture: what the model wants to see.
        mirror: whether horizontal flips are allowed.

    Raises:
        UsageError: timm can't read `auto_augment`.
    """
    declare_missing_ops()
    from timm.data import create_transform
    from torchvision import transforms

    try:
        chain = create_transform(
            (picture.channels, picture.image_px, picture.image_px),
            is_training=True,
            scale=(config.scale[0], config.scale[1]),
            ratio=(config.ratio[0], config.ratio[1]),
            hflip=config.hflip if mirror else 0.0,
            vflip=config.vflip,
            color_jitter=config.color_jitter,  # type: ignore[arg-type]
            auto_augment=config.auto_augment,
            interpolation=config.interpolation,
            mean=picture.mean,
            std=picture.std,
            re_prob=config.erase_prob,
            re_mode=config.erase_mode,
            re_count=config.erase_count,
        )
    except (AssertionError, KeyError, ValueError, TypeError) as error:
        raise UsageError(
            f"augmentation.auto_augment={config.auto_augment}: timm can't read it ({error}); "
            "expected such as rand-m9-mstd0.5-inc1, 3a, original or augmix-m3-w3"
        ) from error
    if config.crop is not Crop.random_resized:
        # timm's chain begins with the crop to size; the rest of it stays as it is.
        chain.transforms[0] = transforms.Compose(_to_size(config, picture.image_px))
    return _with_our_normalisation(chain, picture)


def _to_size(config: AugmentationConfig, image_px: int) -> list[Callable[[Image], Image]]:
    from torchvision import transforms

    resize = transforms.Resize((image_px, image_px), _interpolation(config))
    if config.crop is Crop.resize:
        return [resize]
    pad = transforms.Pad(config.pad_px, padding_mode=config.pad_mode)
    return [resize, pad, transforms.RandomCrop(image_px)]


class EvalTransform:
    """A decoded picture as a model is shown it: resized and cropped, then as numbers.

    Args:
        see: makes a picture of the size that the model wants.
        normalise: makes it a tensor.
    """

    def __init__(self, see: Callable[[Image], Image], normalise: ToNormalized) -> None:
        self._see, self._normalise = see, normalise

    def __call__(self, picture: Image, change: Callable[[Image], Image] | None = None) -> Tensor:
        """Return [C, H, W] of a picture; `change` is done to what would be seen of it."""
        seen = self._see(picture)
        return self._normalise(seen if change is None else change(seen))


def build_eval_transform(
    config: AugmentationConfig, picture: PictureFormat, crop: EvalCrop = EvalCrop.own
) -> EvalTransform:
    """Return the evaluation transform: resize, centre crop, normalise to [C, H, W] float.

    Args:
        config: interpolation, and the crop of the run.
        picture: what the model wants to see.
        crop: another one.
    """
    declare_missing_ops()
    from timm.data import create_transform
    from torchvision import transforms

    chain = create_transform(
        (picture.channels, picture.image_px, picture.image_px),
        is_training=False,
        interpolation="bicubic" if config.interpolation == "random" else config.interpolation,
        crop_pct=_CROP_RATIOS.get(crop, config.eval_crop_ratio),
        crop_mode="squash" if crop is EvalCrop.squash else "center",
    )
    place = [type(each).__name__ for each in chain.transforms].index("Normalize")
    see = transforms.Compose(chain.transforms[: place - 1])  # behind it stand ToTensor, Normalize
    return EvalTransform(see, ToNormalized(picture.mean, picture.std))


def _with_our_normalisation(chain: Any, picture: PictureFormat) -> Transform:
    place = [type(each).__name__ for each in chain.transforms].index("Normalize")
    # In front of it stands the step to a tensor.
    chain.transforms[place - 1 : place + 1] = [ToNormalized(picture.mean, picture.std)]
    return chain  # type: ignore[no-any-return]


def _interpolation(config: AugmentationConfig) -> object:
    from torchvision.transforms import InterpolationMode

    bilinear = config.interpolation == "bilinear"
    return InterpolationMode.BILINEAR if bilinear else InterpolationMode.BICUBIC
