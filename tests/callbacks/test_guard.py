"""A run that diverges ends before it spoils its weights or its checkpoints."""

from pathlib import Path

import pytest
from safetensors.torch import load_file

from tests.train.tiny import TINY, newest, read, rows, train
from vitx.errors import NonFiniteError

# Finite at first: the rate multiplies until an activation overflows.
DIVERGES = (
    "optimizer=sgd",
    "optimizer.lr=1e30",
    "schedule.warmup=10st",
    "schedule.warmup_lr=1e-6",
    "checkpoint.every=1st",
    "evaluation.every=100ep",
)


def finite(folder: Path) -> bool:
    files = list(folder.glob("*.safetensors"))
    assert len(files) > 1
    return all(tensor.isfinite().all() for file in files for tensor in load_file(file).values())


def test_divergence_ends_with_its_code_and_intact_checkpoints(
    pictures: Path, tmp_path: Path
) -> None:
    run_dir = tmp_path / "run"
    words = (*TINY, *DIVERGES, f"dataset.path={pictures}", f"run_dir={run_dir}")

    with pytest.raises(NonFiniteError, match=r"gradient norm is (nan|inf) at step") as error:
        train(*words)

    assert error.value.exit_code == 5
    record = read(run_dir / "run.json")
    assert (record["status"], record["exit_code"]) == ("failed", 5)
    step = int(newest(run_dir).name[5:])
    assert f"at step {step + 1}," in str(error.value)
    assert rows(run_dir)[-1]["step"] == step
    for folder in (run_dir / "checkpoints").iterdir():
        assert finite(folder) == read(folder / "manifest.json")["finite"]
    assert any(finite(folder) for folder in (run_dir / "checkpoints").iterdir())

    with pytest.raises(NonFiniteError) as again:  # going on meets the same end, and says the same
        train(*words)
    assert str(again.value) == str(error.value)


def test_weights_that_overflow_end_it_at_the_first_step(pictures: Path, tmp_path: Path) -> None:
    words = (*TINY, f"dataset.path={pictures}", "epochs=1st")
    train(*words, f"run_dir={tmp_path / 'start'}")
    weights = load_file(newest(tmp_path / "start") / "model.safetensors")
    weights["head.weight"].fill_(3e38)  # finite, unlike what comes of it
    from safetensors.torch import save_file

    save_file(weights, tmp_path / "poisoned.safetensors")

    with pytest.raises(NonFiniteError, match="nan at step 1,"):
        train(
            *words, f"run_dir={tmp_path / 'run'}", f"model.weights={tmp_path}/poisoned.safetensors"
        )

    assert not (tmp_path / "run/checkpoints").exists()


def test_fp16_finds_its_scale_and_skips_only_what_overflows(pictures: Path, tmp_path: Path) -> None:
    words = (*TINY, f"dataset.path={pictures}", "precision=fp16", "optimizer=sgd")
    train(*words, f"run_dir={tmp_path / 'run'}", "optimizer.lr=0.1")

    scaler = read(newest(tmp_path / "run") / "state.json")["scaler"]
    assert scaler["scale"] <= 65536
    assert all(row["train/loss"] < 100 for row in rows(tmp_path / "run"))


def test_fp16_ends_a_run_that_overflows_at_every_scale(pictures: Path, tmp_path: Path) -> None:
    words = (*TINY, *DIVERGES, f"dataset.path={pictures}", "precision=fp16", "epochs=8ep")
    with pytest.raises(NonFiniteError) as error:
        train(*words, f"run_dir={tmp_path / 'run'}")

    assert error.value.exit_code == 5
    saved = read(newest(tmp_path / "run") / "state.json")["callbacks"]["guard"]["skips"]
    assert saved == 19  # one less than ends it
