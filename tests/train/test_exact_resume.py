"""A run that is stopped and resumed, anywhere and any number of times, is the run that was not.

Equal means one sha256 over model, average, optimizer, counters, every row of metrics and the
result. A stop inside an accumulated step does not exist: it is polled between optimizer steps, and
`tests/runtime/test_signals.py` sends a signal in the middle of one.
"""

from pathlib import Path

import pytest

from tests.train.tiny import LOADERS_FORK, STEPS, read, rows, total, train
from vitx.errors import Preempted

WORKERS = (0, 1, 2, 4)

pytestmark = LOADERS_FORK


def train_in_parts(run_dir: Path, stops: list[int], *overrides: str, first: int = 0) -> None:
    """Stop after each of the steps, with another number of loader processes each time."""
    for part, stop in enumerate([*stops, None]):
        words = [*overrides, f"run_dir={run_dir}", f"dataset.workers={WORKERS[(first + part) % 4]}"]
        if stop is None:
            train(*words)
            continue
        with pytest.raises(Preempted, match=f"after step {stop} of"):
            train(*words, f"stop_at={stop}st")


@pytest.mark.parametrize(
    "stop",
    [
        step if step in (1, 6, 7, 11) else pytest.param(step, marks=pytest.mark.slow)
        for step in range(1, STEPS)
    ],
)
def test_stopped_after_any_step_of_two_epochs(
    stop: int, everything: tuple[str, ...], uninterrupted: str, tmp_path: Path
) -> None:
    train_in_parts(tmp_path / "run", [stop], *everything, first=stop)

    assert total(tmp_path / "run") == uninterrupted


@pytest.mark.parametrize(
    "stops",
    [[2, 4], [7, 9, 11], pytest.param([*range(1, STEPS)], marks=pytest.mark.slow)],
    ids=str,
)
def test_stopped_again_and_again(
    stops: list[int], everything: tuple[str, ...], uninterrupted: str, tmp_path: Path
) -> None:
    train_in_parts(tmp_path / "run", stops, *everything)

    assert total(tmp_path / "run") == uninterrupted
    found = rows(tmp_path / "run")
    assert [row["step"] for row in found] == [*range(1, STEPS + 1)]
    assert [row["samples"] for row in found] == [*range(8, 97, 8)]
    assert [row["step"] for row in found if "val/top1" in row] == [6, 12]
    record = read(tmp_path / "run/run.json")
    assert record["sessions"] == len(stops) + 1
    assert record["exact"] == {"resume": True, "why": []}


@pytest.mark.parametrize("workers", WORKERS[1:])
def test_loader_processes_change_nothing(
    workers: int, everything: tuple[str, ...], uninterrupted: str, tmp_path: Path
) -> None:
    train(*everything, f"run_dir={tmp_path / 'run'}", f"dataset.workers={workers}")

    assert total(tmp_path / "run") == uninterrupted


@pytest.mark.parametrize(
    "without",
    [
        "augmentation.auto_augment=null",
        "augmentation.erase_prob=0",
        "augmentation.repeats=1",
        "augmentation.mixup=0",
        "augmentation.cutmix=0",
        "augmentation.label_smoothing=0",
        "model.drop_path=0",
        "model.dropout=0",
        "ema.decay=null",
        "ema.warmup=false",
        "optimizer.clip_norm=null",
        "optimizer.layer_decay=null",
        "runtime.micro_batch=null",
        "seed=1",
    ],
)
@pytest.mark.slow
def test_everything_is_really_on(
    without: str, everything: tuple[str, ...], uninterrupted: str, tmp_path: Path
) -> None:
    train(*everything, f"run_dir={tmp_path / 'run'}", without)

    assert total(tmp_path / "run") != uninterrupted
