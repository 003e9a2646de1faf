"""The order of training samples, as a function of (seed, epoch): no state to save or restore."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from vitx.records import Plan, SampleKey
from vitx.runtime.seeds import derive


def epoch_order(samples: int, *, seed: int, epoch: int) -> npt.NDArray[np.int64]:
    """Return the order of one epoch: [samples] rows, each once.

    Args:
        samples: size of the training split.
        seed: the run's seed.
        epoch: number of the epoch, from 0.
    """
    return np.random.Generator(np.random.PCG64(derive("order", seed, epoch))).permutation(samples)


def draw(
    order: npt.NDArray[np.int64], places: range, *, epoch: int, repeats: int = 1
) -> list[SampleKey]:
    """Return what is drawn at some places of an epoch.

    With repeated augmentation (Hoffer et al., arXiv 1901.09335; as used by DeiT) each picture
    stands `repeats` times in a row, and an epoch has as many places as without, so it sees about
    `samples / repeats` pictures.

    Args:
        order: rows, as of `epoch_order`.
        places: each below `samples`.
        epoch: number of the epoch.
        repeats: copies of each picture.
    """
    return [SampleKey(epoch, int(order[place // repeats]), place % repeats) for place in places]


class MicroBatchSampler:
    """Yields the keys of one forward pass at a time, from `start_step` to the end of the run.

    One iteration spans all epochs, so loader workers live as long as the run. What is left of an
    epoch after its last whole global batch is not drawn.

    Args:
        plan: length of the run, and the passes of a step.
        samples: size of the training split.
        seed: the run's seed.
        passes: numbers of the passes that are wanted of each step; None: all.
        repeats: copies of a picture in a row.
        start_step: the first step.
    """

    def __init__(
        self,
        plan: Plan,
        *,
        samples: int,
        seed: int,
        passes: range | None = None,
        repeats: int = 1,
        start_step: int = 0,
    ) -> None:
        self.plan, self.samples, self.seed = plan, samples, seed
        self.passes = passes or plan.passes(0, 1)
        self.repeats, self.start_step = repeats, start_step

    def __len__(self) -> int:
        return (self.plan.total_steps - self.start_step) * len(self.passes)

    def __iter__(self) -> Iterator[list[SampleKey]]:
        plan, epoch, order = self.plan, -1, np.empty(0, np.int64)
        for step in map(plan.data_step, range(self.start_step, plan.total_steps)):
            if step // plan.steps_per_epoch != epoch:
                epoch = step // plan.steps_per_epoch
                order = epoch_order(self.samples, seed=self.seed, epoch=epoch)
            first = step % plan.steps_per_epoch * plan.batch_size
            for number in self.passes:
                start = first + number * plan.micro_batch
                places = range(start, start + plan.micro_batch)
                yield draw(order, places, epoch=epoch, repeats=self.repeats)
