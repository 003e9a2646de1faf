"""Losses in closed form, or summed by hand in float64."""

import math

import pytest
import torch
from torch import nn

from vitx.config.schema import Loss, ObjectiveConfig
from vitx.objectives.classification import (
    binary_cross_entropy,
    build_objective,
    cross_entropy,
    sigmoid_cross_entropy,
)
from vitx.records import Batch, Place

FUNCTIONS = {
    Loss.cross_entropy: cross_entropy,
    Loss.bce: binary_cross_entropy,
    Loss.sigmoid: sigmoid_cross_entropy,
}


class Said(nn.Module):
    """A model that says the same logits whatever it sees."""

    def __init__(self, logits: torch.Tensor) -> None:
        super().__init__()
        self.logits = nn.Parameter(logits)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.logits


def batch(targets: torch.Tensor) -> Batch:
    rows = torch.arange(len(targets))
    return Batch(
        images=torch.zeros(len(targets), 1, 2, 2),
        targets=targets,
        indices=rows,
        place=Place(0, 0, 0),
    )


def log_softmax(logits: torch.Tensor) -> torch.Tensor:
    """By its definition, in float64."""
    wide = logits.double()
    return wide - wide.exp().sum(1, keepdim=True).log()


@pytest.fixture
def logits() -> torch.Tensor:
    return torch.randn(6, 4, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("classes", [1, 2, 10, 1000])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_uniform_logits_cost_ln_c(classes: int, smoothing: float) -> None:
    loss = cross_entropy(smoothing)(torch.full((3, classes), 7.0), torch.zeros(3).long())
    assert loss.item() == pytest.approx(math.log(classes), rel=1e-6)


@pytest.mark.parametrize("classes", [1, 2, 10, 1000])
def test_zero_logits_cost_ln_2_in_bce(classes: int) -> None:
    loss = binary_cross_entropy()(torch.zeros(3, classes), torch.zeros(3).long())
    assert loss.item() == pytest.approx(math.log(2), rel=1e-6)


def test_two_classes_on_paper() -> None:
    # Softmax of (ln 3, 0) is (3/4, 1/4); with smoothing 0.1 the target is (0.95, 0.05).
    logits, label = torch.tensor([[math.log(3.0), 0.0]]), torch.tensor([0])
    assert cross_entropy()(logits, label).item() == pytest.approx(-math.log(0.75))
    smoothed = -0.95 * math.log(0.75) - 0.05 * math.log(0.25)
    assert cross_entropy(0.1)(logits, label).item() == pytest.approx(smoothed)
    # Sigmoid of ln 3 is 3/4, of 0 is 1/2; the mean is over the classes too.
    binary = (-math.log(0.75) - math.log(0.5)) / 2
    assert binary_cross_entropy()(logits, label).item() == pytest.approx(binary)
    first = -0.95 * math.log(0.75) - 0.05 * math.log(0.25)
    second = -0.05 * math.log(0.5) - 0.95 * math.log(0.5)
    expected = (first + second) / 2
    assert binary_cross_entropy(0.1)(logits, label).item() == pytest.approx(expected)


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.5])
def test_smoothed_class_numbers(logits: torch.Tensor, smoothing: float) -> None:
    labels = torch.tensor([0, 1, 2, 3, 3, 0])
    total = 0.0
    for row, label in zip(log_softmax(logits).tolist(), labels.tolist(), strict=True):
        for number, log_p in enumerate(row):
            total -= ((1 - smoothing) * (number == label) + smoothing / 4) * log_p
    assert cross_entropy(smoothing)(logits, labels).item() == pytest.approx(total / 6, rel=1e-6)


def test_probabilities_are_taken_as_they_are(logits: torch.Tensor) -> None:
    targets = torch.softmax(torch.randn(6, 4), 1)
    expected = -(targets.double() * log_softmax(logits)).sum(1).mean()
    # Smoothing is worked into them by whoever mixed them.
    for smoothing in (0.0, 0.1):
        loss = cross_entropy(smoothing)(logits, targets)
        assert loss.item() == pytest.approx(expected.item(), rel=1e-6)


def test_gradient_is_softmax_minus_target(logits: torch.Tensor) -> None:
    model, labels = Said(logits.clone()), torch.tensor([0, 1, 2, 3, 3, 0])
    objective = build_objective(ObjectiveConfig(), label_smoothing=0.2)
    loss, terms = objective(model, batch(labels))
    loss.backward()
    target = 0.8 * torch.eye(4)[labels] + 0.05
    torch.testing.assert_close(model.logits.grad, (logits.softmax(1) - target) / 6)
    assert terms.keys() == {"loss"}
    assert terms["loss"] == loss
    assert not terms["loss"].requires_grad


