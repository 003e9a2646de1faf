"""Gradients that are the same to the last bit on 1, 2, 4, ... processes.

The forward passes of a step are its shards, whoever does them. Their gradients are summed by one
fixed binary tree: each rank sums the subtree of its own passes, and the ranks' sums are added up
as the tree's top. Batch statistics of normalisation layers are those of a pass, and the running
ones are replayed in the order of the passes.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from vitx.runtime.stopwatch import Stopwatch
from vitx.runtime.world import World
from vitx.train.gradients import put_back

_MOMENTUM = 0.1  # of a layer that has none; no model of timm or vitx has such


class TreeSum:
    """Adds up a number of equally shaped lists of tensors in pairs, whatever the pauses.

    With `2^k odd` leaves, each `odd` neighbours are added one after the other, and these sums in
    pairs of pairs; so the sum of an aligned `1 / 2^j` of the leaves is a node of the tree.

    >>> tree = TreeSum(4)
    >>> for leaf in (1.0, 2.0, 3.0, 4.0):
    ...     tree.add([torch.tensor(leaf)])
    >>> tree.total()[0].item()
    10.0
    """

    def __init__(self, leaves: int) -> None:
        self._odd = leaves // (leaves & -leaves)
        self._added = 0
        self._nodes: list[tuple[int, list[Tensor]]] = []  # size in leaves, sum

    def add(self, leaf: list[Tensor]) -> None:
        """Add the next leaf; its tensors belong to the tree from now on."""
        within, self._added = self._added % self._odd, self._added + 1
        if within:
            size, node = self._nodes.pop()
            torch._foreach_add_(node, leaf)
            self._nodes.append((size + 1, node))
        else:
            self._nodes.append((1, leaf))
        while len(self._nodes) > 1 and self._nodes[-1][0] == self._nodes[-2][0] >= self._odd:
            size, right = self._nodes.pop()
            _, left = self._nodes.pop()
            torch._foreach_add_(left, right)
            self._nodes.append((2 * size, left))

    def total(self) -> list[Tensor]:
        """Return the sum of all leaves, and begin anew."""
        ((_, total),) = self._nodes
        self._added, self._nodes = 0, []
        return total


class Summed:
    """Gradients as the module describes.

    Args:
        forward: the model, on its device; its values are the same on all ranks.
        trained: the model and what is trained beside it.
        accumulation: passes of a step, of all ranks together.
        world: the ranks, a power of two.
    """

    def __init__(
        self, forward: nn.Module, trained: nn.Module, *, accumulation: int, world: World
    ) -> None:
        self.forward, self.divisor, self._world = forward, accumulation, world
        self._parameters = [each for each in trained.parameters() if each.requires_grad]
        self._stopwatch = Stopwatch(self._parameters[0].device)
        self._tree = TreeSum(accumulation // world.size)
        self._statistics = _Statistics(trained, world)

    @contextmanager
    def of_pass(self, *, last: bool) -> Iterator[None]:
        """Take what the pass leaves."""
        self._statistics.begin()
        yield
        with self._stopwatch.running():
            gradients = []
            for each in self._parameters:
                gradients.append(torch.zeros_like(each) if each.grad is None else each.grad)
                each.grad = None
            self._tree.add(gradients)
            self._statistics.take()

    def of_batch(self) -> None:
        """Add up what all ranks have."""
        with self._stopwatch.running():
            self._add_up()

    @property
    def spent_s(self) -> float:
        """Seconds so far that the sums took on the device."""
        return self._stopwatch.seconds

    def _add_up(self) -> None:
        gradients = self._tree.total()
        if self._world.size > 1:
            flat = torch.cat([each.reshape(-1) for each in gradients])
            put_back(_top_of_tree(flat, self._world.size), gradients)
        for parameter, gradient in zip(self._parameters, gradients, strict=True):
            parameter.grad = gradient
        self._statistics.replay()


def _top_of_tree(flat: Tensor, ranks: int) -> Tensor:
    """Return the sum of the ranks' [N] vectors, in pairs of pairs.

    Each rank sums a part of all vectors, so no more is sent than by an ordinary all-reduce.
    """
    size = -(-flat.numel() // ranks)
    sent = flat.new_zeros(size * ranks)
    sent[: flat.numel()] = flat
    received = torch.empty_like(sent)
    dist.all_to_all_single(received, sent)
    rows = received.view(ranks, size)
    while len(rows) > 1:
        rows = rows[0::2] + rows[1::2]
    parts = [torch.empty_like(rows[0]) for _ in range(ranks)]
    dist.all_gather(parts, rows[0].contiguous())
    return torch.cat(parts)[: flat.numel()]


class _Statistics:
    """Running mean and variance of batch normalisation, moved once a step in a fixed order."""

    def __init__(self, model: nn.Module, world: World) -> None:
        self._world = world
        found = [each for each in model.modules() if isinstance(each, _BatchNorm)]
        self._layers = [each for each in found if each.running_mean is not None]
        self._taken: list[Tensor] = []
        if self._layers:
            self._before = self._momenta = self._running()
            momenta = [[each.momentum or _MOMENTUM] * 2 for each in self._layers]
            sizes = torch.tensor([each.numel() for each in self._buffers()])
            of_buffers = torch.tensor([each for pair in momenta for each in pair])
            self._momenta = of_buffers.repeat_interleave(sizes).to(self._before)
        for each in self._layers:
            each.momentum = 1.0  # so that a pass leaves its own statistics behind

    def begin(self) -> None:
        """Note where the running statistics are before a step."""
        if self._layers and not self._taken:
            self._before = self._running()

    def take(self) -> None:
        """Keep the statistics of a pass."""
        if self._layers:
            self._taken.append(self._running())

    def replay(self) -> None:
        """Move the running statistics as the passes of all ranks do one after the other.

        torch: `running <- (1 - momentum) running + momentum batch`.
        """
        if not self._layers:
            return
        own = torch.stack(self._taken)
        parts = [own]
        if self._world.size > 1:
            parts = [torch.empty_like(own) for _ in range(self._world.size)]
            dist.all_gather(parts, own)
        taken, self._taken = torch.cat(parts), []
        running = self._before
        for batch in taken:
            running = (1 - self._momenta) * running + self._momenta * batch
        put_back(running, self._buffers())
        for each in self._layers:
            assert each.num_batches_tracked is not None  # noqa: S101 (it has running statistics)
            each.num_batches_tracked += len(taken) - len(own)

    def _buffers(self) -> list[Tensor]:
        both = [(each.running_mean, each.running_var) for each in self._layers]
        return [each for pair in both for each in pair if each is not None]

    def _running(self) -> Tensor:
        return torch.cat([each.reshape(-1) for each in self._buffers()])
