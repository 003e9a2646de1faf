"""Stochastic depth spread over the blocks in another way than timm does."""

from __future__ import annotations

import re

from timm.layers import DropPath
from torch import nn

from vitx.config.schema import DropPathRule

_PLACE = re.compile(r"blocks\.(\d+)\.drop_path\d*")


def spread(model: nn.Module, rate: float, rule: DropPathRule) -> None:
    """Give every residual branch of the blocks its rate, in place.

    Block l of L has `rate l / (L - 1)` where the rule is linear (G. Huang et al.,
    arXiv 1603.09382, as timm counts), else `rate`. Class-attention blocks keep theirs.

    Args:
        model: with `blocks` that hold their branches' stochastic depth as `drop_path`.
        rate: in [0, 1).
        rule: linear or constant.

    Raises:
        ValueError: the model has no such blocks.
    """
    places = [name for name, _ in model.named_modules() if _PLACE.fullmatch(name)]
    if not places:
        raise ValueError("model.drop_path_rule is for models with blocks, as ViT, DeiT and XCiT")
    last = max(_number(place) for place in places)
    for place in places:
        share = _number(place) / last if rule is DropPathRule.linear and last else 1.0
        branch, _, name = place.rpartition(".")
        own = DropPath(rate * share) if rate * share else nn.Identity()
        setattr(model.get_submodule(branch), name, own)


def _number(place: str) -> int:
    match = _PLACE.fullmatch(place)
    assert match is not None  # noqa: S101 (places are those that match)
    return int(match[1])
