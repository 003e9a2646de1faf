"""Optimizers by their timm name."""

from __future__ import annotations

import inspect
from typing import Any

import torch

from vitx.config.schema import OptimizerConfig
from vitx.errors import UsageError, near_matches
from vitx.runtime.torchvision_ops import declare_missing_ops


def build_optimizer(
    groups: list[dict[str, Any]], config: OptimizerConfig, *, lr: float
) -> torch.optim.Optimizer:
    """Return a timm optimizer over parameter groups.

    Args:
        groups: as of `build_groups`.
        config: name and hyperparameters; those an optimizer does not take are an error.
        lr: peak learning rate.

    Raises:
        UsageError: timm has no such optimizer, or it does not take a hyperparameter.
    """
    declare_missing_ops()
    from timm.optim import (
        create_optimizer_v2,
        get_optimizer_class,
        get_optimizer_info,
        list_optimizers,
    )

    known = [str(name) for name in list_optimizers()]
    if config.name not in known:
        raise UsageError(
            f"optimizer.name={config.name}: timm has no such optimizer"
            f"{near_matches(config.name, known) or '; vitx train --help optimizer lists some'}"
        )
    if get_optimizer_info(config.name).second_order:
        raise UsageError(
            f"optimizer.name={config.name} needs second derivatives of the loss, which training "
            "does not compute; choose another"
        )
    try:
        takes = inspect.signature(get_optimizer_class(config.name, bind_defaults=False)).parameters
    except (AssertionError, ImportError) as error:
        raise UsageError(f"optimizer.name={config.name} can't be had here: {error}") from error
    betas = None if config.betas is None else tuple(config.betas)
    extra: dict[str, Any] = {
        name: value for name, value in (("betas", betas), ("eps", config.eps)) if value is not None
    }
    for name in extra:
        if name not in takes:
            raise UsageError(f"optimizer.{name}: {config.name} takes none; leave it out")
    if "fused" in takes:
        # One pass over memory instead of five; the same arithmetic on every call.
        extra["fused"] = True
    if "max_grad_norm" in takes:
        # LAMB clips by itself; here optimizer.clip_norm says whether anything does.
        extra["max_grad_norm"] = None
    try:
        return create_optimizer_v2(
            groups,
            opt=config.name,
            lr=lr,
            weight_decay=config.weight_decay,
            momentum=config.momentum,
            **extra,
        )
    except (TypeError, ValueError, IndexError, AssertionError, ImportError) as error:
        raise UsageError(
            f"optimizer.name={config.name} with betas={config.betas}, eps={config.eps}: {error}"
        ) from error
