"""Nothing is unpickled from a file: every class that a pickle names is watched, in a process."""

import json
import os
import pickle
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import torch

from tests.security.hostile import as_run
from tests.train.programs import ROOT

# Ends the process with code 99 at the first class that a pickle names, unless it is one that
# loader processes hand over; says at the end how often those were met.
WATCH = """
import os, sys
met = 0
def watch(event, args):
    global met
    if event != "pickle.find_class":
        return
    frame, by = sys._getframe(), set()
    while frame is not None:
        by.add(frame.f_code.co_filename.replace(os.sep, "/").rpartition("/lib/")[2])
        frame = frame.f_back
    if any(each.endswith("/multiprocessing/queues.py") for each in by):
        met += 1
        return
    os.write(2, f"UNPICKLED {args}\\n".encode())
    os._exit(99)
sys.addaudithook(watch)
from vitx.cli import main
for words in sys.argv[1:]:
    import json
    code = main(json.loads(words))
    print("CODE", code, "MET", met, flush=True)
"""


class Touch:
    """A pickle that makes a file when it is read."""

    def __init__(self, mark: Path) -> None:
        self._mark = mark

    def __reduce__(self) -> tuple[object, ...]:
        return (open, (str(self._mark), "w"))


def watched(*commands: tuple[str, ...], cwd: Path) -> list[str]:
    """Run verbs in one process under the watch; return how each ended, and what was met."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", WATCH, *map(json.dumps, commands)],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=110,
    )
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr, done.stderr
    return [line for line in done.stdout.splitlines() if line.startswith("CODE")]


def test_the_watch_sees_a_pickle(tmp_path: Path) -> None:
    (tmp_path / "file.pkl").write_bytes(pickle.dumps(Touch(tmp_path / "MARK")))
    reads = "import pickle; pickle.load(open('file.pkl', 'rb'))"
    program = WATCH.replace("from vitx.cli import main", reads)
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True)
    assert (done.returncode, (tmp_path / "MARK").exists()) == (99, False)


def poisoned(folder: Path, *, like: Path) -> Path:
    """Return a run directory in which a pickle stands under every name that a tool could load."""
    run = as_run(folder, (like / "config.yaml").read_bytes(), like=like)
    (run / "result.json").unlink()
    (run / "checkpoints" / ".tmp-3-host-1").mkdir()
    (run / "eval").mkdir()
    evil = pickle.dumps(Touch(folder / "MARK"))
    for place in (run, run / "checkpoints", run / "checkpoints" / "step-00000001", run / "eval"):
        for name in (".metadata", "model.pth", "optimizer.pt", "pytorch_model.bin", "rng.pkl"):
            (place / name).write_bytes(evil)
        torch.save({"a": Touch(folder / "MARK")}, place / "last.ckpt")
    return run


@pytest.mark.timeout(240)
def test_training_resuming_and_scoring_unpickle_nothing(
    short: tuple[str, ...], finished: Path, tmp_path: Path
) -> None:
    run = poisoned(tmp_path / "hostile", like=finished)
    ended = watched(
        ("train", *short, f"run_dir={tmp_path / 'own'}"),
        ("train", f"resume={run}"),
        ("eval", f"run={run}", "checkpoint=best", "workers=0"),
        cwd=tmp_path,
    )
    assert ended == ["CODE 0 MET 0"] * 3
    assert not list(tmp_path.rglob("MARK"))


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["pickle", "torch", "zip", "renamed"])
def test_a_hostile_file_of_weights_is_refused(
    kind: str, short: tuple[str, ...], finished: Path, tmp_path: Path
) -> None:
    run = as_run(tmp_path / "run", (finished / "config.yaml").read_bytes(), like=finished)
    (run / "result.json").unlink()
    file = run / "checkpoints" / "step-00000002" / "model.safetensors"
    file.unlink()
    evil = Touch(tmp_path / "MARK")
    if kind == "torch":
        torch.save({"a": evil}, file)
    elif kind == "zip":
        with zipfile.ZipFile(file, "w") as archive:
            archive.writestr("archive/data.pkl", pickle.dumps(evil))
    else:
        file.write_bytes(pickle.dumps(evil))
    alone = tmp_path / ("file.safetensors" if kind == "renamed" else "file.pth")
    alone.write_bytes(file.read_bytes())
    ended = watched(
        ("eval", f"run={run}"),
        ("train", *short, f"model.weights={alone}", f"run_dir={tmp_path / 'own'}"),
        ("import", str(alone), f"to={tmp_path / 'to.safetensors'}"),
        cwd=tmp_path,
    )
    assert ended == ["CODE 4 MET 0"] * 3
    assert not list(tmp_path.rglob("MARK"))


@pytest.mark.slow
def test_loader_processes_hand_over_by_pickles_of_their_own(
    short: tuple[str, ...], tmp_path: Path
) -> None:
    """Through pipes and sockets between the processes of the run; no file is in it."""
    words = ("train", *short, "dataset.workers=2", f"run_dir={tmp_path / 'run'}")
    (ended,) = watched(words, cwd=tmp_path)
    code, met = ended.split()[1::2]
    assert code == "0" and int(met) > 0
