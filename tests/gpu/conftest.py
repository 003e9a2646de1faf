"""What takes an Nvidia GPU; skipped where there is none. Programs, since ranks fork before CUDA."""

from pathlib import Path

import pytest

from tests.train.fixtures import pictures, vitx

__all__ = ["pictures", "vitx"]

FOLDER = Path(__file__).parent


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    import torch

    for item in items:
        if FOLDER in item.path.parents:
            item.add_marker(pytest.mark.gpu)
            item.add_marker(
                pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
            )
            item.add_marker(pytest.mark.timeout(180))
