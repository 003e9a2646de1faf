"""The model of a run, and the pictures that it wants."""

from __future__ import annotations

import torch
from torch import nn

from vitx.config.schema import TrainConfig
from vitx.models.build import Fit, build_model, normalisation
from vitx.records import PictureFormat
from vitx.runtime.seeds import derive, set_random_state


def make_model(config: TrainConfig, *, num_classes: int, device: torch.device) -> nn.Module:
    """Build the model on its device, as its seed initialises it."""
    dataset = config.dataset
    set_random_state(derive("init", config.seed))
    fit = Fit(num_classes=num_classes, channels=dataset.channels, image_px=config.image_px)
    model = build_model(config.model, fit)
    layout = torch.channels_last if config.runtime.channels_last else torch.contiguous_format
    return model.to(device=device, memory_format=layout)  # type: ignore[call-overload, no-any-return]


def picture_format(config: TrainConfig) -> PictureFormat:
    """Return what the run's model wants to see."""
    mean, std = normalisation(config.model, config.dataset.channels)
    return PictureFormat(
        image_px=config.image_px,
        mean=tuple(config.dataset.mean or mean),
        std=tuple(config.dataset.std or std),
    )
