"""Exact resume for every kind of state there is: buffers, scales, groups, schedules, layouts."""

from pathlib import Path

import pytest

from tests.train.tiny import EVERYTHING, LOADERS_FORK, TINY, total, train
from vitx.errors import Preempted

pytestmark = LOADERS_FORK


def assert_exact(folder: Path, *overrides: str, stops: tuple[int, ...] = (4, 7)) -> None:
    train(*overrides, f"run_dir={folder / 'whole'}")
    for stop in stops:
        with pytest.raises(Preempted):
            train(*overrides, f"run_dir={folder / 'parts'}", f"stop_at={stop}st")
    train(*overrides, f"run_dir={folder / 'parts'}")

    assert total(folder / "parts") == total(folder / "whole")


def variant(*overrides: str, name: str, slow: bool = False) -> object:
    return pytest.param(overrides, id=name, marks=[pytest.mark.slow] if slow else [])


@pytest.mark.parametrize(
    "overrides",
    [
        variant("optimizer=lamb", name="lamb"),
        variant("optimizer=sgd", "optimizer.lr=0.1", name="sgd", slow=True),
        variant("optimizer=timm", "optimizer.name=madgrad", name="madgrad", slow=True),
        variant("precision=bf16", *EVERYTHING, name="bf16", slow=True),
        variant("precision=fp16", *EVERYTHING, name="fp16"),
        variant("objective=bce", "augmentation=three_augment", name="bce", slow=True),
        variant("augmentation=cifar", "augmentation.mix_mode=elem", name="pad", slow=True),
        variant("schedule=step", "schedule.decay_every=30%", name="step", slow=True),
        variant("schedule.per=epoch", "schedule.warmup=1ep", name="per-epoch", slow=True),
        variant("runtime.threads=2", *EVERYTHING, name="threads", slow=True),
        variant(
            "logger.every=5st", "evaluation.every=3st", "checkpoint.every=5st", name="intervals"
        ),
        variant("dataset=digits", "epochs=9st", name="digits", slow=True),
    ],
)
def test_resume(overrides: tuple[str, ...], pictures: Path, tmp_path: Path) -> None:
    dataset = () if "dataset=digits" in overrides else (f"dataset.path={pictures}",)
    assert_exact(tmp_path, *TINY, *dataset, *overrides)


def test_resume_with_batch_normalisation(pictures: Path, tmp_path: Path) -> None:
    words = [word for word in TINY if not word.startswith("+model.args")]
    size = {"embed_dim": 32, "depth": 1, "num_heads": 4}
    assert_exact(
        tmp_path,
        *words,
        "model=xcit_n12",
        *(f"+model.args.{name}={value}" for name, value in size.items()),
        "dataset.image_px=32",
        "ema.decay=0.9",
        "epochs=8st",
        f"dataset.path={pictures}",
    )


@pytest.mark.parametrize(
    "optimizer",
    [
        "adamw",
        "sgd",
        pytest.param("lamb", marks=pytest.mark.slow),
    ],
)
def test_resume_in_channels_last(optimizer: str, pictures: Path, tmp_path: Path) -> None:
    # torch's fused kernels walk parameter and state by address: their layouts have to agree.
    words = (f"optimizer={optimizer}", "runtime.channels_last=true")
    assert_exact(tmp_path, *TINY, *words, f"dataset.path={pictures}")


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*opt_einsum:UserWarning", "ignore::DeprecationWarning")
def test_resume_of_an_optimizer_that_draws(pictures: Path, tmp_path: Path) -> None:
    # It draws for every parameter and acts on one draw in a hundred: first on the 227th, in step 8.
    words = ("optimizer=timm", "optimizer.name=kron", "epochs=16st")
    assert_exact(tmp_path, *TINY, *words, f"dataset.path={pictures}")


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.filterwarnings("ignore:.*opt_einsum:UserWarning", "ignore::DeprecationWarning")
def test_resume_with_every_optimizer_that_runs_here(pictures: Path, tmp_path: Path) -> None:
    from timm.optim import list_optimizers

    from vitx.runtime.torchvision_ops import declare_missing_ops

    declare_missing_ops()
    known = list_optimizers(exclude_filters=["bnb*", "fused*", "adahessian"])
    assert len(known) > 60
    different = []
    for name in known:
        words = ("optimizer=timm", f"optimizer.name={name}", "epochs=4st")
        try:
            assert_exact(tmp_path / name, *TINY, *words, f"dataset.path={pictures}", stops=(2,))
        except AssertionError:
            different.append(name)
    assert different == []
