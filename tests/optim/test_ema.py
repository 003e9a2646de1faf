"""The weight average against its closed form in float64."""

import pytest
import torch

from vitx.config.schema import EmaConfig
from vitx.optim.ema import build_ema


def network() -> torch.nn.Sequential:
    return torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4))


def redraw(model: torch.nn.Module) -> None:
    """Put other values everywhere, as a training step does."""
    with torch.no_grad():
        for tensor in model.state_dict().values():
            if tensor.is_floating_point():
                tensor.normal_()
            else:
                tensor.add_(1)


@pytest.mark.parametrize("warmup", [False, True])
def test_closed_form(warmup: bool) -> None:
    """ema_t = sum_k (1 - d_k) w_k prod_(j > k) d_j, where the first step copies the model."""
    torch.manual_seed(0)
    model, steps, decay = network(), 8, 0.6
    ema = build_ema(model, EmaConfig(decay=decay, warmup=warmup))
    decays = [0.0]
    for t in range(1, steps):
        decays.append(min(decay, 1 - (1 + t) ** (-2 / 3)) if warmup else decay)
    seen = []
    for t in range(1, steps + 1):
        redraw(model)
        seen.append({name: each.clone() for name, each in model.state_dict().items()})
        ema.update(model, step=t)
    for name, found in ema.module.state_dict().items():
        if not found.is_floating_point():
            assert torch.equal(found, seen[-1][name])
            continue
        expected = torch.zeros_like(found, dtype=torch.float64)
        for k in range(steps):
            weight = 1 - decays[k]
            for later in decays[k + 1 :]:
                weight *= later
            expected += weight * seen[k][name].double()
        torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=1e-6)
    assert warmup is (decays[1] != decay)


def test_going_on_from_the_averaged_weights_alone() -> None:
    torch.manual_seed(0)
    model = network()
    config = EmaConfig(decay=0.9, warmup=True)
    whole, snapshot = build_ema(model, config), None
    resumed = build_ema(model, config)
    for t in range(1, 7):
        redraw(model)
        whole.update(model, step=t)
        if t == 3:
            snapshot = {name: each.clone() for name, each in whole.module.state_dict().items()}
            resumed.module.load_state_dict(snapshot)
        elif t > 3:
            resumed.update(model, step=t)
    for name, tensor in whole.module.state_dict().items():
        assert torch.equal(resumed.module.state_dict()[name], tensor)


def test_the_average_is_not_trained_and_not_the_model() -> None:
    model = network()
    ema = build_ema(model, EmaConfig(decay=0.9))
    assert not any(parameter.requires_grad for parameter in ema.module.parameters())
    assert not {each.data_ptr() for each in model.parameters()} & {
        each.data_ptr() for each in ema.module.parameters()
    }
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_null_keeps_none() -> None:
    assert build_ema(network(), EmaConfig()) is None
