"""What is said of each sample, against scikit-learn, numpy, and a slow reference that sorts."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from sklearn.metrics import brier_score_loss, log_loss, top_k_accuracy_score

from vitx.errors import DataError
from vitx.evaluate.answers import NOWHERE, Answers, ranks
from vitx.evaluate.probes.inputs import check_features

Q, C = 400, 9


def drawn() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(Q, C, generator=generator), torch.randint(C, (Q,), generator=generator)


def test_of_logits_is_what_scikit_learn_says() -> None:
    logits, labels = drawn()
    answers = Answers.of_logits(logits, labels)
    probabilities = torch.softmax(logits.double(), 1).numpy()
    classes = np.arange(C)
    for k in (1, 5):
        theirs = top_k_accuracy_score(labels, probabilities, k=k, labels=classes)
        assert answers.top(k) == pytest.approx(100 * theirs)
    assert answers.loss.mean() == pytest.approx(log_loss(labels, probabilities, labels=classes))
    theirs = brier_score_loss(labels, probabilities, labels=classes, scale_by_half=False)
    assert answers.brier.mean() == pytest.approx(theirs)
    np.testing.assert_allclose(answers.confidence, probabilities.max(1), rtol=1e-6)
    order = np.argsort(-probabilities, axis=1, kind="stable")
    np.testing.assert_array_equal(answers.rank, (order == labels.numpy()[:, None]).argmax(1))
    np.testing.assert_array_equal(answers.prediction, order[:, 0])


def test_of_equal_scores_the_lower_class_comes_first() -> None:
    scores = torch.tensor([[2.0, 1.0, 2.0, 1.0]] * 4)
    answers = Answers.of(scores, torch.arange(4))
    assert answers.rank.tolist() == [0, 2, 1, 3]
    assert answers.prediction.tolist() == [0] * 4
    assert answers.loss.isnan().all() and answers.confidence.isnan().all()


def test_one_class_is_certain() -> None:
    answers = Answers.of_logits(torch.zeros(3, 1), torch.zeros(3, dtype=torch.int64))
    assert (answers.top(), answers.loss.tolist(), answers.brier.tolist()) == (100, [0] * 3, [0] * 3)


def test_parts_are_joined_in_order() -> None:
    logits, labels = drawn()
    whole = Answers.of_logits(logits, labels)
    parts = [
        Answers.of_logits(*each) for each in zip(logits.split(70), labels.split(70), strict=True)
    ]
    assert torch.equal(Answers.joined(parts).loss, whole.loss)
    assert Answers.joined(parts).correct_count(5) == whole.correct_count(5)


def test_labels_and_features_that_are_none_are_refused() -> None:
    for wrong in (-100, C):
        with pytest.raises(DataError, match=f"label {wrong}: expected 0 to {C - 1}"):
            Answers.of_logits(drawn()[0][:1], torch.tensor([wrong]))
    with pytest.raises(DataError, match="no sample"):
        Answers.of_logits(torch.zeros(0, 2), torch.zeros(0, dtype=torch.int64))
    features = torch.zeros(40_000, 2)
    check_features(features, "training features")
    features[39_000, 1] = torch.nan
    with pytest.raises(DataError, match="row 39000 of the training features"):
        check_features(features, "training features")
    with pytest.raises(DataError, match="expected"):
        check_features(torch.zeros(3), "training features")


def in_top_k(logits: torch.Tensor, labels: torch.Tensor, k: int) -> torch.Tensor:
    return ranks(logits, labels) < k


def slow_in_top_k(row: np.ndarray, label: int, k: int) -> bool:
    """Rank by hand: a NaN before every number, else higher scores first, then lower numbers."""
    if math.isnan(row[label]):
        return False
    order = sorted(
        range(len(row)), key=lambda c: (not math.isnan(row[c]), -np.nan_to_num(row[c]), c)
    )
    return label in order[:k]


@pytest.mark.parametrize("classes", [1, 2, 3, 4, 5, 6, 11])
@pytest.mark.parametrize("k", [1, 5])
def test_like_the_slow_reference(classes: int, k: int) -> None:
    draw = np.random.default_rng(classes)
    # Few values, so that most rows have ties, and here and there a NaN.
    scores = draw.integers(-2, 3, (400, classes)).astype(np.float32)
    scores[draw.random(scores.shape) < 0.05] = np.nan
    labels = draw.integers(0, classes, 400)
    expected = [slow_in_top_k(row, label, k) for row, label in zip(scores, labels, strict=True)]
    found = in_top_k(torch.from_numpy(scores), torch.from_numpy(labels), k)
    assert found.tolist() == expected
    assert 0 < sum(expected) < 400


@pytest.mark.parametrize("k", [1, 3, 5])
def test_without_ties_it_is_topk_of_torch(k: int) -> None:
    logits = torch.randn(500, 20, generator=torch.Generator().manual_seed(0))
    labels = torch.randint(0, 20, (500,), generator=torch.Generator().manual_seed(1))
    expected = (logits.topk(k).indices == labels[:, None]).any(1)
    assert torch.equal(in_top_k(logits, labels, k), expected)


def test_equal_scores_give_no_free_points() -> None:
    """A model that says nothing is right as often as a guess, not always."""
    labels = torch.arange(10)
    assert in_top_k(torch.zeros(10, 10), labels, 1).sum() == 1
    assert in_top_k(torch.zeros(10, 10), labels, 5).sum() == 5


def test_infinities() -> None:
    logits = torch.tensor([[math.inf, -math.inf, 0.0]] * 3)
    labels = torch.tensor([0, 1, 2])
    assert in_top_k(logits, labels, 1).tolist() == [True, False, False]
    assert in_top_k(logits, labels, 2).tolist() == [True, False, True]
    assert in_top_k(logits, labels, 3).tolist() == [True, True, True]


def test_all_nan_is_all_wrong() -> None:
    logits = torch.full((4, 3), math.nan)
    assert not in_top_k(logits, torch.tensor([0, 1, 2, 0]), 5).any()


@pytest.mark.parametrize("classes", [1, 2, 1000])
def test_losses_are_those_of_float64(classes: int) -> None:
    draw = np.random.default_rng(classes)
    # Far from zero, where the log of a float32 softmax would be minus infinity.
    scores = (draw.normal(size=(50, classes)) * 60).astype(np.float32)
    labels = draw.integers(0, classes, 50)
    expected = []
    for row, label in zip(scores.tolist(), labels.tolist(), strict=True):
        largest = max(row)
        total = math.log(math.fsum(math.exp(x - largest) for x in row)) + largest
        expected.append(total - row[label])
    found = Answers.of_logits(torch.from_numpy(scores), torch.from_numpy(labels)).loss
    assert found.tolist() == pytest.approx(expected, rel=1e-13, abs=1e-12)


@pytest.mark.parametrize("classes", [1, 2, 7])
def test_brier_scores_are_those_of_scikit_learn(classes: int) -> None:
    draw = np.random.default_rng(classes)
    scores, labels = draw.normal(size=(60, classes)) * 3, draw.integers(0, classes, 60)
    found = Answers.of_logits(torch.from_numpy(scores), torch.from_numpy(labels)).brier
    likely = np.exp(scores) / np.exp(scores).sum(1, keepdims=True)
    expected = ((likely - np.eye(classes)[labels]) ** 2).sum(1)
    assert found.tolist() == pytest.approx(expected.tolist(), abs=1e-14)
    if classes == 2:  # scikit-learn's is of the second class alone: half of it
        assert found.mean() / 2 == pytest.approx(brier_score_loss(labels, likely[:, 1]))


def test_a_label_without_a_score_is_nowhere() -> None:
    assert ranks(torch.tensor([[math.nan, 1.0]]), torch.tensor([0])).tolist() == [NOWHERE]
