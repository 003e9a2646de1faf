"""Nested state to named tensors plus JSON, and back: no pickle."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from vitx.checkpoint.sharding import part_of

_TENSOR = "$tensor"
_PLAIN = (bool, int, float, str, type(None))


def split(tree: Any, prefix: str = "") -> tuple[dict[str, Tensor], Any]:
    """Take the tensors out of nested dicts and lists.

    Args:
        tree: dicts with string keys, lists, tuples, tensors and plain values.
        prefix: path so far.

    Returns:
        Tensors by their path, and the tree with `{"$tensor": path}` in their places.

    Raises:
        TypeError: a value is neither.
    """
    if isinstance(tree, Tensor):
        return {prefix: tree}, {_TENSOR: prefix}
    if isinstance(tree, _PLAIN):
        return {}, tree
    items: Any
    if isinstance(tree, dict):
        items = tree.items()
    elif isinstance(tree, (list, tuple)):
        items = enumerate(tree)
    else:
        raise TypeError(f"{prefix} is a {type(tree).__name__}, which a checkpoint can't hold")
    tensors: dict[str, Tensor] = {}
    skeleton: dict[str, Any] = {}
    for key, value in items:
        found, rest = split(value, f"{prefix}/{key}" if prefix else str(key))
        tensors |= found
        skeleton[str(key)] = rest
    return tensors, skeleton if isinstance(tree, dict) else list(skeleton.values())


def join(tensors: dict[str, Tensor], skeleton: Any) -> Any:
    """Put tensors back into their tree: the inverse of `split`, but for tuples, now lists."""
    if isinstance(skeleton, dict):
        if set(skeleton) == {_TENSOR}:
            return tensors[skeleton[_TENSOR]]
        return {key: join(tensors, value) for key, value in skeleton.items()}
    if isinstance(skeleton, list):
        return [join(tensors, value) for value in skeleton]
    return skeleton


def optimizer_tree(optimizer: torch.optim.Optimizer, model: nn.Module) -> dict[str, Any]:
    """Return an optimizer's state by parameter name, what its groups hold as data, and the rest.

    The rest is what some optimizers keep besides, such as the generator that PSGD draws from.
    """
    names = _names_in_order(optimizer, model)
    state = optimizer.state_dict()
    groups = [
        {key: value for key, value in group.items() if key != "params" and _is_kept(value)}
        for group in state["param_groups"]
    ]
    by_name = {names[index]: values for index, values in state["state"].items()}
    rest = {key: value for key, value in state.items() if key not in ("state", "param_groups")}
    return {"state": by_name, "groups": groups, "rest": rest}


def load_optimizer_tree(
    optimizer: torch.optim.Optimizer, model: nn.Module, tree: dict[str, Any]
) -> None:
    """Put a tree of `optimizer_tree` into an optimizer over the same parameters.

    Raises:
        KeyError: it is of other parameters.
    """
    numbers = {name: index for index, name in enumerate(_names_in_order(optimizer, model))}
    groups = [
        {**group, **saved}
        for group, saved in zip(optimizer.state_dict()["param_groups"], tree["groups"], strict=True)
    ]
    parameters = dict(model.named_parameters())
    state = {
        numbers[name]: {key: _laid_out(value, parameters[name]) for key, value in values.items()}
        for name, values in tree["state"].items()
    }
    rest = {key: _tuples(value) for key, value in tree["rest"].items()}
    optimizer.load_state_dict({**rest, "state": state, "param_groups": groups})


def _names_in_order(optimizer: torch.optim.Optimizer, model: nn.Module) -> list[str]:
    names = {parameter: name for name, parameter in model.named_parameters()}
    return [names[parameter] for group in optimizer.param_groups for parameter in group["params"]]


def _laid_out(value: Any, parameter: Tensor) -> Any:
    # Fused kernels walk a parameter and its state by address: their memory formats have to agree.
    if isinstance(value, Tensor) and value.shape == parameter.shape:
        part = part_of(value, parameter)
        return torch.empty_like(parameter, dtype=value.dtype).copy_(part)
    # What is no copy would keep the whole file, which may be deleted, mapped into memory.
    return value.clone() if isinstance(value, Tensor) else value


def _tuples(value: Any) -> Any:
    # A generator's state is made of tuples, and has to be again.
    return tuple(_tuples(each) for each in value) if isinstance(value, list) else value


def _is_kept(value: Any) -> bool:
    # Some optimizers, such as LAMB, count their steps in a tensor of the group.
    if isinstance(value, (list, tuple)):
        return all(isinstance(each, _PLAIN) for each in value)
    return isinstance(value, (Tensor, *_PLAIN))
