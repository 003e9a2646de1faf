"""What an optimizer will hold is what it does hold, for every optimizer there is."""

from copy import deepcopy

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

from vitx.checkpoint.tree import optimizer_tree, split
from vitx.config.schema import OptimizerConfig
from vitx.errors import UsageError
from vitx.optim.build import build_optimizer
from vitx.optim.groups import build_groups
from vitx.optim.size import state_bytes
from vitx.runtime.torchvision_ops import declare_missing_ops

declare_missing_ops()

from timm.optim import get_optimizer_info, list_optimizers  # noqa: E402

NAMES = [name for name in list_optimizers() if not get_optimizer_info(name).second_order]
COMMON = {"adamw", "sgd", "lamb", "adafactor", "lion", "muon", "adagrad", "kron"}


def a_model() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 24, 4),
        nn.BatchNorm2d(24),
        nn.Flatten(),
        *(nn.Linear(24, 24) for _ in range(3)),
        nn.Linear(24, 140),
    )


@pytest.mark.filterwarnings("ignore:.*opt_einsum:UserWarning")
@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=[] if name in COMMON else pytest.mark.slow) for name in NAMES],
)
def test_the_state_of_an_optimizer_is_reckoned_before_its_first_step(name: str) -> None:
    model, config = a_model(), OptimizerConfig(name=name)
    try:
        optimizer = build_optimizer(build_groups(model, config), config, lr=1e-3)
    except UsageError as error:
        pytest.skip(str(error))
    begun = len(optimizer.state)  # some have theirs from the beginning
    before = {key: value.clone() for key, value in model.state_dict().items()}

    reckoned = state_bytes(optimizer, config)

    assert len(optimizer.state) == begun
    assert all(value.equal(before[key]) for key, value in model.state_dict().items())
    for parameter in model.parameters():
        parameter.grad = torch.randn_like(parameter)
    with torch.compiler.set_stance("force_eager"):
        optimizer.step()
    kept = deepcopy(split(optimizer_tree(optimizer, model)))
    assert state_bytes(optimizer, config) == reckoned
    tensors, rest = split(optimizer_tree(optimizer, model))
    assert_close(tensors, kept[0], rtol=0, atol=0, equal_nan=True)
    assert rest == kept[1]
    held = [each for values in optimizer.state.values() for each in values.values()]
    assert reckoned == sum(each.nbytes for each in held if isinstance(each, Tensor))
