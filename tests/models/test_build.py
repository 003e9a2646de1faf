"""A built model is timm's own, fitted to the dataset, and what can't be built says what can."""

import dataclasses
import re

import pytest
import torch
from torch import nn

from vitx.config.schema import ModelConfig
from vitx.errors import UsageError
from vitx.models.build import Fit, build_model, normalisation, patch_unit
from vitx.runtime.seeds import set_random_state

# Short runs of every kind: patches, a convolutional patch stem, a hybrid, a plain CNN.
KINDS = {
    "vit": ModelConfig(
        name="vit_tiny_patch16_224", patch_px=8, drop_path=0.3, args={"depth": 2, "embed_dim": 48}
    ),
    "xcit": ModelConfig(
        name="xcit_nano_12_p8_224", drop_path=0.3, dropout=0.2, args={"depth": 2, "embed_dim": 32}
    ),
    "hybrid": ModelConfig(
        name="vit_tiny_r_s16_p8_224", drop_path=0.3, dropout=0.2, args={"depth": 2}
    ),
    "cnn": ModelConfig(
        name="resnet18",
        drop_path=0.3,
        dropout=0.2,
        args={"layers": [1, 1, 1, 1], "channels": [8, 16, 32, 64]},
    ),
}


def built(config: ModelConfig, *, classes: int = 7, channels: int = 3, px: int = 32):
    set_random_state(5)
    return build_model(config, Fit(num_classes=classes, channels=channels, image_px=px))


def on_meta(config: ModelConfig, px: int):
    with torch.device("meta"):
        return built(config, px=px)


