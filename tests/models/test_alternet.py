"""AlterNet against timm's pre-activation ResNet, and its attention against a plain loop."""

import math

import pytest
import torch
from torch import nn

from vitx.config.schema import ModelConfig
from vitx.errors import UsageError
from vitx.models.build import Fit, build_model
from vitx.runtime.seeds import set_random_state


def built(name: str, px: int = 32, **args) -> nn.Module:
    set_random_state(4)
    return build_model(
        ModelConfig(name=name, args=args), Fit(num_classes=7, channels=3, image_px=px)
    ).eval()


@pytest.mark.parametrize("depth", [18, 50])
def test_without_attention_it_is_timms_preactivation_resnet(depth: int, timm) -> None:
    ours = built(f"preresnet_{depth}", px=64)
    theirs = timm.create_model(f"resnetv2_{depth}", num_classes=7).eval()
    with torch.no_grad():
        for name, tensor in ours.state_dict().items():  # running statistics that do something
            if "running" in name:
                tensor.uniform_(0.5, 2)
        copy_in_order_of_use(ours, theirs)
        pictures = torch.randn(2, 3, 64, 64)
        torch.testing.assert_close(ours(pictures), theirs(pictures), rtol=1e-4, atol=1e-5)


def copy_in_order_of_use(source: nn.Module, target: nn.Module) -> None:
    kinds = (nn.Conv2d, nn.BatchNorm2d, nn.Linear)

    def leaves(model: nn.Module) -> list[nn.Module]:
        used = []
        hooks = [
            each.register_forward_hook(lambda module, *_: used.append(module))
            for each in model.modules()
            if isinstance(each, kinds) or type(each).__name__ == "BatchNormAct2d"
        ]
        model(torch.zeros(1, 3, 64, 64))
        for hook in hooks:
            hook.remove()
        return used

    mine, other = leaves(source), leaves(target)
    assert len(mine) == len(other)
    for one, two in zip(mine, other, strict=True):
        for name, tensor in one.state_dict().items():
            held = two.state_dict()[name]
            held.copy_(tensor.reshape(held.shape))  # timm's classifier is a 1x1 convolution


