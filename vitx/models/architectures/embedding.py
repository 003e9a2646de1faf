"""Ways to embed patches and their places, for the ablations of a plain ViT.

Shapes: B batch, C channels, H height, W width in patches, N = H W, D width of a token.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import torch
from timm.layers import PatchEmbed, RelPosBias, build_sincos2d_pos_embed
from timm.models.vision_transformer import Attention
from torch import Tensor, nn

from vitx.config.schema import PosEmbed, Stem


class Learned2d(nn.Module):
    """One learned embedding a column and one a row, D / 2 each, set side by side.

    Source: the 2-D variant of A. Dosovitskiy et al., arXiv 2010.11929, appendix D.4.
    """

    exempt_from_weight_decay = True

    def __init__(self, grid: tuple[int, int], dim: int) -> None:
        super().__init__()
        if dim % 2:
            raise ValueError(f"a learned 2-D position embedding needs an even width, got {dim}")
        self.rows = nn.Parameter(0.02 * torch.randn(grid[0], dim // 2))
        self.columns = nn.Parameter(0.02 * torch.randn(grid[1], dim // 2))

    def forward(self) -> Tensor:
        """Return [N, D]."""
        shape = (len(self.rows), len(self.columns), -1)
        both = (self.columns[None].expand(shape), self.rows[:, None].expand(shape))
        return torch.cat(both, dim=2).flatten(0, 1)


class SinCos2d(nn.Module):
    """Fixed sines and cosines of row and column (X. Chen et al., MoCo v3, arXiv 2104.02057)."""

    table: Tensor

    def __init__(self, grid: tuple[int, int], dim: int) -> None:
        super().__init__()
        if dim % 4:
            raise ValueError(f"sin-cos position embeddings need a width divisible by 4, got {dim}")
        table = build_sincos2d_pos_embed(list(grid), dim)
        self.register_buffer("table", table, persistent=False)

    def forward(self) -> Tensor:
        """Return [N, D]."""
        return self.table


_POSITIONS: dict[PosEmbed, Callable[[tuple[int, int], int], nn.Module]] = {
    PosEmbed.learned_2d: Learned2d,
    PosEmbed.sincos: SinCos2d,
}


class Embedding(PatchEmbed):
    """timm's patch embedding with another stem, and with the place of each patch added.

    A class token gets no place: it is a learned vector itself.

    Args:
        stem: one strided convolution, or XCiT's, 3x3 convolutions of stride 2 with BN and GELU.
        position: a kind that is added to the patches, or None.
        img_size: side of the picture in pixels.
        patch_size: side of a patch in pixels; a power of 2 for the convolutional stem.
        in_chans: C.
        embed_dim: D.
        more: what timm's class takes besides.
    """

    def __init__(
        self,
        *,
        stem: Stem,
        position: PosEmbed | None,
        img_size: int,
        patch_size: int,
        in_chans: int,
        embed_dim: int,
        **more: Any,
    ) -> None:
        super().__init__(img_size, patch_size, in_chans, embed_dim, **more)
        if stem is Stem.conv:
            self.proj = conv_stem(in_chans, embed_dim, patch_px=patch_size)  # type: ignore[assignment]
        self.position = _POSITIONS[position](self.grid_size, embed_dim) if position else None

    def forward(self, x: Tensor) -> Tensor:
        """Return [B, N, D] of pictures [B, C, H px, W px]."""
        x = super().forward(x)  # type: ignore[no-untyped-call]
        return x if self.position is None else x + self.position()


def conv_stem(channels: int, dim: int, *, patch_px: int) -> nn.Sequential:
    """Return 3x3 convolutions of stride 2 that halve the side until a patch is a pixel.

    The width doubles to D; BN behind each and GELU between them, as in XCiT's stem
    (A. El-Nouby et al., arXiv 2106.09681).

    Args:
        channels: C.
        dim: D.
        patch_px: side of a patch, a power of 2.

    Raises:
        ValueError: it is none, or D can't be halved so often.
    """
    halvings = patch_px.bit_length() - 1
    if halvings < 1 or patch_px != 1 << halvings or dim % (1 << (halvings - 1)):
        raise ValueError(f"a convolutional stem takes patches of 2, 4, 8, 16 or 32, not {patch_px}")
    widths = [channels, *(dim >> power for power in reversed(range(halvings)))]
    layers: list[nn.Module] = []
    for into, out in itertools.pairwise(widths):
        conv = nn.Conv2d(into, out, 3, stride=2, padding=1, bias=False)
        layers += [conv, nn.BatchNorm2d(out), nn.GELU()]
    return nn.Sequential(*layers[:-1])


class LinearStem(nn.Module):
    """One convolution from patch to token, with the interface of XCiT's stem.

    Args:
        channels: C.
        dim: D.
        patch_px: side of a patch in pixels.
    """

    def __init__(self, channels: int, dim: int, *, patch_px: int) -> None:
        super().__init__()
        self.patch_size = patch_px
        self.proj = nn.Conv2d(channels, dim, patch_px, stride=patch_px)

    def forward(self, x: Tensor) -> tuple[Tensor, tuple[int, int]]:
        """Return tokens [B, N, D] and (H, W)."""
        x = self.proj(x)
        return x.flatten(2).transpose(1, 2), (x.shape[2], x.shape[3])


class RelativeAttention(Attention):
    """timm's attention with a learned 2-D relative bias per head, as in Swin and BEiT.

    Args:
        plain: of a ViT block; its layers are taken over under their names.
        grid: (H, W).
        prefix: 1 with a class token, else 0.
    """

    def __init__(self, plain: Attention, *, grid: tuple[int, int], prefix: int) -> None:
        super().__init__(plain.qkv.in_features, plain.num_heads)
        for name, layer in plain.named_children():
            setattr(self, name, layer)
        self.rel_pos = _Bias(grid, plain.num_heads, prefix_tokens=prefix)

    def forward(
        self, x: Tensor, attn_mask: Tensor | None = None, is_causal: bool = False
    ) -> Tensor:
        """Return [B, N, D] of tokens [B, N, D]; masks are not taken."""
        return super().forward(x, attn_mask=self.rel_pos.get_bias())


class _Bias(RelPosBias):
    exempt_from_weight_decay = True
