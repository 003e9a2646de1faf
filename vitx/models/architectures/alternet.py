"""AlterNet: a pre-activation ResNet whose stages end in local self-attention.

Source: N. Park, S. Kim, How Do Vision Transformers Work?, ICLR 2022 (arXiv 2202.06709), and the
structure of its released code (xxxnell/how-do-vits-work, 9571ff1). Without attention blocks it is
the pre-activation ResNet (K. He et al., arXiv 1603.05027) that the paper compares it with.

Shapes: B batch, C channels, H height, W width of a feature map.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import Any

from timm.models import build_model_with_cfg, generate_default_cfgs, register_model
from torch import Tensor, nn
from torch.nn import functional as F

from vitx.models.architectures.alternet_blocks import AttentionBlock, ConvBlock

STAGE_WIDTHS = (64, 128, 256, 512)
STAGE_HEADS = (3, 6, 12, 24)
PLACEMENTS = ("alternate", "end", "start")

BLOCKS: dict[str, tuple[int, ...]] = {
    "alternet_18": (2, 2, 2, 2),
    "alternet_34": (3, 4, 6, 4),
    "alternet_50": (3, 4, 6, 4),
    "alternet_101": (3, 4, 23, 4),
    "alternet_152": (3, 8, 36, 4),
    "preresnet_18": (2, 2, 2, 2),
    "preresnet_34": (3, 4, 6, 3),
    "preresnet_50": (3, 4, 6, 3),
    "preresnet_101": (3, 4, 23, 3),
    "preresnet_152": (3, 8, 36, 3),
}
"""Residual blocks per stage, by model."""
BASIC = {"alternet_18", "alternet_34", "preresnet_18", "preresnet_34"}
"""Models of two 3x3 convolutions a block; the others have bottlenecks."""
MSA: dict[str, dict[str, tuple[int, ...]]] = {
    "released": {
        "alternet_18": (0, 1, 1, 1),
        "alternet_34": (0, 1, 3, 2),
        "alternet_50": (0, 1, 3, 2),
        "alternet_101": (0, 1, 3, 2),
        "alternet_152": (0, 1, 3, 2),
    },
    "optimum": {"alternet_50": (0, 1, 1, 2)},
}
"""Attention blocks per stage by name and model: of the released code, and those that the paper's
build-up on CIFAR-100 ends with."""

BUILD_UP: dict[str, tuple[int, ...]] = {"alternet_50": (3, 3, 2, 1, 0)}
"""The stage, from 0, that each further attention block of the paper's build-up goes to: the most
accurate place for it on CIFAR-100. Four of them are the optimum.

