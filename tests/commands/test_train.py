"""Which run a command begins, goes on with, calls finished, or refuses."""

import json
import shutil
from pathlib import Path

import pytest

from tests.train.tiny import (
    EVERYTHING,
    LOADERS_FORK,
    TINY,
    configure,
    newest,
    read,
    rows,
    total,
    train,
)
from vitx.config.resolve import load_yaml
from vitx.config.schema import TrainConfig
from vitx.errors import DataError, Preempted, StorageError, UsageError, VitxError

pytestmark = LOADERS_FORK


@pytest.fixture
def words(pictures: Path) -> tuple[str, ...]:
    return (*TINY, f"dataset.path={pictures}", "epochs=4st")


@pytest.fixture
def stopped(words: tuple[str, ...], tmp_path: Path) -> Path:
    with pytest.raises(Preempted):
        train(*words, f"run_dir={tmp_path / 'run'}", "stop_at=2st")
    return tmp_path / "run"


def contents(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def test_a_finished_run_says_so_and_is_left_alone(
    words: tuple[str, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = (*words, f"run_dir={tmp_path / 'run'}")
    train(*words)
    before = contents(tmp_path / "run")
    capsys.readouterr()

    train(*words, "dataset.workers=2")

    assert "is finished, top-1" in capsys.readouterr().out
    assert contents(tmp_path / "run") == before


def test_another_configuration_is_refused_field_by_field(
    words: tuple[str, ...], stopped: Path
) -> None:
    before = contents(stopped)

    with pytest.raises(StorageError) as error:
        train(
            *words,
            f"run_dir={stopped}",
            "optimizer.lr=0.5",
            "augmentation.mixup=0.25",
            "+model.args.mlp_ratio=3",
            "ema.decay=0.9",
        )

    for difference in (
        "optimizer.lr: 0.001 in the run, 0.5 now",
        "augmentation.mixup: 0.0 in the run, 0.25 now",
        "ema.decay: None in the run, 0.9 now",
        "'mlp_ratio': 3",
    ):
        assert difference in str(error.value)
    assert "seed" not in str(error.value)
    assert contents(stopped) == before


@pytest.mark.parametrize(
    "change",
    [
        "dataset.workers=1",
        "checkpoint.keep=7",
        pytest.param("logger.wandb.project=other", marks=pytest.mark.slow),
        pytest.param("runtime.device=cpu", marks=pytest.mark.slow),
        pytest.param("name=other", marks=pytest.mark.slow),
    ],
)
def test_what_does_not_decide_the_result_may_change(
    change: str, words: tuple[str, ...], stopped: Path
) -> None:
    train(*words, f"run_dir={stopped}", change)

    assert read(stopped / "run.json")["exact"] == {"resume": True, "why": []}


def test_another_number_of_threads_goes_on_and_is_owned_up_to(
    words: tuple[str, ...], stopped: Path
) -> None:
    with pytest.raises(Preempted):
        train(*words, f"run_dir={stopped}", "runtime.threads=2", "stop_at=3st")
    train(*words, f"run_dir={stopped}", "runtime.threads=2")

    record = read(stopped / "run.json")
    assert record["exact"] == {"resume": False, "why": ["threads: 1 before, 2 now"]}
    assert record["environment"]["threads"] == 2
    assert record["sessions"] == 3


def test_changed_data_is_refused(words: tuple[str, ...], pictures: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(pictures, copy)
    words = (*words, f"dataset.path={copy}", f"run_dir={tmp_path / 'run'}")
    with pytest.raises(Preempted):
        train(*words, "stop_at=2st")
    metrics = (tmp_path / "run/metrics.jsonl").read_bytes()
    (copy / "train/ape/00.png").rename(copy / "train/ape/99.png")

    with pytest.raises(StorageError, match="fingerprint"):
        train(*words)

    assert (tmp_path / "run/metrics.jsonl").read_bytes() == metrics
    (copy / "train/ape/99.png").rename(copy / "train/ape/00.png")
    train(*words)


def test_resume_path_continues_with_the_settings_of_the_run(
    words: tuple[str, ...], stopped: Path, tmp_path: Path
) -> None:
    train(f"resume={stopped}")

    train(*words, f"run_dir={tmp_path / 'whole'}")
    assert total(stopped) == total(tmp_path / "whole")


@pytest.mark.parametrize(
    ("typed", "code"),
    [("resume={}/nothing", 4), ("resume={}/run seed=5", 4), ("resume={}/run run_dir={}/other", 2)],
)
def test_a_resume_that_cannot_be_is_no_fresh_start(
    typed: str, code: int, stopped: Path, tmp_path: Path
) -> None:
    before = contents(tmp_path)

    with pytest.raises(VitxError) as error:
        train(*typed.replace("{}", str(tmp_path)).split())

    assert error.value.exit_code == code
    assert contents(tmp_path) == before
    assert {path.name for path in tmp_path.iterdir()} == {"run"}


def test_resume_never_does_not_touch_a_run(words: tuple[str, ...], stopped: Path) -> None:
    before = contents(stopped)

    with pytest.raises(StorageError, match="holds a run already"):
        train(*words, f"run_dir={stopped}", "resume=never")

    assert contents(stopped) == before


@pytest.mark.parametrize(
    ("typed", "kind", "says"),
    [
        ("dataset.path={}/nowhere", DataError, "expected a directory"),
        ("batch_size=64", DataError, "more than the 48 training samples"),
        ("model=timm model.name=vit_tiny_patch16_42", UsageError, "no such model"),
        ("dataset.image_px=15", UsageError, "dataset.image_px=16"),
        ("optimizer.name=adamm", UsageError, "did you mean"),
        ("augmentation.auto_augment=rnd-m9", UsageError, "auto_augment"),
        ("schedule.warmup=100%", UsageError, "schedule.warmup"),
        ("runtime.device=nonsense", UsageError, "runtime.device"),
    ],
)
def test_what_cannot_start_leaves_no_directory(
    typed: str,
    kind: type[VitxError],
    says: str,
    words: tuple[str, ...],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("VITX_RUNS", str(tmp_path / "runs"))
    (tmp_path / "runs/neighbour").mkdir(parents=True)

    with pytest.raises(kind, match=says):
        train(*words, *typed.replace("{}", str(tmp_path)).split())

    assert {path.name for path in (tmp_path / "runs").iterdir()} == {"neighbour"}


def test_a_picture_that_can_not_be_read_leaves_a_run_as_it_was(
    words: tuple[str, ...], pictures: Path, tmp_path: Path
) -> None:
    shutil.copytree(pictures, tmp_path / "copy")
    words = (*words, f"dataset.path={tmp_path / 'copy'}", f"run_dir={tmp_path / 'run'}")
    with pytest.raises(Preempted):
        train(*words, "stop_at=2st")
    before = newest(tmp_path / "run")
    for file in (tmp_path / "copy/train").rglob("*.png"):
        file.write_bytes(b"x" * file.stat().st_size)

    with pytest.raises(DataError, match="can't be decoded"):
        train(*words)

    assert newest(tmp_path / "run") == before
    record = read(tmp_path / "run/run.json")
    assert (record["status"], record["exit_code"]) == ("failed", 3)


def test_a_directory_with_other_files_is_no_place_for_a_run(
    words: tuple[str, ...], tmp_path: Path
) -> None:
    (tmp_path / "thesis.tex").write_text("mine")

    with pytest.raises(StorageError, match="holds files but no run"):
        train(*words, f"run_dir={tmp_path}")

    assert contents(tmp_path) == {"thesis.tex": b"mine"}


def test_the_run_directory(pictures: Path, tmp_path: Path) -> None:
    run_dir, words = tmp_path / "run", (*TINY, *EVERYTHING, f"dataset.path={pictures}")
    train(*words, f"run_dir={run_dir}")

    assert {path.name for path in run_dir.iterdir() if not path.name.startswith(".")} == {
        "config.yaml",
        "run.json",
        "metrics.jsonl",
        "result.json",
        "checkpoints",
        "log.txt",
    }
    saved = load_yaml(run_dir / "config.yaml", TrainConfig)
    assert saved == configure(*words, f"run_dir={run_dir}")

    record = read(run_dir / "run.json")
    wanted = {
        "schema": 1,
        "verb": "train",
        "argv": [*words, f"run_dir={run_dir}"],
        "status": "finished",
        "exit_code": 0,
        "seed": 0,
        "world_size": 1,
        "sessions": 1,
        "exact": {"resume": True, "why": []},
        "wandb_id": None,
    }
    assert {name: record[name] for name in wanted} == wanted
    assert record["seconds"] > 0
    assert record["started"].endswith("+00:00")
    assert {"vitx", "python", "torch", "timm", "datasets"} <= set(record["versions"])
    assert {"torch", "device", "threads", "precision"} <= set(record["environment"])
    assert "git_commit" in record

    result = read(run_dir / "result.json")
    last = rows(run_dir)[-1]
    assert (result["step"], result["epoch"], result["weights"]) == (12, 2.0, "ema")
    assert result["checkpoint"] == "checkpoints/step-00000012"
    assert (run_dir / result["checkpoint"]).is_dir()
    for name in ("top1", "top5", "loss"):
        assert result[name] == result["ema"][name] == last[f"val_ema/{name}"]
        assert result["model"][name] == last[f"val/{name}"]
    assert (result["count"], result["skipped"]) == (21, 0)
    assert result["images_per_second"] > 0
    assert result["peak_memory_bytes"] > 1e8
    low, high = result["top1_interval"]
    assert low <= result["top1"] <= high
    assert {path.name for path in newest(run_dir).iterdir()} == {
        "model.safetensors",
        "ema.safetensors",
        "optimizer.safetensors",
        "state.json",
        "manifest.json",
    }
    assert f"run        {run_dir}" in (run_dir / "log.txt").read_text()


def test_a_result_that_is_not_finite_is_still_json(pictures: Path, tmp_path: Path) -> None:
    words = (*TINY, f"dataset.path={pictures}", f"run_dir={tmp_path}/run", "epochs=1st")
    # One step of so large a size that the weights are finite and their logits are not.
    train(*words, "optimizer=sgd", "optimizer.lr=1e36", "schedule=constant", "schedule.warmup=0")

    def no_constant(text: str) -> None:
        raise AssertionError(f"{text} is not JSON")

    text = (tmp_path / "run/result.json").read_text()
    json.loads(text, parse_constant=no_constant)
