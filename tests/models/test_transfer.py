"""Weights in another model: heads, positions on another grid, and what must not pass."""

import dataclasses
import itertools
from pathlib import Path

import numpy as np
import pytest
import scipy.ndimage
import torch
from safetensors.torch import save_file
from torch import nn
from torch.nn import functional as F

from vitx.config.schema import ModelConfig, Pool, PosResize, Stem, VariantConfig
from vitx.errors import StorageError
from vitx.models.build import Fit, build_model
from vitx.models.transfer import Transfer, transfer

VIT = ModelConfig(
    name="vit_tiny_patch16_224", patch_px=8, args={"depth": 1, "embed_dim": 24, "num_heads": 2}
)
DEIT3 = ModelConfig(name="deit3_small_patch16_224", patch_px=8, args=VIT.args)
DISTILLED = ModelConfig(name="deit_tiny_distilled_patch16_224", patch_px=8, args=VIT.args)
XCIT = ModelConfig(name="xcit_nano_12_p8_224", args={"depth": 1, "embed_dim": 24, "num_heads": 2})


def built(
    config: ModelConfig = VIT, *, classes: int = 5, px: int = 32, channels: int = 3
) -> nn.Module:
    model = build_model(config, Fit(num_classes=classes, channels=channels, image_px=px))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn_like(parameter))
    return model


def saved(tensors: dict[str, torch.Tensor], folder: Path) -> Path:
    save_file({name: each.contiguous().clone() for name, each in tensors.items()}, folder / "w")
    return folder / "w"


def moved(model: nn.Module, source: nn.Module | dict, folder: Path, **how) -> Transfer:
    tensors = source if isinstance(source, dict) else source.state_dict()
    how = {"resize": PosResize.bicubic, "partial": False, "source": "the file"} | how
    return transfer(model, saved(tensors, folder), **how)


def test_the_same_model_is_taken_over_bit_for_bit(tmp_path: Path) -> None:
    source, model = built(), built()
    told = moved(model, source, tmp_path)
    for name, tensor in source.state_dict().items():
        assert torch.equal(model.state_dict()[name], tensor), name
    assert told.loaded == len(source.state_dict())
    assert list(told.notes()) == []


@pytest.mark.parametrize("way", PosResize)
@pytest.mark.parametrize("config", [VIT, DEIT3, DISTILLED], ids=lambda config: config.name)
def test_the_same_grid_is_equal_by_every_way(way: PosResize, config, tmp_path: Path) -> None:
    source, model = built(config, px=32), built(config, px=32)
    told = moved(model, source, tmp_path, resize=way)
    assert torch.equal(model.pos_embed, source.pos_embed)
    assert told.positions == ""


@pytest.mark.parametrize(
    ("config", "prefix"), [(VIT, 1), (DEIT3, 0), (DISTILLED, 2)], ids=["vit", "deit3", "distilled"]
)
@pytest.mark.parametrize("px", [64, 16])
def test_positions_on_another_grid(config: ModelConfig, prefix: int, px: int, tmp_path) -> None:
    """Each way against its own definition: DeiT's code, torch's antialiasing, scipy's zoom."""
    source, side = built(config, px=32), px // 8
    before = source.pos_embed.detach()
    grid = before[:, prefix:].reshape(1, 4, 4, 24).permute(0, 3, 1, 2)
    sizes = {"size": (side, side), "mode": "bicubic", "align_corners": False}
    zoomed = scipy.ndimage.zoom(grid[0].double().numpy(), (1, side / 4, side / 4), order=1)
    expected = {
        PosResize.bicubic: F.interpolate(grid, **sizes),
        PosResize.bicubic_antialias: F.interpolate(grid, **sizes, antialias=True),
        PosResize.bilinear: torch.from_numpy(zoomed.astype(np.float32))[None],
    }
    seen = []
    for way, wanted in expected.items():
        model = built(config, px=px)
        told = moved(model, source, tmp_path, resize=way)
        now = model.pos_embed.detach()
        assert torch.equal(now[:, :prefix], before[:, :prefix])
        flat = wanted.permute(0, 2, 3, 1).reshape(1, side * side, 24)
        torch.testing.assert_close(now[:, prefix:], flat, rtol=1e-5, atol=1e-5)
        assert told.positions == (f"positions: 4 x 4 resampled to {side} x {side}, {way.name}")
        seen.append(now)
    # Even where nothing is to be smoothed: torch antialiases with another cubic.
    for one, other in itertools.combinations(seen, 2):
        assert not torch.allclose(one, other, atol=1e-3)