def test_window_attention_is_a_loop_over_windows_and_heads() -> None:
    from vitx.models.architectures.alternet_blocks import HEAD_DIM, WindowAttention

    set_random_state(0)
    attention = WindowAttention(6, 5, heads=2, window=3)
    maps = torch.randn(2, 6, 6, 9)
    expected = torch.zeros(2, 5, 6, 9)
    qkv = attention.qkv(maps)
    for picture in range(2):
        for top in range(0, 6, 3):
            for left in range(0, 9, 3):
                places = [(top + i, left + j) for i in range(3) for j in range(3)]
                mixed = []
                for head in range(2):
                    q, k, v = (
                        [qkv[picture, s + head * HEAD_DIM :][:HEAD_DIM, y, x] for y, x in places]
                        for s in (0, 2 * HEAD_DIM, 4 * HEAD_DIM)
                    )
                    weights = torch.stack(
                        [
                            torch.stack(
                                [
                                    q[a] @ k[b] / math.sqrt(HEAD_DIM)
                                    + attention.relative_bias[
                                        places[b][0] - places[a][0] + 2,
                                        places[b][1] - places[a][1] + 2,
                                    ]
                                    for b in range(9)
                                ]
                            )
                            for a in range(9)
                        ]
                    ).softmax(1)
                    mixed.append(weights @ torch.stack(v))
                joined = torch.cat(mixed, dim=1)  # [places, heads x HEAD_DIM]
                projected = joined @ attention.proj.weight.flatten(1).T + attention.proj.bias
                for (y, x), value in zip(places, projected, strict=True):
                    expected[picture, :, y, x] = value
    torch.testing.assert_close(attention(maps), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("bottleneck", [True, False])
def test_an_attention_block_is_that_of_the_released_code(bottleneck: bool) -> None:
    """BN, GELU, 1x1, BN, attention; the shortcut begins behind BN and GELU where it has weights."""
    from vitx.models.architectures.alternet_blocks import AttentionBlock

    set_random_state(0)
    for channels in (24, 32):  # the second is what the block of width 8 or 32 puts out
        width = 8 if bottleneck else 32
        block = AttentionBlock(
            channels, width, heads=2, window=2, bottleneck=bottleneck, drop_path=0.0
        ).eval()
        for norm in (block.norm1, block.norm2):
            torch.nn.init.uniform_(norm.running_mean)
            torch.nn.init.uniform_(norm.running_var, 0.5, 2)
            torch.nn.init.normal_(norm.weight)
            torch.nn.init.normal_(norm.bias)
        x = torch.randn(2, channels, 4, 4)

        def normalised(norm: nn.BatchNorm2d, values: torch.Tensor) -> torch.Tensor:
            mean, var, weight, bias = (
                each[:, None, None]
                for each in (norm.running_mean, norm.running_var, norm.weight, norm.bias)
            )
            return (values - mean) / (var + 1e-5).sqrt() * weight + bias

        before = normalised(block.norm1, x)
        active = before * (1 + torch.erf(before / math.sqrt(2))) / 2
        inner = torch.einsum("oc,bchw->bohw", block.conv.weight[:, :, 0, 0], active)
        assert inner.shape[1] == (channels // 4 if bottleneck else channels)
        branch = block.attn(normalised(block.norm2, inner))
        skip = x
        if channels == 24:
            skip = torch.einsum("oc,bchw->bohw", block.shortcut.weight[:, :, 0, 0], active)
        else:
            assert block.shortcut is None
        torch.testing.assert_close(block(x), skip + branch)


def kinds(model: nn.Module) -> list[str]:
    return ["".join(type(each).__name__[0] for each in stage) for stage in model.stages]


@pytest.mark.parametrize(
    ("args", "expected"),
    [
        ({}, ["CCC", "CCCA", "CACACA", "CACA"]),
        ({"msa": "released"}, ["CCC", "CCCA", "CACACA", "CACA"]),
        ({"msa": "optimum"}, ["CCC", "CCCA", "CCCCCA", "CACA"]),
        ({"msa": 0}, ["CCC", "CCCC", "CCCCCC", "CCCC"]),
        ({"msa": 2}, ["CCC", "CCCC", "CCCCCC", "CACA"]),
        ({"msa": 3}, ["CCC", "CCCC", "CCCCCA", "CACA"]),
        ({"msa": 4}, ["CCC", "CCCA", "CCCCCA", "CACA"]),
        ({"msa": 5}, ["CCA", "CCCA", "CCCCCA", "CACA"]),
        ({"msa": [1, 0, 0, 1]}, ["CCA", "CCCC", "CCCCCC", "CCCA"]),
        ({"msa": [0, 0, 2, 3], "placement": "end"}, ["CCC", "CCCC", "CCCCAA", "CAAA"]),
        ({"msa": [0, 0, 2, 3], "placement": "start"}, ["CCC", "CCCC", "CAACCC", "CAAA"]),
    ],
)
def test_the_build_up_rule(args: dict, expected: list[str]) -> None:
    assert kinds(built("alternet_50", stem="cifar", window=4, **args)) == expected


def test_drop_path_rises_to_the_last_block() -> None:
    set_random_state(4)
    model = build_model(
        ModelConfig(name="alternet_18", drop_path=0.7, args={"stem": "cifar", "window": 4}),
        Fit(num_classes=7, channels=3, image_px=32),
    )
    rates = [getattr(block.drop_path, "drop_prob", 0.0) for s in model.stages for block in s]
    assert rates == pytest.approx([0.1 * number for number in range(8)])


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ({}, "no multiple of the window, 7; small pictures want model.args.stem=cifar"),
        ({"stem": "cifar", "window": 4, "msa": [0, 0, 0, 3]}, "a stage of 4 blocks takes 0 to 2"),
        ({"stem": "cifar", "window": 4, "msa": [0, 1]}, "expected 4 counts"),
        ({"stem": "cifar", "window": 4, "msa": "best"}, "four counts or released or optimum"),
        (
            {"stem": "cifar", "window": 4, "msa": 6},
            "msa=6: for alternet_50 expected 0 to 5 steps of the",
        ),
        ({"stem": "vgg"}, "expected imagenet or cifar"),
        ({"placement": "middle"}, "expected alternate|end|start"),
        ({"depth": 3}, "unexpected keyword argument 'depth'"),
    ],
)
def test_what_does_not_fit_is_refused(args: dict, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        built("alternet_50", **args)
    assert message in str(caught.value)


def test_a_new_head_keeps_the_rest() -> None:
    model = built("alternet_18", stem="cifar", window=4)
    before = model.forward_features(torch.ones(1, 3, 32, 32))
    model.reset_classifier(3)
    assert model(torch.ones(1, 3, 32, 32)).shape == (1, 3)
    assert torch.equal(model.forward_features(torch.ones(1, 3, 32, 32)), before)


def test_the_cifar_vit_of_the_paper() -> None:
    """Of its released code: no bias in qkv, PyTorch's initialisation, N(0, 0.02) embeddings."""
    set_random_state(4)
    model = build_model(
        ModelConfig(name="hdvw_vit_tiny_patch2_32"), Fit(num_classes=100, channels=3, image_px=32)
    )
    blocks = 12 * (192 * 576 + 192 * 192 + 192 + 2 * 4 * 192**2 + 5 * 192 + 4 * 192)
    embedding = 12 * 192 + 192 + 192 + 257 * 192
    head = 2 * 192 + 192 * 100 + 100
    assert sum(each.numel() for each in model.parameters()) == blocks + embedding + head
    model.requires_grad_(False)
    linear = model.blocks[3].mlp.fc1
    assert linear.weight.abs().max() == pytest.approx(192**-0.5, rel=1e-3)
    assert linear.bias.abs().max() > 0
    assert model.pos_embed.std() == pytest.approx(0.02, rel=0.02)
    assert model.cls_token.std() == pytest.approx(0.02, rel=0.3)
    assert model.norm.eps == 1e-5
