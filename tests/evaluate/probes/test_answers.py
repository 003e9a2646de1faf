"""The columns of a per-sample table against scikit-learn and numpy."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.metrics import brier_score_loss, log_loss, top_k_accuracy_score

from vitx.errors import DataError
from vitx.evaluate.probes.answers import Answers, check_features

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
