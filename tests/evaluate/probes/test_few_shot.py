"""Few-shot ridge regression against scikit-learn and big_vision's decomposition in numpy."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from sklearn.linear_model import Ridge
from torch import Tensor

from vitx.errors import DataError, UsageError
from vitx.evaluate.probes.few_shot import draw, few_shot, ridge

N, Q, D, C = 300, 80, 40, 5


def drawn(rows: int, seed: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    centres = torch.randn(C, D, generator=torch.Generator().manual_seed(99))
    y = torch.randint(C, (rows,), generator=generator)
    return 3 + centres[y] + 1.5 * torch.randn(rows, D, generator=generator), y


def whitened(x: Tensor) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    wide = x.double().numpy()
    mean, std = wide.mean(0), wide.std(0) + 1e-5
    return np.c_[(wide - mean) / std, np.full(len(wide), 100.0)], mean, std


def decomposed(x: Tensor, y: Tensor, test: Tensor, strength: float) -> np.ndarray:
    """The [Q, C] scores by `_precompute_cache` and `_eig_fewshot_acc_fn`."""
    inputs, mean, std = whitened(x)
    targets = 2.0 * np.eye(C)[y.numpy()] - 1.0
    if inputs.shape[0] >= inputs.shape[1]:
        values, q = np.linalg.eigh(inputs.T @ inputs)
        right, left = q.T @ (inputs.T @ targets), q
    else:
        values, q = np.linalg.eigh(inputs @ inputs.T)
        right, left = q.T @ targets, inputs.T @ q
    weight = (left * (1.0 / (values + strength))) @ right
    asked = np.c_[(test.double().numpy() - mean) / std, np.full(len(test), 100.0)]
    return asked @ weight


@pytest.mark.parametrize("rows", [7, 40, 41, 42, 200])  # fewer than, as many as, more than inputs
@pytest.mark.parametrize("strength", [1e-3, 2.0**10])
def test_it_is_ridge_regression(rows: int, strength: float) -> None:
    (x, y), (test, _) = drawn(rows, 1), drawn(Q, 2)
    found = ridge(x, y, num_classes=C, strength=strength).scores(test).numpy()
    np.testing.assert_allclose(found, decomposed(x, y, test, strength), rtol=1e-6, atol=1e-6)

    inputs, mean, std = whitened(x)
    theirs = Ridge(alpha=strength, fit_intercept=False, solver="svd")
    theirs.fit(inputs, 2.0 * np.eye(C)[y.numpy()] - 1.0)
    asked = np.c_[(test.double().numpy() - mean) / std, np.full(len(test), 100.0)]
    np.testing.assert_allclose(found, theirs.predict(asked), rtol=1e-6, atol=1e-6)


def test_accuracies_are_those_of_the_formula() -> None:
    (x, y), (test, wanted) = drawn(N, 3), drawn(Q, 4)
    found = few_shot(x, y, test, wanted, num_classes=C)
    assert list(found) == [1, 5, 10, 25]
    for shots, result in found.items():
        expected = []
        for seed in range(3):
            generator = np.random.default_rng(seed)
            per_class = [generator.permutation(np.where(y == own)[0]) for own in range(C)]
            rows = np.concatenate([each[:shots] for each in per_class])
            scores = decomposed(x[rows], y[rows], test, 2.0**10)
            expected.append(100 * (scores.argmax(1) == wanted.numpy()).mean())
        assert result.top1_by_seed == pytest.approx(expected)
        assert result.top1 == pytest.approx(np.mean(expected))
        assert result.standard_error == pytest.approx(np.std(expected, ddof=1) / math.sqrt(3))
        assert result.samples == C * shots
    assert found[25].top1 > found[1].top1
    assert found[1].answers[0].loss.isnan().all()  # scores are no probabilities


def test_samples_follow_from_the_seed_and_grow() -> None:
    y = drawn(N, 5)[1]
    few, more = (draw(y, shots=shots, num_classes=C, seed=7) for shots in (2, 6))
    assert torch.equal(few, draw(y, shots=2, num_classes=C, seed=7))
    assert not torch.equal(few, draw(y, shots=2, num_classes=C, seed=8))
    assert set(few.tolist()) < set(more.tolist())
    assert y[more].bincount(minlength=C).tolist() == [6] * C


def test_small_and_empty_classes_and_dead_features() -> None:
    x, y = drawn(9, 8)[0][:, :3], torch.tensor([0] * 6 + [2] * 3)
    x[:, 1] = 4.0  # of all samples; its deviation is 0
    rows = draw(y, shots=5, num_classes=4, seed=0)
    assert y[rows].tolist() == [0] * 5 + [2] * 3
    found = few_shot(x, y, x + torch.tensor([0, 1.0, 0]), y, num_classes=4, shots=[5], seeds=[0])
    assert found[5].samples == 8
    assert set(found[5].answers[0].prediction.tolist()) <= {0, 2}
    assert math.isnan(found[5].standard_error)


def test_one_class_is_always_right() -> None:
    x, y = drawn(6, 9)[0], torch.zeros(6, dtype=torch.int64)
    assert few_shot(x, y, x, y, num_classes=1, shots=[2])[2].top1 == 100


def test_what_means_nothing_is_refused() -> None:
    x, y = drawn(N, 6)
    for wrong in ({"shots": [0]}, {"shots": []}, {"seeds": []}, {"strength": 0}):
        with pytest.raises(UsageError, match="expected some shots"):
            few_shot(x, y, x, y, num_classes=C, **wrong)  # type: ignore[arg-type]
    with pytest.raises(DataError, match="label 4: expected 0 to 2"):
        few_shot(x, y, x, y, num_classes=3)
    with pytest.raises(DataError, match="row 0 of the test features"):
        few_shot(x, y, torch.full((1, D), torch.nan), y[:1], num_classes=C)
