"""Which checkpoints there are after a run, and that the best one is among them."""

from pathlib import Path

import pytest

from tests.train.tiny import TINY, read, rows, train


def steps(run_dir: Path) -> list[int]:
    return sorted(int(path.name[5:]) for path in (run_dir / "checkpoints").iterdir())


@pytest.mark.parametrize(
    ("every", "keep", "expected"),
    [("1ep", 2, [6, 12]), ("5st", 2, [10, 12]), ("3st", 3, [6, 9, 12]), ("50%", 2, [6, 12])],
)
def test_the_newest_are_kept(
    every: str, keep: int, expected: list[int], pictures: Path, tmp_path: Path
) -> None:
    words = (f"checkpoint.every={every}", f"checkpoint.keep={keep}", "evaluation.every=100ep")
    words = (*words, "checkpoint.background=false")  # none is passed over for a newer one
    train(*TINY, f"dataset.path={pictures}", f"run_dir={tmp_path / 'run'}", *words)

    assert steps(tmp_path / "run") == expected


def test_the_best_is_kept_and_named(pictures: Path, tmp_path: Path) -> None:
    # Trained with a rate that grows until it forgets what it knew.
    run_dir = tmp_path / "run"
    train(
        *TINY,
        f"dataset.path={pictures}",
        f"run_dir={run_dir}",
        "evaluation.every=1st",
        "checkpoint.every=100ep",
        "optimizer.lr=1",
        "schedule.warmup=11st",
    )

    top1 = {row["step"]: row["val/top1"] for row in rows(run_dir)}
    best = max(top1, key=lambda step: (top1[step], -step))
    assert top1[best] > top1[12]  # else this test shows nothing
    assert read(run_dir / "result.json")["best"] == {"top1": top1[best], "step": best}
    assert best in steps(run_dir)
    assert steps(run_dir)[-1] == 12
