"""A run directory that was made beforehand, or that somebody touched between two sessions."""

import json
import shutil
import stat
from pathlib import Path

import pytest

from tests.train.tiny import TINY, evaluate, newest, read, rows, total, train
from vitx.commands.job import Job
from vitx.commands.train import run as run_train
from vitx.config.resolve import resolve
from vitx.config.schema import TrainConfig
from vitx.config.store import compose
from vitx.errors import DataError, Preempted, StorageError

Said = pytest.CaptureFixture[str]


@pytest.fixture
def words(pictures: Path, tmp_path: Path) -> tuple[str, ...]:
    return (*TINY, f"dataset.path={pictures}", f"run_dir={tmp_path / 'run'}")


@pytest.fixture
def stopped(words: tuple[str, ...], tmp_path: Path) -> Path:
    """A run that was stopped after step 7 of 12, whose row it had not written yet."""
    with pytest.raises(Preempted):
        train(*words, "stop_at=7st")
    return tmp_path / "run"


@pytest.fixture(scope="module")
def whole(pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same run, which nobody stopped."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    train(*TINY, f"dataset.path={pictures}", f"run_dir={folder}")
    return folder


def went_on(words: tuple[str, ...], run: Path, whole: Path, capsys: Said) -> str:
    """Go on to the end; return what was said, which is the same weights."""
    capsys.readouterr()
    train(*words)
    weights = [newest(each) / "model.safetensors" for each in (run, whole)]
    assert weights[0].read_bytes() == weights[1].read_bytes()
    return capsys.readouterr().out


def test_a_directory_made_beforehand_outlives_a_refusal(tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    run.chmod(0o2770)
    (run / ".mine").write_text("mine")
    before = run.stat()

    with pytest.raises(DataError):
        train(*TINY, f"dataset.path={tmp_path / 'nowhere'}", f"run_dir={run}")

    assert [path.name for path in run.iterdir()] == [".mine"]
    assert stat.S_IMODE(run.stat().st_mode) == 0o2770
    assert run.stat().st_ino == before.st_ino


def test_directories_that_were_made_for_a_refused_run_go(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "there").mkdir()
    with pytest.raises(DataError):
        train(*TINY, f"dataset.path={tmp_path / 'nowhere'}", f"run_dir={tmp_path}/there/a/b")
    assert list((tmp_path / "there").iterdir()) == []

    monkeypatch.setenv("VITX_RUNS", str(tmp_path / "there/runs"))
    words = (*TINY, f"dataset.path={tmp_path / 'nowhere'}", "name=x")
    with pytest.raises(DataError):
        run_train(resolve(compose("train", words), TrainConfig), Job(overrides=words))
    assert list((tmp_path / "there").iterdir()) == []


def gaps(run: Path) -> list[tuple[int, int, int]]:
    missing = read(run / "run.json")["metrics_missing"]
    return [(each["first"], each["last"], each["rows"]) for each in missing]


@pytest.mark.parametrize(
    ("kept", "named", "missing"),
    [
        (range(0), "steps 1 to 6", [(1, 6, 6)]),
        (range(4), "steps 5 to 6", [(5, 6, 2)]),
        ([0, 3, 4], "steps 2 to 3, step 6", [(2, 3, 2), (6, 6, 1)]),
    ],
)
def test_rows_that_are_gone_are_told_once_and_recorded(
    kept: list[int],
    named: str,
    missing: list[tuple[int, int, int]],
    words: tuple[str, ...],
    stopped: Path,
    whole: Path,
    capsys: Said,
) -> None:
    lines = (stopped / "metrics.jsonl").read_bytes().splitlines(keepends=True)
    (stopped / "metrics.jsonl").write_bytes(b"".join(lines[each] for each in kept))
    capsys.readouterr()
    with pytest.raises(Preempted):
        train(*words, "stop_at=9st")

    line = (
        f"metrics.jsonl lacks the rows of {named}: it was truncated, changed or deleted; "
        "training goes on"
    )
    assert line in capsys.readouterr().out.splitlines()
    assert gaps(stopped) == missing
    assert read(stopped / "run.json")["exact"] == {"resume": True, "why": []}

    assert "lacks" not in went_on(words, stopped, whole, capsys)
    assert gaps(stopped) == missing
    assert [row["step"] for row in rows(stopped)] == [each + 1 for each in [*kept, *range(6, 12)]]


def test_a_deleted_file_of_rows(
    words: tuple[str, ...], stopped: Path, whole: Path, capsys: Said
) -> None:
    (stopped / "metrics.jsonl").unlink()

    assert "lacks the rows of steps 1 to 6: " in went_on(words, stopped, whole, capsys)

    assert gaps(stopped) == [(1, 6, 6)]


@pytest.mark.parametrize("every", ["3st", "100ep"])
def test_rows_at_an_interval_that_are_all_there(
    every: str, words: tuple[str, ...], tmp_path: Path, capsys: Said
) -> None:
    words = (*words, f"logger.every={every}", "evaluation.every=4st")
    for stop in ("stop_at=5st", "stop_at=10st"):
        with pytest.raises(Preempted):
            train(*words, stop)
    train(*words)

    assert "lacks" not in capsys.readouterr().out
    assert gaps(tmp_path / "run") == []


@pytest.mark.parametrize(
    "garbage", [b"\0\0\0\n", b"{}\n", b'{"step":"x"}\n', b"[" * 9**5 + b"\n", b'{"step":null}\n']
)
def test_a_line_of_garbage_costs_its_row_and_is_kept(
    garbage: bytes, words: tuple[str, ...], stopped: Path, whole: Path, capsys: Said
) -> None:
    lines = (stopped / "metrics.jsonl").read_bytes().splitlines(keepends=True)
    damaged = b"".join([*lines[:2], garbage, *lines[3:]])
    (stopped / "metrics.jsonl").write_bytes(damaged)

    said = went_on(words, stopped, whole, capsys)

    assert "line 3 of metrics.jsonl is no row; metrics.jsonl.damaged still has it" in said
    assert "lacks the rows of step 3: " in said
    assert (stopped / "metrics.jsonl.damaged").read_bytes() == damaged
    assert [row["step"] for row in rows(stopped)] == [1, 2, *range(4, 13)]


def test_without_run_json_a_run_goes_on_and_is_not_called_exact(
    words: tuple[str, ...], stopped: Path, whole: Path, capsys: Said
) -> None:
    before = read(stopped / "run.json")
    (stopped / "run.json").unlink()

    assert "run.json was lost" in went_on(words, stopped, whole, capsys)

    record = read(stopped / "run.json")
    assert record["exact"]["resume"] is False
    assert "run.json was lost" in record["exact"]["why"][0]
    for name in ("data", "classes", "environment", "micro_batch", "total_steps", "seed"):
        assert record[name] == before[name]
    assert total(stopped) == total(whole)

    (stopped / "run.json").unlink()
    evaluate(f"run={stopped}")
    assert "exactly what training recorded" in capsys.readouterr().out


@pytest.mark.parametrize("text", ["", '{"schema": 1, "verb": "tra', "[]", '{"exact": 1}'])
def test_a_cut_off_record_says_what_helps(
    text: str, words: tuple[str, ...], stopped: Path, whole: Path
) -> None:
    (stopped / "run.json").write_text(text)
    with pytest.raises(StorageError, match=r"run\.json.*; restore it, or delete it and type the"):
        train(*words)

    shutil.copytree(whole, stopped, dirs_exist_ok=True)
    before = read(whole / "result.json")
    (stopped / "result.json").write_text(text)
    with pytest.raises(StorageError, match=r"result\.json.*; delete it, and the command that"):
        train(*words)

    (stopped / "result.json").unlink()
    train(*words)
    after = read(stopped / "result.json")
    assert after | {"peak_memory_bytes": 0} == before | {"peak_memory_bytes": 0}


def test_checkpoints_without_a_configuration_are_named(
    words: tuple[str, ...], stopped: Path
) -> None:
    (stopped / "config.yaml").unlink()
    before = {path: path.read_bytes() for path in stopped.rglob("*") if path.is_file()}

    headless = r"run has checkpoints and no config\.yaml; restore it, or choose another run_dir"
    with pytest.raises(StorageError, match=headless):
        train(*words)
    with pytest.raises(StorageError, match=headless):
        train(f"resume={stopped}")
    with pytest.raises(StorageError, match=headless):
        evaluate(f"run={stopped}")

    assert {path: path.read_bytes() for path in stopped.rglob("*") if path.is_file()} == before


def test_deleted_checkpoints_are_told_and_the_new_beginning_is_exact(
    words: tuple[str, ...], stopped: Path, whole: Path, capsys: Said
) -> None:
    shutil.rmtree(stopped / "checkpoints")
    record = read(stopped / "run.json")
    record["exact"] = {"resume": False, "why": ["threads: 2 before, 1 now"]}
    (stopped / "run.json").write_text(json.dumps(record))

    said = went_on(words, stopped, whole, capsys)

    assert (
        "there is no checkpoint to go on from: training begins again; metrics.jsonl, which went to "
        "step 6, too"
    ) in said.splitlines()
    assert read(stopped / "run.json")["exact"] == {"resume": True, "why": []}
    assert [row["step"] for row in rows(stopped)] == list(range(1, 13))
    assert total(stopped) == total(whole)


def test_a_run_that_begins_says_nothing_of_losses(words: tuple[str, ...], capsys: Said) -> None:
    train(*words)

    said = capsys.readouterr().out
    assert "lost" not in said
    assert "begins again" not in said
    assert "lacks" not in said
