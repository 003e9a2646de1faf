"""Features against what hooks hear, for every family of models."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from vitx.config.schema import ModelConfig, Pool, PosEmbed, Stem, Token, VariantConfig
from vitx.errors import UsageError
from vitx.evaluate.features import CLASS, FeatureChoice, count_blocks, features, refuse_choice
from vitx.models.build import Fit, build_model

B, K = 3, 5
VIT = {"embed_dim": 24, "num_heads": 2, "depth": 5}
SMALL: dict[str, dict[str, Any]] = {
    "vit": {"name": "vit_tiny_patch16_224", "args": VIT},
    "deit": {"name": "deit_tiny_patch16_224", "args": VIT},
    "deit_dist": {"name": "deit_tiny_distilled_patch16_224", "args": VIT},
    "deit3": {"name": "deit3_small_patch16_224", "args": VIT},
    "hybrid": {"name": "vit_tiny_r_s16_p8_224", "args": VIT},
    "hdvw": {"name": "hdvw_vit_tiny_patch2_32", "args": {"embed_dim": 24, "depth": 5}},
    "xcit": {"name": "xcit_nano_12_p16_224", "args": {"embed_dim": 32, "depth": 4}},
    "cait": {"name": "cait_xxs24_224", "args": {"embed_dim": 24, "num_heads": 2, "depth": 4}},
    "pit": {"name": "pit_ti_224"},
    "mixer": {"name": "mixer_s32_224"},
    "pvt": {"name": "pvt_v2_b0"},
    "twins": {"name": "twins_svt_small"},
    "swin": {"name": "swin_tiny_patch4_window7_224", "args": {"window_size": 2}},
    "resnet": {"name": "resnet10t"},
    "bit": {"name": "resnetv2_50x1_bit"},
    "regnet": {"name": "regnety_002"},
    "efficientnet": {"name": "efficientnet_b0"},
    "convnext": {"name": "convnext_atto"},
    "alternet": {"name": "alternet_18", "args": {"stem": "cifar", "window": 4}},
    "vit_pool": {"name": "vit_tiny_patch16_224", "variant": {"pool": Pool.avg}},
    "vit_2d": {"name": "vit_tiny_patch16_224", "variant": {"pos_embed": PosEmbed.learned_2d}},
    "vit_relative": {"name": "vit_tiny_patch16_224", "variant": {"pos_embed": PosEmbed.relative}},
    "vit_stem": {"name": "vit_tiny_patch16_224", "variant": {"stem": Stem.conv}},
    "xcit_pool": {"name": "xcit_nano_12_p16_224", "variant": {"pool": Pool.avg}},
    "xcit_bare": {"name": "xcit_nano_12_p16_224", "variant": {"lpi": False, "stem": Stem.linear}},
}
QUICK = ("vit", "deit", "deit_dist", "xcit", "resnet")
ONE_TOKEN_A_BLOCK = (
    *("vit", "deit", "deit_dist", "deit3", "hybrid", "hdvw"),
    *("vit_2d", "vit_relative", "vit_stem"),
)
CLASS_AT_THE_END = ("xcit", "cait", "pit", "xcit_bare")
WITHOUT_CLASS = [each for each in SMALL if each not in (*ONE_TOKEN_A_BLOCK, *CLASS_AT_THE_END)]


def of(names: Iterable[str]) -> list[Any]:
    """All of them; those that take long are tried where that is wanted."""
    thorough = pytest.mark.thorough
    return [each if each in QUICK else pytest.param(each, marks=thorough) for each in names]


@cache
def made(name: str) -> tuple[Any, Tensor]:
    """A small model whose blocks, norms and heads all matter, and pictures for it."""
    how, px = dict(SMALL[name]), 32 if name in ("hdvw", "alternet") else 64
    variant = VariantConfig(**how.pop("variant", {}))
    torch.manual_seed(0)
    fit = Fit(num_classes=K, channels=3, image_px=px)
    model = build_model(ModelConfig(**how, image_px=px, variant=variant), fit).eval()
    with torch.no_grad():
        for each in model.parameters():
            each.add_(0.05 * torch.randn_like(each))
    return model, torch.randn(B, 3, px, px, generator=torch.Generator().manual_seed(1))


def heard(model: nn.Module, module: nn.Module, images: Tensor, *, given: bool = False) -> Tensor:
    """What a module gave, or was given, in a pass of the whole model."""
    found: list[Tensor] = []
    handle = module.register_forward_hook(
        lambda _module, inputs, output: found.append(inputs[0] if given else output)
    )
    try:
        with torch.no_grad():
            model(images)
    finally:
        handle.remove()
    return found[0]


def close(found: Tensor, expected: Tensor) -> None:
    assert found.dtype is torch.float32
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", of(SMALL))
@torch.no_grad()
def test_pre_logits_are_what_the_classifier_is_given(name: str) -> None:
    model, images = made(name)
    heads = [model.head, model.head_dist] if name == "deit_dist" else [model.get_classifier()]
    given = [heard(model, head, images, given=True).flatten(1) for head in heads]
    close(features(model, images, FeatureChoice()), torch.stack(given).mean(0))


@pytest.mark.parametrize("block", [None, 0, -2])
@pytest.mark.parametrize("name", of(ONE_TOKEN_A_BLOCK))
@torch.no_grad()
def test_tokens_of_a_block_are_those_that_it_gave(name: str, block: int | None) -> None:
    model, images = made(name)
    number = len(model.blocks) - 1 if block is None else block
    tokens = model.norm(heard(model, model.blocks[number], images))
    first, mean = tokens[:, 0], tokens[:, 2 if name == "deit_dist" else 1 :].mean(1)
    choices = {
        CLASS: first,
        Token.mean_patch: mean,
        Token.class_and_mean: torch.cat([first, mean], 1),
    }
    for token, expected in choices.items():
        close(features(model, images, FeatureChoice(token=token, block=block)), expected)


@pytest.mark.parametrize("block", [None, 3])
@torch.no_grad()
def test_last_four_class_tokens_are_dinos(block: int | None) -> None:
    model, images = made("deit")
    last = len(model.blocks) - 1 if block is None else block
    expected = [
        model.norm(heard(model, model.blocks[each], images))[:, 0]
        for each in range(last - 3, last + 1)
    ]
    found = features(model, images, FeatureChoice(token=Token.last4_class, block=block))
    close(found, torch.cat(expected, 1))


@pytest.mark.parametrize("name", of(CLASS_AT_THE_END))
@torch.no_grad()
def test_a_class_token_behind_the_last_block(name: str) -> None:
    model, images = made(name)
    first = heard(model, model.norm, images)[:, 0]
    close(features(model, images, FeatureChoice(token=CLASS)), first)
    mean = features(model, images, FeatureChoice(token=Token.mean_patch))
    both = features(model, images, FeatureChoice(token=Token.class_and_mean))
    close(both, torch.cat([first, mean], 1))
    if name != "pit":  # whose norm is for the class token alone
        tokens = model.norm(heard(model, model.blocks[-1], images))
        close(mean, tokens.mean(1))
        second = model.norm(heard(model, model.blocks[1], images)).mean(1)
        close(features(model, images, FeatureChoice(token=Token.mean_patch, block=1)), second)


STAGES = {
    "resnet": lambda model: model.layer3,
    "bit": lambda model: model.stages[2],
    "regnet": lambda model: model.s3,
    "convnext": lambda model: model.stages[2],
    "alternet": lambda model: model.stages[2],
    "pvt": lambda model: model.stages[2],
    "mixer": lambda model: model.blocks[-2],
    "swin": lambda model: model.layers[2],
    "vit_pool": lambda model: model.blocks[-2],
    "xcit_pool": lambda model: model.blocks[-2],
}


@pytest.mark.parametrize("name", of(STAGES))
@torch.no_grad()
def test_the_mean_behind_the_last_but_one_stage(name: str) -> None:
    model, images = made(name)
    given = heard(model, STAGES[name](model), images)
    if given.ndim == 3:
        expected = model.norm(given).mean(1)
    else:
        expected = given.mean((1, 2) if name == "swin" else (2, 3))
    close(features(model, images, FeatureChoice(token=Token.mean_patch, block=-2)), expected)


@pytest.mark.parametrize("name", of(["resnet", "bit", "alternet", "pvt", "mixer", "swin"]))
@torch.no_grad()
def test_the_mean_behind_all_is_what_a_pooling_classifier_gets(name: str) -> None:
    model, images = made(name)
    close(
        features(model, images, FeatureChoice(token=Token.mean_patch)),
        features(model, images, FeatureChoice()),
    )


@pytest.mark.parametrize("name", of(SMALL))
def test_every_block_can_be_named_and_no_other(name: str) -> None:
    model, _ = made(name)
    count = count_blocks(model)
    for wrong in (count, -count - 1):
        with pytest.raises(UsageError, match=f"has {count} blocks; expected -{count} to"):
            features(model, torch.zeros(0), FeatureChoice(token=Token.mean_patch, block=wrong))


@pytest.mark.parametrize("name", of(WITHOUT_CLASS))
def test_a_class_token_that_is_not_there_is_refused(name: str) -> None:
    model, _ = made(name)
    for token in (CLASS, Token.class_and_mean, Token.last4_class):
        with pytest.raises(UsageError, match="has no class token"):
            features(model, torch.zeros(0), FeatureChoice(token=token))


def test_what_is_not_there_is_refused() -> None:
    xcit, vit = made("xcit")[0], made("vit")[0]
    for wrong, told in (
        (FeatureChoice(token=CLASS, block=1), "only there behind its last block"),
        (FeatureChoice(token=Token.last4_class), "only there behind its last block"),
        (FeatureChoice(block=2), "token=pre_logits is behind the last block"),
    ):
        with pytest.raises(UsageError, match=told):
            features(xcit, torch.zeros(0), wrong)
        with pytest.raises(UsageError, match=told):
            refuse_choice(xcit, wrong)
    refuse_choice(xcit, FeatureChoice(token=CLASS))
    with pytest.raises(UsageError, match="no 4 blocks up to block=2"):
        features(vit, torch.zeros(0), FeatureChoice(token=Token.last4_class, block=2))
    with pytest.raises(UsageError, match="Linear does not tell"):
        features(nn.Linear(2, 2).eval(), torch.zeros(0), FeatureChoice())
    with pytest.raises(ValueError, match="evaluation mode"):
        features(nn.Linear(2, 2), torch.zeros(0), FeatureChoice())


@pytest.mark.parametrize("name", ["vit", "xcit", "resnet"])
@torch.no_grad()
def test_the_batch_does_not_matter(name: str) -> None:
    model, images = made(name)
    choice = FeatureChoice(token=Token.mean_patch)
    apart = torch.cat([features(model, each[None], choice) for each in images])
    close(features(model, images, choice), apart)
