"""DINO's linear probe against gradients written out in numpy float64."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from vitx.errors import NonFiniteError
from vitx.evaluate.probes.sgd import sgd_probe
from vitx.runtime.seeds import derive

N, D, C, B, EPOCHS = 130, 12, 4, 32, 6


def drawn(seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    centres = 2 * torch.randn(C, D, generator=torch.Generator().manual_seed(9))
    y = torch.randint(C, (N,), generator=generator)
    return centres[y] + torch.randn(N, D, generator=generator), y


def learning_rates(peak: float) -> list[float]:
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=peak)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, EPOCHS, eta_min=0)
    rates = []
    for _ in range(EPOCHS):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    return rates


def by_hand(copies: list[Tensor], y: Tensor, seed: int) -> tuple[np.ndarray, np.ndarray]:
    def seeded(purpose: str, *counters: int) -> torch.Generator:
        return torch.Generator().manual_seed(derive(purpose, seed, *counters))

    weight = 0.01 * torch.randn(C, D, generator=seeded("probe weights")).double().numpy()
    bias, labels = np.zeros(C), y.numpy()
    velocity = np.zeros((C, D)), np.zeros(C)
    for epoch, rate in enumerate(learning_rates(0.1 * B / 256)):
        order = torch.randperm(N, generator=seeded("probe order", epoch)).numpy()
        x = copies[epoch % len(copies)].double().numpy()
        for start in range(0, N, B):
            rows = order[start : start + B]
            logits = x[rows] @ weight.T + bias
            shares = np.exp(logits - logits.max(1, keepdims=True))
            shares /= shares.sum(1, keepdims=True)
            shares[np.arange(len(rows)), labels[rows]] -= 1
            gradients = shares.T @ x[rows] / len(rows), shares.mean(0)
            velocity = tuple(0.9 * v + g for v, g in zip(velocity, gradients, strict=True))
            weight, bias = weight - rate * velocity[0], bias - rate * velocity[1]
    return weight, bias


@pytest.mark.parametrize("copies", [1, 2])
def test_it_is_momentum_and_a_cosine(copies: int) -> None:
    (x, y), other = drawn(), drawn(1)[0]
    every = [x, x + 0.1 * other][:copies]
    probe = sgd_probe(
        every, y, num_classes=C, seed=5, epochs=EPOCHS, batch_size=B, reference_lr=0.1
    )
    weight, bias = by_hand(every, y, 5)
    np.testing.assert_allclose(probe.classifier.weight, weight, atol=1e-5)
    np.testing.assert_allclose(probe.classifier.bias, bias, atol=1e-5)
    assert probe.lr == pytest.approx(0.1 * B / 256)
    assert len(probe.train_loss) == EPOCHS
    assert probe.train_loss[-1] < probe.train_loss[0]


def test_a_seed_says_all_and_nothing_else_does() -> None:
    x, y = drawn()
    before = torch.get_rng_state()
    one, same, other = (
        sgd_probe([x], y, num_classes=C, seed=seed, epochs=2).classifier.weight
        for seed in (1, 1, 2)
    )
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(one, same)
    assert not torch.equal(one, other)


def test_the_best_epoch_and_the_last_are_told_apart() -> None:
    (x, y), test = drawn(), drawn(2)
    probe = sgd_probe(
        [x], y, num_classes=C, seed=0, epochs=5, batch_size=16, reference_lr=1, test=test
    )
    assert len(probe.test_top1) == 5
    assert probe.test_top1[-1] == probe.classifier.answers(*test).top()
    assert probe.best_top1 == max(probe.test_top1) > 80
    assert sgd_probe([x], y, num_classes=C, seed=0, epochs=1).test_top1 == ()


def test_divergence_is_told() -> None:
    x, y = drawn()
    with pytest.raises(NonFiniteError, match="diverged in epoch"):
        sgd_probe([1e18 * x], y, num_classes=C, seed=0, epochs=50, reference_lr=1e18, batch_size=B)
