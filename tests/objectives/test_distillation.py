"""Distillation against closed forms, worked out in float64 by numpy."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from vitx.config.schema import DistillationConfig, Divided, ObjectiveConfig, Teaching
from vitx.objectives.classification import build_loss, build_objective
from vitx.objectives.distillation import AskTeachers, build_distillation, hard, soft
from vitx.objectives.lesson import Answer, Lesson
from vitx.records import Batch, Place

B, C = 5, 7


def draw(*shape: int, seed: int) -> Tensor:
    return torch.from_numpy(np.random.default_rng(seed).normal(size=shape) * 3)


def lesson(logits: Tensor) -> Lesson:
    """Return what one teacher says, in the digits of float64."""
    return Lesson([(1.0, Answer(logits=logits, classes=logits.argmax(1)))])


def log_softmax(logits: np.ndarray) -> np.ndarray:
    return logits - np.log(np.exp(logits).sum(1, keepdims=True))


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
@pytest.mark.parametrize(("divided", "count"), [(Divided.batch, B), (Divided.numel, B * C)])
def test_soft_is_the_divergence_times_the_square(
    temperature: float, divided: Divided, count: int
) -> None:
    student, teacher = draw(B, C, seed=0), draw(B, C, seed=1)
    config = DistillationConfig(temperature=temperature, divided_by=divided)

    log_q = log_softmax(student.numpy() / temperature)
    log_p = log_softmax(teacher.numpy() / temperature)
    expected = temperature**2 * (np.exp(log_p) * (log_p - log_q)).sum() / count

    assert soft(config)(student, lesson(teacher)).item() == pytest.approx(expected, rel=1e-12)
    assert soft(config)(teacher, lesson(teacher)).item() == 0
    assert soft(config)(teacher + 4, lesson(teacher)).item() == pytest.approx(0, abs=1e-12)


def test_softness_fades_into_squared_distance() -> None:
    # Hinton et al., section 2.1: for high temperatures and centred logits it becomes
    # 1 / (2 C) times the squared distance of the logits.
    student, teacher = draw(B, C, seed=0), draw(B, C, seed=1)
    student, teacher = (each - each.mean(1, keepdim=True) for each in (student, teacher))
    loss = soft(DistillationConfig(temperature=1e4))(student, lesson(teacher))
    assert loss.item() == pytest.approx(
        ((student - teacher) ** 2).sum().item() / (2 * C * B), rel=1e-3
    )


def test_hard_is_the_cross_entropy_with_the_teachers_class() -> None:
    student, teacher = draw(B, C, seed=0), draw(B, C, seed=1)
    rows = log_softmax(student.numpy())[np.arange(B), teacher.numpy().argmax(1)]
    assert hard(student, lesson(teacher)).item() == pytest.approx(-rows.mean(), rel=1e-12)
    certain = 1e3 * torch.eye(C)[:B].double()
    assert hard(certain, lesson(certain)).item() == 0


class Student(nn.Module):
    """Gives one logit or, as with a distillation token, two."""

    def __init__(self, *, heads: int) -> None:
        super().__init__()
        self.heads = nn.ModuleList(nn.Linear(3, C) for _ in range(heads))

    def forward(self, images: Tensor) -> Any:
        said = tuple(head(images.flatten(1)) for head in self.heads)
        return said if len(said) > 1 else said[0]


@pytest.fixture
def batch() -> Batch:
    return Batch(
        images=draw(B, 3, 1, 1, seed=2).float(),
        targets=torch.tensor([0, 1, 2, 3, 4]),
        indices=torch.arange(B),
        place=Place(0, 0, 0),
    )


@pytest.fixture
def teacher() -> nn.Module:
    return nn.Sequential(nn.BatchNorm2d(3), nn.Flatten(), nn.Linear(3, C)).eval()


def asking(teacher: nn.Module) -> AskTeachers:
    return lambda batch: Lesson([(1.0, Answer.of(teacher(batch.images)))])


CROSS = build_loss(ObjectiveConfig(), label_smoothing=0.1)


def config(loss: Teaching, weight: float) -> DistillationConfig:
    return DistillationConfig(loss=loss, weight=weight, temperature=2.0)


@pytest.mark.parametrize("loss", Teaching)
def test_without_weight_it_is_the_plain_loss_bit_for_bit(
    loss: Teaching, batch: Batch, teacher: nn.Module
) -> None:
    student = Student(heads=1)
    plain, _ = build_objective(ObjectiveConfig(), label_smoothing=0.1)(student, batch)
    distilled, terms = build_distillation(config(loss, 0.0), CROSS, asking(teacher))(student, batch)
    assert torch.equal(plain, distilled)
    assert torch.equal(terms["label_loss"], plain)


@pytest.mark.parametrize("loss", Teaching)
@pytest.mark.parametrize("heads", [1, 2])
def test_the_parts_are_weighed_and_told(
    loss: Teaching, heads: int, batch: Batch, teacher: nn.Module
) -> None:
    student = Student(heads=heads)
    settings = config(loss, 0.25)
    total, terms = build_distillation(settings, CROSS, asking(teacher))(student, batch)

    outputs = student(batch.images)
    labelled, taught = outputs if heads == 2 else (outputs, outputs)
    said = teacher(batch.images)
    distance = (soft(settings) if loss is Teaching.soft else hard)(taught, lesson(said))
    assert total.item() == pytest.approx(
        (0.75 * CROSS(labelled, batch.targets) + 0.25 * distance).item()
    )
    assert terms["teacher_loss"].item() == pytest.approx(distance.item())
    right = (said.argmax(1) == batch.targets).float().mean().item()
    agreed = (said.argmax(1) == taught.argmax(1)).float().mean().item()
    assert terms["teacher_top1"].item() == pytest.approx(100 * right)
    assert terms["agreement"].item() == pytest.approx(100 * agreed)


@pytest.mark.parametrize("loss", Teaching)
def test_each_head_learns_its_own_and_the_teacher_nothing(
    loss: Teaching, batch: Batch, teacher: nn.Module
) -> None:
    before = {name: value.clone() for name, value in teacher.state_dict().items()}
    for weight, silent in ((0.0, 1), (1.0, 0)):
        student = Student(heads=2)
        total, _ = build_distillation(config(loss, weight), CROSS, asking(teacher))(student, batch)
        total.backward()
        for number, head in enumerate(student.heads):
            moved = float(head.weight.grad.abs().sum())
            assert (moved == 0) == (number == silent)
    assert all(each.grad is None for each in teacher.parameters())
    assert all(torch.equal(before[name], value) for name, value in teacher.state_dict().items())


def test_mixed_targets_count_by_their_larger_part(batch: Batch, teacher: nn.Module) -> None:
    named = teacher(batch.images).argmax(1)
    mixed = 0.6 * torch.eye(C)[named] + 0.4 * torch.eye(C)[(named + 1) % C]
    _, terms = build_distillation(config(Teaching.hard, 0.5), CROSS, asking(teacher))(
        Student(heads=1), replace(batch, targets=mixed)
    )
    assert terms["teacher_top1"].item() == 100
