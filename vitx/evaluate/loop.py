"""The evaluation loop, the same for training and for `vitx eval`."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule

from vitx.config.schema import Head, Precision
from vitx.data.loader import Loading
from vitx.data.samples import BadImagePolicy, BadRow, EvalSamples, RawBatch
from vitx.errors import DataError
from vitx.evaluate.judging import PLAIN, PerSample, Rules, judge
from vitx.models import heads
from vitx.records import EvalResult
from vitx.runtime.device import autocast
from vitx.runtime.world import ALONE, World


class EvaluationStopped(Exception):  # noqa: N818 (nothing went wrong)
    """The evaluation was asked to stop; it has no result."""


@dataclass(frozen=True, kw_only=True)
class Judged:
    """What was said of the samples that could be decoded, and which could not.

    Attributes:
        samples: what the head that counts said of each.
        heads: what each other head or fusion said, where a model has two.
        bad: rows that could not be decoded.
    """

    samples: PerSample
    heads: Mapping[str, PerSample]
    bad: tuple[BadRow, ...]

    def result(self) -> EvalResult:
        """Return the counts."""
        heads = {name: _counted(each, self.bad) for name, each in self.heads.items()}
        return replace(_counted(self.samples, self.bad), heads=heads)

    def as_plain(self) -> dict[str, Any]:
        """Return it as plain data, without loss."""
        return {
            "samples": self.samples.as_plain(),
            "heads": {name: each.as_plain() for name, each in self.heads.items()},
            "bad": self.bad,
        }

    @classmethod
    def joined(cls, parts: Sequence[dict[str, Any]]) -> Judged:
        """Put what was said of several batches, as plain data, in the order of the split."""
        names: Iterable[str] = next((each["heads"] for each in parts if each["heads"]), {})
        return cls(
            samples=PerSample.joined(each["samples"] for each in parts),
            heads={
                name: PerSample.joined(each["heads"][name] for each in parts if each["heads"])
                for name in names
            },
            bad=tuple(sorted(BadRow(*bad) for each in parts for bad in each["bad"])),
        )


class Evaluator:
    """Scores models on one split, `samples`, by `rules`."""

    def __init__(
        self,
        samples: EvalSamples,
        *,
        batch_size: int,
        workers: int,
        device: torch.device,
        precision: Precision,
        channels_last: bool,
        bad_images: BadImagePolicy,
        head: Head = Head.mean_logits,
        rules: Rules = PLAIN,
        world: World = ALONE,
    ) -> None:
        self.world = world
        self.batch_size, self.device, self.precision = batch_size, device, precision
        self._format = torch.channels_last if channels_last else torch.contiguous_format
        self.bad_images, self._head, self._rules = bad_images, head, rules
        self.samples, self._workers = samples, workers

    def __call__(self, model: nn.Module, *, stop: Callable[[], bool] = lambda: False) -> Judged:
        """Score a model; it is left in the mode it was in.

        Ranks take whole batches in turn, so that each is computed as one process would, and each
        sample is judged by itself: the result is that of one process to the last bit.

        Args:
            model: gives [B, C] logits; of a distillation token, those of `head` count.
            stop: polled between batches, on all ranks together.

        Returns:
            What was said of each sample, on every rank.

        Raises:
            EvaluationStopped: `stop` said so.
            DataError: too many pictures are bad, or none is good.
        """
        training = model.training
        model.eval()
        try:
            with (
                heads.apart(model),
                Loading(
                    self.samples,
                    batch_sampler=self._own_batches(),
                    workers=self._workers,
                    device=self.device,
                ) as batches,
            ):
                own = self._score(model, batches, stop)
        finally:
            model.train(training)
        ranks = self.world.gather([each.as_plain() for each in own])
        together = Judged.joined([each for rank in ranks for each in rank])
        self.bad_images.check(together.bad, set())
        if not len(together.samples):
            raise DataError("the validation split has no picture that can be decoded")
        return together

    def _own_batches(self) -> list[range]:
        """Return the rows of the batches that this rank takes."""
        size, rows = self.batch_size, len(self.samples)
        starts = range(self.world.rank * size, rows, self.world.size * size)
        return [range(start, min(start + size, rows)) for start in starts]

    @torch.inference_mode()
    def _score(self, model: nn.Module, batches: Loading, stop: Callable[[], bool]) -> list[Judged]:
        """Return what was said of each batch of this rank."""
        scored: list[Judged] = []
        bad_rows: set[int] = set()
        # As many turns on every rank, so that all of them ask together whether to stop.
        for _ in range(-(-len(self.samples) // (self.batch_size * self.world.size))):
            if stop():
                raise EvaluationStopped
            raw = batches.next()
            if isinstance(model, FSDPModule) and (raw is None or not len(raw.labels)):
                model(self.samples.blank()[None].to(self.device))  # the others need its parts
            if raw is None:
                continue
            self.bad_images.check(raw.bad, bad_rows)
            if not len(raw.labels):
                scored.append(Judged(samples=PerSample.nothing(), heads={}, bad=raw.bad))
                continue
            images = raw.images.to(self.device, memory_format=self._format, non_blocking=True)
            with autocast(self.precision, self.device):
                said = model(images)
            scored.append(self._judged(said, raw))
        if stop():  # asked in the last batch
            raise EvaluationStopped
        return scored

    def _judged(self, said: Tensor | tuple[Tensor, Tensor], raw: RawBatch) -> Judged:
        # On the CPU: one transfer, and float64 on every device.
        if not isinstance(said, tuple):
            samples = judge(said.float().cpu(), raw.labels, raw.indices, self._rules)
            return Judged(samples=samples, heads={}, bad=raw.bad)
        answers = heads.answers(*(logits.float().cpu() for logits in said))
        each = {
            head: judge(logits, raw.labels, raw.indices, self._rules)
            for head, logits in answers.items()
        }
        apart = {head.name: samples for head, samples in each.items()}
        return Judged(samples=each[self._head], heads=apart, bad=raw.bad)


def _counted(samples: PerSample, bad: Sequence[BadRow]) -> EvalResult:
    return EvalResult(
        count=len(samples),
        top1_count=int(samples.correct.sum()),
        top5_count=int((samples.rank < 5).sum()),
        loss_sum=math.fsum(samples.loss),
        skipped=len(bad),
    )
