"""Distillation: a loss on labels and a loss on what a teacher says.

Shapes: B batch, C classes.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F  # noqa: N812 (the field's name for it)
from torch import Tensor, nn

from vitx.config.schema import DistillationConfig, Divided, Teaching
from vitx.objectives.classification import LossFunction, Objective, Terms
from vitx.records import Batch

Teacher = Callable[[Tensor], Tensor]
"""From [B, channels, H, W] pictures, as the student sees them, to [B, C] logits, not tracked."""


def build_distillation(
    config: DistillationConfig, loss_of_labels: LossFunction, teacher: Teacher
) -> Objective:
    """Return the objective `(1 - w) labels + w teacher`.

    A student with a distillation token gives two logits in training: the first learn the labels,
    the second from the teacher (DeiT, arXiv 2012.12877). One with a single head learns both
    with it (XCiT, arXiv 2106.09681).

    Args:
        config: loss and weight of the teacher.
        loss_of_labels: of [B, C] logits and targets.
        teacher: who is asked, about the pictures as they are augmented and mixed.
    """
    loss_of_teacher = soft(config) if config.loss is Teaching.soft else hard
    weight = config.weight

    def distil(model: nn.Module, batch: Batch) -> tuple[Tensor, Terms]:
        said = model(batch.images)
        logits, taught = said if isinstance(said, tuple) else (said, said)
        # Losses in fp32: log-softmax of bf16 logits has two digits.
        logits, taught = logits.float(), taught.float()
        with torch.no_grad():
            lesson = teacher(batch.images).float()
        labels = loss_of_labels(logits, batch.targets)
        distance = loss_of_teacher(taught, lesson)
        loss = (1 - weight) * labels + weight * distance
        return loss, {
            "loss": loss.detach(),
            "label_loss": labels.detach(),
            "teacher_loss": distance.detach(),
            "teacher_top1": 100 * _share_equal(lesson, batch.targets),
            "agreement": 100 * _share_equal(lesson, taught.detach()),
        }

    return distil


def hard(student: Tensor, teacher: Tensor) -> Tensor:
    """Return the mean cross-entropy of the student's [B, C] logits with the teacher's classes."""
    return F.cross_entropy(student, teacher.argmax(1))


def soft(config: DistillationConfig) -> Callable[[Tensor, Tensor], Tensor]:
    """Return `t^2 KL(teacher || student)` of logits divided by t, a mean over the batch.

    Hinton et al., arXiv 1503.02531. DeiT's code divides by all B x C elements instead, which makes
    it C times smaller (facebookresearch/deit 7e160fe, losses.py).
    """
    temperature = config.temperature

    def divergence(student: Tensor, teacher: Tensor) -> Tensor:
        total = F.kl_div(
            F.log_softmax(student / temperature, dim=1),
            F.log_softmax(teacher / temperature, dim=1),
            reduction="sum",
            log_target=True,
        )
        count = student.numel() if config.divided_by is Divided.numel else len(student)
        return total * temperature**2 / count

    return divergence


def _share_equal(logits: Tensor, other: Tensor) -> Tensor:
    """Return the share of rows whose highest class is the other's: a number, or its highest."""
    classes = other.argmax(1) if other.ndim == 2 else other
    return (logits.argmax(1) == classes).float().mean()
