"""How a batch is cut into forward passes, for any number of processes."""

import pytest

from vitx.config.passes import pass_size, settle
from vitx.config.schema import AugmentationConfig, RuntimeConfig, TrainConfig
from vitx.errors import UsageError


def config(batch: int, *, mixup: float = 0.0, **runtime: object) -> TrainConfig:
    return TrainConfig(
        batch_size=batch,
        runtime=RuntimeConfig(**runtime),  # type: ignore[arg-type]
        augmentation=AugmentationConfig(mixup=mixup),
    )


@pytest.mark.parametrize(
    ("wanted", "ranks", "size"),
    [
        (config(64), 1, 64),
        (config(64), 2, 32),
        (config(63), 3, 21),
        (config(64, micro_batch=16), 1, 16),
        (config(64, micro_batch=16), 4, 16),
        (config(64, micro_batch=1000), 1, 64),
        (config(64, exact_world=True), 1, 8),
        (config(64, exact_world=True), 4, 8),
        (config(64, exact_world=True), 16, 4),
        (config(20, exact_world=True), 1, 5),
        (config(20, exact_world=True, micro_batch=10), 2, 10),
        (config(12, exact_world=True, mixup=0.8), 1, 6),
        (config(7, exact_world=True), 1, 7),
    ],
)
def test_the_pictures_of_a_pass(wanted: TrainConfig, ranks: int, size: int) -> None:
    assert pass_size(wanted, ranks) == size
    settled = settle(wanted, ranks)
    assert settled.runtime.micro_batch == size
    assert settled.evaluation_batch == wanted.evaluation_batch  # whatever the processes


@pytest.mark.parametrize(
    ("ranks", "before", "size"),
    [(1, 32, 32), (2, 32, 32), (4, 32, 16), (1, 16, 16), (4, 16, 16), (8, 16, 8), (2, None, 32)],
)
def test_a_run_keeps_its_passes_where_it_can(ranks: int, before: int | None, size: int) -> None:
    assert pass_size(config(64), ranks, before) == size


def test_what_was_typed_counts_more_than_what_was() -> None:
    assert pass_size(config(64, micro_batch=8), 2, 32) == 8


@pytest.mark.parametrize(
    ("wanted", "ranks", "said"),
    [
        (config(64), 3, "can't be shared by 3 processes; set batch_size=63 or 66"),
        (config(2), 3, "set batch_size=3"),
        (config(64, micro_batch=24), 1, "set batch_size=48 or 72"),
        (config(64, micro_batch=32), 4, "2 passes of runtime.micro_batch=32, .*micro_batch=16"),
        (config(60, micro_batch=30), 4, "runtime.micro_batch=15"),
        (config(65, micro_batch=13), 2, "set batch_size to a multiple of the processes"),
        (config(63, exact_world=True), 3, "1, 2, 4, 8, ... processes, not 3"),
        (config(63, mixup=0.8), 1, "set batch_size=64"),
        (config(66, mixup=0.8), 2, "33 was given; set batch_size=68"),
    ],
)
def test_what_can_not_be_shared_is_refused_with_what_to_type(
    wanted: TrainConfig, ranks: int, said: str
) -> None:
    with pytest.raises(UsageError, match=said):
        pass_size(wanted, ranks)
