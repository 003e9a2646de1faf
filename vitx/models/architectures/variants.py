"""`model.variant`: what is different from the published architecture."""

from __future__ import annotations

import dataclasses
from functools import partial
from typing import Any

from timm.layers import PatchEmbed
from timm.models.deit import VisionTransformerDistilled
from timm.models.vision_transformer import VisionTransformer
from timm.models.xcit import Xcit
from torch import nn

from vitx.config.schema import Pool, PosEmbed, Stem, VariantConfig
from vitx.models.architectures import distillation_token, xcit
from vitx.models.architectures.embedding import Embedding, RelativeAttention

_AS_PUBLISHED = VariantConfig()
_OF_XCIT = ("xca", "lpi", "qk_norm", "learned_temperature")
_ADDED = (PosEmbed.learned_2d, PosEmbed.sincos)


def changes(variant: VariantConfig) -> list[str]:
    """Return the names of the settings that differ from the published architecture."""
    return [
        item.name
        for item in dataclasses.fields(variant)
        if getattr(variant, item.name) != getattr(_AS_PUBLISHED, item.name)
    ]


def is_vit(model: nn.Module) -> bool:
    """Return whether a model is timm's VisionTransformer."""
    return isinstance(model, VisionTransformer)


def vit_arguments(variant: VariantConfig) -> dict[str, Any]:
    """Return what timm's VisionTransformer has to be built with."""
    arguments: dict[str, Any] = {}
    if variant.pool is Pool.avg:  # the last norm stays before the mean, as in big_vision
        arguments |= {"class_token": False, "global_pool": "avg", "fc_norm": False}
    elif variant.pool is Pool.token:
        arguments |= {"class_token": True, "global_pool": "token"}
    if variant.pos_embed is not None:
        learned = variant.pos_embed is PosEmbed.learned
        arguments["pos_embed"] = "learn" if learned else "none"
    if variant.stem is Stem.conv or variant.pos_embed in _ADDED:
        arguments["embed_layer"] = partial(
            Embedding,
            stem=variant.stem or Stem.linear,
            position=variant.pos_embed if variant.pos_embed in _ADDED else None,
        )
    return arguments


def refuse_unknown(published: nn.Module, variant: VariantConfig) -> None:
    """Refuse what an architecture can't be varied in.

    Args:
        published: the architecture as it is published.
        variant: what is to be different.

    Raises:
        ValueError: there is no such variant.
    """
    for name in changes(variant):
        if not isinstance(published, (VisionTransformer, Xcit)):
            raise ValueError(f"model.variant.{name} is for ViT, DeiT and XCiT")
        if name in _OF_XCIT and not isinstance(published, Xcit):
            raise ValueError(f"model.variant.{name} is for XCiT")
        if isinstance(published, Xcit):
            if name == "distillation_token":
                raise ValueError(
                    f"model.variant.{name} is for ViT and DeiT; an XCiT learns with one"
                )
            continue
        if name != "stem" and isinstance(published, VisionTransformerDistilled):
            raise ValueError(f"model.variant.{name} is not for a model with a distillation token")
        if name == "distillation_token":
            distillation_token.refuse_misfit(published, variant)
        elif name != "pool" and type(published.patch_embed) is not PatchEmbed:
            raise ValueError(f"model.variant.{name} is not for a hybrid with a CNN in it")
    if isinstance(published, Xcit) and variant.pos_embed not in (None, PosEmbed.none):
        raise ValueError("model.variant.pos_embed: an XCiT has its Fourier embedding or none")


def vary(model: nn.Module, variant: VariantConfig) -> None:
    """Do to a built model what its constructor takes no argument for, in place.

    Args:
        model: a ViT built with `vit_arguments`, or an XCiT as timm builds it.
        variant: what is different.
    """
    if isinstance(model, Xcit):
        xcit.vary(model, variant)
        return
    if variant.distillation_token and isinstance(model, VisionTransformer):
        distillation_token.add_distillation_token(model)
    if variant.pos_embed is PosEmbed.relative:
        vit: Any = model
        for block in vit.blocks:
            block.attn = RelativeAttention(
                block.attn, grid=vit.patch_embed.grid_size, prefix=vit.num_prefix_tokens
            )
