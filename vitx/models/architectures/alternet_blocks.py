"""The residual blocks of AlterNet: convolutions, and attention inside windows.

Source: N. Park, S. Kim, How Do Vision Transformers Work?, ICLR 2022 (arXiv 2202.06709), and the
structure of its released code (xxxnell/how-do-vits-work, 9571ff1).

Shapes: B batch, C channels, H height, W width of a feature map, P side of a window, h heads,
d channels of a head.
"""

from __future__ import annotations

import torch
from timm.layers import DropPath
from torch import Tensor, nn
from torch.nn import functional as F

HEAD_DIM = 64


class ConvBlock(nn.Module):
    """Pre-activation residual block of convolutions, [B, C, H, W] to [B, C', H/s, W/s].

    BN-ReLU comes first; where the shape changes, the shortcut is a 1x1 convolution behind it.

    Args:
        channels: C.
        width: of the stage; a bottleneck puts out four times as many channels.
        stride: s.
        bottleneck: 1x1, 3x3, 1x1 convolutions instead of two 3x3.
        drop_path: stochastic depth rate.
    """

    def __init__(
        self, channels: int, width: int, *, stride: int, bottleneck: bool, drop_path: float
    ) -> None:
        super().__init__()
        out = 4 * width if bottleneck else width
        kernels = (1, 3, 1) if bottleneck else (3, 3)
        widths = [channels, *[width] * (len(kernels) - 1), out]
        strided = kernels.index(3)
        self.norms = nn.ModuleList(nn.BatchNorm2d(each) for each in widths[:-1])
        self.convs = nn.ModuleList(
            nn.Conv2d(
                widths[place],
                widths[place + 1],
                kernel,
                stride=stride if place == strided else 1,
                padding=kernel // 2,
                bias=False,
            )
            for place, kernel in enumerate(kernels)
        )
        self.shortcut = _shortcut(channels, out, stride=stride)
        self.drop_path = DropPath(drop_path) if drop_path else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """Return the block's output."""
        skip = x
        for norm, conv in zip(self.norms, self.convs, strict=True):
            x = F.relu(norm(x))
            if self.shortcut is not None and conv is self.convs[0]:
                skip = self.shortcut(x)
            x = conv(x)
        out: Tensor = skip + self.drop_path(x)
        return out


class WindowAttention(nn.Module):
    """Self-attention inside windows, with one learned 2-D relative bias shared by the heads.

    Args:
        channels: of the input, [B, C, H, W] with H and W multiples of the window.
        out: channels of the output, [B, out, H, W].
        heads: h; each has `HEAD_DIM` channels whatever C is.
        window: P.
    """

    def __init__(self, channels: int, out: int, *, heads: int, window: int) -> None:
        super().__init__()
        self.heads, self.window = heads, window
        self.qkv = nn.Conv2d(channels, 3 * heads * HEAD_DIM, 1, bias=False)
        self.proj = nn.Conv2d(heads * HEAD_DIM, out, 1)
        self.relative_bias = nn.Parameter(0.02 * torch.randn(2 * window - 1, 2 * window - 1))

    def forward(self, x: Tensor) -> Tensor:
        """Return [B, out, H, W].

        Raises:
            ValueError: the windows don't fill the map.
        """
        P, (H, W) = self.window, x.shape[-2:]  # noqa: N806
        if H % P or W % P:
            raise ValueError(
                f"a feature map of {H} x {W} is no multiple of the window, {P}; small pictures "
                "want model.args.stem=cifar and model.args.window=4"
            )
        # [B, 3 h d, H, W] -> [B, H/P, W/P, 3 h, P P, d]: every window attends for itself
        qkv = self.qkv(x).unflatten(1, (3 * self.heads, HEAD_DIM))
        qkv = qkv.unflatten(3, (H // P, P)).unflatten(5, (W // P, P))
        qkv = qkv.permute(0, 3, 5, 1, 4, 6, 2).flatten(4, 5)
        q, k, v = qkv.chunk(3, dim=3)
        x = F.scaled_dot_product_attention(q, k, v, attn_mask=self._bias().to(q.dtype))
        # [B, H/P, W/P, h, P P, d] -> [B, h d, H, W]
        x = x.unflatten(4, (P, P)).permute(0, 3, 6, 1, 4, 2, 5)
        out: Tensor = self.proj(x.flatten(5, 6).flatten(3, 4).flatten(1, 2))
        return out

    def _bias(self) -> Tensor:
        """Return [P P, P P]: the bias from every place of a window to every other."""
        along = torch.arange(self.window, device=self.relative_bias.device)
        offset = along[None, :] - along[:, None] + self.window - 1  # key minus query
        bias = self.relative_bias[offset[:, None, :, None], offset[None, :, None, :]]
        return bias.flatten(2, 3).flatten(0, 1)


class AttentionBlock(nn.Module):
    """Pre-activation residual block of window attention, without an MLP.

    BN-GELU, 1x1 convolution, BN, window attention; the shortcut as in `ConvBlock`.

    Args:
        channels: of the input.
        width: of the stage.
        heads: attention heads.
        window: side of a window.
        bottleneck: reduce the channels fourfold inside, and put out four times the width.
        drop_path: stochastic depth rate.
    """

    def __init__(
        self,
        channels: int,
        width: int,
        *,
        heads: int,
        window: int,
        bottleneck: bool,
        drop_path: float,
    ) -> None:
        super().__init__()
        factor = 4 if bottleneck else 1
        out, inner = factor * width, channels // factor
        self.norm1 = nn.BatchNorm2d(channels)
        self.conv = nn.Conv2d(channels, inner, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(inner)
        self.attn = WindowAttention(inner, out, heads=heads, window=window)
        self.shortcut = _shortcut(channels, out, stride=1)
        self.drop_path = DropPath(drop_path) if drop_path else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """Return the block's output, [B, out, H, W]."""
        skip = x
        x = F.gelu(self.norm1(x))
        if self.shortcut is not None:
            skip = self.shortcut(x)
        out: Tensor = skip + self.drop_path(self.attn(self.norm2(self.conv(x))))
        return out


def _shortcut(channels: int, out: int, *, stride: int) -> nn.Conv2d | None:
    if stride == 1 and channels == out:
        return None
    return nn.Conv2d(channels, out, 1, stride=stride, bias=False)
