"""For all tests: torch's threads wait as they do in the program; timm as vitx imports it."""

from types import ModuleType

import pytest

from vitx.runtime.openmp import wait_politely

wait_politely()


@pytest.fixture(scope="session")
def timm() -> ModuleType:
    from vitx.runtime.torchvision_ops import declare_missing_ops

    declare_missing_ops()
    import timm

    return timm
