"""The layers hold, the contracts bite, and importing a module does nothing but define names."""

import json
import os
import pkgutil
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
MODULES = sorted(
    module.name
    for module in pkgutil.walk_packages([str(ROOT / "vitx")], "vitx.")
    if module.name != "vitx.__main__"
)
LIGHT = {"cli", "completion", "config", "errors", "paths", "records", "report", "runs"}
LIGHT_MODULES = [name for name in MODULES if name.split(".")[1] in LIGHT]
HEAVY_MODULES = [name for name in MODULES if name not in LIGHT_MODULES]
# Prints what the imports did to the process.
PROBE = """
import importlib, json, signal, sys, threading
numbers = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)
handlers = {number: signal.getsignal(number) for number in numbers}
for name in sys.argv[1:]:
    importlib.import_module(name)
print(json.dumps({
    "heavy": sorted({"torch", "timm", "datasets", "wandb", "sklearn"} & set(sys.modules)),
    "threads": [t.name for t in threading.enumerate() if t is not threading.main_thread()],
    "signals": [n.name for n, handler in handlers.items() if signal.getsignal(n) != handler],
}))
"""


def lint_imports(folder: Path) -> subprocess.CompletedProcess[str]:
    program = Path(sys.executable).with_name("lint-imports")
    return subprocess.run(
        [program, "--no-cache"], cwd=folder, capture_output=True, text=True, timeout=60
    )


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "vitx", tmp_path / "vitx", ignore=ignored)
    return tmp_path


def test_the_contracts_hold() -> None:
    done = lint_imports(ROOT)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("file", "line"),
    [
        ("utils.py", '"""Things."""'),
        ("paths.py", "import torch"),
        ("config/duration.py", "import torch.nn"),
        ("errors.py", "import vitx.paths"),
        ("runtime/device.py", "import vitx.train"),
        ("records.py", "import vitx.runs"),
        ("optim/build.py", "import vitx.models"),
    ],
)
def test_the_contracts_bite(copied: Path, file: str, line: str) -> None:
    with (copied / "vitx" / file).open("a") as stream:
        stream.write(line + "\n")
    done = lint_imports(copied)
    assert done.returncode != 0
    module = "vitx." + file.removesuffix(".py").replace("/", ".")
    assert module in done.stdout or "utils" in done.stdout


def imported(modules: list[str], folder: Path) -> dict[str, list[str]]:
    """Import modules in a fresh process with an empty home and an empty working folder."""
    places = {"HOME": str(folder), "TMPDIR": str(folder), "XDG_CACHE_HOME": str(folder / "cache")}
    # torch makes this one when timm is imported, whoever imports it.
    places["TORCHINDUCTOR_CACHE_DIR"] = str(folder.parent / "inductor")
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, "-B", "-W", "error", "-c", PROBE, *modules],
        cwd=folder,
        env=os.environ | places | {"PYTHONPATH": path},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    found: dict[str, list[str]] = json.loads(done.stdout)
    return found


def test_what_runs_before_a_verb_imports_nothing_heavy(tmp_path: Path) -> None:
    assert {"vitx.cli", "vitx.runs", "vitx.config.schema", "vitx.config.resolve"} <= {
        *LIGHT_MODULES
    }
    assert imported(LIGHT_MODULES, tmp_path)["heavy"] == []


@pytest.mark.parametrize("modules", [LIGHT_MODULES, HEAVY_MODULES], ids=["light", "heavy"])
def test_importing_only_defines_names(modules: list[str], tmp_path: Path) -> None:
    found = imported(modules, tmp_path)
    assert found["threads"] == []
    assert found["signals"] == []
    assert list(tmp_path.iterdir()) == []
