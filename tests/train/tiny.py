"""Runs of a few steps on a few pictures, done in this process, and what they computed."""

from __future__ import annotations

import dataclasses
import functools

import pytest

from vitx.commands.eval import run as score
from vitx.commands.job import Job
from vitx.commands.train import run
from vitx.config.resolve import resolve
from vitx.config.schema import EvalConfig, TrainConfig
from vitx.config.store import compose
from vitx.torture.identity import checkpoint, logged, newest, read, rows, total, weights
from vitx.torture.pictures import CLASSES, write_pictures
from vitx.torture.small_run import BATCH, EVERYTHING, STEPS, STEPS_PER_EPOCH, TINY

__all__ = [
    "BATCH",
    "CLASSES",
    "EVERYTHING",
    "LOADERS_FORK",
    "STEPS",
    "STEPS_PER_EPOCH",
    "TINY",
    "checkpoint",
    "configure",
    "evaluate",
    "logged",
    "newest",
    "read",
    "rows",
    "total",
    "train",
    "weights",
    "write_pictures",
]

LOADERS_FORK = [
    # What Python 3.12 remarks on loader processes beside threads.
    pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning"),
]

_OF_A_SESSION = ("run_dir=", "stop_at=", "resume=")


def configure(*overrides: str) -> TrainConfig:
    """Compose and check a configuration as the command line does."""
    # Composing takes a third of such a run: what only a session says is laid over it.
    spoken = dict(word.split("=", 1) for word in overrides if word.startswith(_OF_A_SESSION))
    rest = tuple(word for word in overrides if not word.startswith(_OF_A_SESSION))
    said = {name: None if value == "null" else value for name, value in spoken.items()}
    return dataclasses.replace(_composed(rest), **said)


@functools.cache
def _composed(overrides: tuple[str, ...]) -> TrainConfig:
    return resolve(compose("train", overrides), TrainConfig)


def train(*overrides: str) -> None:
    """Do what `vitx train` does, in this process."""
    run(configure(*overrides), Job(overrides=overrides))


def evaluate(*overrides: str) -> None:
    """Do what `vitx eval` does, in this process."""
    score(resolve(compose("eval", overrides), EvalConfig), Job(overrides=overrides))
