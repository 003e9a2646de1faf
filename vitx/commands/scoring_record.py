"""Weights and what they are to be scored on."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from torch import nn

from vitx.commands.measured_on import Own
from vitx.commands.members import Member, build
from vitx.config.schema import EvalCombine, EvalCrop, TrainConfig
from vitx.evaluate.loop import Evaluator
from vitx.evaluate.suites.suite import Part, Suite
from vitx.parts import Machine, make_part_evaluator


@dataclass(frozen=True, kw_only=True)
class Scoring:
    """Weights and what they are to be scored on.

    Attributes:
        config: the run's settings with what evaluation may change.
        members: whose weights; the run's own first.
        combine: what several are together.
        classes: names of the classes.
        suites: measured one after the other.
        own: finds the data that the run was trained on.
        crop: what of a picture is shown.
        machine: where it is computed.
        model: on its device, with those weights.
    """

    config: TrainConfig
    members: tuple[Member, ...]
    combine: EvalCombine
    classes: tuple[str, ...]
    suites: tuple[Suite, ...]
    own: Own
    crop: EvalCrop
    machine: Machine
    model: nn.Module

    @property
    def step(self) -> int:
        """Step of the run's own newest weights."""
        return self.members[0].steps[-1]

    @property
    def weights(self) -> str:
        """`model` or `ema`, of the run itself."""
        return self.members[0].weights

    @property
    def is_plain(self) -> bool:
        """Whether the weights are those of one checkpoint."""
        return len(self.members) == 1 and len(self.members[0].steps) == 1

    def facts(self) -> dict[str, Any]:
        """Return what a result is of, as plain data."""
        if self.is_plain:
            return {"step": self.step, "weights": self.weights}
        members = [
            {"run": str(each.run), "weights": each.weights, "steps": list(each.steps)}
            for each in self.members
        ]
        combined = {"combine": self.combine.name} if len(members) > 1 else {}
        return {"step": self.step, "weights": self.weights, "members": members, **combined}

    def lines(self) -> Iterator[str]:
        """Say what is scored."""
        for member in self.members:
            yield str(member)
        if len(self.members) > 1:
            yield f"together: the mean of their {self.combine.name}"
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
        return build(
            self.members,
            self.combine,
            classes=len(self.classes),
            settings=self.config,
            machine=self.machine,
            image_px=part.image_px,
        )
