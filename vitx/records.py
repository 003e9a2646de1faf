"""What passes between the parts: frozen records, with their shapes and their uncertainty.

Shapes: B batch, C channels or classes, H height, W width, in pixels.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from vitx.config.duration import Duration

if TYPE_CHECKING:
    from torch import Tensor


class SampleKey(NamedTuple):
    """Which augmented sample: the whole of its randomness, together with the run's seed."""

    epoch: int
    row: int
    repeat: int


@dataclass(frozen=True, kw_only=True)
class PictureFormat:
    """What a model wants to see: side in pixels, channels, and normalisation per channel."""

    image_px: int
    mean: tuple[float, ...]
    std: tuple[float, ...]

    @property
    def channels(self) -> int:
        """Number of channels."""
        return len(self.mean)


@dataclass(frozen=True, kw_only=True)
class Batch:
    """A batch on the device of the model.

    Attributes:
        images: [B, C, H, W] float, normalised.
        targets: [B] int64 class numbers, or [B, C] float class probabilities after mixing.
        indices: [B] int64 row of each sample in its split, on the CPU.
        place: which augmented samples these are.
        mixed: how they were mixed; None where they were not.
    """

    images: Tensor
    targets: Tensor
    indices: Tensor
    place: Place
    mixed: Mixture | None = None


class Place(NamedTuple):
    """Where a batch stands in a run; its augmented samples follow from (epoch, first, size).

    Attributes:
        step: optimizer step.
        epoch: whose order and augmentation it has.
        first: place of its first sample in that epoch.
    """

    step: int
    epoch: int
    first: int


@dataclass(frozen=True, kw_only=True)
class Mixture:
    """How mixup or cutmix made a batch: of each picture a share, of another one the rest.

    Attributes:
        share: of its own, a number or [B, 1]; the rest is that of the batch in reverse order.
        unmixed: [B, C, H, W] pictures before; None where nobody asked to keep them.
    """

    share: Tensor | float
    unmixed: Tensor | None


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The length of a run in steps, and how a global batch is cut.

    Attributes:
        steps_per_epoch: optimizer steps of an epoch.
        total_steps: of the run.
        batch_size: pictures of a step.
        micro_batch: pictures of a forward pass.
        reuse_epochs: after so many epochs order, augmentation and mixing repeat; None: never.
    """

    steps_per_epoch: int
    total_steps: int
    batch_size: int
    micro_batch: int
    reuse_epochs: int | None = None

    @property
    def accumulation(self) -> int:
        """Forward passes per optimizer step, of all ranks together."""
        return self.batch_size // self.micro_batch

    def passes(self, rank: int, ranks: int) -> range:
        """Return the numbers of the forward passes that one of several ranks does in a step."""
        share = self.accumulation // ranks
        return range(rank * share, (rank + 1) * share)

    @property
    def epochs(self) -> int:
        """Epochs that are begun."""
        return -(-self.total_steps // self.steps_per_epoch)

    def data_step(self, step: int) -> int:
        """Return the step whose samples, augmented and mixed, a step has."""
        return step % (self.steps_per_epoch * self.reuse_epochs) if self.reuse_epochs else step

    def steps_in(self, text: str, *, setting: str) -> int:
        """Return a duration such as `5ep`, `100st` or `5%` in steps; `setting` is for the error."""
        duration = Duration.parse(text, setting=setting)
        return duration.steps(steps_per_epoch=self.steps_per_epoch, total_steps=self.total_steps)


@dataclass(frozen=True, kw_only=True)
class EvalResult:
    """Counts of an evaluation.

    Attributes:
        count: samples scored, each once.
        top1_count: samples whose label has the highest score.
        top5_count: samples whose label is among the five highest scores.
        loss_sum: sum of the cross-entropy in nats.
        skipped: samples that could not be decoded and are in none of the above.
        heads: the same of each head and each fusion, where a model has a distillation token.
    """

    count: int
    top1_count: int
    top5_count: int
    loss_sum: float
    skipped: int = 0
    heads: Mapping[str, EvalResult] = field(default_factory=dict)

    @classmethod
    def restore(cls, saved: Mapping[str, Any]) -> EvalResult:
        """Return what `dataclasses.asdict` was made of."""
        heads = {name: cls.restore(each) for name, each in saved.get("heads", {}).items()}
        return cls(**{**saved, "heads": heads})

    @property
    def top1(self) -> float:
        """Top-1 accuracy in percent."""
        return 100.0 * self.top1_count / self.count

    @property
    def top5(self) -> float:
        """Top-5 accuracy in percent."""
        return 100.0 * self.top5_count / self.count

    @property
    def loss(self) -> float:
        """Mean cross-entropy in nats."""
        return self.loss_sum / self.count

    def as_dict(self) -> dict[str, Any]:
        """Return the numbers as they stand in result.json and eval/<suite>.json."""
        numbers: dict[str, Any] = {
            "top1": self.top1,
            "top5": self.top5,
            "loss": self.loss,
            "count": self.count,
            "skipped": self.skipped,
            "top1_interval": list(self.top1_interval),
        }
        if self.heads:
            numbers["heads"] = {name: each.as_dict() for name, each in self.heads.items()}
        return numbers

    @property
    def top1_interval(self) -> tuple[float, float]:
        """95 % Wilson score interval of top-1, in percent."""
        return wilson_interval(self.top1_count, self.count)


NORMAL_95 = 1.959963984540054
"""Deviations of a normal number that 95 % lie within."""


def wilson_interval(successes: int, trials: int, z: float = NORMAL_95) -> tuple[float, float]:
    """Return the Wilson score interval of a proportion, in percent.

    Source: E. B. Wilson, JASA 22 (1927), as in L. Brown, T. Cai, A. DasGupta,
    Statistical Science 16 (2001), eq. 4.

    Args:
        successes: number of successes.
        trials: number of trials, at least one.
        z: standard normal quantile; the default gives 95 %.

    >>> low, high = wilson_interval(9, 10)
    >>> f"{low:.2f} {high:.2f}"
    '59.58 98.21'
    """
    share = successes / trials
    centre = share + z * z / (2 * trials)
    half = z * math.sqrt(share * (1 - share) / trials + z * z / (4 * trials * trials))
    scale = 1 + z * z / trials
    return 100 * (centre - half) / scale, 100 * (centre + half) / scale
