"""`vitx sweep`: a sweep that was killed, stopped or partly failed is looked at and gone on with."""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.train.programs import ROOT, Program, Programs, held
from tests.train.tiny import EVERYTHING, TINY, read, total, train
from vitx.cli import main
from vitx.torture.identity import contents

Changed = Callable[[dict[str, Any]], object]

JOBS = ("0-seed=0", "1-seed=1", "2-seed=2")
QUICK = (*TINY, "epochs=1st")


@pytest.fixture(scope="module")
def words(pictures: Path) -> tuple[str, ...]:
    every = "checkpoint.every=2st"
    return ("train", "-m", *TINY, *EVERYTHING, every, f"dataset.path={pictures}", "seed=0,1,2")


@pytest.fixture(scope="module")
def finished(pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a sweep of two short jobs that are finished."""
    folder = tmp_path_factory.mktemp("finished")
    programs = Programs(folder)
    programs.done("train", "-m", *QUICK, f"dataset.path={pictures}", "seed=0,1")
    programs.close()
    return only_sweep(folder)


@pytest.fixture
def sweep(finished: Path, tmp_path: Path) -> Path:
    """A copy of it, among the runs of this test."""
    return shutil.copytree(finished, tmp_path / "runs/sweeps" / finished.name)


@pytest.fixture(scope="module")
def undisturbed(words: tuple[str, ...], tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """What the runs of the sweep come to when nothing happens to it."""
    folder = tmp_path_factory.mktemp("undisturbed")
    programs = Programs(folder)
    programs.done(*words)
    programs.close()
    return totals(only_sweep(folder))


def only_sweep(folder: Path) -> Path:
    (sweep,) = (folder / "runs/sweeps").iterdir()
    return sweep


def totals(sweep: Path) -> list[str]:
    assert sorted(path.name for path in sweep.iterdir() if path.is_dir()) == [*JOBS]
    return [total(sweep / name) for name in JOBS]


def states(sweep: Path) -> list[tuple[str, int | None]]:
    return [(job["state"], job["exit_code"]) for job in read(sweep / "sweep.json")["jobs"]]


def in_second_job(
    vitx: Programs, words: tuple[str, ...], folder: Path, pictures: Path, number: int
) -> Program:
    """Send a signal to a sweep while its second job evaluates for the first time."""
    program = vitx(*words)
    result = f"runs/sweeps/*/{JOBS[0]}/result.json"
    saved = f"runs/sweeps/*/{JOBS[1]}/checkpoints/step-00000004"
    program.reaches(lambda: [*folder.glob(result)], what="the end of its first job")
    with held(pictures / "val/ape/00.png") as somebody_waits:
        program.reaches(somebody_waits, what="the evaluation of its second job")
        program.reaches(lambda: [*folder.glob(saved)], what="a checkpoint of it")
        program.signal(number)
        if number == signal.SIGKILL:
            program.wait()
    program.wait()
    return program


def test_a_killed_sweep_goes_on_to_the_same_bytes(
    words: tuple[str, ...], undisturbed: list[str], pictures: Path, vitx: Programs, tmp_path: Path
) -> None:
    program = in_second_job(vitx, words, tmp_path, pictures, signal.SIGKILL)
    assert program.code == -signal.SIGKILL
    sweep = only_sweep(tmp_path)
    first = contents(sweep / JOBS[0])

    said = vitx.done("sweep", "status")
    rows = [line.split() for line in said.splitlines()]
    assert rows[2][:3] == ["0", "finished", "0"]
    assert rows[2][-4:] == ["12", "of", "12", "seed=0"]
    assert rows[3] == ["1", "stopped", "-", "-", "5", "of", "12", "seed=1"]
    assert rows[4] == ["2", "waiting", "-", "-", "-", "seed=2"]
    assert said.splitlines()[-2:] == [
        "1 finished, 1 stopped, 1 waiting",
        f"vitx sweep resume {sweep}",
    ]

    said = vitx.done("sweep", "resume")
    assert "resumed" in said
    assert "at step 4 of 12" in said  # the newest checkpoint
    assert totals(sweep) == undisturbed
    assert contents(sweep / JOBS[0]) == first
    assert states(sweep) == [("finished", 0)] * 3
    assert "3 finished" in vitx.done("sweep", "status", str(sweep)).splitlines()[-1]

    before = contents(sweep)
    vitx.done("sweep", "resume", str(sweep))  # nothing is left to do
    assert contents(sweep) == before


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 75)])
def test_a_stopped_sweep_goes_on_to_the_same_bytes(
    number: int,
    code: int,
    words: tuple[str, ...],
    undisturbed: list[str],
    pictures: Path,
    vitx: Programs,
    tmp_path: Path,
) -> None:
    program = in_second_job(vitx, words, tmp_path, pictures, number)
    assert program.code == code, program.text
    sweep = only_sweep(tmp_path)
    assert states(sweep) == [("finished", 0), ("preempted", code), ("waiting", None)]

    vitx.done(*words, f"hydra.sweep.dir={sweep}")  # typed once more, it goes on as well
    assert totals(sweep) == undisturbed
    assert states(sweep) == [("finished", 0)] * 3


def test_a_bad_picture_costs_its_job_alone_and_is_mended(
    pictures: Path, vitx: Programs, tmp_path: Path
) -> None:
    bad = tmp_path / "bad"
    shutil.copytree(pictures, bad)
    picture = sorted((bad / "train").glob("*/*"))[-1]
    whole = picture.read_bytes()
    picture.write_bytes(whole[:40].ljust(len(whole), b"\0"))  # as large as before
    words = (*TINY, "epochs=1ep", "checkpoint.every=2st")

    said = vitx.done("train", "-m", *words, f"dataset.path={bad},{pictures}", code=7)
    assert said.splitlines()[-1] == "vitx train: 1 of 2 jobs failed"
    sweep = only_sweep(tmp_path)
    first, second = read(sweep / "sweep.json")["jobs"]
    assert (first["state"], first["exit_code"]) == ("failed", 3)
    assert picture.name in first["error"]
    assert (sweep / first["log"]).is_file()
    assert (second["state"], second["exit_code"]) == ("finished", 0)
    said = vitx.done("sweep", "status")
    assert f"job 0 failed: {first['error']}" in said

    picture.write_bytes(whole)
    vitx.done("sweep", "resume")
    assert states(sweep) == [("finished", 0)] * 2
    train(*words, f"dataset.path={bad}", f"run_dir={tmp_path / 'alone'}")
    assert total(sweep / first["run_dir"]) == total(tmp_path / "alone")


def test_refused_settings_are_left_out_unless_asked_for(
    pictures: Path, vitx: Programs, tmp_path: Path
) -> None:
    words = ("train", "-m", *QUICK, f"dataset.path={pictures}", "batch_size=8,-1")
    vitx.done(*words, code=7)
    sweep = only_sweep(tmp_path)
    assert states(sweep) == [("finished", 0), ("failed", 2)]
    assert "vitx sweep resume" not in vitx.done("sweep", "status")

    refused = "vitx train: job 1 (batch_size=-1) failed: "
    said = vitx.done("sweep", "resume", code=7)
    assert "job 1 (batch_size=-1) was refused and is left out; failed=true tries it again" in said
    assert refused not in said
    assert refused in vitx.done("sweep", "resume", "failed=true", code=7)
    assert states(sweep) == [("finished", 0), ("failed", 2)]


def test_a_sweep_that_runs_is_not_gone_on_with(
    pictures: Path, vitx: Programs, tmp_path: Path
) -> None:
    with held(pictures / "val/ape/00.png") as somebody_waits:
        program = vitx("train", "-m", *QUICK, f"dataset.path={pictures}", "seed=0,1")
        program.reaches(somebody_waits, what="the evaluation of its first job")
        said = vitx.done("sweep", "resume", code=8)
        assert f"{only_sweep(tmp_path)} is in use by process {program.pid} on " in said
        said = vitx.done("sweep", "status")
        assert "1 running, 1 waiting" in said.splitlines()[-1]
    assert program.wait() == 0, program.text


def test_a_ledger_that_cannot_be_written_stops_nothing_and_loses_nothing(
    pictures: Path, vitx: Programs, tmp_path: Path
) -> None:
    with held(pictures / "val/ape/00.png") as somebody_waits:
        program = vitx("train", "-m", *QUICK, f"dataset.path={pictures}", "seed=0,1")
        program.reaches(somebody_waits, what="the evaluation of its first job")
        sweep = only_sweep(tmp_path)
        lock = sweep / ".ledger.lock"
        lock.unlink()
        lock.mkdir()
    assert program.wait() == 0, program.text

    assert f"{sweep / 'sweep.json'} can't be written" in program.text
    assert program.text.count("top-1") >= 2
    assert states(sweep) == [("running", None), ("waiting", None)]
    assert "2 finished" in vitx.done("sweep", "status").splitlines()[-1]
    before = [contents(sweep / name) for name in JOBS[:2]]
    lock.rmdir()
    vitx.done("sweep", "resume")
    assert states(sweep) == [("finished", 0)] * 2
    assert [contents(sweep / name) for name in JOBS[:2]] == before


def test_a_ledger_that_was_cut_off_is_made_again(
    sweep: Path, pictures: Path, vitx: Programs
) -> None:
    whole = (sweep / "sweep.json").read_text()
    (sweep / "sweep.json").write_text(whole[:100])
    shutil.rmtree(sweep / JOBS[1])
    first = contents(sweep / JOBS[0])
    for action in ("status", "resume"):
        said = vitx.done("sweep", action, str(sweep), code=4)
        assert "sweep.json can't be read: " in said
        assert (
            f"; delete it and type the command of the sweep again (its words are in {sweep}" in said
        )
        assert f"/multirun.yaml) with hydra.sweep.dir={sweep}: finished runs are left alone" in said
    assert "seed=0,1" in (sweep / "multirun.yaml").read_text()

    (sweep / "sweep.json").unlink()
    words = ("train", "-m", *QUICK, f"dataset.path={pictures}", "seed=0,1")
    vitx.done(*words, f"hydra.sweep.dir={sweep}")

    assert states(sweep) == [("finished", 0)] * 2
    assert contents(sweep / JOBS[0]) == first
    assert (sweep / JOBS[1] / "result.json").is_file()


@pytest.mark.slow
def test_a_disk_that_is_read_only_is_refused_before_anything_runs(
    pictures: Path, vitx: Programs, tmp_path: Path
) -> None:
    words = ("train", "-m", *QUICK, f"dataset.path={pictures}", "seed=0,1")
    runs = tmp_path / "runs"
    runs.mkdir()
    assert vitx(*words, apart={"read_only": str(runs)}).wait() == 4
    assert contents(runs) == {}

    vitx.done(*words, "stop_at=1st", "epochs=2ep", code=75)
    before = contents(runs)
    program = vitx("sweep", "resume", apart={"read_only": str(runs)})
    assert program.wait() == 4, program.text
    assert contents(runs) == before
    assert "2 preempted" in vitx.done("sweep", "status")


@pytest.mark.slow
def test_two_sweeps_at_once_have_two_folders(
    pictures: Path, vitx: Programs, tmp_path: Path
) -> None:
    words = ("train", "-m", *QUICK, f"dataset.path={pictures}", "seed=0,1")
    for program in [vitx(*words) for _ in range(3)]:
        assert program.wait() == 0, program.text
    sweeps = [*(tmp_path / "runs/sweeps").iterdir()]
    assert len(sweeps) == 3
    for sweep in sweeps:
        assert states(sweep) == [("finished", 0)] * 2


def test_a_secret_among_the_words_is_refused(
    pictures: Path, vitx: Programs, tmp_path: Path
) -> None:
    value = "0123456789abcdef"
    words = ("train", "-m", *QUICK, f"dataset.path={pictures}", "seed=0,1", f"name=a{value}")
    program = vitx(*words, SOME_API_KEY=value)
    assert program.wait() == 2, program.text
    assert not (tmp_path / "runs").exists()


def test_where_the_jobs_stand_is_told_without_torch_and_hydra(sweep: Path) -> None:
    program = (
        "import sys; from vitx.cli import main; code = main(['sweep', 'status', sys.argv[1]]); "
        "print({'torch', 'hydra', 'omegaconf', 'numpy'} & {*sys.modules}); sys.exit(code)"
    )
    said = subprocess.run(
        [sys.executable, "-c", program, str(sweep)],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    assert "2 finished" in said
    assert said.splitlines()[-1] == "set()"


def test_what_is_no_sweep_is_told(vitx: Programs, tmp_path: Path) -> None:
    assert "no sweep in " in vitx.done("sweep", "status", code=2)
    assert "no sweep there" in vitx.done("sweep", "resume", str(tmp_path), code=2)
    assert "only vitx sweep resume takes it" in vitx.done(
        "sweep", "status", "hydra.launcher.n_jobs=2", code=2
    )


def _argv(*more: str) -> Changed:
    return lambda data: data["argv"].extend(more)


def _jobs(**changes: Any) -> Changed:
    return lambda data: data["jobs"][1].update(changes)


def _override(word: str) -> Changed:
    return lambda data: data["jobs"][1]["overrides"].append(word)


@pytest.mark.parametrize(
    ("change", "code", "line"),
    [
        (_argv("hydra.launcher.setup=[touch mark]"), 2, "from the command line alone"),
        (_argv("+hydra.job.env_set.X=1"), 2, "from the command line alone"),
        (_argv("hydra.callbacks.a._target_=os.system"), 2, ""),
        (_argv("hydra/launcher=nothing"), 2, "no option 'nothing' of hydra/launcher"),
        (_argv("hydra.sweeper._target_=os.system"), 2, "hydra.sweeper names os.system"),
        (_argv("--cfg", "job"), 2, "--multirun and --cfg don't go together"),
        (_argv("--experimental-rerun", "x"), 2, ""),
        (lambda data: data["argv"].remove("-m"), 2, "not those of a sweep"),
        (lambda data: data.update(verb="torture"), 4, "not as vitx writes it"),
        (lambda data: data.update(verb="eval"), 2, ""),
        (_override("hydra.job.env_set.X=1"), 2, "can't set hydra.job.env_set.X"),
        (_override("hydra/launcher=basic"), 2, "can't set hydra/launcher"),
        (_override("+nothing=1"), 2, ""),
        (_override("seed=9"), 4, "has its run in"),
        (_jobs(run_dir="../../elsewhere"), 4, "leads out of the sweep"),
        (_jobs(run_dir="/else"), 4, "has its run in /else, and would now be in"),
        (_jobs(run_dir="1-other"), 4, "has its run in 1-other, and would now be in"),
        (_jobs(overrides=7), 4, "not as vitx writes it"),
        (lambda data: data.update(typed_in="/"), 2, "was begun in /"),
    ],
)
def test_a_hostile_ledger_is_refused_and_nothing_runs(
    change: Changed,
    code: int,
    line: str,
    sweep: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(sweep.parents[2])
    shutil.rmtree(sweep / JOBS[1])  # so that there is something to do
    data = read(sweep / "sweep.json") | {"typed_in": str(Path.cwd())}
    data["jobs"][1]["state"] = "waiting"
    change(data)
    (sweep / "sweep.json").write_text(json.dumps(data))
    before = contents(Path.cwd())

    assert main(["sweep", "resume", str(sweep)]) == code
    said = capfd.readouterr().err
    assert line in said
    assert "Traceback" not in said
    after = {name: text for name, text in contents(Path.cwd()).items() if "lock" not in name}
    assert after == {name: text for name, text in before.items() if "lock" not in name}
