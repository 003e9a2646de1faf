"""What a run takes, from what a few steps took: worked out by hand."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tests.train.tiny import EVERYTHING, TINY, configure, write_pictures
from vitx.config.schema import Precision
from vitx.estimate import Pace, Trial, estimate
from vitx.parts import Machine, gather
from vitx.records import Plan


def machine(kind: str = "cpu", *, workers: int, threads: int = 2) -> Machine:
    return Machine(
        device=torch.device(kind), precision=Precision.fp32, workers=workers, threads=threads
    )


@pytest.mark.parametrize(
    ("kind", "workers", "cores", "seconds"),
    [
        ("cpu", 0, 2, 0.010 + 0.004),  # one after the other
        ("cpu", 1, 2, (2 * 0.010 + 0.004) / 2),  # three processes' work on two cores
        ("cpu", 1, 8, 0.010),  # cores enough: loading hides behind the model
        ("cpu", 4, 2, (2 * 0.010 + 2 * 0.004) / 2),
        ("cuda", 1, 2, 0.010),
        ("cuda", 4, 2, 0.010),
    ],
)
def test_loading_beside_the_model(kind: str, workers: int, cores: int, seconds: float) -> None:
    pace = Pace(compute_s=0.010, loading_s=0.004)
    assert pace.picture_s(machine(kind, workers=workers), cores=cores) == pytest.approx(seconds)


def test_slow_loading_decides() -> None:
    pace = Pace(compute_s=0.001, loading_s=0.030)
    assert pace.picture_s(machine("cuda", workers=3), cores=8) == pytest.approx(0.030)
    assert pace.picture_s(machine("cpu", workers=1), cores=2) == pytest.approx(0.030)
    assert pace.picture_s(machine("cpu", workers=2), cores=2) == pytest.approx(0.031)


def trial(**changes: object) -> Trial:
    measured = Trial(
        pictures=8,
        loss=1.0,
        training=Pace(compute_s=0.010, loading_s=0.0, update_s=0.5),
        evaluation=Pace(compute_s=0.002, loading_s=0.0),
        peak_bytes=1000,
        picture_bytes=50,
        file_bytes={"model": 100, "optimizer": 200},
    )
    return replace(measured, **changes)  # type: ignore[arg-type]


def plan(*, batch: int, micro: int) -> Plan:
    return Plan(steps_per_epoch=5, total_steps=10, batch_size=batch, micro_batch=micro)


def test_memory_grows_with_the_pictures_of_a_pass() -> None:
    gpu, cpu = machine("cuda", workers=0), machine(workers=0)
    assert trial().memory_bytes(plan(batch=8, micro=8), gpu) == 1000
    assert trial().memory_bytes(plan(batch=32, micro=32), gpu) == 1000 + 24 * 50
    # Accumulating keeps the gradients of the passes before.
    assert trial().memory_bytes(plan(batch=64, micro=32), gpu) == 1000 + 24 * 50 + 100
    # What is written while training goes on is a copy, in the memory of the host.
    assert trial().memory_bytes(plan(batch=8, micro=8), cpu) == 1000 + 300


def test_time_is_that_of_steps_and_evaluations(tmp_path: Path) -> None:
    words = (*TINY, *EVERYTHING, f"dataset.path={write_pictures(tmp_path)}")
    config = configure(*words, "evaluation.every=5st")
    parts = gather(config, start_step=0)  # 12 steps of 8 on 48 pictures, 21 to measure
    cost = estimate(config, parts, trial())

    step_s = 8 * 0.010 + 0.5
    assert cost.epoch_s == pytest.approx(6 * step_s)
    assert cost.evaluation_s == pytest.approx(21 * 2 * 0.002)  # model and average
    assert cost.evaluations == 3  # after 5, 10 and 12
    assert cost.total_s == pytest.approx(12 * step_s + 3 * cost.evaluation_s)
    later = estimate(config, parts, trial(), done=7)
    assert later.evaluations == 2
    assert later.total_s == pytest.approx(5 * step_s + 2 * cost.evaluation_s)
