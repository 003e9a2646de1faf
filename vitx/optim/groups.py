"""Parameter groups: which weights decay, and how the learning rate falls from layer to layer."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from torch import nn

from vitx.config.schema import OptimizerConfig
from vitx.errors import UsageError
from vitx.runtime.torchvision_ops import declare_missing_ops


@dataclass(frozen=True, kw_only=True)
class GroupSummary:
    """One parameter group as the user is told of it."""

    tensors: int
    parameters: int
    weight_decay: float
    lr_scale: float


def build_groups(model: nn.Module, config: OptimizerConfig) -> list[dict[str, Any]]:
    """Return parameter groups for a timm optimizer.

    One-dimensional parameters, biases, what the model names in `no_weight_decay()` and modules with
    `exempt_from_weight_decay` have no weight decay, but for names that match `decay_also`, nor have
    those that match `decay_never`; with `decay_all` everything else decays alike. With
    `layer_decay` d, a group at depth l of L layers has the learning rate times d^(L - l) (BEiT,
    arXiv 2106.08254), as `lr_scale`.

    Raises:
        UsageError: a pattern matches no parameter.
    """
    declare_missing_ops()
    from timm.optim import param_groups_layer_decay, param_groups_weight_decay

    exempt = _exempt(model, config)
    groups: list[dict[str, Any]]
    if config.layer_decay is None:
        groups = param_groups_weight_decay(
            model,
            config.weight_decay,
            weight_decay_exclude_1d=not config.decay_all,
            no_weight_decay_list=exempt,
        )
    else:
        groups = param_groups_layer_decay(
            model,
            config.weight_decay,
            weight_decay_exclude_1d=not config.decay_all,
            no_weight_decay_list=exempt,
            layer_decay=config.layer_decay,
        )
    return groups


def _exempt(model: nn.Module, config: OptimizerConfig) -> set[str]:
    """Return the names without weight decay, besides one-dimensional parameters and biases."""
    declared: set[str] = set()
    if not config.decay_all:
        declared = getattr(model, "no_weight_decay", set)() | {
            f"{name}.*"
            for name, module in model.named_modules()
            if getattr(module, "exempt_from_weight_decay", False)
        }
    names = [name for name, _ in model.named_parameters()]
    for pattern in (*config.decay_also, *config.decay_never):
        if not fnmatch.filter(names, pattern):
            raise UsageError(
                f"no parameter of the model matches '{pattern}' of optimizer.decay_also and "
                "optimizer.decay_never"
            )
    return {
        name
        for name in names
        if _matches(name, config.decay_never)
        or (_matches(name, declared) and not _matches(name, config.decay_also))
    }


def _matches(name: str, patterns: Iterable[str]) -> bool:
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)


def summarise(groups: list[dict[str, Any]]) -> list[GroupSummary]:
    """Return what is in each group."""
    return [
        GroupSummary(
            tensors=len(group["params"]),
            parameters=sum(parameter.numel() for parameter in group["params"]),
            weight_decay=group["weight_decay"],
            lr_scale=group.get("lr_scale", 1.0),
        )
        for group in groups
    ]
