"""Classification losses on class numbers or class probabilities.

Shapes: B batch, C classes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch.nn.functional as F  # noqa: N812 (the field's name for it)
from torch import Tensor, nn

from vitx.config.schema import Loss, ObjectiveConfig
from vitx.records import Batch

Terms = Mapping[str, Tensor]
Objective = Callable[[nn.Module, Batch], tuple[Tensor, Terms]]
LossFunction = Callable[[Tensor, Tensor], Tensor]


def build_objective(config: ObjectiveConfig, *, label_smoothing: float) -> Objective:
    """Return the objective: the loss of a batch, and the named parts to log."""
    loss_of = build_loss(config, label_smoothing=label_smoothing)

    def classify(model: nn.Module, batch: Batch) -> tuple[Tensor, Terms]:
        logits = model(batch.images)
        # Losses in fp32: log-softmax of bf16 logits has two digits.
        loss = loss_of(logits.float(), batch.targets)
        return loss, {"loss": loss.detach()}

    return classify


def build_loss(config: ObjectiveConfig, *, label_smoothing: float) -> LossFunction:
    """Return the loss of logits and targets.

    Args:
        config: which loss.
        label_smoothing: for [B] class numbers; class probabilities have it worked in already.
    """
    return _LOSSES[config.loss](label_smoothing)


def cross_entropy(label_smoothing: float = 0.0) -> LossFunction:
    """Return the mean cross-entropy in nats of [B, C] logits.

    Targets are [B] class numbers, smoothed to `(1 - s) one_hot + s / C` (Szegedy et al.,
    arXiv 1512.00567), or [B, C] probabilities, taken as they are.
    """

    def loss(logits: Tensor, targets: Tensor) -> Tensor:
        smoothing = 0.0 if targets.is_floating_point() else label_smoothing
        return F.cross_entropy(logits, targets, label_smoothing=smoothing)

    return loss


def binary_cross_entropy(label_smoothing: float = 0.0) -> LossFunction:
    """Return the mean over [B, C] of the binary cross-entropy, as DeiT III trains.

    [B, C] probabilities are binarised first: every class above its floor of label smoothing
    counts as one, so both classes of a mixed picture do (DeiT's `--bce-loss`). [B] class numbers
    become one-hot targets, smoothed to `s / C` and `1 - s + s / C`.
    """

    def loss(logits: Tensor, targets: Tensor) -> Tensor:
        classes = logits.shape[-1]
        floor = label_smoothing / classes
        if targets.is_floating_point():
            # Not `> floor`: the mixture of two floors differs from it in the last bit.
            targets = (targets > floor + 1e-6).to(logits.dtype)
        else:
            targets = F.one_hot(targets, classes).to(logits.dtype)
            targets = targets * (1 - label_smoothing) + floor
        return F.binary_cross_entropy_with_logits(logits, targets)

    return loss


def sigmoid_cross_entropy(label_smoothing: float = 0.0) -> LossFunction:
    """Return the sum over C, mean over B, of the binary cross-entropy, as AugReg trains.

    Targets are [B] class numbers, one-hot and smoothed as in `cross_entropy`, or [B, C]
    probabilities as they are (google-research/big_vision, `utils.sigmoid_xent`).
    """

    def loss(logits: Tensor, targets: Tensor) -> Tensor:
        if not targets.is_floating_point():
            classes = logits.shape[-1]
            targets = F.one_hot(targets, classes).to(logits.dtype)
            targets = targets * (1 - label_smoothing) + label_smoothing / classes
        total = F.binary_cross_entropy_with_logits(logits, targets, reduction="sum")
        return total / len(logits)

    return loss


_LOSSES: dict[Loss, Callable[[float], LossFunction]] = {
    Loss.cross_entropy: cross_entropy,
    Loss.bce: binary_cross_entropy,
    Loss.sigmoid: sigmoid_cross_entropy,
}
