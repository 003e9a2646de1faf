"""A plain ViT with a distillation token is timm's distilled model, name by name."""

from __future__ import annotations

import pytest
import torch

from vitx.config.schema import ModelConfig, Pool, PosEmbed, VariantConfig
from vitx.errors import UsageError
from vitx.models.build import Fit, build_model

SMALL = {"depth": 2, "embed_dim": 24, "num_heads": 2}
FIT = Fit(num_classes=5, channels=3, image_px=32)
PICTURES = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def config(name: str, **variant: object) -> ModelConfig:
    return ModelConfig(name=name, patch_px=8, args=SMALL, variant=VariantConfig(**variant))


@pytest.mark.parametrize("plain", ["vit_tiny_patch16_224", "deit_tiny_patch16_224"])
def test_it_is_the_distilled_model(plain: str) -> None:
    model = build_model(config(plain, distillation_token=True), FIT).eval()
    published = build_model(config("deit_tiny_distilled_patch16_224"), FIT).eval()
    shapes = {name: each.shape for name, each in model.state_dict().items()}
    assert shapes == {name: each.shape for name, each in published.state_dict().items()}
    published.load_state_dict(model.state_dict())
    with torch.no_grad():
        assert torch.equal(model(PICTURES), published(PICTURES))
        for each in (model, published):
            each.set_distilled_training(True)
            each.train()
        ours, theirs = model(PICTURES), published(PICTURES)
    assert torch.equal(ours[0], theirs[0])
    assert torch.equal(ours[1], theirs[1])
    assert model.no_weight_decay() == published.no_weight_decay()


def test_what_it_had_stays_as_it_was() -> None:
    torch.manual_seed(0)
    plain = build_model(config("vit_tiny_patch16_224"), FIT)
    torch.manual_seed(0)
    model = build_model(config("vit_tiny_patch16_224", distillation_token=True), FIT)
    kept = model.state_dict()
    for name, tensor in plain.state_dict().items():
        own = kept[name]
        if name == "pos_embed":
            own = torch.cat([own[:, :1], own[:, 2:]], 1)
        assert torch.equal(own, tensor), name
    assert 0.01 < kept["head_dist.weight"].std() < 0.03
    assert not kept["head_dist.bias"].any()


def test_positions_that_leave_out_the_class_token_leave_out_the_other_too() -> None:
    model = build_model(config("deit3_small_patch16_224", distillation_token=True), FIT).eval()
    assert model.pos_embed.shape[1] == 16
    with torch.no_grad():
        assert model(PICTURES).shape == (2, 5)


@pytest.mark.parametrize(
    ("name", "variant", "told"),
    [
        ("xcit_nano_12_p8_224", {}, "an XCiT learns with one"),
        ("resnet18", {}, "is for ViT, DeiT and XCiT"),
        ("vit_tiny_patch16_224", {"pool": Pool.avg}, "needs a class token"),
        ("vit_tiny_patch16_224", {"pos_embed": PosEmbed.sincos}, "learned positions"),
        ("vit_small_patch14_reg4_dinov2", {}, "further tokens"),
        ("deit_tiny_distilled_patch16_224", {}, "not for a model with a distillation token"),
    ],
)
def test_where_it_has_no_place_it_is_refused(
    name: str, variant: dict[str, object], told: str
) -> None:
    own = ModelConfig(name=name, variant=VariantConfig(distillation_token=True, **variant))
    with pytest.raises(UsageError, match=told):
        build_model(own, Fit(num_classes=5, channels=3, image_px=224))
