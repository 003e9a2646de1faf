"""Logistic regression against plain scikit-learn, and the choice of its strength."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from torch import Tensor

from vitx.errors import DataError, UsageError
from vitx.evaluate.probes.linear import hold_out
from vitx.evaluate.probes.logistic import best_exponent, logistic
from vitx.runtime.seeds import derive

C = 10


def digits() -> tuple[Tensor, Tensor]:
    found = load_digits()
    return torch.from_numpy(found.data[:400] / 16), torch.from_numpy(found.target[:400])


def test_a_given_strength_is_plain_scikit_learn() -> None:
    x, y = digits()
    plain = LogisticRegression(C=0.316, max_iter=1000).fit(x[:300].numpy(), y[:300].numpy())
    probe = logistic(x[:300], y[:300], num_classes=C, strength=0.316)
    assert probe.converged
    assert probe.validation_top1 == {}
    expected = plain.predict_proba(x[300:].numpy())
    found = probe.classifier.scores(x[300:]).softmax(1)
    np.testing.assert_allclose(found, expected, atol=1e-12)
    answers = probe.classifier.answers(x[300:], y[300:])
    np.testing.assert_array_equal(answers.prediction, plain.predict(x[300:].numpy()))
    np.testing.assert_allclose(answers.loss, -np.log(expected[np.arange(100), y[300:]]), atol=1e-9)


def test_the_strength_is_that_of_the_best_held_out_accuracy() -> None:
    x, y = digits()
    x, y = x[y < 4][:90, 20:36], y[y < 4][:90]  # quick, and not all strengths are equally good
    probe = logistic(x, y, num_classes=C, seed=3, share=0.3)
    held = hold_out(y, share=0.3, seed=derive("probe hold-out", 3))
    assert probe.held_out == int(held.sum()) > 20
    for strength, top1 in probe.validation_top1.items():
        plain = LogisticRegression(C=strength, max_iter=1000).fit(x[~held].numpy(), y[~held])
        assert top1 == pytest.approx(100 * plain.score(x[held].numpy(), y[held]))
    highest = max(probe.validation_top1.values())
    assert highest > min(probe.validation_top1.values())
    best = [each for each, top1 in probe.validation_top1.items() if top1 == highest]
    assert probe.strength in best
    # Fitted again on all of them.
    plain = LogisticRegression(C=probe.strength, max_iter=1000).fit(x.numpy(), y.numpy())
    found = probe.classifier.scores(x).softmax(1)[:, :4]
    np.testing.assert_allclose(found, plain.predict_proba(x.numpy()), atol=1e-12)


@pytest.mark.parametrize("peak", [-48, -31, 0, 7, 48])
def test_the_sweep_finds_a_peak_in_few_fits(peak: int) -> None:
    told: dict[int, float] = {}
    assert best_exponent(lambda exponent: (-abs(exponent - peak), 0.0), told) == peak
    assert len(told) <= 15
    assert set(told) <= set(range(-48, 49))


def test_of_equal_strengths_the_smallest_is_taken() -> None:
    assert best_exponent(lambda _: (50.0, 0.0), {}) == -48
    assert best_exponent(lambda exponent: (50.0, -abs(exponent - 9)), {}) == 9


def test_a_fit_that_does_not_converge_says_so() -> None:
    x, y = digits()
    probe = logistic(x, y, num_classes=C, share=0.2, max_iterations=3)
    assert not probe.converged
    assert probe.iterations == 3
    assert 1.0 in probe.unconverged


def test_two_classes_and_classes_without_samples() -> None:
    x, y = digits()
    some = (y == 3) | (y == 7)
    probe = logistic(x[some], y[some], num_classes=C, strength=1.0)
    plain = LogisticRegression(C=1.0, max_iter=1000).fit(x[some].numpy(), y[some].numpy())
    found = probe.classifier.scores(x).softmax(1)
    np.testing.assert_allclose(found[:, [3, 7]], plain.predict_proba(x.numpy()), atol=1e-12)
    assert found[:, [0, 1, 2, 4, 5, 6, 8, 9]].abs().max() == 0
    answers = probe.classifier.answers(x, y)
    assert answers.loss[~some].isinf().all()
    assert set(answers.prediction.tolist()) <= {3, 7}


def test_float32_is_fitted_as_float32() -> None:
    x, y = digits()
    plain = LogisticRegression(C=1.0, max_iter=1000).fit(x.float().numpy(), y.numpy())
    probe = logistic(x.float(), y, num_classes=C, strength=1.0)
    np.testing.assert_array_equal(probe.classifier.weight, plain.coef_.astype(np.float64))


def test_every_class_is_held_out_alike() -> None:
    y = torch.tensor([0] * 50 + [1] * 21 + [2] * 3 + [3])
    held = hold_out(y, share=0.3, seed=1)
    assert [int(held[y == each].sum()) for each in range(4)] == [15, 6, 1, 0]
    assert torch.equal(held, hold_out(y, share=0.3, seed=1))
    assert not torch.equal(held, hold_out(y, share=0.3, seed=2))


def test_what_can_not_be_fitted_is_refused() -> None:
    x, y = digits()
    with pytest.raises(DataError, match="two classes; there is one"):
        logistic(x[:3], torch.zeros(3, dtype=torch.int64), num_classes=C)
    with pytest.raises(UsageError, match="leaves none to validate on"):
        logistic(x[:4], torch.arange(4), num_classes=C)
    with pytest.raises(DataError, match="row 1 of the training features"):
        x[1] = torch.nan
        logistic(x, y, num_classes=C)
