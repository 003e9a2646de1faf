"""Every listed model that timm has gives timm's logits, bit for bit, from the same weights."""

import gc

import pytest
import torch

from vitx.config.catalogue import Entry, entries
from vitx.config.resolve import resolve
from vitx.config.schema import TrainConfig
from vitx.config.settings import option_values
from vitx.config.store import compose
from vitx.models.build import Fit, build_model
from vitx.runtime.seeds import set_random_state

LARGEST = 350e6  # parameters; two models of a billion are more than a small machine holds
PICTURE = {"deit_ti", "xcit_n12", "vit_ti16_r", "resnet18", "pit_ti"}


def is_timms(entry: Entry) -> bool:
    own = option_values("model", entry.option).keys() & {"model.args", "model.patch_px"}
    ours = entry.name.startswith(("alternet", "preresnet", "hdvw"))
    return not own and not ours and entry.parameters < LARGEST


OPTIONS = [
    option if option in PICTURE else pytest.param(option, marks=pytest.mark.slow)
    for option, entry in entries().items()
    if is_timms(entry)
]


@pytest.mark.parametrize("option", OPTIONS)
def test_logits(option: str, timm) -> None:
    config = resolve(compose("train", [f"model={option}"]), TrainConfig).model
    set_random_state(1)
    ours = build_model(config, Fit(num_classes=10, channels=3, image_px=config.image_px)).eval()
    theirs = timm.create_model(config.name, num_classes=10).eval()
    with torch.inference_mode():
        theirs.load_state_dict(ours.state_dict())
        picture = torch.randn(1, 3, config.image_px, config.image_px)
        assert torch.equal(ours(picture), theirs(picture))
    del ours, theirs
    gc.collect()
