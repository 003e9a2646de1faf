"""XCiT without one of its parts: the switches of its ablation, on timm's own blocks.

Source: A. El-Nouby et al., XCiT: Cross-Covariance Image Transformers, arXiv 2106.09681, table 4.

Shapes: B batch, N tokens, D width, h heads, d = D / h channels of a head.
"""

from __future__ import annotations

from typing import Any

from timm.models.xcit import XCA, XCABlock
from torch import Tensor, nn
from torch.nn import functional as F

from vitx.config.schema import Pool, PosEmbed, Stem, VariantConfig
from vitx.models.architectures.embedding import LinearStem


class CrossCovarianceAttention(nn.Module):
    """Attention among the channels of a head, with normalisation and temperature to choose.

    Takes over the layers of timm's; with both on, its output is timm's.

    Args:
        xca: timm's.
        qk_norm: whether queries and keys have length 1 over the tokens.
        learned_temperature: whether each head has its own; else it is 1.
    """

    def __init__(self, xca: XCA, *, qk_norm: bool, learned_temperature: bool) -> None:
        super().__init__()
        self.num_heads, self.qk_norm = xca.num_heads, qk_norm
        self.qkv, self.attn_drop = xca.qkv, xca.attn_drop
        self.proj, self.proj_drop = xca.proj, xca.proj_drop
        self.temperature = xca.temperature if learned_temperature else None

    def forward(self, x: Tensor) -> Tensor:
        """Return [B, N, D] of tokens [B, N, D]."""
        qkv = self.qkv(x).unflatten(2, (3, self.num_heads, -1))
        q, k, v = qkv.permute(2, 0, 3, 4, 1)  # [B, h, d, N] each
        if self.qk_norm:
            q, k = F.normalize(q, dim=-1), F.normalize(k, dim=-1)
        weights = q @ k.transpose(-2, -1)  # [B, h, d, d]
        if self.temperature is not None:
            weights = weights * self.temperature
        x = self.attn_drop(weights.softmax(dim=-1)) @ v
        out: Tensor = self.proj_drop(self.proj(x.permute(0, 3, 1, 2).flatten(2)))
        return out


class Block(nn.Module):
    """timm's XCiT block with branches left out; the layers that stay keep their names.

    Args:
        block: timm's.
        variant: which parts there are.
    """

    drop_path1: nn.Module
    drop_path2: nn.Module
    drop_path3: nn.Module
    norm1: nn.Module
    norm2: nn.Module
    norm3: nn.Module

    def __init__(self, block: XCABlock, variant: VariantConfig) -> None:
        super().__init__()
        self.has_xca, self.has_lpi = variant.xca, variant.lpi
        numbers = (1, 3, 2)  # as timm numbers the branches: XCA, LPI, MLP
        for number, present in zip(numbers, (variant.xca, variant.lpi, True), strict=True):
            for name in (f"norm{number}", f"gamma{number}", f"drop_path{number}"):
                if present:
                    setattr(self, name, getattr(block, name))
        if variant.xca:
            self.attn = CrossCovarianceAttention(
                block.attn,
                qk_norm=variant.qk_norm,
                learned_temperature=variant.learned_temperature,
            )
        if variant.lpi:
            self.local_mp = block.local_mp
        self.mlp = block.mlp

    def forward(self, x: Tensor, H: int, W: int) -> Tensor:  # noqa: N803 (timm's call)
        """Return tokens [B, N, D] of tokens that lie on a grid of H x W."""
        if self.has_xca:
            x = x + self.drop_path1(self.gamma1 * self.attn(self.norm1(x)))
        if self.has_lpi:
            x = x + self.drop_path3(self.gamma3 * self.local_mp(self.norm3(x), H, W))
        out: Tensor = x + self.drop_path2(self.gamma2 * self.mlp(self.norm2(x)))
        return out


def vary(model: Any, variant: VariantConfig) -> None:
    """Change a built XCiT into a variant, in place.

    Args:
        model: an XCiT as timm builds it.
        variant: what is different.
    """
    if variant.pos_embed is PosEmbed.none:
        model.pos_embed = None
    if variant.stem is Stem.linear:
        dim, patch = model.embed_dim, model.patch_embed.patch_size
        model.patch_embed = LinearStem(model.in_chans, dim, patch_px=patch)
    if not (variant.xca and variant.lpi and variant.qk_norm and variant.learned_temperature):
        model.blocks = nn.ModuleList(Block(block, variant) for block in model.blocks)
    if variant.pool is Pool.avg:
        # What timm does for features without a head: tokens only, no class attention.
        model.cls_attn_blocks = model.cls_token = None
        model.num_prefix_tokens, model.global_pool = 0, "avg"
