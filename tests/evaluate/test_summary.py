"""The numbers of an evaluation against scikit-learn, scipy and sums by hand."""

import math

import numpy as np
import pytest
import torch
from scipy.stats import binomtest, norm
from sklearn.metrics import (
    balanced_accuracy_score,
    confusion_matrix,
    log_loss,
    top_k_accuracy_score,
)

from vitx.evaluate.calibration import calibration, fit_temperature, tempered
from vitx.evaluate.judging import PLAIN, PerSample, Rules, judge
from vitx.evaluate.summary import mean_per_class, most_confused, per_class, summarise


def drawn(count: int, classes: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    draw = torch.Generator().manual_seed(seed)
    logits = 2 * torch.randn(count, classes, generator=draw)
    return logits, torch.randint(0, classes, (count,), generator=draw)


def judged(logits: torch.Tensor, labels: torch.Tensor, rules: Rules = PLAIN) -> PerSample:
    return judge(logits, labels, torch.arange(len(labels)), rules)


def names(classes: int) -> list[str]:
    return [f"class-{number}" for number in range(classes)]


@pytest.mark.parametrize("classes", [2, 3, 7, 40])
def test_against_scikit_learn(classes: int) -> None:
    logits, labels = drawn(500, classes)
    found = summarise(judged(logits, labels), names(classes))

    likely = logits.double().softmax(1).numpy()
    truth, said = labels.numpy(), logits.argmax(1).numpy()
    every = range(classes)
    assert found["top1"] == pytest.approx(100 * (truth == said).mean())
    assert found["loss"] == pytest.approx(log_loss(truth, likely, labels=every), rel=1e-12)
    assert found["mean_per_class"] == pytest.approx(100 * balanced_accuracy_score(truth, said))
    if classes > 5:
        expected = top_k_accuracy_score(truth, likely, k=5, labels=every)
        assert found["top5"] == pytest.approx(100 * expected)
    matrix = confusion_matrix(truth, said, labels=every)
    wrong = matrix - np.diag(np.diag(matrix))
    assert [each["count"] for each in found["confusions"]] == sorted(
        wrong[wrong > 0].tolist(), reverse=True
    )[:20]
    wilson = binomtest(int((truth == said).sum()), 500).proportion_ci(method="wilson")
    assert found["top1_interval"] == pytest.approx([100 * wilson.low, 100 * wilson.high])


def test_one_class_one_sample_and_classes_without_any() -> None:
    alone = summarise(judged(torch.zeros(3, 1), torch.zeros(3, dtype=torch.int64)), ["only"])
    assert (alone["top1"], alone["loss"], alone["brier"], alone["ece"]) == (100, 0, 0, 0)
    assert alone["mean_per_class"] == 100

    one = summarise(judged(torch.tensor([[0.0, 1.0]]), torch.tensor([0])), ["a", "b"])
    assert (one["top1"], one["loss_interval"], one["count"]) == (0, None, 1)

    logits, labels = drawn(50, 4)
    some = summarise(judged(logits, labels % 2), names(4))
    assert [each["name"] for each in some["per_class"]] == ["class-0", "class-1"]
    assert some["mean_per_class"] == pytest.approx(np.mean([x["top1"] for x in some["per_class"]]))


def test_ties_go_to_the_first_class() -> None:
    samples = judged(torch.zeros(4, 3), torch.tensor([0, 1, 2, 0]))
    assert samples.prediction.tolist() == [0, 0, 0, 0]
    assert samples.rank.tolist() == [0, 1, 2, 0]
    assert most_confused(samples, ["a", "b", "c"]) == [
        {"label": "b", "prediction": "a", "count": 1},
        {"label": "c", "prediction": "a", "count": 1},
    ]


def test_classes_that_do_not_count_are_as_if_the_model_had_them_not() -> None:
    logits, labels = drawn(200, 9)
    among = (1, 2, 5, 8)
    own = torch.tensor(among)[labels % 4]
    found = judged(logits, own, Rules(among=among))
    alone = judged(logits[:, list(among)], labels % 4)

    assert found.prediction.tolist() == [among[each] for each in alone.prediction]
    for column in ("correct", "rank", "confidence", "loss", "brier"):
        assert getattr(found, column).tolist() == getattr(alone, column).tolist()


def test_any_of_several_labels_is_right() -> None:
    logits, labels = drawn(300, 6)
    draw = np.random.default_rng(1)
    accepted = [sorted({*draw.integers(0, 6, 3).tolist()}) for _ in range(300)]
    found = judged(logits, labels, Rules(accepted=accepted))

    order = torch.sort(logits, dim=1, descending=True, stable=True).indices.tolist()
    for row, right in enumerate(accepted):
        assert found.correct[row] == (order[row][0] in right)
        assert found.rank[row] == min(order[row].index(each) for each in right)


def test_a_number_depends_on_no_batches() -> None:
    logits, labels = drawn(97, 5)
    parts = [
        judge(logits[rows], labels[rows], torch.tensor(rows)).as_plain()
        for rows in (list(range(0, 97, 3)), list(range(1, 97, 3)), list(range(2, 97, 3)))
    ]
    together = summarise(PerSample.joined(parts), names(5))
    assert together == summarise(judged(logits, labels), names(5))


def test_the_calibration_error_by_hand() -> None:
    draw = np.random.default_rng(0)
    sure, right = draw.random(400).astype(np.float32), draw.random(400) < 0.6
    for bins in (1, 10, 15):
        expected = 0.0
        for number in range(bins):
            within = (sure > number / bins) & (sure <= (number + 1) / bins)
            if within.any():
                gap = abs(sure[within].astype(float).mean() - right[within].mean())
                expected += within.mean() * gap
        found = calibration(sure, right, bins=bins)
        assert found.ece == pytest.approx(expected, rel=1e-6)
        assert found.signed_ece == pytest.approx(sure.astype(float).mean() - right.mean())
        assert found.ece >= abs(found.signed_ece) - 1e-12


def test_certain_and_right_or_wrong() -> None:
    sure = np.ones(10, np.float32)
    assert calibration(sure, np.ones(10, bool)).ece == 0
    assert calibration(sure, np.zeros(10, bool)).ece == 1
    assert calibration(np.zeros(10, np.float32), np.zeros(10, bool)).ece == 0


@pytest.mark.parametrize("over", [0.0, 0.03, 0.1])
def test_intervals_of_calibration_hold(over: float) -> None:
    """Confidence is drawn, and what is right follows from it; so the truth is known."""
    draw = np.random.default_rng(int(100 * over))
    held, signed, below = 0, 0, 0
    for _ in range(200):
        sure = draw.beta(5, 2, 800)
        found = calibration(sure, draw.random(800) < np.clip(sure - over, 0, 1))
        held += found.ece_interval[0] <= over <= found.ece_interval[1]
        signed += found.signed_ece_interval[0] <= over <= found.signed_ece_interval[1]
        below += found.ece <= found.ece_if_calibrated
    assert held >= 186  # 95 %, less two and a half deviations of 200 tries
    assert 182 <= signed <= 198
    if over == 0:
        assert 180 <= below <= 198


def test_the_interval_of_the_mean_per_class_holds() -> None:
    draw = np.random.default_rng(0)
    counts, chances = np.array([10, 20, 40, 80]), np.array([0.9, 0.5, 0.7, 0.97])
    truth, held = 100 * chances.mean(), 0
    labels = np.repeat(np.arange(4), counts)
    for _ in range(400):
        right = draw.random(len(labels)) < chances[labels]
        logits = torch.zeros(len(labels), 4)
        said = np.where(right, labels, (labels + 1) % 4)
        logits[torch.arange(len(labels)), torch.from_numpy(said)] = 5.0
        samples = judged(logits, torch.from_numpy(labels))
        _, (low, high) = mean_per_class(per_class(samples, names(4)))
        held += low <= truth <= high
    assert 369 <= held <= 396  # 95 %, and two and a half deviations of 400 tries


def test_the_temperature_that_was_put_in_is_found() -> None:
    draw = torch.Generator().manual_seed(0)
    logits = torch.randn(20_000, 5, generator=draw).double()
    labels = torch.multinomial(logits.softmax(1), 1, generator=draw).squeeze(1).numpy()
    assert fit_temperature((3 * logits).numpy(), labels) == pytest.approx(3, rel=0.03)

    found = tempered((3 * logits).numpy(), labels)
    assert found.temperatures == pytest.approx((3, 3), rel=0.05)
    expected = log_loss(labels, logits.softmax(1).numpy(), labels=range(5))
    assert found.loss == pytest.approx(expected, rel=1e-3)
    assert found.calibration.ece < found.calibration.ece_if_calibrated * 1.5
    before = calibration(
        (3 * logits).softmax(1).amax(1).numpy(), (logits.argmax(1).numpy() == labels)
    )
    assert before.ece > 0.2


def test_a_fold_is_scaled_by_the_temperature_of_the_other() -> None:
    logits, labels = drawn(40, 3)
    scores, truth = logits.double().numpy(), labels.numpy()
    found = tempered(scores, truth)
    even = np.arange(40) % 2 == 0
    assert found.temperatures == (
        fit_temperature(scores[~even], truth[~even]),
        fit_temperature(scores[even], truth[even]),
    )
    halves = [
        torch.nn.functional.cross_entropy(
            logits[rows].double() / temperature, labels[rows], reduction="sum"
        ).item()
        for rows, temperature in zip((even, ~even), found.temperatures, strict=True)
    ]
    assert found.loss == pytest.approx(sum(halves) / 40, rel=1e-12)


def test_the_interval_of_the_loss_is_that_of_the_normal_approximation() -> None:
    logits, labels = drawn(60, 4)
    samples = judged(logits, labels)
    low, high = summarise(samples, names(4))["loss_interval"]
    error = samples.loss.std(ddof=1) / math.sqrt(60)
    assert (low, high) == pytest.approx(norm.interval(0.95, samples.loss.mean(), error))
