"""Distillation: a loss on labels and a loss on what teachers say.

Shapes: B batch, C classes.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F  # noqa: N812 (the field's name for it)
from torch import Tensor, nn

from vitx.config.schema import DistillationConfig, Divided, Teaching
from vitx.objectives.classification import LossFunction, Objective, Terms
from vitx.objectives.features import FeatureMatching
from vitx.objectives.lesson import Lesson
from vitx.records import Batch

AskTeachers = Callable[[Batch], Lesson]
"""Says what the teachers think of a batch as the student sees it; nothing is tracked."""


def build_distillation(
    config: DistillationConfig,
    loss_of_labels: LossFunction,
    tutor: AskTeachers,
    matching: FeatureMatching | None = None,
) -> Objective:
    """Return the objective `(1 - w) labels + w teacher`, and the distance of features besides.

    A student with a distillation token gives two logits in training: the first learn the labels,
    the second from the teacher (DeiT, arXiv 2012.12877). One with a single head learns both
    with it (XCiT, arXiv 2106.09681).

    Args:
        config: loss and weight of the teacher.
        loss_of_labels: of [B, C] logits and targets.
        tutor: who is asked, about the pictures as they are augmented and mixed.
        matching: compares features of the student's last pass and the teacher's.
    """
    loss_of_teacher = soft(config) if config.loss is Teaching.soft else hard
    weight = config.weight

    def distil(model: nn.Module, batch: Batch) -> tuple[Tensor, Terms]:
        said = model(batch.images)
        logits, taught = said if isinstance(said, tuple) else (said, said)
        # Losses in fp32: log-softmax of bf16 logits has two digits.
        logits, taught = logits.float(), taught.float()
        with torch.no_grad():
            lesson = tutor(batch)
        classes = lesson.classes
        labels = loss_of_labels(logits, batch.targets)
        distance = loss_of_teacher(taught, lesson)
        loss = (1 - weight) * labels + weight * distance
        terms = {
            "label_loss": labels.detach(),
            "teacher_loss": distance.detach(),
            "teacher_top1": 100 * _share_equal(classes, batch.targets),
            "agreement": 100 * _share_equal(classes, taught.detach()),
        }
        if matching is not None:
            apart = matching()
            loss = loss + config.feature_weight * apart
            terms["feature_loss"] = apart.detach()
        return loss, {"loss": loss.detach(), **terms}

    return distil


def hard(student: Tensor, lesson: Lesson) -> Tensor:
    """Return the mean cross-entropy of the student's [B, C] logits with the teacher's classes."""
    return F.cross_entropy(student, lesson.classes)


def soft(config: DistillationConfig) -> Callable[[Tensor, Lesson], Tensor]:
    """Return `t^2 KL(teacher || student)` of logits divided by t, a mean over the batch.

    Hinton et al., arXiv 1503.02531. DeiT's code divides by all B x C elements instead, which makes
    it C times smaller (facebookresearch/deit 7e160fe, losses.py).
    """
    temperature = config.temperature

    def divergence(student: Tensor, lesson: Lesson) -> Tensor:
        total = F.kl_div(
            F.log_softmax(student / temperature, dim=1),
            lesson.log_probabilities(temperature),
            reduction="sum",
            log_target=True,
        )
        count = student.numel() if config.divided_by is Divided.numel else len(student)
        return total * temperature**2 / count

    return divergence


def _share_equal(classes: Tensor, other: Tensor) -> Tensor:
    """Return the share of [B] classes that are those of [B] numbers, or the highest of [B, C]."""
    others = other.argmax(1) if other.ndim == 2 else other
    return (classes == others).float().mean()
