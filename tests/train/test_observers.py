"""Looking at a run does not change it: how often it is measured, saved, logged and shown."""

import contextlib
from pathlib import Path

import pytest

from tests.train.tiny import EVERYTHING, TINY, rows, train, weights
from vitx.errors import Preempted

HIDE, SHOW = "\x1b[?25l", "\x1b[?25h"


@pytest.fixture(scope="module")
def words(pictures: Path) -> tuple[str, ...]:
    return (*TINY, *EVERYTHING, f"dataset.path={pictures}")


@pytest.fixture(scope="module")
def expected(words: tuple[str, ...], tmp_path_factory: pytest.TempPathFactory) -> str:
    run_dir = tmp_path_factory.mktemp("expected") / "run"
    train(*words, f"run_dir={run_dir}")
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
def test_intervals(change: str, words: tuple[str, ...], expected: str, tmp_path: Path) -> None:
    train(*words, f"run_dir={tmp_path / 'run'}", change)

    assert weights(tmp_path / "run") == expected


def test_a_terminal(
    words: tuple[str, ...],
    expected: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")  # what makes rich draw its bar anywhere
    monkeypatch.setenv("COLUMNS", "150")
    train(*words, f"run_dir={tmp_path / 'run'}")

    assert "12/12" in capsys.readouterr().out
    assert weights(tmp_path / "run") == expected


@pytest.mark.parametrize("stop", ["null", "5st"])
def test_a_terminal_gets_its_cursor_back(
    stop: str,
    words: tuple[str, ...],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    with contextlib.suppress(Preempted):
        train(*words, f"run_dir={tmp_path / 'run'}", f"stop_at={stop}")

    out = capsys.readouterr().out
    assert HIDE in out
    assert out.rfind(SHOW) > out.rfind(HIDE)
    assert "━" not in out.partition("results in")[2]  # the bar is gone when the end is told


@pytest.mark.slow
def test_the_wandb_mirror(
    words: tuple[str, ...], expected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    train(*words, f"run_dir={tmp_path / 'run'}", "logger.wandb.mode=offline")

    assert len(list((tmp_path / "run/wandb").glob("offline-run-*"))) == 1
    assert weights(tmp_path / "run") == expected
    assert [row["step"] for row in rows(tmp_path / "run")] == list(range(1, 13))