def test_xcit_has_nothing_to_resample_and_says_so(tmp_path: Path) -> None:
    source, model = built(XCIT, px=32), built(XCIT, px=64)
    told = moved(model, source, tmp_path)
    assert told.loaded == len(source.state_dict())
    assert "nothing to resample" in told.positions


def test_the_published_names_of_xcit(tmp_path: Path) -> None:
    """Its files say pos_embeder, and keep q, k and v of class attention in one tensor."""
    source, model = built(XCIT), built(XCIT)
    published = {}
    for name, tensor in source.state_dict().items():
        head, dot, kind = name.rpartition(".")
        if name.startswith("cls_attn_blocks") and head.endswith((".q", ".k", ".v")):
            block = head.rpartition(".")[0]
            parts = [source.state_dict()[f"{block}.{each}.{kind}"] for each in "qkv"]
            published[f"{block}.qkv.{kind}"] = torch.cat(parts)
        else:
            published[name.replace("pos_embed.", "pos_embeder.")] = tensor
    moved(model, published, tmp_path)
    pictures = torch.randn(2, 3, 32, 32)
    assert torch.equal(model.eval()(pictures), source.eval()(pictures))


def test_the_published_names_of_deit3(tmp_path: Path) -> None:
    source, model = built(DEIT3), built(DEIT3)
    published = {
        name.replace("ls1.gamma", "gamma_1").replace("ls2.gamma", "gamma_2"): tensor
        for name, tensor in source.state_dict().items()
    }
    moved(model, published, tmp_path)
    assert torch.equal(model.blocks[0].ls1.gamma, source.blocks[0].ls1.gamma)


def test_other_classes_get_a_new_head(tmp_path: Path) -> None:
    source, model = built(classes=1000), built(classes=5)
    head = model.head.weight.clone()
    told = moved(model, source, tmp_path)
    assert told.head == "1000 classes there, 5 here"
    assert torch.equal(model.head.weight, head)
    assert torch.equal(model.norm.weight, source.norm.weight)
    assert told.loaded == len(source.state_dict()) - 2


def test_both_heads_of_a_distilled_model_are_new(tmp_path: Path) -> None:
    source, model = built(DISTILLED, classes=1000), built(DISTILLED, classes=5)
    before = model.head_dist.weight.clone()
    moved(model, source, tmp_path)
    assert torch.equal(model.head_dist.weight, before)


def test_a_file_without_a_head(tmp_path: Path) -> None:
    source, model = built(), built()
    tensors = {n: each for n, each in source.state_dict().items() if not n.startswith("head.")}
    assert moved(model, tensors, tmp_path).head == "the file has none"


@pytest.mark.parametrize(("there", "new"), [(["a", "b"], False), (["b", "a"], True), (None, False)])
def test_as_many_classes_but_other_ones(there: list[str] | None, new: bool, tmp_path) -> None:
    source, model = built(classes=2), built(classes=2)
    told = moved(model, source, tmp_path, classes=["a", "b"], classes_there=there)
    assert torch.equal(model.head.weight, source.head.weight) is not new
    assert bool(told.head) is new


def refusal(model: nn.Module, tensors: dict[str, torch.Tensor], folder: Path, **how) -> str:
    before = {name: each.clone() for name, each in model.state_dict().items()}
    with pytest.raises(StorageError) as caught:
        moved(model, tensors, folder, **how)
    assert all(torch.equal(before[name], now) for name, now in model.state_dict().items())
    return str(caught.value)


