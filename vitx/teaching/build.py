"""Teachers, built: frozen models that look at the student's pictures."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from vitx.config.schema import DistillConfig, Precision, TrainConfig
from vitx.errors import StorageError, UsageError
from vitx.models.of_run import make_model, picture_format
from vitx.models.teacher import Teacher
from vitx.models.transfer import transfer
from vitx.objectives.features import FeatureMatching
from vitx.runtime.device import choose_inference_precision
from vitx.runtime.seeds import derive, set_random_state
from vitx.runtime.world import ALONE, World
from vitx.teaching.plan import TeacherPlan


@dataclass(frozen=True, kw_only=True)
class Hired:
    """A teacher on its device.

    Attributes:
        model: frozen.
        plan: where it came from.
        sha256: of its weights; empty where they are random, as a rehearsal wants it.
    """

    model: Teacher
    plan: TeacherPlan
    sha256: str


@dataclass(frozen=True, kw_only=True)
class Where:
    """Where a run computes, and its arithmetic."""

    device: torch.device
    precision: Precision


def make_teacher(
    plan: TeacherPlan,
    config: TrainConfig,
    where: Where,
    *,
    classes: int,
    world: World = ALONE,
) -> Hired:
    """Build a teacher for the pictures of a run; of several ranks, the first reads its weights.

    Args:
        plan: where it comes from; without a file its weights are random, as a rehearsal wants it.
        config: the student's configuration.
        where: device and precision of the run.
        classes: number of classes.
        world: the ranks of the run.

    Returns:
        The teacher, frozen.

    Raises:
        UsageError: its head is for other classes.
    """
    try:
        model = make_model(plan.config, num_classes=classes, device=where.device)
    except UsageError as error:
        line = re.sub(r"\b(model|dataset)\.(name|args|image_px)", r"teacher.\2", str(error))
        raise UsageError(line) from error
    sha256 = ""
    if plan.file is not None:
        sha256 = world.first(lambda: _load(model, plan))
        world.share_in_place([*model.parameters(), *model.buffers()])
    given, wanted = picture_format(config), picture_format(plan.config)
    teacher = Teacher(
        model,
        given=given,
        wanted=wanted,
        crop_ratio=plan.crop_ratio,
        precision=choose_inference_precision(plan.precision, where.precision, where.device),
    )
    return Hired(model=teacher, plan=plan, sha256=sha256)


def _load(model: nn.Module, plan: TeacherPlan) -> str:
    """Load the weights of a teacher.

    Returns:
        Their sha256.

    Raises:
        UsageError: they have no head for its classes.
    """
    assert plan.file is not None  # noqa: S101 (the caller looked)
    told = transfer(
        model,
        plan.file,
        source=f"teacher.weights={plan.origin}",
        resize=plan.config.model.pos_resize,
        partial=False,
    )
    if told.head:
        raise UsageError(f"teacher.weights={plan.origin}: a teacher needs its head; {told.head}")
    return told.sha256


def make_feature_matching(
    config: TrainConfig, student: nn.Module, teachers: Sequence[Hired]
) -> FeatureMatching | None:
    """Build what compares features, with projections as the run's seed initialises them.

    Args:
        config: the student's configuration.
        student: on its device.
        teachers: one, where features are matched.

    Returns:
        What compares them; None where nothing is to be matched.
    """
    if not isinstance(config, DistillConfig) or not config.distillation.features:
        return None
    (teacher,) = teachers  # the configuration was checked
    picture = picture_format(config)
    shape = (2, picture.channels, picture.image_px, picture.image_px)
    images = torch.zeros(shape, device=next(student.parameters()).device)
    set_random_state(derive("projection", config.seed))
    return FeatureMatching(
        student,
        teacher.model.model,
        config.distillation.features,
        pictures=(images, teacher.model.adapt(images)),
    )


def refuse_other_teachers(record: dict[str, Any], digests: Sequence[str | None]) -> None:
    """Refuse to go on with other teachers than those that a run began with.

    Args:
        record: run.json.
        digests: sha256 of the weights that each teacher has now; empty where they are still to be
            trained, None where it is not to be compared.

    Raises:
        StorageError: one is another.
    """
    if record.get("teachers") is None:  # it has not begun, or nobody knows any more
        return
    for before, digest in zip(record["teachers"], digests, strict=True):
        if digest is None or before["sha256"] == digest:
            continue
        now = f"now {digest[:12]}" if digest else "now it would be trained anew"
        raise StorageError(
            f"the teacher is not the one this run learned from ({before['origin']}, sha256 "
            f"{before['sha256'][:12]}, {now}); restore it, or begin a new run"
        )
