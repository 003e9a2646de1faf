"""Several models as one: of the mean of their weights, or of their probabilities.

Shapes: B batch, C classes.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import Tensor, nn


class Ensemble(nn.Module):
    """Models whose probabilities are averaged, as L. Hansen and P. Salamon did (1990).

    Of models with a distillation token each of the two answers is averaged by itself.
    """

    def __init__(self, members: Sequence[nn.Module]) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)

    def forward(self, images: Tensor) -> Tensor | tuple[Tensor, ...]:
        """Return [B, C] logarithms of the mean probabilities, or a pair of them."""
        said = [member(images) for member in self.members]
        if isinstance(said[0], tuple):
            return tuple(mean_probabilities(each) for each in zip(*said, strict=True))
        return mean_probabilities(said)


def mean_probabilities(logits: Sequence[Tensor]) -> Tensor:
    """Return the logarithm of the mean of the softmax of several [B, C] logits, in fp32 at least.

    >>> mean_probabilities([torch.tensor([[0.0, 0.0]]), torch.tensor([[9e9, 0.0]])]).exp()
    tensor([[0.7500, 0.2500]])
    """
    likely = torch.stack([each.float().log_softmax(1) for each in logits])
    return likely.logsumexp(0) - math.log(len(logits))


def mean_of_weights(states: Iterable[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """Return the mean of state dicts, summed in float64; whole numbers are those of the last.

    Args:
        states: of one architecture, one at least; each is dropped before the next is asked for.

    Returns:
        Values in the types of the last.

    Raises:
        ValueError: they have other names or shapes.
    """
    sums: dict[str, Tensor] = {}
    last: Mapping[str, Tensor] = {}
    count = 0
    for state in states:
        if sums and (
            sums.keys() != state.keys()
            or any(sums[name].shape != state[name].shape for name in sums)
        ):
            raise ValueError("weights of another model")
        for name, value in state.items():
            before = sums.get(name)
            wide = value.double() if value.is_floating_point() else value
            averaged = before is not None and value.is_floating_point()
            sums[name] = before + wide if averaged and before is not None else wide
        last, count = dict(state), count + 1
    return {
        name: (total / count).to(last[name].dtype) if total.is_floating_point() else total
        for name, total in sums.items()
    }
