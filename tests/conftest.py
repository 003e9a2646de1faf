"""For all tests: torch's threads wait as they do in the program; timm as vitx imports it."""

from collections.abc import Generator
from types import ModuleType

import pytest

from vitx.runtime.openmp import wait_politely
from vitx.torture.verdicts import Lacking

wait_politely()


@pytest.fixture(scope="session")
def timm() -> ModuleType:
    from vitx.runtime.torchvision_ops import declare_missing_ops

    declare_missing_ops()
    import timm

    return timm


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call() -> Generator[None, None, None]:
    """Skip what the machine allows no answer to."""
    try:
        yield
    except Lacking as lacking:
        pytest.skip(str(lacking))
