"""What several processes count is what one counts, to the last bit, however rows divide."""

from dataclasses import fields
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch
from torch import nn

from tests.evaluate.test_loop import CLASSES, evaluator, split
from tests.train.tiny import EVERYTHING, LOADERS_FORK, TINY, evaluate, read, train
from vitx.config.schema import RuntimeConfig
from vitx.errors import DataError
from vitx.evaluate.judging import PerSample
from vitx.evaluate.loop import EvaluationStopped
from vitx.runtime.launch import launch
from vitx.runtime.world import ALONE, World

pytestmark = LOADERS_FORK
ROWS = 23


def together(
    ranks: int, rows: int, *, limit: int | None = None, bad: set[int] = frozenset()
) -> None:
    """Assert that so many ranks come to what one process does."""
    images, model = split(rows, bad), network()
    alone = evaluator(images, limit=limit)(model)

    def story(world: World) -> None:
        score = evaluator(images, limit=limit)
        score.world = world
        own = score(model)
        assert own.result() == alone.result()  # on every rank
        for column in fields(PerSample):
            ours, theirs = (getattr(each.samples, column.name) for each in (own, alone))
            assert ours.tobytes() == theirs.tobytes()

    launch(story, ALONE, RuntimeConfig(devices=ranks))


def network() -> nn.Module:
    """A model whose sums depend on their order, unlike those of a table."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(9, 64), nn.GELU(), nn.Linear(64, CLASSES))


@pytest.mark.parametrize("ranks", [2, 3])
@pytest.mark.parametrize("rows", [ROWS, 4])  # of 4 rows some ranks have none
def test_every_sample_counts_once(ranks: int, rows: int) -> None:
    together(ranks, rows)


def test_bad_pictures_are_counted_over_all_ranks() -> None:
    bad = {0, 5, 6, 7, 8, 9, 22}
    together(3, ROWS, limit=7, bad=bad)

    def story(world: World) -> None:
        score = evaluator(split(ROWS, bad), limit=6)  # more than any rank alone meets
        score.world = world
        with pytest.raises(DataError, match="7 pictures of val"):
            score(network())

    launch(story, ALONE, RuntimeConfig(devices=3))


def test_ranks_stop_together() -> None:
    def story(world: World) -> None:
        score = evaluator(split(ROWS))
        score.world = world
        asked = iter([False, world.rank == 1])
        with pytest.raises(EvaluationStopped):
            score(network(), stop=lambda: bool(world.highest(int(next(asked)))))

    launch(story, ALONE, RuntimeConfig(devices=2))


@pytest.mark.parametrize("devices", [2, 3])
def test_vitx_eval_on_several_processes(devices: int, pictures: Path, tmp_path: Path) -> None:
    run_dir = tmp_path / "run"
    train(*TINY, *EVERYTHING, f"dataset.path={pictures}", f"run_dir={run_dir}", "epochs=2st")
    words = (f"run={run_dir}", "batch_size=4")
    evaluate(*words)
    alone = (read(run_dir / "eval/val.json"), pq.read_table(run_dir / "eval/val.parquet"))
    (run_dir / "eval/val.json").unlink()
    evaluate(*words, f"devices={devices}")

    assert read(run_dir / "eval/val.json") == alone[0]
    assert pq.read_table(run_dir / "eval/val.parquet").equals(alone[1])


def test_training_on_two_processes_measures_what_eval_does(pictures: Path, tmp_path: Path) -> None:
    words = (*TINY, f"dataset.path={pictures}", f"run_dir={tmp_path / 'run'}", "epochs=1ep")
    train(*words, "runtime.devices=2", "evaluation.batch_size=4")
    evaluate(f"run={tmp_path / 'run'}")

    recorded, measured = read(tmp_path / "run/result.json"), read(tmp_path / "run/eval/val.json")
    for name in ("top1", "top5", "loss", "count"):
        assert recorded["model"][name] == measured[name]