@pytest.mark.parametrize("kind", KINDS)
def test_same_weights_and_logits_as_timm(kind: str, timm) -> None:
    config = KINDS[kind]
    arguments = dict(config.args)
    arguments |= {"patch_size": 8} if kind == "vit" else {}
    arguments |= {"drop_rate": config.dropout} if config.dropout else {}
    arguments |= {"img_size": 32} if kind != "cnn" else {}
    set_random_state(5)
    theirs = timm.create_model(
        config.name, num_classes=7, in_chans=1, drop_path_rate=0.3, **arguments
    )
    ours = built(config, channels=1)
    assert ours.training
    assert ours.state_dict().keys() == theirs.state_dict().keys()
    for name, tensor in theirs.state_dict().items():
        assert torch.equal(ours.state_dict()[name], tensor), name
    images = torch.randn(4, 1, 32, 32)
    for model in (ours, theirs):
        model.train()
    set_random_state(6)
    training = ours(images)
    set_random_state(6)
    assert torch.equal(training, theirs(images))
    assert torch.equal(ours.eval()(images), theirs.eval()(images))
    assert training.shape == (4, 7)
    assert not torch.equal(training, ours(images)), "neither dropout nor drop path is on"


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("classes", "channels", "px"), [(1, 1, 32), (1000, 3, 64)])
def test_fits_classes_channels_and_size(kind: str, classes: int, channels: int, px: int) -> None:
    model = built(KINDS[kind], classes=classes, channels=channels, px=px).eval()
    assert model(torch.zeros(2, channels, px, px)).shape == (2, classes)
    first = next(each for each in model.modules() if isinstance(each, torch.nn.Conv2d))
    assert first.in_channels == channels
    if kind == "vit":
        assert model.pos_embed.shape[1] == (px // 8) ** 2 + 1


def test_the_state_of_the_generators_decides() -> None:
    config = KINDS["vit"]
    again, other = built(config), None
    set_random_state(8)
    other = build_model(config, Fit(num_classes=7, channels=3, image_px=32))
    assert torch.equal(built(config).head.weight, again.head.weight)
    assert not torch.equal(other.head.weight, again.head.weight)


def test_trying_the_size_leaves_no_trace() -> None:
    model = built(KINDS["cnn"])
    assert all(each.grad is None and each.requires_grad for each in model.parameters())
    assert model.bn1.num_batches_tracked == 0
    assert not model.bn1.running_mean.any()


def test_drop_path_is_linear_in_vits_and_constant_in_xcit() -> None:
    """As DeiT's main.py and xcit.py have it; XCiT's class-attention blocks have none."""
    vit = on_meta(ModelConfig(name="deit_tiny_patch16_224", drop_path=0.1), px=32)
    rates = [getattr(block.drop_path1, "drop_prob", 0.0) for block in vit.blocks]
    assert rates == pytest.approx([0.1 * depth / 11 for depth in range(12)])
    xcit = on_meta(ModelConfig(name="xcit_nano_12_p16_224", drop_path=0.1), px=32)
    rates = [
        each.drop_prob
        for block in xcit.blocks
        for each in (block.drop_path1, block.drop_path2, block.drop_path3)
    ]
    assert rates == [0.1] * 36
    assert not any(
        type(each).__name__ == "DropPath"
        for block in xcit.cls_attn_blocks
        for each in block.modules()
    )


@pytest.mark.parametrize(
    ("name", "patch_px", "px", "fitting"),
    [
        ("vit_tiny_patch16_224", None, 225, [224, 240]),
        ("vit_tiny_patch16_224", None, 8, [16]),
        ("vit_tiny_patch16_224", 5, 32, [30, 35]),
        ("xcit_nano_12_p16_224", None, 40, [32, 48]),
        ("xcit_nano_12_p8_224", None, 36, [32, 40]),
        ("vit_tiny_r_s16_p8_224", None, 48, [32, 64]),
        ("swin_tiny_patch4_window7_224", None, 33, [32, 36]),
        ("convnext_tiny", None, 16, [32]),
        ("vgg11", None, 16, [32]),
    ],
)
def test_another_size_is_told_which_fit(
    name: str, patch_px: int | None, px: int, fitting: list[int]
) -> None:
    shallow = {"depth": 1} if name.startswith(("vit", "xcit")) else {}
    config = ModelConfig(name=name, patch_px=patch_px, args=shallow)
    with pytest.raises(UsageError) as caught:
        on_meta(config, px)
    line = str(caught.value)
    assert line.startswith(f"model.name={name} does not take pictures of {px} px (")
    assert "\n" not in line
    assert [int(size) for size in re.findall(r"dataset\.image_px=(\d+)", line)] == fitting
    for size in fitting:
        on_meta(config, size)


@pytest.mark.parametrize(
    ("name", "px"), [("pvt_v2_b0", 64), ("vit_base_r50_s16_224", 64), ("vit_base_r50_s16_224", 50)]
)
def test_a_size_that_timm_pads_or_overlaps_is_taken(name: str, px: int) -> None:
    on_meta(ModelConfig(name=name), px)


def test_a_rate_of_nothing_is_nothing_also_where_timm_has_another_default() -> None:
    def rates(model: nn.Module) -> set[float]:
        return {each.drop_prob for each in model.modules() if type(each).__name__ == "DropPath"}

    swin = ModelConfig(name="swin_tiny_patch4_window7_224")
    assert rates(on_meta(swin, 32)) == set()
    assert max(rates(on_meta(dataclasses.replace(swin, drop_path=0.2), 32))) == pytest.approx(0.2)
    on_meta(ModelConfig(name="vgg11"), 32)  # knows no drop path


def test_patch_unit_counts_the_stem() -> None:
    units = {"vit": 8, "xcit": 8, "hybrid": 32, "cnn": None}
    assert {kind: patch_unit(on_meta(config, 64)) for kind, config in KINDS.items()} == units


@pytest.mark.parametrize(
    ("config", "words"),
    [
        (ModelConfig(name="xcit_nano_12_p61_224"), ["no such model", "'xcit_nano_12_p16_224'"]),
        (ModelConfig(name="zzz"), ["no such model", "vitx models lists those"]),
        (ModelConfig(name="hf-hub:timm/resnet18"), ["no such model"]),
        (ModelConfig(name="vit_tiny_patch16_224", args={"dpeth": 2}), ["model.args", "'dpeth'"]),
        (ModelConfig(name="resnet18", patch_px=4), ["model.patch_px", "'patch_size'"]),
        (ModelConfig(name="xcit_nano_12_p16_224", patch_px=4), ["patch size has to be in [8, 16]"]),
        (ModelConfig(name="vgg11", drop_path=0.1), ["model.drop_path", "'drop_path_rate'"]),
        (
            ModelConfig(name="vit_tiny_patch16_224", args={"embed_dim": 100}),
            ["can't be built as configured", "divisible by num_heads"],
        ),
    ],
)
def test_refused_on_one_line(config: ModelConfig, words: list[str]) -> None:
    with pytest.raises(UsageError) as caught:
        built(config)
    line = str(caught.value)
    assert line.startswith(f"model.name={config.name}")
    assert "\n" not in line
    for word in words:
        assert word in line


def test_an_unknown_layer_is_refused() -> None:
    with pytest.raises(UsageError, match="model.args"):
        built(ModelConfig(name="resnet18", args={"act_layer": "foo"}))


def test_a_tag_is_none_of_the_name() -> None:
    """It names weights, and would have been passed over."""
    with pytest.raises(UsageError, match="set model.name=resnet18 model.weights=a2_in1k"):
        built(ModelConfig(name="resnet18.a2_in1k"))


@pytest.mark.parametrize(
    "args",
    [
        {"checkpoint_path": "/nowhere/else.pth"},
        {"pretrained": True},
        {"features_only": True},
        {"num_classes": 3},
        {"img_size": 64},
    ],
    ids=lambda args: next(iter(args)),
)
def test_arguments_that_vitx_decides_are_refused(args: dict) -> None:
    with pytest.raises(UsageError, match="model.args"):
        built(ModelConfig(name="vit_tiny_patch16_224", args={"depth": 1, **args}))


def test_normalisation_is_the_published_one() -> None:
    imagenet = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    half = ((0.5,) * 3, (0.5,) * 3)
    assert normalisation(ModelConfig(name="deit_small_patch16_224"), 3) == imagenet
    assert normalisation(ModelConfig(name="xcit_small_12_p16_224"), 3) == imagenet
    assert normalisation(ModelConfig(name="vit_small_patch16_224"), 3) == half  # AugReg
    assert normalisation(ModelConfig(name="deit_small_patch16_224"), 1) == ((0.5,), (0.5,))
