"""`vitx doctor` as it is typed, where things are broken."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
VITX = Path(sys.executable).with_name("vitx")
CANARY = "c0ffee" * 7
NOT_THERE = "raise ModuleNotFoundError(\"No module named 'torch'\", name='torch')\n"
NMS = "raise RuntimeError('operator torchvision::nms does not exist')\n"


def library(folder: Path, name: str, body: str) -> str:
    """Write a package that stands before the installed one; return the path to look in."""
    (folder / name).mkdir(parents=True)
    (folder / name / "__init__.py").write_text(body)
    return str(folder)


def doctor(
    folder: Path, *words: str, path: str = "", limits: tuple[str, ...] = (), **env: str
) -> subprocess.CompletedProcess[str]:
    places = os.pathsep.join(filter(None, [path, str(ROOT)]))
    return subprocess.run(
        [*limits, VITX, "doctor", *words],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": places, **env},
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )


def grades(text: str) -> dict[str, str]:
    """Return the worst grade of each name, as it is shown."""
    found: dict[str, str] = {}
    for line in text.splitlines()[:-1]:
        grade, name = line[:8].strip(), line[9:22].strip()
        if grade in ("ok", "warning", "problem"):
            found[name] = max(
                found.get(name, ""), grade, key=["", "ok", "warning", "problem"].index
            )
    return found


def test_without_torch(tmp_path: Path) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text(f"machine api.wandb.ai\n  login user\n  password {CANARY}\n")
    netrc.chmod(0o600)
    path = library(tmp_path / "broken", "torch", NOT_THERE)

    done = doctor(
        tmp_path,
        "runtime.devices=4",
        "logger=wandb",
        path=path,
        NETRC=str(netrc),
        HF_TOKEN=CANARY,
        WANDB_API_KEY="",
    )

    assert (done.returncode, done.stderr) == (2, "")
    assert "torch can't be imported: ModuleNotFoundError: No module named 'torch'" in done.stdout
    assert "\n                       type pip install torch\n" in done.stdout
    seen = grades(done.stdout)
    assert seen["libraries"] == "problem"
    assert seen["gpu"] == seen["data"] == "warning"
    assert seen["run folder"] == seen["open files"] == "ok"
    assert f"ok       wandb         a login in {netrc}" in done.stdout
    assert CANARY not in done.stdout
    assert "4 x " in done.stdout  # the threads of 4 processes
    assert done.stdout.splitlines()[-1].startswith("1 problem, ")
    assert [each.name for each in tmp_path.iterdir() if each.name == "runs"] == []


def test_a_torchvision_of_another_torch(tmp_path: Path) -> None:
    path = library(tmp_path / "broken", "torchvision", NMS)

    done = doctor(tmp_path, "dataset=folder", "dataset.path=nowhere", path=path)

    assert (done.returncode, done.stderr) == (2, "")
    reason = "torchvision can't be imported: RuntimeError: operator torchvision::nms does not exist"
    assert f"problem  libraries     {reason}\n" in done.stdout
    assert "type pip install --force-reinstall --no-deps torchvision==0." in done.stdout
    assert "problem  data          dataset.path=nowhere: expected a directory" in done.stdout
    seen = grades(done.stdout)
    assert seen["operators"] == "warning"  # not looked at
    assert seen["device"] == seen["precision"] == "ok"
    assert "Traceback" not in done.stdout


@pytest.mark.slow
def test_nothing_is_wrong_and_nothing_is_written(tmp_path: Path) -> None:
    done = doctor(tmp_path, "model=deit_ti", "ema.decay=0.99", "runtime.compile=true")

    assert (done.returncode, done.stderr) == (0, "")
    assert "problem" not in grades(done.stdout).values()
    assert "data          digits: 1437 to train on, 360 to measure, 10 classes" in done.stdout
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_the_code_is_that_of_training(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    done = doctor(tmp_path, "dataset=folder", "dataset.path=empty")
    assert done.returncode == 3, done.stdout

    (tmp_path / "file").write_text("mine")
    done = doctor(tmp_path, "run_dir=file/run")
    assert done.returncode == 4, done.stdout

    small_files = ("sh", "-c", 'ulimit -f 8192; exec "$@"', "sh")
    done = doctor(tmp_path, "model=deit_ti", limits=small_files)
    assert done.returncode == 4, done.stdout
    assert "type ulimit -f unlimited" in done.stdout


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["modle=deit_ti"], "modle: no such setting; did you mean 'model'?"),
        (["-m", "seed=0,1"], "doctor looks at one run; leave -m out"),
        (["evall"], "evall: no run that can be planned; train or distill can be planned"),
        (["--cfg", "job"], "doctor shows no configuration; type vitx train --cfg job"),
    ],
)
def test_words_that_can_not_be_carried_out(words: list[str], line: str, tmp_path: Path) -> None:
    done = doctor(tmp_path, *words)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"vitx doctor: {line}")


def test_help(tmp_path: Path) -> None:
    done = doctor(tmp_path, "--help")
    assert (done.returncode, done.stderr) == (0, "")
    assert "usage: vitx doctor [train|distill] [group=option ...]" in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 100
