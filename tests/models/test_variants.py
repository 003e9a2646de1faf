"""Variants of an architecture: each differs from timm's model in what its name says, only there."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from vitx.config.schema import (
    DropPathRule,
    ModelConfig,
    OptimizerConfig,
    Pool,
    PosEmbed,
    Stem,
    VariantConfig,
)
from vitx.errors import UsageError
from vitx.models.build import Fit, build_model
from vitx.optim.groups import build_groups
from vitx.runtime.seeds import set_random_state

XCIT = {"name": "xcit_nano_12_p8_224", "args": {"depth": 2, "embed_dim": 32}}
VIT = {"name": "vit_tiny_patch16_224", "patch_px": 8, "args": {"depth": 2, "embed_dim": 48}}
PICTURES = torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def built(architecture: dict, **variant) -> nn.Module:
    set_random_state(3)
    config = ModelConfig(**architecture, variant=VariantConfig(**variant))
    return build_model(config, Fit(num_classes=7, channels=3, image_px=32)).eval()


def share_weights(model: nn.Module, original: nn.Module) -> None:
    """Give a variant the values of all parameters that the original has too."""
    held = original.state_dict()
    own = model.state_dict()
    model.load_state_dict(own | {name: held[name] for name in own if name in held})


def names(model: nn.Module) -> set[str]:
    return set(dict(model.named_parameters()))


def test_as_published_it_is_timms_class() -> None:
    assert type(built(XCIT).blocks[0]).__module__ == "timm.models.xcit"
    assert type(built(VIT).patch_embed).__module__.startswith("timm.")


@pytest.mark.parametrize(
    ("variant", "gone"),
    [
        ({"xca": False}, (".attn.", ".norm1.", ".gamma1")),
        ({"lpi": False}, (".local_mp.", ".norm3.", ".gamma3")),
        ({"learned_temperature": False}, (".temperature",)),
        ({"qk_norm": False}, ()),
    ],
)
def test_xcit_block_without_a_part(variant: dict, gone: tuple[str, ...]) -> None:
    """Written down once more from timm's modules, the block without the part gives the same."""
    original, model = built(XCIT), built(XCIT, **variant)
    share_weights(model, original)
    expected_gone = {
        name for name in names(original) if name.startswith("blocks.") and has_any(name, gone)
    }
    assert names(original) - names(model) == expected_gone
    assert names(model) <= names(original)
    tokens = torch.randn(2, 16, 32)
    block = original.blocks[0]

    def attention(x: torch.Tensor) -> torch.Tensor:
        q, k, v = block.attn.qkv(x).reshape(2, 16, 3, 4, 8).permute(2, 0, 3, 4, 1)
        if variant.get("qk_norm", True):
            q, k = (each / each.norm(dim=-1, keepdim=True) for each in (q, k))
        logits = torch.einsum("bhin,bhjn->bhij", q, k)
        temperature = 1 if variant.get("learned_temperature") is False else block.attn.temperature
        mixed = torch.einsum("bhij,bhjn->bhin", (logits * temperature).softmax(-1), v)
        return block.attn.proj(mixed.permute(0, 3, 1, 2).reshape(2, 16, 32))

    with torch.no_grad():
        for each in (block, model.blocks[0]):  # a temperature of 1 would prove nothing
            for name, parameter in each.named_parameters():
                if name == "attn.temperature":
                    parameter.fill_(0.7)
        x = tokens
        if variant.get("xca", True):
            x = x + block.gamma1 * attention(block.norm1(x))
        if variant.get("lpi", True):
            x = x + block.gamma3 * block.local_mp(block.norm3(x), 4, 4)
        x = x + block.gamma2 * block.mlp(block.norm2(x))
        torch.testing.assert_close(model.blocks[0](tokens, 4, 4), x)


def has_any(name: str, parts: tuple[str, ...]) -> bool:
    return any(part in f"{name}." for part in parts)


def test_xcit_with_a_linear_stem() -> None:
    original, model = built(XCIT), built(XCIT, stem=Stem.linear)
    patches = F.unfold(PICTURES, 8, stride=8).transpose(1, 2)
    projection = model.patch_embed.proj
    expected = patches @ projection.weight.flatten(1).T + projection.bias
    tokens, grid = model.patch_embed(PICTURES)
    torch.testing.assert_close(tokens, expected)
    assert grid == (4, 4)
    assert {name for name in names(model) ^ names(original)} == {
        *("patch_embed.proj.weight", "patch_embed.proj.bias"),
        *(name for name in names(original) if name.startswith("patch_embed.")),
    }


def test_xcit_with_average_pooling_has_no_class_attention() -> None:
    model = built(XCIT, pool=Pool.avg)
    assert not [name for name in names(model) if name.startswith(("cls_attn", "cls_token"))]
    with torch.no_grad():
        features = model.forward_features(PICTURES)
        assert features.shape == (3, 16, 32)
        torch.testing.assert_close(model(PICTURES), model.head(features.mean(1)))


