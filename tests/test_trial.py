"""A few steps that are measured: sizes beside the files of a run, and nothing left behind."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from tests.train.tiny import EVERYTHING, TINY, configure, newest, total, train, write_pictures
from vitx.assemble import make_trainer
from vitx.config.schema import TrainConfig
from vitx.estimate import Trial
from vitx.objectives.classification import build_objective
from vitx.parts import gather
from vitx.records import Batch, Place
from vitx.runtime.signals import StopRequest
from vitx.trial import _Weighed, try_out


@pytest.fixture(scope="module")
def words(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, ...]:
    root = write_pictures(tmp_path_factory.mktemp("pictures"))
    return (*TINY, *EVERYTHING, f"dataset.path={root}")


def tried(config: TrainConfig) -> Trial:
    parts = gather(config, start_step=0)
    return try_out(config, parts, make_trainer(config, parts, stop=StopRequest()))


def test_what_is_kept_for_the_backward_pass_is_counted_once() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(12, 5), nn.ReLU(), nn.Linear(5, 3))
    batch = Batch(
        images=torch.rand(4, 3, 2, 2),
        targets=torch.zeros(4, dtype=torch.long),
        indices=torch.arange(4),
        place=Place(0, 0, 0),
    )
    # The pictures, the ReLU's result (for itself and the next layer), log-probabilities, labels and
    # the loss's total weight; parameters are not counted.
    kept = 4 * 12 * 4 + 4 * 5 * 4 + 4 * 3 * 4 + 4 * 8 + 4
    weighed = _Weighed(
        build_objective(configure(*TINY, "dataset.path=x").objective, label_smoothing=0.0), model
    )
    loss, terms = weighed(model, batch)

    assert weighed.kept_bytes == kept
    assert terms["loss"] == loss


def test_sizes_are_those_of_the_files_a_run_writes(words: tuple[str, ...], tmp_path: Path) -> None:
    config = configure(*words)
    measured = tried(config)
    train(*words, "epochs=1st", f"run_dir={tmp_path / 'run'}")

    assert measured.pictures == config.micro_batch
    for name, size in measured.file_bytes.items():
        file = newest(tmp_path / "run") / f"{name}.safetensors"
        with file.open("rb") as stream:
            header = int.from_bytes(stream.read(8), "little")
        assert size == file.stat().st_size - 8 - header
    assert {*measured.file_bytes} == {"model", "optimizer", "ema"}
    assert min(measured.training.compute_s, measured.training.loading_s) > 0
    assert measured.picture_bytes > 0


def test_a_trial_changes_nothing_that_a_run_draws_from(
    words: tuple[str, ...], tmp_path: Path
) -> None:
    train(*words, f"run_dir={tmp_path / 'before'}")
    config = configure(*words)
    tried(config)
    train(*words, f"run_dir={tmp_path / 'after'}")

    assert total(tmp_path / "before") == total(tmp_path / "after")
