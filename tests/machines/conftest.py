from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.machines.lab import Lab, Machine, why_not
from tests.train.fixtures import pictures

__all__ = ["pictures"]

Machines = Callable[[int], list[Machine]]


@pytest.fixture(scope="session")
def lacking() -> str:
    """What is missing here to make machines of namespaces."""
    return why_not()


@pytest.fixture
def machines(lacking: str, pictures: Path, tmp_path: Path) -> Iterator[Machines]:
    """Makes that many machines, with the pictures on the disk of each, and removes them."""
    if lacking:
        pytest.skip(f"no machines of namespaces can be made here: {lacking}")
    with ExitStack() as held:

        def make(count: int) -> list[Machine]:
            made = held.enter_context(Lab(tmp_path / "lab", count))
            for each in made:
                each.put(pictures, "pictures")
            return made

        yield make
