"""DINO's linear probe: SGD on frozen features for a hundred epochs.

Source: facebookresearch/dino at 7c446df, `eval_linear.py`. There every epoch sees new crops and
flips; stored features repeat, unless several augmented copies are stored. DINO prints the highest
accuracy of any epoch on the test set, which is thereby chosen on it: `best_top1` is that, while
`classifier` is of the last epoch.

Shapes: V stored copies, N samples, D width, C classes, B batch.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F  # noqa: N812 (the field's name for it)
from torch import Tensor

from vitx.errors import NonFiniteError
from vitx.evaluate.answers import check_labels
from vitx.evaluate.probes.inputs import check_features
from vitx.evaluate.probes.linear import LinearClassifier
from vitx.runtime.seeds import derive

_WEIGHT_STD = 0.01  # of a new classifier
_REFERENCE_BATCH = 256  # that a learning rate is said for


@dataclass(frozen=True, kw_only=True)
class SgdProbe:
    """A trained probe.

    Attributes:
        classifier: after the last epoch, float32.
        lr: learning rate of the first epoch.
        train_loss: mean cross-entropy in nats of each epoch, while it was learning.
        test_top1: accuracy after each epoch in percent; empty where there was nothing to test on.
    """

    classifier: LinearClassifier
    lr: float
    train_loss: tuple[float, ...]
    test_top1: tuple[float, ...]

    @property
    def best_top1(self) -> float:
        """The highest test accuracy of any epoch, in percent; NaN where nothing was tested."""
        return max(self.test_top1, default=math.nan)


def sgd_probe(
    copies: Sequence[Tensor],
    labels: Tensor,
    *,
    num_classes: int,
    seed: int,
    epochs: int = 100,
    batch_size: int = 1024,
    reference_lr: float = 0.001,
    test: tuple[Tensor, Tensor] | None = None,
) -> SgdProbe:
    """Train a linear classifier: momentum 0.9, no weight decay, cosine to 0 epoch by epoch.

    Args:
        copies: V times [N, D], of differently augmented pictures; epoch e sees copy e mod V.
            Computed where they are.
        labels: [N] int64.
        num_classes: C.
        seed: of the first weights and the order of each epoch.
        epochs: how many.
        batch_size: B; the last batch of an epoch is smaller.
        reference_lr: learning rate of a batch of 256; it grows with the batch.
        test: [Q, D] features and [Q] labels that are tried after each epoch.

    Returns:
        The probe.

    Raises:
        DataError: features are not finite, or labels are no classes.
        NonFiniteError: it diverged.
    """
    for features in copies:
        check_features(features, "training features")
    check_labels(labels, num_classes)
    device, count = copies[0].device, len(labels)
    labels = labels.to(device)
    weight = torch.randn(num_classes, copies[0].shape[1], generator=_generator("weights", seed))
    weight = (_WEIGHT_STD * weight).to(device).requires_grad_()
    bias = torch.zeros(num_classes, device=device, requires_grad=True)
    peak = reference_lr * batch_size / _REFERENCE_BATCH
    optimizer = torch.optim.SGD([weight, bias], lr=peak, momentum=0.9)
    losses, accuracies = [], []
    for epoch in range(epochs):
        optimizer.param_groups[0]["lr"] = peak * (1 + math.cos(math.pi * epoch / epochs)) / 2
        order = torch.randperm(count, generator=_generator("order", seed, epoch))
        loss_sum = torch.zeros((), dtype=torch.float64, device=device)
        for rows in order.to(device).split(batch_size):
            x, y = copies[epoch % len(copies)][rows].float(), labels[rows]
            with torch.enable_grad():
                loss = F.cross_entropy(F.linear(x, weight, bias), y)
                weight.grad, bias.grad = torch.autograd.grad(loss, (weight, bias))
            optimizer.step()
            loss_sum += len(rows) * loss.detach()
        losses.append(float(loss_sum) / count)
        if not math.isfinite(losses[-1]):
            raise NonFiniteError(
                f"the linear probe diverged in epoch {epoch + 1} with a learning rate of {peak:g}"
            )
        classifier = LinearClassifier(weight=weight.detach(), bias=bias.detach())
        if test is not None:
            accuracies.append(classifier.answers(*test).top())
    return SgdProbe(
        classifier=classifier, lr=peak, train_loss=tuple(losses), test_top1=tuple(accuracies)
    )


def _generator(purpose: str, *counters: int) -> torch.Generator:
    return torch.Generator().manual_seed(derive(f"probe {purpose}", *counters))
