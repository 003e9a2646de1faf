"""The built package, installed and run away from the checkout, needs nothing of the checkout."""

import os
import subprocess
import sys
import sysconfig
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
ELSEWHERE = {"PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV", "VITX_RUNS"}
CLEAN = {name: value for name, value in os.environ.items() if name not in ELSEWHERE}


def build(source: Path, kind: str, folder: Path) -> Path:
    """Build a `wheel` or `sdist` of a source tree without network; return its path."""
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", kind, "-d", str(folder)],
        cwd=source,
        env=CLEAN,
        check=True,
        capture_output=True,
    )
    (built,) = folder.iterdir()
    return built


def names_in(wheel: Path) -> set[str]:
    return set(zipfile.ZipFile(wheel).namelist())


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(ROOT, "wheel", tmp_path_factory.mktemp("dist"))


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bin folder of a new environment that holds the wheel and nothing else of vitx.

    The dependencies are lent by this environment: a line in a .pth file adds its folder, and .pth
    files of a folder added that way are not read, so an editable install of vitx is not seen.
    """
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, symlinks=True)
    python = folder / "bin/python"
    install = ["install", "--no-deps", "--no-index", "--quiet", str(wheel)]
    subprocess.run([sys.executable, "-m", "pip", "--python", python, *install], check=True)
    library = subprocess.check_output(
        [python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"], text=True
    )
    (Path(library.strip()) / "lent.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return folder / "bin"


def test_wheel_holds_the_package_and_all_that_lies_beside_it(wheel: Path) -> None:
    names = names_in(wheel)
    kinds = (
        *(("vitx", "*.py"), ("vitx", "frost/*"), ("conf", "*.yaml")),
        *(("recipes", "*.yaml"), ("slurm", "*.sbatch")),
    )
    for folder, pattern in kinds:
        files = [path.relative_to(ROOT).as_posix() for path in (ROOT / folder).rglob(pattern)]
        assert files, f"{folder} is empty"
        prefix = "" if folder == "vitx" else "vitx/"
        assert {prefix + file for file in files} <= names
    assert not [
        name for name in names if name.startswith(("tests/", "conf/", "recipes/", "slurm/"))
    ]


def test_wheel_out_of_the_source_distribution_is_the_same(wheel: Path, tmp_path: Path) -> None:
    sdist = build(ROOT, "sdist", tmp_path / "sdist")
    with tarfile.open(sdist) as archive:
        archive.extractall(tmp_path / "source", filter="data")
    (source,) = (tmp_path / "source").iterdir()
    assert names_in(build(source, "wheel", tmp_path / "wheel")) == names_in(wheel)


def test_installed_wheel_trains_away_from_the_checkout(installed: Path, tmp_path: Path) -> None:
    where = subprocess.check_output(
        [
            installed / "python",
            "-c",
            "import vitx, vitx.paths as p;"
            "print(vitx.__file__, p.conf_dir(), p.recipes_dir(), p.slurm_dir())",
        ],
        cwd=tmp_path,
        env=CLEAN,
        text=True,
    )
    assert all(Path(path).is_relative_to(installed.parent) for path in where.split())
    done = subprocess.run(
        [installed / "vitx", "train", "debug=fast", "run_dir=here"],
        cwd=tmp_path,
        env=CLEAN,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["here"]
    assert (tmp_path / "here/result.json").is_file()
    assert str(ROOT) not in (tmp_path / "here/config.yaml").read_text()