def binarised(logits: torch.Tensor, on: list[set[int]]) -> float:
    """Return the mean binary cross-entropy, summed in Python's floats."""
    total = 0.0
    for row, members in zip(logits.tolist(), on, strict=True):
        for number, value in enumerate(row):
            p = 1 / (1 + math.exp(-value))
            total -= math.log(p if number in members else 1 - p)
    return total / logits.numel()


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("share", [0.5, 0.7, 0.999, 1.0])
def test_both_classes_of_a_mixed_picture_count_as_one(
    logits: torch.Tensor, smoothing: float, share: float
) -> None:
    first, second = torch.tensor([0, 1, 2, 3, 3, 0]), torch.tensor([1, 1, 0, 0, 2, 3])
    one_hot = torch.eye(4) * (1 - smoothing) + smoothing / 4
    targets = share * one_hot[first] + (1 - share) * one_hot[second]
    pairs = zip(first.tolist(), second.tolist(), strict=True)
    members = [{a, b} if share < 1 else {a} for a, b in pairs]
    loss = binary_cross_entropy(smoothing)(logits, targets)
    assert loss.item() == pytest.approx(binarised(logits, members), rel=1e-6)


def test_targets_of_timms_mixup_are_binarised_as_deit_does(logits: torch.Tensor) -> None:
    """DeiT's engine: targets.gt(0.0), with --smoothing 0.0."""
    from vitx.runtime.torchvision_ops import declare_missing_ops

    declare_missing_ops()
    from timm.data.mixup import mixup_target

    targets = mixup_target(torch.tensor([0, 1, 2, 3, 3, 0]), 4, lam=0.3, smoothing=0.0)
    expected = nn.functional.binary_cross_entropy_with_logits(logits, targets.gt(0.0).float())
    assert torch.equal(binary_cross_entropy()(logits, targets), expected)


@pytest.mark.parametrize("loss", Loss)
def test_half_precision_logits_are_scored_in_fp32(loss: Loss) -> None:
    generator = torch.Generator().manual_seed(1)
    logits = (torch.randn(8, 1000, generator=generator) * 3).bfloat16()
    labels = torch.arange(8)
    objective = build_objective(ObjectiveConfig(loss=loss), label_smoothing=0.1)
    found, _ = objective(Said(logits), batch(labels))
    function = FUNCTIONS[loss]
    assert found.dtype is torch.float32
    exact = function(0.1)(logits.double(), labels).item()
    assert found.item() == pytest.approx(exact, rel=1e-6)
    # What this is about: the same in half precision has two digits.
    assert function(0.1)(logits, labels).item() != pytest.approx(exact, rel=1e-4)


def test_the_loss_is_chosen_by_the_configuration(logits: torch.Tensor) -> None:
    labels = torch.tensor([0, 1, 2, 3, 3, 0])
    for kind, function in ((Loss.cross_entropy, cross_entropy), (Loss.bce, binary_cross_entropy)):
        objective = build_objective(ObjectiveConfig(loss=kind), label_smoothing=0.1)
        assert objective(Said(logits), batch(labels))[0] == function(0.1)(logits, labels)


def test_sigmoid_sums_over_classes_and_keeps_soft_targets() -> None:
    logits = torch.tensor([[1.0, -2.0, 0.5], [0.0, 3.0, -1.0]], dtype=torch.double)
    soft = torch.tensor([[0.7, 0.3, 0.0], [0.0, 0.0, 1.0]], dtype=torch.double)
    total = 0.0
    for row, targets in zip(logits.tolist(), soft.tolist(), strict=True):
        for logit, target in zip(row, targets, strict=True):
            probability = 1 / (1 + math.exp(-logit))
            total -= target * math.log(probability) + (1 - target) * math.log(1 - probability)
    assert sigmoid_cross_entropy()(logits, soft).item() == pytest.approx(total / 2)
    labels = torch.tensor([0, 2])
    smoothed = torch.full((2, 3), 0.1, dtype=torch.double)
    smoothed[[0, 1], labels] = 0.8
    expected = sigmoid_cross_entropy()(logits, smoothed)
    assert sigmoid_cross_entropy(0.3)(logits, labels).item() == pytest.approx(expected.item())
