"""The CIFAR ViT of How Do Vision Transformers Work?, as its released code builds it.

Source: N. Park, S. Kim, arXiv 2202.06709; xxxnell/how-do-vits-work at 9571ff1, `models/vit.py` and
`configs/cifar100_vit.yaml`. It differs from timm's ViT-Ti in patches of 2 pixels, no bias of the
queries, keys and values, PyTorch's own initialisation and epsilon, and N(0, 0.02) for the class
token and the position embedding.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from timm.models import build_model_with_cfg, generate_default_cfgs, register_model
from timm.models.vision_transformer import VisionTransformer
from torch import nn

default_cfgs = generate_default_cfgs(
    {
        "hdvw_vit_tiny_patch2_32": {
            "num_classes": 100,
            "input_size": (3, 32, 32),
            "fixed_input_size": True,
            # As of the networks it is compared with; the paper's experiment sets those of CIFAR.
            "mean": (0.485, 0.456, 0.406),
            "std": (0.229, 0.224, 0.225),
            "first_conv": "patch_embed.proj",
            "classifier": "head",
        }
    }
)


@register_model
def hdvw_vit_tiny_patch2_32(pretrained: bool = False, **kwargs: Any) -> VisionTransformer:
    """ViT-Ti with patches of 2 pixels for pictures of 32, [B, 3, 32, 32] to [B, 100]."""
    own: dict[str, Any] = {
        "img_size": 32,
        "patch_size": 2,
        "embed_dim": 192,
        "depth": 12,
        "num_heads": 3,
        "qkv_bias": False,
        "norm_layer": partial(nn.LayerNorm, eps=1e-5),
        "weight_init": "reset",
    }
    model: VisionTransformer = build_model_with_cfg(
        VisionTransformer, "hdvw_vit_tiny_patch2_32", pretrained, **(own | kwargs)
    )
    for tensor in (model.cls_token, model.pos_embed):
        if tensor is not None:
            nn.init.normal_(tensor, std=0.02)
    return model
