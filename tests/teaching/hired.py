"""A little teacher that counts what it is asked, and pictures to ask it about."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from tests.train.tiny import EVERYTHING, TINY, write_pictures
from vitx.config.schema import DistillConfig, Precision
from vitx.models.teacher import Teacher
from vitx.records import PictureFormat
from vitx.teaching.build import Hired, Where
from vitx.teaching.plan import TeacherPlan

B, C = 8, 3
HERE = Where(device=torch.device("cpu"), precision=Precision.fp32)
PLAIN = PictureFormat(image_px=16, mean=(0.0,) * 3, std=(1.0,) * 3)


class Net(nn.Module):
    """Counts what it is asked."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.layer = nn.Linear(3, C)
        self.asked = 0

    def forward(self, images: Tensor) -> Tensor:
        self.asked += 1
        return self.layer(20 * images.mean((2, 3)).tanh())


def hire(config: DistillConfig, number: int) -> Hired:
    model = Teacher(Net(number), given=PLAIN, wanted=PLAIN)
    plan = TeacherPlan(config=config, file=Path("x"), origin=str(number))
    return Hired(model=model, plan=plan, sha256=f"{number:064d}")


@pytest.fixture(scope="module")
def words(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, ...]:
    root = write_pictures(tmp_path_factory.mktemp("pictures"))
    return (*TINY, *EVERYTHING, f"dataset.path={root}", "teacher=timm", "teacher.name=resnet10t")


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VITX_CACHE", str(tmp_path / "cache"))
