"""Fixtures of all tests that train; each folder's conftest imports them."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.train.programs import Programs
from tests.train.tiny import EVERYTHING, TINY, total, train, write_pictures


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """48 pictures to train on, 21 to measure."""
    return write_pictures(tmp_path_factory.mktemp("pictures"))


@pytest.fixture
def vitx(tmp_path: Path) -> Iterator[Programs]:
    """Starts `vitx` processes."""
    programs = Programs(tmp_path)
    yield programs
    programs.close()


@pytest.fixture(scope="module")
def everything(pictures: Path) -> tuple[str, ...]:
    """A run with all that draws or carries state switched on."""
    return (*TINY, *EVERYTHING, f"dataset.path={pictures}")


@pytest.fixture(scope="module")
def uninterrupted(everything: tuple[str, ...], tmp_path_factory: pytest.TempPathFactory) -> str:
    """What that run comes to when nothing stops it, as `total` says it."""
    folder = tmp_path_factory.mktemp("uninterrupted") / "run"
    train(*everything, f"run_dir={folder}")
    return total(folder)
