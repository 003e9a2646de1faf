from pathlib import Path

import pytest

from tests.train.fixtures import pictures, vitx
from tests.train.tiny import TINY, train

__all__ = ["pictures", "vitx"]

SHORT = ("epochs=2st", "logger.every=1st", "evaluation.every=2st", "checkpoint.every=1st")


@pytest.fixture(scope="session")
def short(pictures: Path) -> tuple[str, ...]:
    """A run of two steps."""
    return (*TINY, *SHORT, f"dataset.path={pictures}")


@pytest.fixture(scope="session")
def finished(short: tuple[str, ...], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Such a run, done; nobody writes to it."""
    folder = tmp_path_factory.mktemp("finished") / "run"
    train(*short, f"run_dir={folder}")
    return folder
