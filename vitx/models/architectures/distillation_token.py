"""DeiT's distillation token for a ViT that was published without one.

Source: H. Touvron et al., arXiv 2012.12877, section 4.
"""

from __future__ import annotations

from typing import Any

import torch
from timm.layers import trunc_normal_
from timm.models.deit import VisionTransformerDistilled
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from vitx.config.schema import Pool, VariantConfig

_STD = 0.02  # as timm and DeiT initialise tokens and heads


def refuse_misfit(published: VisionTransformer, variant: VariantConfig) -> None:
    """Refuse a ViT that can't have the token.

    Raises:
        ValueError: it has no class token, no learned positions, or tokens besides.
    """
    name = "model.variant.distillation_token"
    if variant.pool is Pool.avg or published.global_pool != "token":
        raise ValueError(f"{name} needs a class token that is read: model.variant.pool=token")
    if variant.pos_embed is not None or published.pos_embed is None:
        raise ValueError(f"{name} needs the learned positions of the published model")
    if published.num_prefix_tokens != 1:
        raise ValueError(f"{name} is not for a model with further tokens")


def add_distillation_token(model: Any) -> None:
    """Make a plain ViT timm's `VisionTransformerDistilled`, in place.

    Args:
        model: timm's VisionTransformer with a class token, learned positions and a linear head.
    """
    dim, positions = model.embed_dim, model.pos_embed
    model.dist_token = nn.Parameter(_drawn(positions.new_empty(1, 1, dim)))
    if not model.no_embed_class:
        place = _drawn(positions.new_empty(1, 1, dim))
        model.pos_embed = nn.Parameter(
            torch.cat([positions.data[:, :1], place, positions.data[:, 1:]], 1)
        )
    head = nn.Linear(dim, model.num_classes, device=positions.device)
    _drawn(head.weight.data)
    nn.init.zeros_(head.bias)
    model.head_dist = head
    model.num_prefix_tokens = 2
    model.distilled_training = False
    model.pretrained_cfg = {**model.pretrained_cfg, "classifier": ("head", "head_dist")}
    # Same layers, another way through them.
    model.__class__ = VisionTransformerDistilled


def begin_as_class_token(model: nn.Module, found: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors of a plain ViT, completed for a model with a distillation token.

    Token, position and head begin as copies of the class token's: the two heads agree at first.

    Args:
        model: that they are for.
        found: tensors by timm's names.
    """
    if not isinstance(model, VisionTransformerDistilled) or "cls_token" not in found:
        return found
    if "dist_token" in found:
        return found
    completed = found | {"dist_token": found["cls_token"]}
    if not model.no_embed_class and "pos_embed" in found:
        positions = found["pos_embed"]
        completed["pos_embed"] = torch.cat([positions[:, :1], positions], 1)
    for part in ("weight", "bias"):
        if f"head.{part}" in found:
            completed[f"head_dist.{part}"] = found[f"head.{part}"]
    return completed


def _drawn(values: Tensor) -> Tensor:
    drawn: Tensor = trunc_normal_(values, std=_STD)
    return drawn
