"""Features of a whole split, computed where they are not stored.

Shapes: N rows of a split, R rows of a shard, D width.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor, nn

from vitx.config.schema import Precision
from vitx.data.loader import Loading
from vitx.data.samples import BadImagePolicy, BadRow, EvalSamples
from vitx.evaluate.feature_store import FeatureStore, Held
from vitx.evaluate.features import FeatureChoice, features
from vitx.evaluate.loop import EvaluationStopped
from vitx.runtime.device import autocast


class Extractor:
    """Computes chosen features of the pictures of splits.

    Args:
        model: on its device; it is left in the mode it was in.
        choice: which features.
        batch_size: pictures of a pass.
        workers: loader processes.
        device: of the model.
        precision: of the pass; features are float32 in any.
        channels_last: layout of the pictures.
    """

    def __init__(
        self,
        model: nn.Module,
        choice: FeatureChoice,
        *,
        batch_size: int,
        workers: int,
        device: torch.device,
        precision: Precision = Precision.fp32,
        channels_last: bool = False,
    ) -> None:
        self._model, self._choice, self._precision = model, choice, precision
        self._batch_size, self._workers, self._device = batch_size, workers, device
        self._format = torch.channels_last if channels_last else torch.contiguous_format

    @torch.inference_mode()
    def compute(self, images: Tensor) -> Tensor:
        """Return [B, D] float32 features of pictures [B, C, H, W], on the CPU.

        Raises:
            UsageError: the model has no such features.
        """
        images = images.to(self._device, memory_format=self._format, non_blocking=True)
        training = self._model.training
        self._model.eval()
        try:
            with autocast(self._precision, self._device):
                return features(self._model, images, self._choice).cpu()
        finally:
            self._model.train(training)

    def width(self, samples: EvalSamples) -> int:
        """Return D, by a look at a black picture.

        Raises:
            UsageError: the model has no such features.
        """
        return self.compute(samples.blank()[None]).shape[1]

    def fill(
        self,
        store: FeatureStore,
        samples: EvalSamples,
        *,
        bad_images: BadImagePolicy,
        stop: Callable[[], bool] = lambda: False,
    ) -> Held:
        """Read the stored features of a split; compute and store the others.

        Args:
            store: of this model, these features and this split.
            samples: the N pictures.
            bad_images: what to do about rows that can't be decoded; they have no features.
            stop: polled between batches.

        Returns:
            All features; nothing is missing.

        Raises:
            EvaluationStopped: `stop` said so; the shards that were done are kept.
            DataError: too many pictures are bad.
        """
        held, bad_rows = store.read(), set[int]()
        stored = torch.ones(store.rows, dtype=torch.bool)
        for part in held.missing:
            stored[part.start : part.stop] = False
        known = (stored & ~held.present).nonzero()[:, 0].tolist()
        bad_images.check(
            [BadRow(row, "as when its features were stored") for row in known], bad_rows
        )
        batches = [batch for part in held.missing for batch in self._batches(part)]
        with Loading(
            samples, batch_sampler=batches, workers=self._workers, device=self._device
        ) as loading:
            for part in held.missing:
                found = torch.zeros(len(part), store.width)
                present = torch.zeros(len(part), dtype=torch.bool)
                for rows, own in self._computed(
                    self._batches(part), loading, bad_images, bad_rows, stop
                ):
                    found[rows - part.start], present[rows - part.start] = own, True
                some = slice(part.start, part.stop)
                held.features[some], held.present[some] = store.write(part, found, present)
        held.missing.clear()
        return held

    def _batches(self, part: range) -> Sequence[range]:
        """Return the rows of a shard batch by batch, the same whatever is stored already."""
        starts = range(part.start, part.stop, self._batch_size)
        return [range(start, min(start + self._batch_size, part.stop)) for start in starts]

    def _computed(
        self,
        batches: Sequence[range],
        loading: Loading,
        bad_images: BadImagePolicy,
        bad_rows: set[int],
        stop: Callable[[], bool],
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield [b] rows and their [b, D] features, batch by batch."""
        for _ in batches:
            if stop():
                raise EvaluationStopped
            raw = loading.next()
            if raw is None:
                return
            bad_images.check(raw.bad, bad_rows)
            if len(raw.labels):
                yield raw.indices, self.compute(raw.images)