def test_missing_and_left_over_are_listed_and_refused(tmp_path: Path) -> None:
    tensors = built().state_dict()
    del tensors["norm.weight"]
    tensors["extra.weight"] = torch.ones(3)
    line = refusal(built(), tensors, tmp_path)
    assert line == (
        "the file: 1 tensors missing (norm.weight); 1 tensors left over (extra.weight); "
        "model.partial_weights=true goes on without them"
    )
    model = built()
    before = model.norm.weight.clone()
    told = moved(model, tensors, tmp_path, partial=True)
    assert (told.missing, told.left_over) == (["norm.weight"], ["extra.weight"])
    assert torch.equal(model.norm.weight, before)
    assert torch.equal(model.norm.bias, tensors["norm.bias"])


@pytest.mark.parametrize("partial", [False, True])
def test_other_shapes_are_refused(partial: bool, tmp_path: Path) -> None:
    tensors = built().state_dict()
    tensors["blocks.0.mlp.fc1.weight"] = torch.ones(3, 4)
    line = refusal(built(), tensors, tmp_path, partial=partial)
    assert "blocks.0.mlp.fc1.weight is [3, 4], expected [96, 24]" in line


def test_a_value_that_is_not_finite_is_refused(tmp_path: Path) -> None:
    tensors = built().state_dict()
    tensors["norm.bias"][3] = float("nan")
    assert "norm.bias has values that are not finite" in refusal(built(), tensors, tmp_path)


def test_positions_that_are_no_square_are_refused(tmp_path: Path) -> None:
    tensors = built().state_dict()
    tensors["pos_embed"] = torch.ones(1, 14, 24)
    refusal(built(), tensors, tmp_path)


def test_another_family_is_refused_even_in_part(tmp_path: Path) -> None:
    assert "another model" in refusal(built(), {"x": torch.ones(1)}, tmp_path, partial=True)


def test_no_safetensors(tmp_path: Path) -> None:
    (tmp_path / "w").write_bytes(b"x" * 100)
    with pytest.raises(StorageError, match="can't be read as safetensors"):
        transfer(built(), tmp_path / "w", source="w", resize=PosResize.bicubic, partial=False)


def test_grey_pictures_take_the_sum_of_the_channels(tmp_path: Path) -> None:
    source = built(channels=3)
    model = built(channels=1)
    told = moved(model, source, tmp_path)
    assert "summed for grey pictures" in told.channels
    grey = torch.randn(2, 1, 32, 32)
    with torch.no_grad():
        expected = source.eval()(grey.expand(-1, 3, -1, -1))
        torch.testing.assert_close(model.eval()(grey), expected, rtol=1e-4, atol=1e-4)


def test_patches_of_another_size_are_refused(tmp_path: Path) -> None:
    tensors = built(px=32).state_dict()
    tensors["patch_embed.proj.weight"] = torch.ones(24, 3, 16, 16)
    line = refusal(built(), tensors, tmp_path, partial=True)
    assert "its patches have 16 px, those of this model 8" in line


def test_a_convolutional_stem_does_not_take_a_linear_one(tmp_path: Path) -> None:
    conv = dataclasses.replace(VIT, variant=VariantConfig(stem=Stem.conv))
    assert "it has a linear stem" in refusal(built(conv), built().state_dict(), tmp_path)


def test_without_a_class_token_its_position_goes_too(tmp_path: Path) -> None:
    source = built(px=32)
    model = built(dataclasses.replace(VIT, variant=VariantConfig(pool=Pool.avg)), px=64)
    told = moved(model, source, tmp_path, partial=True)
    assert told.left_over == ["cls_token"]
    grid = source.pos_embed.detach()[:, 1:].reshape(1, 4, 4, 24).permute(0, 3, 1, 2)
    wanted = F.interpolate(grid, size=(8, 8), mode="bicubic", align_corners=False)
    flat = wanted.permute(0, 2, 3, 1).reshape(1, 64, 24)
    torch.testing.assert_close(model.pos_embed.detach(), flat)


def test_whole_numbers_are_no_weights(tmp_path: Path) -> None:
    tensors = built().state_dict()
    tensors["norm.bias"] = torch.ones(24, dtype=torch.int64)
    line = refusal(built(), tensors, tmp_path)
    assert "norm.bias is torch.int64, expected torch.float32" in line
