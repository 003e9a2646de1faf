"""A run that diverges ends before it spoils its weights or its checkpoints."""

import re
from pathlib import Path

import pytest
from safetensors.torch import load_file

from tests.train.tiny import (
    LOADERS_FORK,
    TINY,
    checkpoint,
    newest,
    read,
    rows,
    total,
    train,
)
from vitx.data.samples import Sample, TrainSamples
from vitx.errors import NonFiniteError, Preempted
from vitx.records import SampleKey

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
    assert saved == 17  # 65536 halved so often is 1/2, which no gradient needs


@pytest.fixture
def poisoned(monkeypatch: pytest.MonkeyPatch) -> int:
    """Have one training picture be NaN in every epoch; return its row."""
    row, honest = 5, TrainSamples.__getitem__

    def poison(self: TrainSamples, key: SampleKey) -> Sample:
        sample = honest(self, key)
        return sample._replace(image=sample.image * float("nan")) if key.row == row else sample

    monkeypatch.setattr(TrainSamples, "__getitem__", poison)
    return row


SEEN = (
    "augmentation=none",
    "checkpoint.every=1st",
    "checkpoint.keep=20",
    "checkpoint.background=false",  # so that none is passed over for a newer one
    "ema.decay=0.9",
)
XCIT = ("model=xcit_n12", "dataset.image_px=32", "+model.args.embed_dim=32", "+model.args.depth=2")
ONE_OR_TWO = pytest.mark.parametrize("devices", [1, 2])


def words_of(pictures: Path, run_dir: Path, devices: int) -> tuple[str, ...]:
    # XCiT, whose batch statistics a forward pass moves before anybody sees the gradient.
    plain = [word for word in TINY if not word.startswith(("model=", "+model.args"))]
    run = (f"dataset.path={pictures}", f"run_dir={run_dir}", f"runtime.devices={devices}")
    return (*plain, *XCIT, *SEEN, *run)


@ONE_OR_TWO
@LOADERS_FORK[0]
def test_the_pictures_of_a_bad_step_are_named(
    devices: int, poisoned: int, pictures: Path, tmp_path: Path
) -> None:
    run_dir = tmp_path / "run"
    with pytest.raises(
        NonFiniteError, match=r"named in .*non_finite/step-0000000\d\.json"
    ) as error:
        train(*words_of(pictures, run_dir, devices))

    (note,) = (run_dir / "non_finite").iterdir()
    assert str(note) in str(error.value)
    told = read(note)
    assert len(told["passes"]) == devices
    bad = [each for each in told["passes"] if each["loss"] == "NaN"]
    assert any(poisoned in each["rows"] for each in bad)
    assert sorted(len(each["rows"]) for each in told["passes"]) == [8 // devices] * devices
    assert finite(newest(run_dir))


@ONE_OR_TWO
@LOADERS_FORK[0]
def test_a_bad_step_can_be_left_out(
    devices: int, poisoned: int, pictures: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    run_dir = tmp_path / "run"
    train(*words_of(pictures, run_dir, devices), "non_finite=skip")

    said = re.findall(r"at step (\d+): the step is left out", capfd.readouterr().out)
    assert len(said) == 2  # once in each epoch
    for step in map(int, said):
        before, after = (checkpoint(run_dir, number) for number in (step - 1, step))
        assert load_file(before / "model.safetensors").keys()
        for name, value in load_file(before / "model.safetensors").items():
            assert value.equal(load_file(after / "model.safetensors")[name]), name
    assert finite(newest(run_dir))
    assert read(run_dir / "result.json")["step"] == 12


@ONE_OR_TWO
@LOADERS_FORK[0]
def test_a_bad_step_can_send_the_run_back(
    devices: int, poisoned: int, pictures: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    words = (*words_of(pictures, tmp_path / "run", devices), "non_finite=rollback")
    words = (*words, "checkpoint.every=2st")
    train(*words)

    said = re.findall(
        r"at step (\d+): weights are again those of step (\d+)", capfd.readouterr().out
    )
    assert len(said) == 2
    assert all(0 < int(step) - int(back) <= 2 for step, back in said)
    assert finite(newest(tmp_path / "run"))
    # Stopped and gone on with, it comes to the same.
    for stop in (3, 7):
        with pytest.raises(Preempted):
            train(*words, f"run_dir={tmp_path / 'parts'}", f"stop_at={stop}st")
    train(*words, f"run_dir={tmp_path / 'parts'}")
    assert total(tmp_path / "parts") == total(tmp_path / "run")


# The poisoned picture comes up in steps 6, 9 and 16 of these.
THREE_TIMES = ("non_finite=rollback", "checkpoint.every=4st", "epochs=18st")


@LOADERS_FORK[0]
def test_a_run_goes_back_to_where_it_would_have_without_the_stops(
    poisoned: int, pictures: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    words = (*words_of(pictures, tmp_path / "run", 1), *THREE_TIMES, "checkpoint.keep=2")
    train(*words)
    back = re.findall(r"weights are again those of step (\d+)", capfd.readouterr().out)
    assert back == ["4", "8", "12"]
    words = (*words, f"run_dir={tmp_path / 'parts'}")
    for step in (13, 14, 15):  # more of them than are kept
        with pytest.raises(Preempted):
            train(*words, f"stop_at={step}st")
    train(*words)

    assert total(tmp_path / "parts") == total(tmp_path / "run")
    assert read(tmp_path / "parts/run.json")["exact"] == {"resume": True, "why": []}


@LOADERS_FORK[0]
def test_what_can_not_be_gone_back_to_is_passed_over_and_told(
    poisoned: int, pictures: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    run_dir = tmp_path / "run"
    words = (*words_of(pictures, run_dir, 1), *THREE_TIMES)
    with pytest.raises(Preempted):
        train(*words, "stop_at=15st")
    (checkpoint(run_dir, 12) / "model.safetensors").write_bytes(b"")
    train(*words)

    said = capfd.readouterr().out
    assert "checkpoint step-00000012 can't be gone back to: model.safetensors has 0 bytes" in said
    assert "weights are again those of step 8;" in said
    assert read(run_dir / "run.json")["exact"] == {
        "resume": False,
        "why": ["went back to step-00000008 for want of step-00000012"],
    }


@LOADERS_FORK[0]
def test_before_the_first_checkpoint_there_is_nothing_to_go_back_to(
    poisoned: int, pictures: Path, tmp_path: Path
) -> None:
    words = (*words_of(pictures, tmp_path / "run", 1), "non_finite=rollback")
    with pytest.raises(NonFiniteError, match=r"found no checkpoint of checkpoint\.every to go"):
        train(*words, "checkpoint.every=100ep")


@pytest.mark.parametrize("policy", ["skip", "rollback"])
def test_what_is_bad_for_good_ends_the_run_anyway(
    policy: str, pictures: Path, tmp_path: Path
) -> None:
    words = (*TINY, *DIVERGES, f"dataset.path={pictures}", f"run_dir={tmp_path / 'run'}")
    with pytest.raises(NonFiniteError):
        train(*words, f"non_finite={policy}", "epochs=40ep")
