"""What takes an Nvidia GPU; skipped where there is none. Programs, since ranks fork before CUDA."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.train.programs import Programs
from vitx.torture.pictures import write_pictures

FOLDER = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    import torch

    for item in items:
        if FOLDER in item.path.parents:
            item.add_marker(
                pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
            )
            item.add_marker(pytest.mark.timeout(180))


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_pictures(tmp_path_factory.mktemp("pictures"))


@pytest.fixture
def vitx(tmp_path: Path) -> Iterator[Programs]:
    programs = Programs(tmp_path)
    yield programs
    programs.close()
