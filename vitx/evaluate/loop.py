"""The evaluation loop, the same for training and for `vitx eval`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor, nn

from vitx.config.schema import Head, Precision
from vitx.data.loader import Loading
from vitx.data.samples import BadImagePolicy, EvalSamples, RawBatch
from vitx.errors import DataError
from vitx.evaluate.metrics import in_top_k, loss_sum
from vitx.models import heads
from vitx.records import EvalResult
from vitx.runtime.device import autocast


class EvaluationStopped(Exception):  # noqa: N818 (nothing went wrong)
    """The evaluation was asked to stop; it has no result."""


@dataclass(frozen=True, kw_only=True)
class PerSample:
    """What was said of each sample: [N] arrays in the order of the split."""

    index: np.ndarray
    label: np.ndarray
    prediction: np.ndarray
    confidence: np.ndarray


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
    ) -> None:
        self.batch_size, self.device, self.precision = batch_size, device, precision
        self._format = torch.channels_last if channels_last else torch.contiguous_format
        self._bad_images, self._head = bad_images, head
        self.samples, self._workers = samples, workers

    def __call__(
        self, model: nn.Module, *, stop: Callable[[], bool] = lambda: False
    ) -> tuple[EvalResult, PerSample]:
        """Score a model; it is left in the mode it was in.

        Args:
            model: gives [B, C] logits; of a distillation token, those of `head` count.
            stop: polled between batches.

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
                    batch_size=self.batch_size,
                    workers=self._workers,
                    device=self.device,
                ) as batches,
            ):
                return self._score(model, batches, stop)
        finally:
            model.train(training)

    @torch.inference_mode()
    def _score(
        self, model: nn.Module, batches: Loading, stop: Callable[[], bool]
    ) -> tuple[EvalResult, PerSample]:
        total = EvalResult.nothing()
        columns: list[tuple[Tensor, Tensor, Tensor, Tensor]] = []
        bad_rows: set[int] = set()
        while True:
            if stop():
                raise EvaluationStopped
            raw = batches.next()
            if raw is None:
                break
            self._bad_images.check(raw.bad, bad_rows)
            if not len(raw.labels):
                total = total + EvalResult.nothing(skipped=len(raw.bad))
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
            total = total + replace(_counted(logits, raw), heads=apart)
            highest = logits.argmax(1)
            sure = logits.softmax(1).gather(1, highest[:, None]).squeeze(1)
            columns.append((raw.indices, raw.labels, highest, sure))
        if total.count == 0:
            raise DataError("the validation split has no picture that can be decoded")
        index, label, prediction, confidence = (
            torch.cat(parts).numpy() for parts in zip(*columns, strict=True)
        )
        return total, PerSample(
            index=index, label=label, prediction=prediction, confidence=confidence
        )


def _counted(logits: Tensor, raw: RawBatch) -> EvalResult:
    return EvalResult(
        count=len(raw.labels),
        top1_count=int(in_top_k(logits, raw.labels, 1).sum()),
        top5_count=int(in_top_k(logits, raw.labels, 5).sum()),
        loss_sum=loss_sum(logits, raw.labels),
        skipped=len(raw.bad),
    )
