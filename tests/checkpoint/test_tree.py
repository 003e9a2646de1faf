"""Nested state as named tensors and JSON, and an optimizer that comes back the same."""

import json
from typing import Any

import pytest
import torch
from torch import nn

from vitx.checkpoint.tree import join, load_optimizer_tree, optimizer_tree, split


def through_a_file(tree: Any) -> Any:
    """Return a tree as it comes back from a checkpoint: tensors by name, the rest as JSON."""
    tensors, skeleton = split(tree)
    read = {name: tensor.clone() for name, tensor in tensors.items()}
    return join(read, json.loads(json.dumps(skeleton)))


def test_tensors_leave_the_tree_and_come_back() -> None:
    tree = {
        "state": {"layer.weight": {"step": torch.tensor(3.0), "moment": torch.ones(2, 2)}},
        "groups": [{"lr": 1e-3, "betas": [0.9, 0.999]}, {"lr": 1 / 3, "nesterov": None}],
        "list": [torch.tensor(1), [torch.tensor(2)], "text", True],
    }

    tensors, skeleton = split(tree)

    assert set(tensors) == {
        "state/layer.weight/step",
        "state/layer.weight/moment",
        "list/0",
        "list/1/0",
    }
    assert json.loads(json.dumps(skeleton)) == skeleton
    back = join(tensors, skeleton)
    assert back["groups"] == tree["groups"]
    assert back["list"] == tree["list"]
    assert back["state"]["layer.weight"]["moment"] is tree["state"]["layer.weight"]["moment"]


def test_a_tuple_comes_back_as_a_list() -> None:
    assert through_a_file({"betas": (0.9, 0.99)}) == {"betas": [0.9, 0.99]}


@pytest.mark.parametrize("value", [object(), {1, 2}, b"bytes", 1j])
def test_what_no_checkpoint_can_hold_is_named(value: object) -> None:
    with pytest.raises(TypeError, match="state/name/here is a"):
        split({"state": {"name": {"here": value}}})


def a_model() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))


def an_optimizer(name: str, model: nn.Module) -> torch.optim.Optimizer:
    from vitx.config.schema import OptimizerConfig
    from vitx.optim.build import build_optimizer

    # Two groups, and the last layer's first: numbers and names go different ways.
    groups = [
        {"params": list(model[2].parameters()), "weight_decay": 0.1, "lr_scale": 0.5},
        {"params": [*model[0].parameters(), *model[1].parameters()], "weight_decay": 0.0},
    ]
    return build_optimizer(groups, OptimizerConfig(name=name), lr=1e-2)


def steps(model: nn.Module, optimizer: torch.optim.Optimizer, numbers: range) -> None:
    for number in numbers:
        torch.manual_seed(number)
        optimizer.zero_grad()
        model(torch.randn(5, 3)).square().mean().backward()
        optimizer.step()


@pytest.mark.parametrize(
    "name", ["adamw", "sgd", "lamb", "madgrad", "adafactor", "lion", "nadamw", "adopt", "rmsproptf"]
)
def test_an_optimizer_goes_on_as_if_nothing_had_happened(name: str) -> None:
    straight = a_model()
    optimizer = an_optimizer(name, straight)
    steps(straight, optimizer, range(3))
    saved = through_a_file(dict(straight.state_dict()))
    tree = through_a_file(optimizer_tree(optimizer, straight))
    steps(straight, optimizer, range(3, 6))

    resumed = a_model()
    resumed.load_state_dict(saved)
    other = an_optimizer(name, resumed)
    load_optimizer_tree(other, resumed, tree)
    steps(resumed, other, range(3, 6))

    for key, value in resumed.state_dict().items():
        assert value.equal(straight.state_dict()[key]), key


@pytest.mark.filterwarnings("ignore:.*opt_einsum:UserWarning")
def test_what_an_optimizer_keeps_besides_goes_with_it() -> None:
    """PSGD's generator is in its state, beside parameters and groups."""
    model = a_model()
    optimizer = an_optimizer("kron", model)
    optimizer.rng.random()
    tree = through_a_file(optimizer_tree(optimizer, model))
    expected = optimizer.rng.random()

    other = an_optimizer("kron", model)
    load_optimizer_tree(other, model, tree)

    assert other.rng.random() == expected


def test_the_tree_names_parameters() -> None:
    model = a_model()
    optimizer = an_optimizer("adamw", model)
    steps(model, optimizer, range(1))

    tree = optimizer_tree(optimizer, model)

    assert set(tree["state"]) == {name for name, _ in model.named_parameters()}
    for name, parameter in model.named_parameters():
        assert tree["state"][name]["exp_avg"].shape == parameter.shape
    assert [group["weight_decay"] for group in tree["groups"]] == [0.1, 0.0]


def test_state_of_other_parameters_is_refused() -> None:
    model = a_model()
    optimizer = an_optimizer("adamw", model)
    steps(model, optimizer, range(1))
    tree = optimizer_tree(optimizer, model)
    tree["state"]["3.weight"] = tree["state"].pop("2.weight")

    with pytest.raises(KeyError, match=r"3\.weight"):
        load_optimizer_tree(an_optimizer("adamw", model), model, tree)
