"""Disks that are full, read-only or remote, and a clock that was set back."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from tests.doctor.looking import found, plain
from vitx.doctor.findings import Finding, Grade
from vitx.doctor.planned import Planned
from vitx.doctor.storage import (
    check_cache_folder,
    check_clock,
    check_run_folder,
    check_temporary_folder,
    file_system,
)
from vitx.files import write_json
from vitx.runs import now


@pytest.fixture
def planned(timm: ModuleType, tmp_path: Path) -> Planned:
    run = plain()
    run.config.run_dir = str(tmp_path / "run")
    return run


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "small"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(folder)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("no right to mount a small file system")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def of_run_folder(planned: Planned) -> Finding:
    (finding,) = check_run_folder(planned)
    assert list(Path(str(planned.config.run_dir)).parent.glob("run*")) == []
    return finding


def test_what_checkpoints_take(planned: Planned) -> None:
    parameters = 5_526_346  # of ViT-Ti/16 with ten classes; timm's 5,717,416 have a thousand
    assert planned.parameter_bytes == 4 * parameters
    finding = of_run_folder(planned)
    assert finding.grade is Grade.ok
    # Weights and the two moments of Adam, of two that are kept, the best and a new one.
    assert f"4 checkpoints take up to {4 * 3 * 4 * parameters / 2**20:.3g} MiB" in finding.text

    planned.config.ema.decay = 0.99
    assert planned.checkpoint_bytes == 4 * 4 * parameters


def test_a_small_disk(planned: Planned, small_disk: Path) -> None:
    planned.config.run_dir = str(small_disk / "run")
    finding = of_run_folder(planned)
    assert (finding.grade, finding.code) == (Grade.problem, 4)
    assert "8 MiB free for" in finding.text
    assert "run_dir=" in finding.mend


def test_a_small_temporary_folder(small_disk: Path) -> None:
    said = found("storage", "check_temporary_folder", TMPDIR=str(small_disk))
    assert said.startswith(f"warning  temporary     8 MiB free for {small_disk}\n")
    assert "TMPDIR" in said


def test_a_read_only_folder(tmp_path: Path) -> None:
    (tmp_path / "shut").mkdir(mode=0o555)
    # Root may write everywhere, unless it gives that right away.
    powers = "-dac_override,-dac_read_search"
    limits = ("setpriv", f"--bounding-set={powers}", f"--inh-caps={powers}")
    if os.geteuid() != 0:
        limits = ()
    elif shutil.which("setpriv") is None:
        pytest.skip("root, and no setpriv to give its rights away")
    said = found(
        "storage",
        "check_run_folder check_cache_folder",
        change=f"planned.config.run_dir = '{tmp_path}/shut/run'",
        limits=limits,
        VITX_CACHE=f"{tmp_path}/shut/cache",
    )
    assert said.startswith(
        f"problem  run folder    {tmp_path}/shut/run can't be written: no permission to write\n"
    )
    assert f"warning  cache folder  {tmp_path}/shut/cache can't be written" in said
    assert "type export VITX_CACHE=FOLDER" in said


def test_the_cache_is_needed_where_something_is_stored_in_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("mine")
    monkeypatch.setenv("VITX_CACHE", str(tmp_path / "file"))
    grades = [
        next(iter(check_cache_folder(Planned(config=plain().config, verb=verb)))).grade
        for verb in ("train", "distill")
    ]
    assert grades == [Grade.warning, Grade.problem]


def test_kinds_of_file_systems(tmp_path: Path, small_disk: Path) -> None:
    assert file_system(small_disk) == "tmpfs"
    assert file_system(Path("/proc")) == "proc"
    mounts = tmp_path / "mounts"
    mounts.write_text(
        f"/dev/a / ext4 rw 0 0\nserver:/x {tmp_path}/a\\040b nfs4 rw 0 0\n"
        f"/dev/b {tmp_path} xfs rw 0 0\n"
    )
    assert file_system(tmp_path / "a b/c", mounts) == "nfs4"
    assert file_system(tmp_path / "a", mounts) == "xfs"
    assert file_system(Path("/"), mounts) == "ext4"


def test_a_temporary_folder_is_there() -> None:
    (finding,) = check_temporary_folder(plain())
    assert finding.grade is Grade.ok


def test_a_clock_that_was_set_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VITX_RUNS", str(tmp_path))
    for name, started in (("a", now()), ("b", "not a record")):
        (tmp_path / name).mkdir()
        write_json(tmp_path / name / "run.json", {"started": started})
    (tmp_path / "b" / "run.json").write_text("{")
    (finding,) = check_clock(plain())
    assert finding.grade is Grade.ok

    later = "2999" + now()[4:]
    (tmp_path / "c").mkdir()
    write_json(tmp_path / "c" / "run.json", {"started": later})
    (finding,) = check_clock(plain())
    assert finding.grade is Grade.warning
    assert later[:19] in finding.text
