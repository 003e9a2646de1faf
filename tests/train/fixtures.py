"""Fixtures of all tests that train; each folder's conftest imports them."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.train.programs import Programs
from tests.train.tiny import write_pictures


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
