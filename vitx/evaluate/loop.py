"""The evaluation loop, the same for training and for `vitx eval`."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule

from vitx.config.schema import Head, Precision
from vitx.data.loader import Loading
from vitx.data.samples import BadImagePolicy, BadRow, EvalSamples, RawBatch
from vitx.errors import DataError
from vitx.evaluate.metrics import in_top_k, loss_sum
from vitx.models import heads
from vitx.records import EvalResult
from vitx.runtime.device import autocast
from vitx.runtime.world import ALONE, World


class EvaluationStopped(Exception):  # noqa: N818 (nothing went wrong)
    """The evaluation was asked to stop; it has no result."""


@dataclass(frozen=True, kw_only=True)
class PerSample:
    """What was said of each sample: [N] arrays in the order of the split."""

    index: np.ndarray
    label: np.ndarray
    prediction: np.ndarray
    confidence: np.ndarray


class _Scored(NamedTuple):
    """What came of one batch: counts, bad rows, and the columns of `PerSample` as lists."""

    counted: EvalResult
    bad: tuple[BadRow, ...]
    columns: tuple[list[Any], ...]

    def as_plain(self) -> list[Any]:
        return [asdict(self.counted), self.bad, self.columns]

    @classmethod
    def restore(cls, plain: list[Any]) -> _Scored:
        counted, bad, columns = plain
        return cls(EvalResult.restore(counted), tuple(BadRow(*each) for each in bad), columns)


class Evaluator:
    """Scores models on one split, `samples`."""

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
        world: World = ALONE,
    ) -> None:
        self.world = world
        self.batch_size, self.device, self.precision = batch_size, device, precision
        self._format = torch.channels_last if channels_last else torch.contiguous_format
        self._bad_images, self._head = bad_images, head
        self.samples, self._workers = samples, workers

    def __call__(
        self, model: nn.Module, *, stop: Callable[[], bool] = lambda: False
    ) -> tuple[EvalResult, PerSample]:
        """Score a model; it is left in the mode it was in.

        Ranks take whole batches in turn, so that each is computed as one process would, and what
        they counted is added up in the order of the split: the result is that of one process to
        the last bit.

        Args:
            model: gives [B, C] logits; of a distillation token, those of `head` count.
            stop: polled between batches, on all ranks together.

        Returns:
            The counts, and what was said of each sample.

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
        return self._together(own)

    def _own_batches(self) -> list[range]:
        """Return the rows of the batches that this rank takes."""
        size, rows = self.batch_size, len(self.samples)
        starts = range(self.world.rank * size, rows, self.world.size * size)
        return [range(start, min(start + size, rows)) for start in starts]

    @torch.inference_mode()
    def _score(self, model: nn.Module, batches: Loading, stop: Callable[[], bool]) -> list[_Scored]:
        scored: list[_Scored] = []
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
            self._bad_images.check(raw.bad, bad_rows)
            if not len(raw.labels):
                scored.append(_Scored(EvalResult.nothing(skipped=len(raw.bad)), raw.bad, ()))
                continue
            images = raw.images.to(self.device, memory_format=self._format, non_blocking=True)
            with autocast(self.precision, self.device):
                said = model(images)
            # Scores on the CPU: one transfer, and sums in float64 on every device.
            if isinstance(said, tuple):
                answers = heads.answers(*(logits.float().cpu() for logits in said))
                logits = answers[self._head]
                apart = {head.name: _counted(answer, raw) for head, answer in answers.items()}
            else:
                logits, apart = said.float().cpu(), {}
            highest = logits.argmax(1)
            sure = logits.softmax(1).gather(1, highest[:, None]).squeeze(1)
            columns = (raw.indices, raw.labels, highest, sure)
            counted = replace(_counted(logits, raw), heads=apart)
            scored.append(_Scored(counted, raw.bad, tuple(each.tolist() for each in columns)))
        if stop():  # asked in the last batch
            raise EvaluationStopped
        return scored

    def _together(self, own: list[_Scored]) -> tuple[EvalResult, PerSample]:
        """Put the batches of all ranks in their order and add them up.

        Returns:
            The counts, and what was said of each sample.

        Raises:
            DataError: too many pictures are bad, or none is good.
        """
        ranks = self.world.gather([each.as_plain() for each in own])
        turns = itertools.zip_longest(*ranks)
        scored = [_Scored.restore(each) for turn in turns for each in turn if each is not None]
        self._bad_images.check([bad for each in scored for bad in each.bad], set())
        total = sum((each.counted for each in scored), start=EvalResult.nothing())
        if total.count == 0:
            raise DataError("the validation split has no picture that can be decoded")
        index, label, prediction, confidence = (
            list(itertools.chain.from_iterable(parts))
            for parts in zip(*(each.columns for each in scored if each.columns), strict=True)
        )
        return total, PerSample(
            index=np.array(index),
            label=np.array(label),
            prediction=np.array(prediction),
            confidence=np.array(confidence, np.float32),
        )


def _counted(logits: Tensor, raw: RawBatch) -> EvalResult:
    return EvalResult(
        count=len(raw.labels),
        top1_count=int(in_top_k(logits, raw.labels, 1).sum()),
        top5_count=int(in_top_k(logits, raw.labels, 5).sum()),
        loss_sum=loss_sum(logits, raw.labels),
        skipped=len(raw.bad),
    )
