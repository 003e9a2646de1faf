"""Attention maps against weights computed by hand from queries and keys of an ordinary pass."""

from __future__ import annotations

import copy
import math
from functools import cache
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vitx.config.schema import ModelConfig, Pool, PosEmbed, VariantConfig
from vitx.errors import UsageError
from vitx.evaluate.attention import attention_map, find_way, recorded, rollout
from vitx.models.build import Fit, build_model

B, PX = 3, 48
VIT = {"embed_dim": 24, "num_heads": 2, "depth": 3}
XCIT = {"name": "xcit_nano_12_p16_224", "args": {"embed_dim": 32, "depth": 2}}
SMALL: dict[str, dict[str, Any]] = {
    "vit": {"name": "vit_tiny_patch16_224", "args": VIT},
    "deit_dist": {"name": "deit_tiny_distilled_patch16_224", "args": VIT},
    "vit_pool": {"name": "vit_tiny_patch16_224", "args": VIT, "variant": {"pool": Pool.avg}},
    "relative": {
        "name": "vit_tiny_patch16_224",
        "args": VIT,
        "variant": {"pos_embed": PosEmbed.relative},
    },
    "xcit": XCIT,
    "xcit_pool": {**XCIT, "variant": {"pool": Pool.avg}},
    "swin": {
        "name": "swin_tiny_patch4_window7_224",
        "args": {"window_size": 3, "embed_dim": 16, "depths": [1] * 4, "num_heads": [1] * 4},
    },
    "resnet": {"name": "resnet10t"},
}


@cache
def made(name: str) -> tuple[Any, Tensor]:
    """A small model whose layers all matter, attending sharply, and pictures for it."""
    how, px = dict(SMALL[name]), 96 if name == "swin" else PX
    variant = VariantConfig(**how.pop("variant", {}))
    torch.manual_seed(0)
    fit = Fit(num_classes=5, channels=3, image_px=px)
    model = build_model(ModelConfig(**how, image_px=px, variant=variant), fit).eval()
    with torch.no_grad():
        for each in model.parameters():
            each.add_(0.2 * torch.randn_like(each))
    return model, torch.randn(B, 3, px, px, generator=torch.Generator().manual_seed(1))