Source: ICLR 2022 poster, figure 8b (xxxnell/how-do-vits-work-storage a1faef0).
"""


class AlterNet(nn.Module):
    """Four stages of convolution blocks, some of them replaced by window attention.

    Args:
        blocks: residual blocks of each stage.
        msa: attention blocks of each stage.
        placement: where they stand in it: `alternate` with convolutions up to the end of the stage
            (the paper's build-up rule), at the `end`, or at the `start` behind the first block,
            which changes the size.
        window: side of a window; every stage's feature map has to be a multiple of it.
        bottleneck: 1x1, 3x3, 1x1 blocks with four times the width outside.
        stem: `imagenet`, 7x7 stride 2 and max pooling, or `cifar`, 3x3.
        num_classes: classes; 0 leaves the features.
        in_chans: channels of a picture.
        drop_rate: dropout before the classifier.
        drop_path_rate: stochastic depth of the last block; linear from 0 at the first.
        global_pool: `avg` only.

    Raises:
        ValueError: the stages can't be built so.
    """

    def __init__(
        self,
        blocks: Sequence[int] = (3, 4, 6, 3),
        *,
        msa: Sequence[int] = (0, 0, 0, 0),
        placement: str = "alternate",
        window: int = 7,
        bottleneck: bool = True,
        stem: str = "imagenet",
        num_classes: int = 1000,
        in_chans: int = 3,
        drop_rate: float = 0.0,
        drop_path_rate: float = 0.0,
        global_pool: str = "avg",
    ) -> None:
        super().__init__()
        _refuse(global_pool not in ("avg", ""), f"global_pool={global_pool}: expected avg")
        _refuse(stem not in ("imagenet", "cifar"), f"stem={stem}: expected imagenet or cifar")
        _refuse(window < 1, f"window={window}: expected at least 1")
        self.num_classes = num_classes
        width = STAGE_WIDTHS[0]
        if stem == "imagenet":
            first = nn.Conv2d(in_chans, width, 7, stride=2, padding=3, bias=False)
            self.stem = nn.Sequential(first, nn.MaxPool2d(3, stride=2, padding=1))
        else:
            self.stem = nn.Sequential(nn.Conv2d(in_chans, width, 3, padding=1, bias=False))
        last = max(1, sum(blocks) - 1)
        rates = (drop_path_rate * number / last for number in itertools.count())
        channels, stages = width, []
        self.feature_info: list[dict[str, Any]] = []  # timm's, of `forward_intermediates`
        for place, kinds in enumerate(_stages(blocks, msa, placement)):
            stage: list[nn.Module] = []
            for is_msa, rate in zip(kinds, rates, strict=False):
                width, heads = STAGE_WIDTHS[place], STAGE_HEADS[place]
                how: dict[str, Any] = {"bottleneck": bottleneck, "drop_path": rate}
                if is_msa:
                    how |= {"heads": heads, "window": window}
                    stage.append(AttentionBlock(channels, width, **how))
                else:
                    stride = 2 if place and not stage else 1
                    stage.append(ConvBlock(channels, width, stride=stride, **how))
                channels = 4 * width if bottleneck else width
            stages.append(nn.Sequential(*stage))
            self.feature_info.append({"module": f"stages.{place}", "num_chs": channels})
        self.stages = nn.Sequential(*stages)
        self.num_features = self.head_hidden_size = channels
        self.norm = nn.BatchNorm2d(channels)
        self.head_drop = nn.Dropout(drop_rate)
        self.head = nn.Linear(channels, num_classes) if num_classes else nn.Identity()

    def forward_features(self, x: Tensor) -> Tensor:
        """Return the feature map [B, C, H, W] behind the last normalisation."""
        return F.relu(self.norm(self.stages(self.stem(x))))

    def forward_intermediates(
        self, x: Tensor, indices: Sequence[int], *, norm: bool = False, **how: Any
    ) -> list[Tensor]:
        """Return the feature maps [B, C, H, W] behind some stages, as timm's models do.

        Args:
            x: pictures [B, channels, H, W].
            indices: numbers of the stages.
            norm: whether the last one is normalised, as the classifier sees it.
            how: timm's other arguments, which change nothing: only maps are given, and nothing
                behind the last of them is computed.
        """
        x, maps = self.stem(x), []
        for number, stage in enumerate([*self.stages][: max(indices) + 1]):
            x = stage(x)
            if number in indices:
                last = number == len(self.stages) - 1
                maps.append(F.relu(self.norm(x)) if norm and last else x)
        return maps

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """Return [B, classes] of a feature map, or [B, C] before the classifier."""
        features: Tensor = self.head_drop(x.mean((2, 3)))
        logits: Tensor = features if pre_logits else self.head(features)
        return logits

    def forward(self, x: Tensor) -> Tensor:
        """Return logits [B, classes] of pictures [B, channels, H, W]."""
        return self.forward_head(self.forward_features(x))

    def get_classifier(self) -> nn.Module:
        """Return the last layer."""
        return self.head

    def reset_classifier(self, num_classes: int, global_pool: str | None = None) -> None:
        """Put a new last layer in place."""
        _refuse(global_pool not in (None, "avg", ""), f"global_pool={global_pool}: expected avg")
        self.num_classes = num_classes
        device = self.norm.weight.device
        self.head = (
            nn.Linear(self.num_features, num_classes, device=device)
            if num_classes
            else nn.Identity()
        )

    def group_matcher(self, coarse: bool = False) -> dict[str, Any]:
        """Return timm's patterns of the layers, for layer decay."""
        block = r"^stages\.(\d+)" if coarse else r"^stages\.(\d+)\.(\d+)"
        return {"stem": r"^stem", "blocks": [(block, None), (r"^norm", (99999,))]}


def _stages(blocks: Sequence[int], msa: Sequence[int], placement: str) -> Iterator[list[bool]]:
    """Yield for each stage which of its blocks are attention blocks."""
    four = len(STAGE_WIDTHS)
    _refuse(len(blocks) != four or min(blocks) < 1, f"blocks={list(blocks)}: expected {four}")
    _refuse(len(msa) != four, f"msa={list(msa)}: expected {four} counts, one a stage")
    _refuse(placement not in PLACEMENTS, f"placement={placement}: expected {'|'.join(PLACEMENTS)}")
    for count, attentive in zip(blocks, msa, strict=True):
        most = count // 2 if placement == "alternate" else count - 1
        _refuse(
            not 0 <= attentive <= most,
            f"msa={list(msa)}: a stage of {count} blocks takes 0 to {most} with {placement}",
        )
        plain = count - attentive
        yield {
            "alternate": [False] * (plain - attentive) + [False, True] * attentive,
            "end": [False] * plain + [True] * attentive,
            "start": [False] + [True] * attentive + [False] * (plain - 1),
        }[placement]


def _built_up(name: str, steps: int) -> tuple[int, ...]:
    """Return the attention blocks per stage after so many steps of the paper's build-up."""
    most = len(BUILD_UP.get(name, ()))
    expected = f"0 to {most} steps of the build-up" if most else "four counts or a name"
    _refuse(not 0 <= steps <= most or not most, f"msa={steps}: for {name} expected {expected}")
    return tuple(BUILD_UP[name][:steps].count(stage) for stage in range(len(STAGE_WIDTHS)))


def _refuse(wrong: bool, reason: str) -> None:
    if wrong:
        raise ValueError(reason)


def _register(name: str) -> None:
    own: dict[str, Any] = {"blocks": BLOCKS[name], "bottleneck": name not in BASIC}
    named = {counts: MSA[counts][name] for counts in MSA if name in MSA[counts]}
    if named:
        own["msa"] = named["released"]

    def create(pretrained: bool = False, **kwargs: Any) -> AlterNet:
        arguments = own | kwargs
        counts = arguments.get("msa")
        if isinstance(counts, int):
            arguments["msa"] = _built_up(name, counts)
        elif isinstance(counts, str):
            known = " or ".join(["four counts", *named])
            _refuse(counts not in named, f"msa={counts}: for {name} expected {known}")
            arguments["msa"] = named[counts]
        model: AlterNet = build_model_with_cfg(AlterNet, name, pretrained, **arguments)
        return model

    create.__name__ = name
    register_model(create)


default_cfgs = generate_default_cfgs(
    {
        name: {
            "num_classes": 1000,
            "input_size": (3, 224, 224),
            "mean": (0.485, 0.456, 0.406),
            "std": (0.229, 0.224, 0.225),
            "first_conv": "stem.0",
            "classifier": "head",
        }
        for name in BLOCKS
    }
)
for _name in BLOCKS:
    _register(_name)
