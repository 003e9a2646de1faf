"""Mixtures of answers against their definition, in float64."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from vitx.objectives.lesson import Answer, Lesson

B, C = 6, 4


def answer(seed: int) -> Answer:
    logits = torch.from_numpy(np.random.default_rng(seed).normal(size=(B, C)) * 3)
    return Answer(logits=logits, classes=logits.argmax(1))


def softmax(logits: Tensor, temperature: float) -> np.ndarray:
    powers = np.exp(logits.numpy() / temperature)
    return powers / powers.sum(1, keepdims=True)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0])
def test_several_are_averaged_in_their_probabilities(temperature: float) -> None:
    answers = [answer(seed) for seed in range(3)]
    lesson = Lesson.average([Lesson([(1.0, each)]) for each in answers])
    expected = np.mean([softmax(each.logits, temperature) for each in answers], axis=0)
    np.testing.assert_allclose(lesson.log_probabilities(temperature).exp(), expected, rtol=1e-12)
    plain = np.mean([softmax(each.logits, 1.0) for each in answers], axis=0)
    assert lesson.classes.tolist() == plain.argmax(1).tolist()


def test_a_mixture_has_each_pictures_own_share() -> None:
    own = answer(0)
    share = torch.linspace(0, 1, B).double()[:, None]
    lesson = Lesson([(share, own), (1 - share, own.reversed())])
    one = softmax(own.logits, 1.0)
    expected = share.numpy() * one + (1 - share.numpy()) * one[::-1]
    np.testing.assert_allclose(lesson.log_probabilities().exp(), expected, rtol=1e-6)
    assert lesson.classes.tolist() == expected.argmax(1).tolist()


def test_mixtures_of_several_teachers() -> None:
    both = [Lesson([(0.25, each), (0.75, each.reversed())]) for each in (answer(1), answer(2))]
    expected = np.mean([each.log_probabilities().exp().numpy() for each in both], axis=0)
    np.testing.assert_allclose(Lesson.average(both).log_probabilities().exp(), expected, rtol=1e-12)


def test_one_alone_is_left_to_its_last_bit() -> None:
    own = Answer.of(answer(0).logits)
    lesson = Lesson.average([Lesson([(1.0, own)])])
    assert torch.equal(lesson.log_probabilities(3.0), (own.logits / 3.0).log_softmax(1))
    assert lesson.classes is own.classes