def close(found: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(found.double(), expected.double(), rtol=1e-4, atol=1e-6)


def given_to(layers: list[nn.Module], model: nn.Module, images: Tensor) -> list[Tensor]:
    """What layers were given in an ordinary pass of the model."""
    found: list[Tensor] = []
    handles = [
        layer.register_forward_pre_hook(lambda _, inputs: found.append(inputs[0]))
        for layer in layers
    ]
    with torch.no_grad():
        model(images)
    for handle in handles:
        handle.remove()
    return found


def by_hand(queries: Tensor, keys: Tensor, heads: int) -> Tensor:
    """Softmax weights, mean over heads, one number after the other: [queries, keys]."""
    width = queries.shape[-1] // heads
    total = torch.zeros(len(queries), len(keys), dtype=torch.float64)
    for head in range(heads):
        own = slice(head * width, (head + 1) * width)
        for row, query in enumerate(queries[:, own].double()):
            scores = torch.stack([query @ key for key in keys[:, own].double()])
            powers = (scores / math.sqrt(width)).exp()
            total[row] += powers / powers.sum() / heads
    return total


def matrices(name: str) -> list[list[Tensor]]:
    """Of each picture the weights of each layer, [N, N]."""
    model, images = made(name)
    attentions = [block.attn for block in model.blocks]
    assert all(each.fused_attn for each in attentions)
    of_layers = []
    for attention, tokens in zip(attentions, given_to(attentions, model, images), strict=True):
        queries, keys, _ = attention.qkv(tokens).detach().chunk(3, dim=-1)
        heads = attention.num_heads
        of_layers.append([by_hand(queries[row], keys[row], heads) for row in range(B)])
    return [list(layers) for layers in zip(*of_layers, strict=True)]


def whole_rollout(layers: list[Tensor]) -> Tensor:
    """Abnar and Zuidema's recursion, on whole matrices."""
    same = torch.eye(len(layers[0]), dtype=torch.float64)
    result = same
    for weights in layers:
        result = (0.5 * weights + 0.5 * same) @ result
    return result


@pytest.mark.parametrize(("name", "prefix"), [("vit", 1), ("deit_dist", 2), ("vit_pool", 0)])
def test_a_rollout_is_that_of_queries_and_keys(name: str, prefix: int) -> None:
    model, images = made(name)
    found = attention_map(model, images)
    assert found.patches.shape == (B, 3, 3)
    assert found.prefix.shape == (B, prefix)
    for row, layers in enumerate(matrices(name)):
        whole = whole_rollout(layers)
        expected = whole[0] if prefix else whole.mean(0)
        close(found.patches[row].flatten(), expected[prefix:])
        close(found.prefix[row], expected[:prefix])
        assert expected[prefix:].std() > 0.001  # no uniform map that anything would agree with


def test_class_attention_is_that_of_queries_and_keys() -> None:
    model, images = made("xcit")
    layers = [block.attn for block in model.cls_attn_blocks]
    assert len(layers) == 2
    expected = torch.zeros(B, 10, dtype=torch.float64)
    for layer, tokens in zip(layers, given_to(layers, model, images), strict=True):
        assert layer.fused_attn
        for row in range(B):
            query = layer.q(tokens[row, :1]).detach()
            keys = layer.k(tokens[row]).detach()
            expected[row] += by_hand(query, keys, layer.num_heads)[0] / 2
    found = attention_map(model, images)
    close(found.prefix, expected[:, :1])
    close(found.patches.flatten(1), expected[:, 1:])
    assert expected.std() > 0.001


@pytest.mark.parametrize("name", ["vit", "deit_dist", "vit_pool", "relative", "xcit"])
def test_shares_sum_to_one(name: str) -> None:
    found = attention_map(*made(name))
    sums = found.patches.sum((1, 2)) + found.prefix.sum(1)
    torch.testing.assert_close(sums, torch.ones(B, dtype=torch.float64), rtol=0, atol=1e-6)
    assert found.patches.min() > 0


def test_rows_that_are_recorded_sum_to_one_and_are_of_each_head() -> None:
    model, images = made("vit")
    with recorded(find_way(model).layers) as weights, torch.no_grad():
        model(images)
    assert [tuple(each.shape) for each in weights] == [(B, 2, 10, 10)] * 3
    for layer, each in enumerate(weights):
        torch.testing.assert_close(each.sum(-1), torch.ones(B, 2, 10))
        close(each.mean(1)[0], matrices("vit")[0][layer])


def test_a_rollout_by_rows_is_one_by_matrices() -> None:
    draw = torch.Generator().manual_seed(3)
    layers = [torch.rand(B, 6, 6, generator=draw).softmax(-1) for _ in range(4)]
    start = torch.rand(6, generator=draw).softmax(0)
    found = rollout(layers, start)
    for row in range(B):
        whole = whole_rollout([each[row].double() for each in layers])
        torch.testing.assert_close(found[row], start.double() @ whole)


def test_a_picture_that_is_wider_than_high(timm: ModuleType) -> None:
    model = timm.create_model("vit_tiny_patch16_224", img_size=(32, 64), **VIT).eval()
    assert attention_map(model, torch.randn(1, 3, 32, 64)).patches.shape == (1, 2, 4)


@pytest.mark.parametrize("name", ["vit", "xcit"])
def test_a_model_is_left_as_it_was(name: str) -> None:
    model, images = copy.deepcopy(made(name)[0]), made(name)[1]
    model.train()
    model.blocks[0].eval()  # a part that somebody has frozen
    model(images).sum().backward()
    before = state_of(model)
    torch.manual_seed(5)
    drawn = torch.get_rng_state()
    attention_map(model, images)
    assert torch.equal(torch.get_rng_state(), drawn)
    after = state_of(model)
    assert before.keys() == after.keys()
    for key, value in before.items():
        same = torch.equal(value, after[key]) if isinstance(value, Tensor) else value == after[key]
        assert same, key


def state_of(model: nn.Module) -> dict[str, Any]:
    """Everything that another pass could depend on."""
    found: dict[str, Any] = {k: v.clone() for k, v in model.state_dict().items()}
    for name, each in model.named_parameters():
        found[f"{name}.grad"] = None if each.grad is None else each.grad.clone()
    for name, module in model.named_modules():
        found[f"{name}.is"] = (
            module.training,
            getattr(module, "fused_attn", None),
            len(module._forward_hooks),
            len(module._forward_pre_hooks),
        )
    return found


def test_a_model_is_left_as_it_was_if_it_fails() -> None:
    model, images = copy.deepcopy(made("vit")[0]), made("vit")[1]
    model.blocks[2].attn.fused_attn = False  # as somebody has set it
    before = state_of(model.train())
    with pytest.raises(RuntimeError):
        attention_map(model, images[:, :2])
    with pytest.raises(KeyError), recorded(find_way(model).layers):
        raise KeyError
    after = state_of(model)
    assert {k: v for k, v in before.items() if k.endswith(".is")} == {
        k: v for k, v in after.items() if k.endswith(".is")
    }


def test_autocast_around_it_changes_nothing() -> None:
    model, images = made("vit")
    expected = attention_map(model, images)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(attention_map(model, images).patches, expected.patches)


def test_weights_are_those_before_dropout() -> None:
    model = copy.deepcopy(made("vit")[0])
    for block in model.blocks:
        block.attn.attn_drop = nn.Dropout(0.5)
    with recorded(find_way(model).layers) as weights, torch.no_grad():
        model.train()(made("vit")[1])
    torch.testing.assert_close(weights[0].sum(-1), torch.ones(B, 2, 10))


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("resnet", "ResNet has no attention map: it has no attention$"),
        ("swin", "SwinTransformer has no attention map: its attention is not among all patches"),
        ("xcit_pool", "Xcit has no attention map: its attention is not among all patches"),
    ],
)
def test_models_without_a_map_are_refused(name: str, reason: str) -> None:
    with pytest.raises(UsageError, match=reason):
        attention_map(*made(name))


def test_tokens_that_are_read_another_way_are_refused() -> None:
    model = copy.copy(made("vit")[0])
    model.global_pool = "max"
    with pytest.raises(UsageError, match="reads its tokens by 'max'"):
        find_way(model)


def test_fused_attention_gives_the_same_logits_within_rounding() -> None:
    model, images = made("vit")
    with torch.no_grad():
        fused = model(images)
        with recorded(find_way(model).layers):
            open_ = model(images)
    torch.testing.assert_close(fused, open_, rtol=1e-4, atol=1e-5)
    assert F.cosine_similarity(fused, open_).min() > 0.9999
