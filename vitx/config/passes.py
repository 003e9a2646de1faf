"""How many pictures go through the model at a time, from batch and number of processes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from vitx.config.schema import TrainConfig
from vitx.errors import UsageError

# Shards of a batch under runtime.exact_world, where nothing says how many: enough for 8 processes.
_SHARDS = 8


def pass_size(config: TrainConfig, ranks: int, before: int | None = None) -> int:
    """Return the pictures in one forward pass of one process.

    Mixing, dropout and batch statistics are drawn and taken pass by pass, so a run keeps the size
    it began with wherever another number of processes allows it.

    Args:
        config: with `batch_size` and `runtime.micro_batch`.
        ranks: processes that share a batch.
        before: the size this run had so far.

    Raises:
        UsageError: the batch can't be shared so.
    """
    size = before if before and _keeps(config, ranks, before) else _chosen(config, ranks)
    for problem in _problems(config, ranks, size):
        raise UsageError(problem)
    return size


def settle(config: TrainConfig, ranks: int, before: int | None = None) -> TrainConfig:
    """Return a configuration whose numbers of pictures in a pass are settled.

    Args:
        config: as typed.
        ranks: processes that share a batch.
        before: as of `pass_size`.

    Raises:
        UsageError: the batch can't be shared so.
    """
    size = pass_size(config, ranks, before)
    return replace(
        config,
        runtime=replace(config.runtime, micro_batch=size),
        evaluation=replace(config.evaluation, batch_size=config.evaluation_batch),
    )


def _keeps(config: TrainConfig, ranks: int, before: int) -> bool:
    batch = config.batch_size
    return config.runtime.micro_batch is None and batch % (before * ranks) == 0


def _chosen(config: TrainConfig, ranks: int) -> int:
    runtime, batch = config.runtime, config.batch_size
    if runtime.micro_batch is not None:
        return min(runtime.micro_batch, batch)
    if not runtime.exact_world:
        return max(1, batch // ranks)
    pairs = 2 if _mixes(config) else 1
    shards = max(_SHARDS, ranks)
    while shards > ranks and batch % (shards * pairs):
        shards //= 2
    return max(1, batch // shards)


def _problems(config: TrainConfig, ranks: int, size: int) -> Iterator[str]:
    batch = config.batch_size
    if config.runtime.exact_world and ranks & (ranks - 1):
        yield (
            f"runtime.exact_world=true sums in pairs, so it takes 1, 2, 4, 8, ... processes, "
            f"not {ranks}"
        )
    if config.runtime.micro_batch is None and batch % ranks:
        low = batch // ranks * ranks
        choice = f"{low} or {low + ranks}" if low else str(ranks)
        yield f"batch_size={batch} can't be shared by {ranks} processes; set batch_size={choice}"
    elif batch % size:
        low = batch // size * size
        yield (
            f"batch_size={batch} is not a multiple of runtime.micro_batch={size}; "
            f"set batch_size={low} or {low + size}"
        )
    elif batch // size % ranks:
        hint = "set batch_size to a multiple of the processes"
        if batch % ranks == 0:
            most = min(size, batch // ranks)
            fitting = next(each for each in range(most, 0, -1) if not batch % (each * ranks))
            hint = f"set runtime.micro_batch={fitting}"
        yield (
            f"batch_size={batch} makes {batch // size} passes of runtime.micro_batch={size}, which "
            f"{ranks} processes can't share; {hint}"
        )
    elif _mixes(config) and size % 2:
        setting = f"runtime.micro_batch={size + 1}"
        if config.runtime.micro_batch is None or size == batch:
            setting = f"batch_size={(size + 1) * (batch // size)}"
        yield (
            f"mixup and cutmix pair the pictures of a batch, so a forward pass needs an even "
            f"number: {size} was given; set {setting} or augmentation.mixup=0 "
            f"augmentation.cutmix=0"
        )


def _mixes(config: TrainConfig) -> bool:
    return config.augmentation.mixup > 0 or config.augmentation.cutmix > 0
