"""The model."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from vitx.config.schema.choices import DropPathRule, Pool, PosEmbed, PosResize, Stem, Weights
from vitx.config.schema.marks import MISSING


@dataclass(kw_only=True)
class VariantConfig:
    """What is different from the published architecture, for ablations of ViT, DeiT and XCiT."""

    pos_embed: PosEmbed | None = None
    """none, learned (1-D), learned_2d, sincos or relative; null is the model's own. XCiT: none."""
    stem: Stem | None = None
    """linear (one convolution per patch) or conv (3x3 ones of stride 2); null is its own."""
    pool: Pool | None = None
    """token (class token) or avg (mean of the patches, no class token); null is its own."""
    distillation_token: bool = False
    """A plain ViT or DeiT gets DeiT's distillation token and a head for it."""
    xca: bool = True
    """XCiT: cross-covariance attention; false leaves it out."""
    lpi: bool = True
    """XCiT: local patch interaction; false leaves it out."""
    qk_norm: bool = True
    """XCiT: queries and keys of length 1; false leaves them as they are."""
    learned_temperature: bool = True
    """XCiT: a learned temperature per head; false fixes it at 1."""


@dataclass(kw_only=True)
class ModelConfig:
    """An architecture and its regularisation."""

    name: str = MISSING
    """timm architecture, or one of vitx (vitx models lists both)."""
    image_px: int = 224
    """Side of the pictures it was published for, in pixels; dataset.image_px=null takes it."""
    weights: str | None = field(default=None, metadata={"path": True})
    """Weights to start from: a run, a file of weights, a tag (vitx models), hf-hub:ORG/NAME."""
    run_weights: Weights = Weights.auto
    """Which weights of a run to start from: model, ema, or auto (ema where it kept one)."""
    pos_resize: PosResize = PosResize.bicubic
    """Positions to another grid: bicubic (DeiT), bicubic_antialias (timm), bilinear (ViT)."""
    partial_weights: bool = False
    """Go on where tensors of the weights are missing or left over; both are listed."""
    patch_px: int | None = None
    """Side of a patch in pixels, for models whose patch can be chosen; null is the model's own."""
    drop_path: float = 0.0
    """Stochastic depth rate in [0, 1)."""
    drop_path_rule: DropPathRule | None = None
    """linear (0 to the rate over the depth) or constant; null is the model's own in timm."""
    dropout: float = 0.0
    """Dropout rate before the classifier, in [0, 1)."""
    variant: VariantConfig = field(default_factory=VariantConfig)
    """What is different from the published architecture."""
    args: dict[str, Any] = field(default_factory=dict)
    """Further arguments of the architecture, plain values only."""