def test_without_positions_a_vit_does_not_see_the_order_of_patches() -> None:
    turned = PICTURES.roll((8, 16), (2, 3))  # whole patches change places
    with torch.no_grad():
        for variant, sees in [
            ({"pos_embed": PosEmbed.none}, False),
            ({"pos_embed": PosEmbed.learned}, True),
            ({"pos_embed": PosEmbed.learned_2d}, True),
            ({"pos_embed": PosEmbed.sincos}, True),
            ({"pos_embed": PosEmbed.relative}, True),
            ({"pos_embed": PosEmbed.none, "pool": Pool.avg}, False),
        ]:
            model = built(VIT, **variant)
            for parameter in model.parameters():  # so that small embeddings show
                parameter.mul_(5)
            same = torch.allclose(model(PICTURES), model(turned), atol=1e-4)
            assert same is not sees, variant


def test_learned_2d_is_a_column_beside_a_row() -> None:
    table = built(VIT, pos_embed=PosEmbed.learned_2d).patch_embed.position
    positions = table().detach()
    assert positions.shape == (16, 48)
    for row in range(4):
        for column in range(4):
            both = torch.cat([table.columns[column], table.rows[row]])
            assert torch.equal(positions[4 * row + column], both)


def test_sincos_is_the_closed_form() -> None:
    model = built(VIT, pos_embed=PosEmbed.sincos)
    positions = model.patch_embed.position()
    frequencies = 10000.0 ** -(torch.arange(12) / 12)
    row, column = 2, 3
    rows, columns = row * frequencies, column * frequencies
    expected = torch.cat([rows.sin(), columns.sin(), rows.cos(), columns.cos()])
    torch.testing.assert_close(positions[4 * row + column], expected)
    assert not [name for name in names(model) if "pos" in name]


def test_relative_bias_depends_on_the_offset_only() -> None:
    attention = built(VIT, pos_embed=PosEmbed.relative).blocks[1].attn
    bias = attention.rel_pos.get_bias()[0]
    assert bias.shape == (3, 17, 17)
    places = bias[:, 1:, 1:].unflatten(1, (4, 4)).unflatten(3, (4, 4))
    assert torch.equal(places[:, 0, 1, 1, 2], places[:, 2, 2, 3, 3])
    assert not torch.equal(places[:, 0, 1, 1, 2], places[:, 1, 2, 0, 1])


def test_relative_attention_without_bias_is_plain_attention() -> None:
    original = built(VIT, pos_embed=PosEmbed.none)
    model = built(VIT, pos_embed=PosEmbed.relative)
    share_weights(model, original)
    with torch.no_grad():
        for block in model.blocks:
            block.attn.rel_pos.relative_position_bias_table.zero_()
        torch.testing.assert_close(model(PICTURES), original(PICTURES))


def test_a_convolutional_stem_is_xcits(timm) -> None:
    from timm.models.xcit import ConvPatchEmbed

    model = built(VIT, stem=Stem.conv)
    theirs = ConvPatchEmbed(32, 8, 3, 48).eval()
    ours = model.patch_embed.proj
    for mine, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert mine.shape == other.shape
        other.data.copy_(mine)
    with torch.no_grad():
        torch.testing.assert_close(ours(PICTURES).flatten(2).mT, theirs(PICTURES)[0])
        assert model(PICTURES).shape == (3, 7)


def test_average_pooling_of_a_vit_is_the_mean_behind_the_norm() -> None:
    model = built(VIT, pool=Pool.avg)
    assert "cls_token" not in names(model)
    assert "norm.weight" in names(model)
    with torch.no_grad():
        features = model.forward_features(PICTURES)
        torch.testing.assert_close(model(PICTURES), model.head(features.mean(1)))


@pytest.mark.parametrize("kind", [PosEmbed.learned_2d, PosEmbed.relative])
def test_positions_do_not_decay(kind: PosEmbed) -> None:
    model = built(VIT, pos_embed=kind)
    groups = build_groups(model, OptimizerConfig())
    exempt = {id(each) for group in groups if not group["weight_decay"] for each in group["params"]}
    mine = [p for name, p in model.named_parameters() if "position" in name or "rel_pos" in name]
    assert mine
    assert all(id(each) in exempt for each in mine)


@pytest.mark.parametrize(
    ("architecture", "variant", "message"),
    [
        ({"name": "resnet18"}, {"stem": Stem.conv}, "variant.stem is for ViT, DeiT and XCiT"),
        (VIT, {"lpi": False}, "variant.lpi is for XCiT"),
        (XCIT, {"pos_embed": PosEmbed.sincos}, "Fourier embedding or none"),
        (VIT | {"patch_px": 1}, {"stem": Stem.conv}, "takes patches of 2, 4, 8, 16 or 32, not 1"),
        (
            {"name": "vit_tiny_r_s16_p8_224", "args": {"depth": 1}},
            {"stem": Stem.conv},
            "variant.stem is not for a hybrid",
        ),
        (
            {"name": "deit_tiny_distilled_patch16_224", "args": {"depth": 1}},
            {"pool": Pool.avg},
            "variant.pool is not for a model with a distillation token",
        ),
    ],
)
def test_what_is_not_to_be_had_is_refused(architecture: dict, variant: dict, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        built(architecture, **variant)


def test_a_rule_of_drop_path_is_for_blocks() -> None:
    config = ModelConfig(name="resnet18", drop_path=0.1, drop_path_rule=DropPathRule.constant)
    with pytest.raises(UsageError, match="model.drop_path_rule is for models with blocks"):
        build_model(config, Fit(num_classes=7, channels=3, image_px=32))
