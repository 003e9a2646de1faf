"""Runs whose checkpoints were damaged between two sessions."""

from pathlib import Path

import pytest

from tests.train.tiny import EVERYTHING, TINY, checkpoint, newest, read, total, train
from vitx.errors import Preempted, StorageError


@pytest.fixture
def stopped(pictures: Path, tmp_path: Path) -> tuple[Path, tuple[str, ...]]:
    """A run with checkpoints of steps 3, 6 and 8, and the words that go on with it."""
    words = (
        *TINY,
        *EVERYTHING,
        f"dataset.path={pictures}",
        f"run_dir={tmp_path / 'run'}",
        "checkpoint.every=3st",
        "checkpoint.keep=5",
    )
    with pytest.raises(Preempted):
        train(*words, "stop_at=8st")
    return tmp_path / "run", words


def test_a_damaged_checkpoint_costs_its_steps_and_nothing_else(
    stopped: tuple[Path, tuple[str, ...]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run_dir, words = stopped
    with (newest(run_dir) / "optimizer.safetensors").open("r+b") as file:
        file.seek(-1, 2)
        file.write(b"\x7f")
    (checkpoint(run_dir, 6) / "state.json").write_text("{")

    train(*words)

    out = capsys.readouterr().out
    assert "step-00000008 is damaged: optimizer.safetensors has other content" in out
    assert "step-00000006 is damaged: state.json has 1 bytes" in out
    assert "at step 3 of 12" in out
    assert (run_dir / "checkpoints/step-00000008.corrupt").is_dir()
    train(*words, f"run_dir={tmp_path / 'whole'}")
    assert total(run_dir) == total(tmp_path / "whole")


def test_no_good_checkpoint_ends_with_an_error(
    stopped: tuple[Path, tuple[str, ...]],
) -> None:
    run_dir, words = stopped
    before = (run_dir / "metrics.jsonl").read_bytes()
    for folder in (run_dir / "checkpoints").iterdir():
        (folder / "model.safetensors").unlink()

    with pytest.raises(StorageError, match="no good checkpoint"):
        train(*words)

    assert (run_dir / "metrics.jsonl").read_bytes() == before
    assert read(run_dir / "run.json")["status"] == "preempted"


def test_what_interrupted_writes_left_is_swept(stopped: tuple[Path, tuple[str, ...]]) -> None:
    run_dir, words = stopped
    for name in (".tmp-9-host-7", ".tmp-trash-step-00000001-7"):
        (run_dir / "checkpoints" / name).mkdir()
        (run_dir / "checkpoints" / name / "model.safetensors").write_bytes(b"half")

    train(*words)

    names = sorted(path.name for path in (run_dir / "checkpoints").iterdir())
    assert names == [f"step-{step:08d}" for step in (3, 6, 8, 9, 12)]
