"""Optimizers by name: the update they make, and the settings they refuse."""

import pytest
import torch

from vitx.config.resolve import resolve
from vitx.config.schema import OptimizerConfig, TrainConfig
from vitx.config.store import compose
from vitx.errors import UsageError
from vitx.optim.build import build_optimizer
from vitx.optim.groups import build_groups


def built(model: torch.nn.Module, lr: float = 0.01, **config: object) -> torch.optim.Optimizer:
    settings = OptimizerConfig(**config)
    return build_optimizer(build_groups(model, settings), settings, lr=lr)


def linear() -> torch.nn.Linear:
    model = torch.nn.Linear(3, 2)
    with torch.no_grad():
        model.weight.copy_(torch.arange(6.0).view(2, 3) - 2)
        model.bias.copy_(torch.tensor([1.0, -3.0]))
    return model


def test_the_rate_grows_linearly_with_the_batch() -> None:
    assert OptimizerConfig(lr=5e-4, lr_batch=512).peak_lr(1024) == 1e-3  # DeiT
    assert OptimizerConfig(lr=5e-4, lr_batch=512).peak_lr(256) == 2.5e-4
    assert OptimizerConfig(lr=4e-3).peak_lr(2048) == 4e-3  # DeiT III: --unscale-lr


def test_adamw_makes_the_steps_of_its_paper() -> None:
    """Two steps by arXiv 1711.05101, algorithm 2, in float64; the bias does not decay."""
    model, lr, wd, eps, (b1, b2) = linear(), 0.01, 0.3, 1e-6, (0.8, 0.9)
    optimizer = built(model, lr=lr, weight_decay=wd, eps=eps, betas=[b1, b2])
    expected = {name: each.detach().double() for name, each in model.named_parameters()}
    moments = {name: [torch.zeros_like(each)] * 2 for name, each in expected.items()}
    generator = torch.Generator().manual_seed(0)
    for t in (1, 2):
        for name, parameter in model.named_parameters():
            parameter.grad = torch.randn(parameter.shape, generator=generator)
            gradient = parameter.grad.double()
            m = b1 * moments[name][0] + (1 - b1) * gradient
            v = b2 * moments[name][1] + (1 - b2) * gradient**2
            moments[name] = [m, v]
            update = (m / (1 - b1**t)) / ((v / (1 - b2**t)).sqrt() + eps)
            decay = wd if name == "weight" else 0.0
            expected[name] = expected[name] * (1 - lr * decay) - lr * update
        optimizer.step()
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(parameter.double(), expected[name], rtol=1e-5, atol=1e-7)


def test_sgd_is_nesterov_momentum() -> None:
    """timm's sgd: v <- m v + g, w <- w - lr (g + m v), decay added to the gradient."""
    model, lr, wd, momentum = linear(), 0.1, 0.01, 0.9
    optimizer = built(model, lr=lr, name="sgd", weight_decay=wd, momentum=momentum)
    weight, velocity = model.weight.detach().double(), torch.zeros(2, 3, dtype=torch.float64)
    for _ in range(3):
        model.weight.grad, model.bias.grad = torch.ones(2, 3), torch.zeros(2)
        gradient = 1 + wd * weight
        velocity = momentum * velocity + gradient
        weight = weight - lr * (gradient + momentum * velocity)
        optimizer.step()
    torch.testing.assert_close(model.weight.double(), weight, rtol=1e-6, atol=1e-7)


def test_lamb_scales_the_update_to_the_norm_of_the_weights() -> None:
    """arXiv 1904.00962: Adam's first direction, sign(g), gets the length of the weights."""
    model = linear()
    before = model.weight.detach().clone()
    optimizer = built(model, lr=0.01, name="lamb", weight_decay=1e-6)
    model.weight.grad = torch.tensor([[1e-3, -1e-3, 1e-3], [-1e-3, 1e-3, 1e-3]])
    model.bias.grad = torch.zeros(2)
    optimizer.step()
    step = before - model.weight.detach()
    assert step.norm().item() == pytest.approx(0.01 * before.norm().item(), rel=1e-3)
    assert torch.equal(step.sign(), model.weight.grad.sign())


def test_lamb_does_not_clip_unless_it_is_told_to() -> None:
    optimizer = built(linear(), name="lamb")
    assert {group["max_grad_norm"] for group in optimizer.param_groups} == {None}
    assert resolve(compose("train", ["optimizer=lamb"]), TrainConfig).optimizer.clip_norm == 1.0


@pytest.mark.parametrize("name", ["adamw", "sgd", "lamb", "lion", "adan", "adafactor", "muon"])
def test_other_names_make_a_step(name: str) -> None:
    model = linear()
    before = model.weight.detach().clone()
    optimizer = built(model, name=name)
    model(torch.ones(4, 3)).square().mean().backward()
    optimizer.step()
    assert model.weight.isfinite().all()
    assert not torch.equal(model.weight, before)


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"name": "adamww"}, ["no such optimizer", "'adamw'"]),
        ({"name": "adahessian"}, ["second derivatives"]),
        ({"name": "zzz"}, ["no such optimizer", "vitx train --help optimizer"]),
        ({"betas": [1.5, 0.9]}, ["beta", "1.5"]),
        ({"eps": -1.0}, ["epsilon", "-1.0"]),
        ({"name": "sgd", "momentum": -1.0}, ["momentum", "-1.0"]),
    ],
)
def test_refused_on_one_line(config: dict, words: list[str]) -> None:
    with pytest.raises(UsageError) as caught:
        built(linear(), **config)
    line = str(caught.value)
    assert line.startswith(f"optimizer.name={config.get('name', 'adamw')}")
    assert "\n" not in line
    for word in words:
        assert word in line


@pytest.mark.parametrize("config", [{"betas": [0.9, 0.99]}, {"eps": 1e-6}])
def test_a_hyperparameter_that_sgd_does_not_take_is_refused(config: dict) -> None:
    with pytest.raises(UsageError, match="optimizer"):
        built(linear(), name="sgd", **config)


def test_a_single_beta_is_refused() -> None:
    with pytest.raises(UsageError, match="betas"):
        built(linear(), betas=[0.9])


@pytest.mark.skipif(torch.cuda.is_available(), reason="it may be there")
def test_an_optimizer_of_a_library_that_is_not_here_is_refused() -> None:
    with pytest.raises(UsageError, match="bnbadam"):
        built(linear(), name="bnbadam")
