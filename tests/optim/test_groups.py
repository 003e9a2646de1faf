"""Which parameters decay and how fast each layer learns, by the papers' own rules."""

import pytest
import torch

from vitx.config.schema import ModelConfig, OptimizerConfig
from vitx.errors import UsageError
from vitx.models.build import Fit, build_model
from vitx.optim.groups import build_groups, summarise


@pytest.fixture(scope="module")
def deit_s() -> torch.nn.Module:
    return on_meta("deit_small_patch16_224")


@pytest.fixture(scope="module")
def xcit_s12() -> torch.nn.Module:
    return on_meta("xcit_small_12_p16_224")


def on_meta(name: str) -> torch.nn.Module:
    with torch.device("meta"):
        fit = Fit(num_classes=1000, channels=3, image_px=224)
        return build_model(ModelConfig(name=name), fit)


def decayed(model: torch.nn.Module, **config: object) -> set[str]:
    """Return the names of the parameters with weight decay; every one is in one group."""
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    groups = build_groups(model, OptimizerConfig(weight_decay=0.05, **config))
    members = [id(parameter) for group in groups for parameter in group["params"]]
    assert sorted(members) == sorted(names)
    assert {group["weight_decay"] for group in groups} <= {0.0, 0.05}
    return {
        names[id(parameter)]
        for group in groups
        if group["weight_decay"]
        for parameter in group["params"]
    }


def test_deit_s(deit_s: torch.nn.Module) -> None:
    """Matrices and kernels decay: not pos_embed, cls_token, biases, norms."""
    per_block = {"attn.qkv", "attn.proj", "mlp.fc1", "mlp.fc2"}
    expected = {f"blocks.{depth}.{part}.weight" for depth in range(12) for part in per_block}
    expected |= {"patch_embed.proj.weight", "head.weight"}
    assert decayed(deit_s) == expected
    assert {"pos_embed", "cls_token", "norm.weight"} <= dict(deit_s.named_parameters()).keys()


def test_xcit_s12(xcit_s12: torch.nn.Module) -> None:
    """As DeiT, with LayerScale's 1-D gammas; XCA's temperature [heads, 1, 1] does decay."""
    per_block = {"attn.qkv.weight", "attn.proj.weight", "attn.temperature"}
    per_block |= {"local_mp.conv1.weight", "local_mp.conv2.weight"}
    per_block |= {"mlp.fc1.weight", "mlp.fc2.weight"}
    expected = {f"blocks.{depth}.{part}" for depth in range(12) for part in per_block}
    last = {"attn.q", "attn.k", "attn.v", "attn.proj", "mlp.fc1", "mlp.fc2"}
    expected |= {f"cls_attn_blocks.{depth}.{part}.weight" for depth in (0, 1) for part in last}
    expected |= {f"patch_embed.proj.{number}.0.weight" for number in (0, 2, 4, 6)}
    expected |= {"head.weight"}
    found = decayed(xcit_s12)
    # timm also exempts the projection of the positional encoding, which XCiT's own code decays.
    assert found == expected
    parameters = dict(xcit_s12.named_parameters())
    assert parameters["blocks.0.attn.temperature"].shape == (8, 1, 1)
    assert parameters["blocks.0.gamma1"].ndim == 1


@pytest.mark.parametrize("model", ["deit_s", "xcit_s12"])
def test_decay_all_takes_everything(model: str, request: pytest.FixtureRequest) -> None:
    module = request.getfixturevalue(model)
    assert decayed(module, decay_all=True) == dict(module.named_parameters()).keys()
    everything = decayed(module, decay_all=True, layer_decay=0.75)
    assert everything == dict(module.named_parameters()).keys()


def test_frozen_parameters_are_in_no_group() -> None:
    model = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.Linear(2, 2))
    model[0].requires_grad_(False)
    groups = build_groups(model, OptimizerConfig())
    assert {id(each) for group in groups for each in group["params"]} == {
        id(each) for each in model[1].parameters()
    }


def test_layer_decay_of_beit(deit_s: torch.nn.Module) -> None:
    """Arxiv 2106.08254: stem 0, block i is i + 1, head 13; the rate falls by 0.75 a layer."""
    names = {id(parameter): name for name, parameter in deit_s.named_parameters()}
    groups = build_groups(deit_s, OptimizerConfig(layer_decay=0.75))
    scales = {
        names[id(parameter)]: group["lr_scale"] for group in groups for parameter in group["params"]
    }
    assert scales.keys() == dict(deit_s.named_parameters()).keys()
    for name, scale in scales.items():
        if name.startswith("blocks."):
            layer = int(name.split(".")[1]) + 1
        else:
            # timm counts the last norm to the block before it, BEiT to the head.
            layer = {"head": 13, "norm": 12}.get(name.split(".")[0], 0)
        assert scale == pytest.approx(0.75 ** (13 - layer)), name
    assert decayed(deit_s, layer_decay=0.75) == decayed(deit_s)


def test_summary_adds_up(deit_s: torch.nn.Module) -> None:
    summary = summarise(build_groups(deit_s, OptimizerConfig()))
    assert sum(group.parameters for group in summary) == 22_050_664  # DeiT-S, 1000 classes
    assert sum(group.tensors for group in summary) == len(list(deit_s.parameters()))
    (with_decay,) = [group for group in summary if group.weight_decay]
    assert (with_decay.weight_decay, with_decay.lr_scale) == (0.05, 1.0)
    # 12 blocks of 12 D^2, the patches and the head.
    assert with_decay.parameters == 12 * 12 * 384**2 + 3 * 16**2 * 384 + 384 * 1000


def test_a_pattern_that_matches_nothing_is_refused(deit_s: torch.nn.Module) -> None:
    for setting in ("decay_also", "decay_never"):
        with pytest.raises(UsageError, match=r"no parameter of the model matches '\*.temperature'"):
            build_groups(deit_s, OptimizerConfig(**{setting: ["*.temperature"]}))


def test_never_wins_over_also(xcit_s12: torch.nn.Module) -> None:
    position = "pos_embed.token_projection.weight"
    assert position in decayed(xcit_s12, decay_also=["pos_embed.*"])
    both = decayed(xcit_s12, decay_also=["pos_embed.*"], decay_never=[position])
    assert position not in both
    assert "head.weight" not in decayed(xcit_s12, decay_never=["head.*"], decay_all=True)
