"""Real signals to real processes, at moments that a file lease makes certain."""

import os
import signal
import time
from pathlib import Path

import pytest

from tests.train.programs import Program, Programs, held, until
from tests.train.tiny import (
    BATCH,
    CLASSES,
    LOADERS_FORK,
    TINY,
    checkpoint,
    logged,
    newest,
    read,
    rows,
    total,
    train,
)
from vitx.data.sampler import epoch_order
from vitx.errors import Preempted
from vitx.runtime.signals import StopRequest

CODES = {signal.SIGTERM: 75, signal.SIGINT: 130}
SAVED_WITHIN_S = 20.0
ORPHANS_GONE_WITHIN_S = 15.0

pytestmark = LOADERS_FORK


def picture_of(pictures: Path, step: int, micro: int) -> Path:
    """Return a training picture that is first needed in this pass of this step of epoch 0."""
    order = epoch_order(48, seed=0, epoch=0).repeat(3)
    start = step * BATCH + micro * BATCH // 2
    row = next(row for row in order[start : start + BATCH // 2] if row not in order[:start])
    return pictures / "train" / CLASSES[row // 16] / f"{row % 16:02d}.png"


def ended(program: Program, code: int) -> None:
    """Assert that it ends in time with this code, says so in one line, and leaves nobody."""
    started = time.monotonic()
    assert program.wait(SAVED_WITHIN_S) == code, program.text
    assert time.monotonic() - started < SAVED_WITHIN_S
    assert "Traceback" not in program.text
    assert program.text.splitlines()[-1].startswith("vitx train: stopped by SIG")
    assert program.session() == set()


@pytest.mark.parametrize(
    ("number", "workers"),
    [
        (signal.SIGTERM, 2),
        (signal.SIGINT, 0),
        pytest.param(signal.SIGTERM, 0, marks=pytest.mark.slow),
        pytest.param(signal.SIGINT, 2, marks=pytest.mark.slow),
    ],
)
def test_in_the_middle_of_a_step_that_waits_for_data(
    number: int,
    workers: int,
    everything: tuple[str, ...],
    uninterrupted: str,
    pictures: Path,
    vitx: Programs,
    tmp_path: Path,
) -> None:
    run_dir = tmp_path / "run"
    words = (*everything, f"run_dir={run_dir}", f"dataset.workers={workers}")
    with held(picture_of(pictures, step=4, micro=1)) as somebody_waits:
        program = vitx("train", *words)
        program.reaches(somebody_waits, what="a loader that reads the picture")
        program.reaches(lambda: logged(run_dir) == 4, what="the step before")
        if workers:
            program.rests()  # the step has begun: it waits for the loader that waits
        program.signal_group(number)
        time.sleep(0.3)
        assert program.running()  # the step has its first half and needs the second
    ended(program, CODES[number])

    assert newest(run_dir) == checkpoint(run_dir, 5)
    record = read(run_dir / "run.json")
    assert (record["status"], record["exit_code"]) == ("preempted", CODES[number])
    train(*words)
    assert total(run_dir) == uninterrupted


@pytest.mark.parametrize("workers", [pytest.param(0, marks=pytest.mark.slow), 2])
def test_in_an_evaluation(
    workers: int,
    everything: tuple[str, ...],
    uninterrupted: str,
    pictures: Path,
    vitx: Programs,
    tmp_path: Path,
) -> None:
    run_dir = tmp_path / "run"
    words = (*everything, f"run_dir={run_dir}", f"dataset.workers={workers}")
    with held(pictures / "val/cow/06.png") as somebody_waits:
        program = vitx("train", *words)
        program.reaches(somebody_waits, what="the evaluation")
        program.signal_group(signal.SIGTERM)
    ended(program, 75)

    assert newest(run_dir) == checkpoint(run_dir, 6)
    assert [row["step"] for row in rows(run_dir)] == [1, 2, 3, 4, 5]
    train(*words)
    assert total(run_dir) == uninterrupted


def test_in_the_last_evaluation(
    everything: tuple[str, ...], uninterrupted: str, pictures: Path, vitx: Programs, tmp_path: Path
) -> None:
    run_dir = tmp_path / "run"
    words = (*everything, f"run_dir={run_dir}")
    with pytest.raises(Preempted):
        train(*words, "stop_at=11st")
    with held(pictures / "val/cow/06.png") as somebody_waits:
        program = vitx("train", *words)
        program.reaches(somebody_waits, what="the evaluation")
        program.signal(signal.SIGTERM)
    ended(program, 75)

    assert not (run_dir / "result.json").exists()
    train(*words)
    assert read(run_dir / "result.json")["step"] == 12
    assert total(run_dir) == uninterrupted


def test_while_the_model_is_built(pictures: Path, vitx: Programs, tmp_path: Path) -> None:
    words = (*TINY, f"dataset.path={pictures}")
    train(*words, f"run_dir={tmp_path / 'weights'}", "epochs=1st", "seed=1")
    weights = newest(tmp_path / "weights") / "model.safetensors"
    words = (*words, f"model.weights={weights}")
    with held(weights) as somebody_waits:
        program = vitx("train", *words, f"run_dir={tmp_path / 'run'}")
        program.reaches(somebody_waits, what="the model")
        program.signal(signal.SIGTERM)
        time.sleep(0.1)
    ended(program, 75)

    assert not (tmp_path / "run").exists()  # as nothing was trained
    train(*words, f"run_dir={tmp_path / 'run'}")
    train(*words, f"run_dir={tmp_path / 'whole'}")
    assert total(tmp_path / "run") == total(tmp_path / "whole")


@pytest.mark.parametrize("workers", [pytest.param(0, marks=pytest.mark.slow), 2])
def test_the_second_signal_ends_it_at_once(
    workers: int, everything: tuple[str, ...], pictures: Path, vitx: Programs, tmp_path: Path
) -> None:
    run_dir = tmp_path / "run"
    words = (*everything, f"run_dir={run_dir}", f"dataset.workers={workers}")
    with pytest.raises(Preempted):
        train(*words, "stop_at=2st")
    before = {file: file.read_bytes() for file in newest(run_dir).iterdir()}
    with held(picture_of(pictures, step=4, micro=1)) as somebody_waits:
        program = vitx("train", *words)
        program.reaches(somebody_waits, what="a loader that reads the picture")
        program.reaches(lambda: logged(run_dir) == 4, what="the step before")
        if workers:
            program.rests()  # the step has begun: it waits for the loader that waits
        program.signal(signal.SIGINT)
        time.sleep(0.2)
        assert program.running()
        program.signal(signal.SIGINT)
        assert program.wait(timeout_s=2) == 130
    assert program.last_line == (
        "vitx: stopped at once by a second SIGINT; what was saved before is kept"
    )
    assert "Traceback" not in program.text
    until(lambda: not program.session(), ORPHANS_GONE_WITHIN_S, what="the loader processes")

    assert {file: file.read_bytes() for file in newest(run_dir).iterdir()} == before


@pytest.mark.slow
def test_no_loader_outlives_a_killed_run(
    everything: tuple[str, ...], vitx: Programs, tmp_path: Path
) -> None:
    program = vitx(
        "train", *everything, "epochs=500", f"run_dir={tmp_path}/run", "dataset.workers=2"
    )
    program.reaches(
        (tmp_path / "run/checkpoints/step-00000006").exists, what="the first checkpoint"
    )
    assert len(program.session()) > 2
    program.signal(signal.SIGKILL)

    assert program.wait() == -signal.SIGKILL
    until(lambda: not program.session(), ORPHANS_GONE_WITHIN_S, what="the loader processes")


def test_a_killed_loader_ends_the_run(pictures: Path, vitx: Programs, tmp_path: Path) -> None:
    # A larger model, so that nearly all of a step is spent in it and not at the loader's door.
    size = {"embed_dim": 384, "depth": 6, "num_heads": 6}
    words = [word for word in TINY if not word.startswith("+model.args")]
    words += [f"+model.args.{name}={value}" for name, value in size.items()]
    words += [f"dataset.path={pictures}", f"run_dir={tmp_path}/run"]
    program = vitx("train", *words, "dataset.workers=2", "epochs=500", "checkpoint.every=2st")
    program.reaches((tmp_path / "run/checkpoints/step-00000002").exists, what="a checkpoint")
    program.reaches(lambda: logged(tmp_path / "run") > 2, what="the next step")
    time.sleep(0.05)  # into the model, which takes most of a step
    os.kill(max(program.session() - {program.pid}), signal.SIGKILL)

    assert program.wait(timeout_s=10) == 3
    assert "dataset.workers=0" in program.text.splitlines()[-1]
    assert "Traceback" not in program.text
    assert program.session() == set()
    assert read(tmp_path / "run/run.json")["exit_code"] == 3


def test_who_handled_a_signal_before_hears_of_it_once_the_run_has_stopped() -> None:
    heard: list[int] = []
    before = signal.signal(signal.SIGUSR2, lambda number, _: heard.append(number))
    try:
        with StopRequest() as stop:  # one that came too late
            signal.raise_signal(signal.SIGUSR2)
        assert heard == []
        with pytest.raises(Preempted), StopRequest() as stop:
            signal.raise_signal(signal.SIGUSR2)
            assert heard == []
            raise stop.as_error("after step 1 of 2")
        assert heard == [signal.SIGUSR2]
    finally:
        signal.signal(signal.SIGUSR2, before)
