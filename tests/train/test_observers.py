"""Looking at a run does not change it: how often it is measured, saved, logged and shown."""

import contextlib
from pathlib import Path

import pytest

from tests.train.tiny import rows, train, weights
from vitx.errors import Preempted

HIDE, SHOW = "\x1b[?25l", "\x1b[?25h"


@pytest.fixture(scope="module")
def expected(everything: tuple[str, ...], tmp_path_factory: pytest.TempPathFactory) -> str:
    run_dir = tmp_path_factory.mktemp("expected") / "run"
    train(*everything, f"run_dir={run_dir}")
    return weights(run_dir)


@pytest.mark.parametrize(
    "change",
    [
        "logger.every=5st",
        "evaluation.every=1st",
        pytest.param("evaluation.every=100ep", marks=pytest.mark.slow),
        pytest.param("evaluation.batch_size=5", marks=pytest.mark.slow),
        "checkpoint.every=1st",
        pytest.param("checkpoint.every=100ep", marks=pytest.mark.slow),
    ],
)
def test_intervals(change: str, everything: tuple[str, ...], expected: str, tmp_path: Path) -> None:
    train(*everything, f"run_dir={tmp_path / 'run'}", change)

    assert weights(tmp_path / "run") == expected


def test_a_terminal(
    everything: tuple[str, ...],
    expected: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")  # what makes rich draw its bar anywhere
    monkeypatch.setenv("COLUMNS", "150")
    train(*everything, f"run_dir={tmp_path / 'run'}")

    assert "12/12" in capsys.readouterr().out
    assert weights(tmp_path / "run") == expected


@pytest.mark.parametrize("stop", ["null", "5st"])
def test_a_terminal_gets_its_cursor_back(
    stop: str,
    everything: tuple[str, ...],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    with contextlib.suppress(Preempted):
        train(*everything, f"run_dir={tmp_path / 'run'}", f"stop_at={stop}")

    out = capsys.readouterr().out
    assert HIDE in out
    assert out.rfind(SHOW) > out.rfind(HIDE)
    assert "━" not in out.partition("results in")[2]  # the bar is gone when the end is told


@pytest.mark.slow
def test_the_wandb_mirror(
    everything: tuple[str, ...], expected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    train(*everything, f"run_dir={tmp_path / 'run'}", "logger.wandb.mode=offline")

    assert len(list((tmp_path / "run/wandb").glob("offline-run-*"))) == 1
    assert weights(tmp_path / "run") == expected
    assert [row["step"] for row in rows(tmp_path / "run")] == list(range(1, 13))
