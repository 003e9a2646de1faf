"""The order of training samples, as a function of (seed, epoch): no state to save or restore."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np

from vitx.records import Plan, SampleKey
from vitx.runtime.seeds import derive


def epoch_order(samples: int, *, seed: int, epoch: int, repeats: int = 1) -> list[SampleKey]:
    """Return every draw of one epoch in order.

    With repeated augmentation (Hoffer et al., arXiv 1901.09335; as used by DeiT) each picture
    stands `repeats` times in a row, and the epoch is cut after `samples` draws, so it is as long
    as without and sees about `samples / repeats` pictures.

    Args:
        samples: size of the training split.
        seed: the run's seed.
        epoch: number of the epoch, from 0.
        repeats: copies of each picture.

    Returns:
        `samples` keys.
    """
    generator = np.random.Generator(np.random.PCG64(derive("order", seed, epoch)))
    order = generator.permutation(samples)
    draws = ((int(row), repeat) for row in order for repeat in range(repeats))
    return [SampleKey(epoch, row, repeat) for row, repeat in itertools.islice(draws, samples)]


class MicroBatchSampler:
    """Yields the keys of one forward pass at a time, from `start_step` to the end of the run.

    One iteration spans all epochs, so loader workers live as long as the run. What is left of an
    epoch after its last whole global batch is not drawn.
    """

    def __init__(
        self, plan: Plan, *, samples: int, seed: int, repeats: int = 1, start_step: int = 0
    ) -> None:
        self.plan, self.samples, self.seed = plan, samples, seed
        self.repeats, self.start_step = repeats, start_step

    def __len__(self) -> int:
        return (self.plan.total_steps - self.start_step) * self.plan.accumulation

    def __iter__(self) -> Iterator[list[SampleKey]]:
        plan, epoch, order = self.plan, -1, []
        for step in range(self.start_step, plan.total_steps):
            if step // plan.steps_per_epoch != epoch:
                epoch = step // plan.steps_per_epoch
                order = epoch_order(self.samples, seed=self.seed, epoch=epoch, repeats=self.repeats)
            first = step % plan.steps_per_epoch * plan.batch_size
            for start in range(first, first + plan.batch_size, plan.micro_batch):
                yield order[start : start + plan.micro_batch]
