"""A checkpoint and what it is to be scored on."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from torch import nn

from vitx.config.schema import EvalCrop, PosResize, TrainConfig
from vitx.evaluate.loop import Evaluator
from vitx.evaluate.suites.suite import Part, Suite
from vitx.models.of_run import make_model
from vitx.models.transfer import transfer
from vitx.parts import Machine, make_part_evaluator

_RESIZE = PosResize.bicubic_antialias  # timm's own way


@dataclass(frozen=True, kw_only=True)
class Scoring:
    """A checkpoint and what it is to be scored on.

    Attributes:
        config: the run's settings with what evaluation may change.
        checkpoint: its folder.
        step: its step.
        weights: `model` or `ema`.
        classes: names of the classes.
        suites: measured one after the other.
        crop: what of a picture is shown.
        machine: where it is computed.
        model: on its device, with those weights.
    """

    config: TrainConfig
    checkpoint: Path
    step: int
    weights: str
    classes: tuple[str, ...]
    suites: tuple[Suite, ...]
    crop: EvalCrop
    machine: Machine
    model: nn.Module

    def lines(self) -> Iterator[str]:
        """Say what is scored."""
        yield f"{self.checkpoint}, weights {self.weights}"
        for suite in self.suites:
            yield f"{suite.name}: {suite.what}"
            yield from suite.notes

    def evaluator(self, part: Part) -> Evaluator:
        """Return what scores a model on a part."""
        return make_part_evaluator(self.config, part, self.machine, crop=self.crop)

    def model_for(self, part: Part) -> nn.Module:
        """Return the model for the pictures of a part.

        Raises:
            UsageError: no such model can be built for their size.
        """
        if part.image_px in (None, self.config.image_px):
            return self.model
        dataset = dataclasses.replace(self.config.dataset, image_px=part.image_px)
        settings = dataclasses.replace(self.config, dataset=dataset)
        device = self.machine.device
        model = make_model(settings, num_classes=len(self.classes), device=device)
        file = self.checkpoint / f"{self.weights}.safetensors"
        transfer(model, file, source=str(file), resize=_RESIZE, partial=False)
        return model
