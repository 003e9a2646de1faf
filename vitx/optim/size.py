"""What an optimizer will hold, before it has made a step."""

from __future__ import annotations

from collections import Counter
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor

from vitx.config.schema import OptimizerConfig
from vitx.optim.build import build_optimizer


def state_bytes(optimizer: torch.optim.Optimizer, config: OptimizerConfig) -> int:
    """Return the bytes of all tensors that an optimizer's state has after a step.

    Another one is built of the same settings and makes a step on one parameter of each group and
    shape: those of a transformer have a dozen between them. The optimizer itself is not touched.

    Args:
        optimizer: over all parameters.
        config: what it was built of.
    """
    counts: Counter[Tensor] = Counter()
    groups: list[dict[str, Any]] = []
    for group in optimizer.param_groups:
        stand_ins: dict[tuple[Any, ...], Tensor] = {}
        for each in group["params"]:
            kind = (each.shape, each.dtype, each.device)
            if kind not in stand_ins:
                stand_ins[kind] = torch.nn.Parameter(torch.ones_like(each))
                stand_ins[kind].grad = torch.ones_like(each)
            counts[stand_ins[kind]] += 1
        # Copies: LAMB counts its steps in a tensor of the group.
        rest = {name: deepcopy(value) for name, value in group.items() if name != "params"}
        groups.append({**rest, "params": list(stand_ins.values())})
    twin = build_optimizer(groups, config, lr=1e-3)
    with torch.compiler.set_stance("force_eager"):  # one step is not worth minutes of compiling
        twin.step()
    return sum(
        counts[parameter] * sum(each.nbytes for each in held.values() if isinstance(each, Tensor))
        for parameter, held in twin.state.items()
    )
