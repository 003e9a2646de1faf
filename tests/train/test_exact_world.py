"""The same weights to the last bit on any number of processes, and the arithmetic behind it."""

from pathlib import Path

import pytest
import torch
from torch import nn

from tests.train.tiny import EVERYTHING, LOADERS_FORK, TINY, read, rows, total, train
from vitx.config.schema import RuntimeConfig
from vitx.errors import Preempted
from vitx.runtime.launch import launch
from vitx.runtime.world import ALONE, World
from vitx.train.batch_norm import normalise
from vitx.train.exact_world import Summed, TreeSum

pytestmark = LOADERS_FORK

EXACT = ("batch_size=16", "runtime.micro_batch=null", "runtime.exact_world=true")
XCIT = ("model=xcit_n12", "dataset.image_px=32", "+model.args.embed_dim=32", "+model.args.depth=2")


def without_model(words: tuple[str, ...]) -> list[str]:
    return [word for word in words if not word.startswith(("model=", "+model.args", "dataset.i"))]


@pytest.fixture(scope="module", params=["vit", "xcit"])  # XCiT has batch normalisation
def words(request: pytest.FixtureRequest, pictures: Path) -> tuple[str, ...]:
    common = (*TINY, *EVERYTHING, f"dataset.path={pictures}", *EXACT)
    if request.param == "vit":
        return common
    return (*without_model(common), *XCIT, "optimizer.layer_decay=null")


@pytest.fixture(scope="module")
def alone(words: tuple[str, ...], tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("alone") / "run"
    train(*words, f"run_dir={folder}")
    return total(folder)


@pytest.mark.parametrize("devices", [2, 4])
def test_weights_rows_and_result_are_those_of_one_process(
    devices: int, words: tuple[str, ...], alone: str, tmp_path: Path
) -> None:
    train(*words, f"run_dir={tmp_path / 'run'}", f"runtime.devices={devices}")

    assert total(tmp_path / "run") == alone
    record = read(tmp_path / "run/run.json")
    assert record["world_size"] == devices
    assert record["micro_batch"] == 2


@pytest.mark.parametrize("course", [(2, 1, 4), pytest.param((4, 2, 1), marks=pytest.mark.slow)])
def test_a_run_goes_on_with_another_number_of_processes(
    course: tuple[int, ...], words: tuple[str, ...], alone: str, tmp_path: Path
) -> None:
    words = (*words, f"run_dir={tmp_path / 'run'}")
    for stop, devices in zip((2, 4), course, strict=False):
        with pytest.raises(Preempted, match=f"after step {stop} of"):
            train(*words, f"runtime.devices={devices}", f"stop_at={stop}st")
    train(*words, f"runtime.devices={course[-1]}")

    assert total(tmp_path / "run") == alone
    assert read(tmp_path / "run/run.json")["exact"] == {"resume": True, "why": []}
    assert [row["step"] for row in rows(tmp_path / "run")] == [*range(1, 7)]


@pytest.mark.slow
@pytest.mark.parametrize("stop", range(1, 6))
def test_stopped_after_any_step(
    stop: int, words: tuple[str, ...], alone: str, tmp_path: Path
) -> None:
    words = (*words, f"run_dir={tmp_path / 'run'}")
    with pytest.raises(Preempted, match=f"after step {stop} of"):
        train(*words, f"runtime.devices={(1, 2, 4)[stop % 3]}", f"stop_at={stop}st")
    train(*words, f"runtime.devices={(2, 4, 1)[stop % 3]}", "dataset.workers=2")

    assert total(tmp_path / "run") == alone


@pytest.mark.parametrize("leaves", [1, 4, 6, 8, 12])
def test_the_sum_of_a_share_of_the_leaves_is_a_node_of_the_tree(leaves: int) -> None:
    draw = torch.Generator().manual_seed(0)
    values = torch.randn(leaves, 100, generator=draw) * torch.logspace(-3, 3, 100)

    def tree_of(part: torch.Tensor) -> torch.Tensor:
        tree = TreeSum(len(part))
        for leaf in part:
            tree.add([leaf.clone()])
        return tree.total()[0]

    whole = tree_of(values)
    torch.testing.assert_close(whole, values.double().sum(0).float(), rtol=1e-5, atol=1e-3)
    for ranks in (2, 4):
        if leaves % ranks:
            continue
        nodes = [tree_of(part) for part in values.chunk(ranks)]
        while len(nodes) > 1:
            nodes = [left + right for left, right in zip(nodes[::2], nodes[1::2], strict=True)]
        assert torch.equal(nodes[0], whole)


def test_gradients_are_those_of_the_whole_batch() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(5, 4), nn.Tanh(), nn.Linear(4, 1)).double()
    batch = torch.randn(8, 5, dtype=torch.float64)
    model(batch).mean().backward()
    expected = [each.grad.clone() for each in model.parameters() if each.grad is not None]
    model.zero_grad()
    summed = Summed(model, model, accumulation=4, world=ALONE)
    for part in batch.chunk(4):
        with summed.of_pass(last=False):
            (model(part).mean() / summed.divisor).backward()
    summed.of_batch()

    for parameter, gradient in zip(model.parameters(), expected, strict=True):
        torch.testing.assert_close(parameter.grad, gradient, rtol=1e-12, atol=0)


def test_running_statistics_move_as_those_of_torch_do() -> None:
    torch.manual_seed(0)
    own, torchs = nn.BatchNorm2d(3, momentum=0.3), nn.BatchNorm2d(3, momentum=0.3)
    summed = Summed(own, own, accumulation=2, world=ALONE)
    for _ in range(3):
        for _ in range(2):
            batch = torch.randn(4, 3, 2, 2)
            torchs(batch)
            with summed.of_pass(last=False):
                own(batch).sum().backward()
        summed.of_batch()

    torch.testing.assert_close(own.running_mean, torchs.running_mean)
    torch.testing.assert_close(own.running_var, torchs.running_var)
    assert own.num_batches_tracked == torchs.num_batches_tracked == 6


@pytest.mark.parametrize("affine", [True, False])
def test_synchronised_batch_normalisation_is_that_of_the_whole_batch(
    affine: bool, tmp_path: Path
) -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    batch = torch.randn(7, 3, 2, 2, dtype=torch.float64) * 5 + 2
    weights = torch.randn_like(batch)
    whole = nn.BatchNorm2d(3, affine=affine).double()
    if affine:
        nn.init.normal_(whole.weight)
    kept = {name: tensor.clone() for name, tensor in whole.state_dict().items()}
    inputs = batch.clone().requires_grad_()
    said = whole(inputs)
    (said * weights).sum().backward()

    def story(world: World) -> None:
        layer = nn.BatchNorm2d(3, affine=affine).double()
        layer.load_state_dict(kept)
        part = slice(0, 4) if world.leads else slice(4, 7)  # of different sizes
        own = batch[part].clone().requires_grad_()
        mine = normalise(own, layer)
        (mine * weights[part]).sum().backward()
        torch.testing.assert_close(mine, said[part])
        torch.testing.assert_close(own.grad, inputs.grad[part])
        torch.testing.assert_close(layer.running_mean, whole.running_mean)
        torch.testing.assert_close(layer.running_var, whole.running_var)
        if affine:
            gradients = world.gather(layer.weight.grad.tolist())
            torch.testing.assert_close(torch.tensor(gradients).sum(0), whole.weight.grad.float())

    launch(story, ALONE, RuntimeConfig(devices=2))
