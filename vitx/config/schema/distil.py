"""`vitx distill`: who teaches, and how."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from vitx.config.schema.choices import (
    Combine,
    Divided,
    Keeping,
    Mixed,
    Precision,
    Teaching,
    Weights,
)
from vitx.config.schema.train import TrainConfig


@dataclass(kw_only=True)
class TeacherSource:
    """A trained classifier that says what it sees in the student's pictures."""

    name: str | None = None
    """timm architecture, or one of vitx (vitx models lists both); null is that of a run."""
    weights: str | None = field(default=None, metadata={"path": True})
    """A run, a file, a tag or hf-hub:ORG/NAME; null: trained on this dataset first."""
    run_weights: Weights = Weights.auto
    """Which weights of a run: model, ema, or auto (ema where it kept one)."""
    image_px: int | None = None
    """Side of the pictures it sees, in pixels; null is its run's, else the student's."""
    patch_px: int | None = None
    """Side of a patch in pixels, where its weights are of another one than its name says."""
    crop_ratio: float = 1.0
    """Share of the picture's side that it sees, from the middle."""
    precision: Precision = Precision.auto
    """auto (that of training, but bf16 on a CPU that multiplies it), fp32, bf16 or fp16."""
    args: dict[str, Any] = field(default_factory=dict)
    """Further arguments of its architecture, plain values only."""
    epochs: str = "7ep"
    """Length of its own training where its weights are not of these classes, or can't be had."""


@dataclass(kw_only=True)
class TeacherConfig(TeacherSource):
    """Who teaches, and what is stored of it."""

    also: list[TeacherSource] = field(default_factory=list)
    """Further teachers: [{weights: runs/b}, {name: resnet18}]; each has the settings above."""
    combine: Combine = Combine.average
    """Several: average (of their probabilities) or draw (one for each step)."""
    cache: Keeping = Keeping.none
    """outputs: answers are stored in $VITX_CACHE and asked for once; none: asked at every step."""
    top_k: int | None = None
    """cache: most probable classes stored; null is what the loss needs: 1 for hard, else all."""
    cache_precision: Precision = Precision.fp32
    """cache: fp32 (exact), bf16 or fp16 probabilities."""
    mixed: Mixed = Mixed.output
    """cache, mixup, cutmix: output (of the mixed picture, exact) or mix (of both outputs)."""
    reuse_epochs: int | None = None
    """Order, augmentation and mixing repeat after so many epochs; null: they never do."""

    @property
    def sources(self) -> list[TeacherSource]:
        """All teachers."""
        return [self, *self.also]


@dataclass(kw_only=True)
class DistillationConfig:
    """What a student learns of its teacher."""

    loss: Teaching = Teaching.hard
    """hard (cross-entropy with the teacher's class) or soft (divergence from its probabilities)."""
    weight: float = 0.5
    """Share of the teacher in the loss, 0 to 1; the rest is that of the labels."""
    temperature: float = 1.0
    """soft: logits are divided by it, and the loss multiplied by its square."""
    divided_by: Divided = Divided.batch
    """soft: batch (pictures) or numel (pictures times classes: DeiT's code)."""
    features: dict[str, str] = field(default_factory=dict)
    """Blocks of the student and the teacher's they are matched with: {blocks.5: s3}."""
    feature_weight: float = 1.0
    """Weight of the features' distance, which comes to the loss besides."""


@dataclass(kw_only=True)
class DistillConfig(TrainConfig):
    """`vitx distill`: train a student on the labels and on what a teacher says of each picture."""

    teacher: TeacherConfig = field(default_factory=TeacherConfig)
    distillation: DistillationConfig = field(default_factory=DistillationConfig)
