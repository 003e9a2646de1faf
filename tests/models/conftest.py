"""timm, imported the way vitx does."""

import pytest

from vitx.runtime.torchvision_ops import declare_missing_ops


@pytest.fixture(scope="session")
def timm():
    declare_missing_ops()
    import timm

    return timm
