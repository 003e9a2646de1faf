"""`vitx distill` in this process, on a few pictures and with a little teacher."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.train.tiny import EVERYTHING, TINY, train
from vitx.commands.distill import run
from vitx.commands.job import Job
from vitx.config.quoting import hydra_arguments
from vitx.config.resolve import resolve
from vitx.config.schema import DistillConfig
from vitx.config.store import compose
from vitx.config.words import split
from vitx.data.sources import load_splits
from vitx.teaching.plan import TeacherPlan, plan_teachers


def configured(*words: str) -> DistillConfig:
    arguments = hydra_arguments("distill", split("distill", list(words)))
    return resolve(compose("distill", arguments), DistillConfig)


def distil(*words: str) -> None:
    """Do what `vitx distill` does, in this process."""
    run(configured(*words), Job(overrides=words))


def planned(*words: str) -> TeacherPlan:
    config = configured(*words)
    return plan_teachers(config, load_splits(config.dataset))[0]


@pytest.fixture(scope="module")
def teacher(pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of a little network on the same pictures, larger and otherwise normalised."""
    run_dir = tmp_path_factory.mktemp("teacher") / "run"
    words = ("model=timm", "model.name=resnet10t", "dataset=folder", "dataset.image_px=32")
    more = ("dataset.workers=0", "dataset.mean=[0.4,0.4,0.4]", "epochs=1ep", "batch_size=8")
    train(*words, *more, f"dataset.path={pictures}", f"run_dir={run_dir}")
    return run_dir


@pytest.fixture
def words(pictures: Path, teacher: Path) -> tuple[str, ...]:
    taught = ("teacher=run", f"teacher.weights={teacher}")
    return (*TINY, *EVERYTHING, f"dataset.path={pictures}", *taught)


@pytest.fixture
def own_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VITX_RUNS", str(tmp_path / "runs"))
    monkeypatch.setenv("VITX_CACHE", str(tmp_path / "cache"))
