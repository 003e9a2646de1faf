"""The settings of the papers, worked out by hand: learning rates, weight decay, drop path.

What is expected stands here as arithmetic on the published numbers; nothing of vitx computes it.
"""

import math

import pytest
import torch
from torch import nn

from vitx.config.resolve import resolve
from vitx.config.schema import TrainConfig
from vitx.config.store import compose
from vitx.models.build import Fit, build_model
from vitx.optim.build import build_optimizer
from vitx.optim.groups import build_groups
from vitx.optim.schedule import Schedule
from vitx.parts import make_plan
from vitx.records import Plan

IMAGENET = 1_281_167


def experiment(*overrides: str) -> TrainConfig:
    return resolve(compose("train", ["dataset.path=x", *overrides]), TrainConfig)


def built(config: TrainConfig) -> nn.Module:
    fit = Fit(num_classes=1000, channels=3, image_px=config.image_px)
    with torch.device("meta"):
        return build_model(config.model, fit)


def rates(config: TrainConfig, plan: Plan) -> list[float]:
    """Return the learning rate of every step of a plan as the optimizer has it."""
    peak = config.optimizer.peak_lr(config.batch_size)
    groups = [{"params": [nn.Parameter(torch.zeros(1))]}]
    optimizer = build_optimizer(groups, config.optimizer, lr=peak)
    schedule = Schedule(optimizer, config.schedule, plan)
    found = []
    for step in range(plan.total_steps):
        schedule.set(step)
        found.append(schedule.peak_now())
    return found


def decayed(config: TrainConfig) -> tuple[set[str], float]:
    """Return the names of the parameters that decay, and by how much."""
    model = built(config)
    groups = build_groups(model, config.optimizer)
    amounts = {group["weight_decay"] for group in groups}
    ids = {id(each) for group in groups if group["weight_decay"] for each in group["params"]}
    return {name for name, each in model.named_parameters() if id(each) in ids}, max(amounts)


def sizes(config: TrainConfig, names: set[str]) -> int:
    return sum(each.numel() for name, each in built(config).named_parameters() if name in names)


# DeiT and XCiT: 5e-4 x 1024 / 512, five epochs of warm-up from 1e-6, cosine to 1e-5, by epoch.
def deit_epoch(epoch: int, epochs: int) -> float:
    t = max(0, epoch - 1)  # the loop sets the rate at the end of an epoch
    if t < 5:
        return 1e-6 + t * (1e-3 - 1e-6) / 5
    return 1e-5 + (1e-3 - 1e-5) * (1 + math.cos(math.pi * t / epochs)) / 2


@pytest.mark.parametrize(("name", "epochs"), [("deit", 300), ("xcit", 400)])
def test_deit_and_xcit_learning_rates(name: str, epochs: int) -> None:
    config = experiment(f"experiment={name}")
    plan = make_plan(config, samples=IMAGENET)
    assert (plan.steps_per_epoch, plan.total_steps) == (1251, 1251 * epochs)
    short = Plan(steps_per_epoch=3, total_steps=3 * epochs, batch_size=1024, micro_batch=1024)
    expected = [deit_epoch(step // 3, epochs) for step in range(3 * epochs)]
    assert rates(config, short) == pytest.approx(expected, rel=1e-12)


def test_deit_learning_rates_in_numbers() -> None:
    short = Plan(steps_per_epoch=1, total_steps=300, batch_size=1024, micro_batch=1024)
    found = rates(experiment("experiment=deit"), short)
    assert found[:7] == pytest.approx(
        [1e-6, 1e-6, 2.008e-4, 4.006e-4, 6.004e-4, 8.002e-4, 9.993217e-4], rel=1e-6
    )
    assert found[151] == pytest.approx(5.05e-4)  # half of the way, an epoch late
    assert found[299] == pytest.approx(1e-5 + 9.9e-4 * math.sin(math.pi / 300) ** 2, rel=1e-9)


def test_augreg_learning_rates() -> None:
    """1e-3 after 10,000 steps from 0, then the cosine to 0 over what is left; batch 4096."""
    config = experiment("experiment=augreg")
    plan = make_plan(config, samples=IMAGENET)
    assert (plan.steps_per_epoch, plan.total_steps) == (312, 93_600)
    short = experiment("experiment=augreg", "schedule.warmup=30st")
    plan = Plan(steps_per_epoch=10, total_steps=130, batch_size=4096, micro_batch=4096)
    expected = [1e-3 * step / 30 for step in range(30)]
    expected += [1e-3 * (1 + math.cos(math.pi * step / 100)) / 2 for step in range(100)]
    assert rates(short, plan) == pytest.approx(expected, rel=1e-12)
    assert config.schedule.warmup == "10000st"


def test_deit_weight_decay() -> None:
    """Every matrix and the patch embedding; no bias, no norm, neither token nor position."""
    config = experiment("experiment=deit")
    names, amount = decayed(config)
    assert amount == 0.05
    blocks = ("attn.qkv", "attn.proj", "mlp.fc1", "mlp.fc2")
    expected = {f"blocks.{block}.{layer}.weight" for block in range(12) for layer in blocks}
    assert names == expected | {"patch_embed.proj.weight", "head.weight"}
    per_block = 384 * 3 * 384 + 384 * 384 + 2 * 384 * 1536
    assert sizes(config, names) == 3 * 16 * 16 * 384 + 12 * per_block + 384 * 1000


def test_xcit_weight_decay() -> None:
    """As the official run: the temperature and the projection of the positions decay too."""
    config = experiment("experiment=xcit")
    names, amount = decayed(config)
    assert amount == 0.05
    assert {f"blocks.{block}.attn.temperature" for block in range(12)} <= names
    assert "pos_embed.token_projection.weight" in names
    assert not [name for name in names if name.endswith(".bias") or "gamma" in name]
    stem = 9 * (3 * 48 + 48 * 96 + 96 * 192 + 192 * 384)
    positions = 64 * 384
    attention = 4 * 384 * 384 + 8  # eight temperatures
    block = attention + 2 * 9 * 384 + 2 * 384 * 1536
    class_block = 4 * 384 * 384 + 2 * 384 * 1536
    expected = stem + positions + 12 * block + 2 * class_block + 384 * 1000
    assert sizes(config, names) == expected


def test_xcit_weight_decay_without_temperature_and_as_timm() -> None:
    official, _ = decayed(experiment("experiment=xcit"))
    without, _ = decayed(experiment("experiment=xcit", "optimizer.decay_never=['*.temperature']"))
    assert official - without == {f"blocks.{block}.attn.temperature" for block in range(12)}
    timms, _ = decayed(experiment("experiment=xcit", "optimizer.decay_also=[]"))
    assert official - timms == {"pos_embed.token_projection.weight"}


def test_augreg_weight_decay() -> None:
    """1e-4 a step beside a peak rate of 1e-3 that does not multiply it: 0.1 for AdamW."""
    config = experiment("experiment=augreg")
    names, amount = decayed(config)
    assert amount * config.optimizer.peak_lr(4096) == pytest.approx(1e-4)
    per_block = 768 * 3 * 768 + 768 * 768 + 2 * 768 * 3072
    assert sizes(config, names) == 3 * 16 * 16 * 768 + 12 * per_block + 768 * 1000
    assert config.optimizer.clip_norm == 1.0
    model = build_model(config.model, Fit(num_classes=1000, channels=3, image_px=224))
    assert model.head.bias.detach().numpy() == pytest.approx(-math.log(1000))
    assert not model.head.weight.any()


def drop_paths(model: nn.Module, pattern: str) -> list[float]:
    places = [f"drop_path{number}" for number in pattern]
    return [
        getattr(getattr(block, place), "drop_prob", 0.0)
        for block in model.blocks
        for place in places
    ]


def test_drop_path() -> None:
    deit = built(experiment("experiment=deit"))
    expected = [0.1 * block / 11 for block in range(12) for _ in range(2)]
    assert drop_paths(deit, "12") == pytest.approx(expected)
    xcit = built(experiment("experiment=xcit"))
    assert drop_paths(xcit, "132") == [0.05] * 36
    in_class_attention = [type(each).__name__ for each in xcit.cls_attn_blocks.modules()]
    assert "DropPath" not in in_class_attention
    large = built(experiment("experiment=xcit", "model=xcit_l24_p8", "+model.args.depth=2"))
    assert drop_paths(large, "132") == [0.3] * 6
    augreg = built(experiment("experiment=augreg"))
    assert drop_paths(augreg, "12") == [0.0] * 24
    deit3 = built(experiment("experiment=deit", "model=deit3_b"))
    assert drop_paths(deit3, "12") == [0.2] * 24  # constant, as its code has it
    linear = built(experiment("experiment=deit", "model=deit3_b", "model.drop_path_rule=linear"))
    assert drop_paths(linear, "12") == pytest.approx(
        [0.2 * block / 11 for block in range(12) for _ in range(2)]
    )


def test_a_drop_path_of_its_own_drops() -> None:
    """The branches that were given a rate are those that the forward pass goes through."""
    config = experiment("model=vit_ti16", "model.drop_path=0.9", "+model.args.depth=2")
    config.model.drop_path_rule = None
    linear = build_model(config.model, Fit(num_classes=3, channels=3, image_px=32))
    torch.manual_seed(0)
    x = torch.randn(64, 3, 32, 32)
    first = linear.blocks[0]
    tokens = torch.randn(64, 5, 192)
    assert not torch.equal(first(tokens), tokens)
    from vitx.config.schema import DropPathRule
    from vitx.models.architectures.drop_path import spread

    spread(linear, 0.9, DropPathRule.constant)
    unchanged = (first(tokens) == tokens).flatten(1).all(1).float().mean()
    assert unchanged == pytest.approx(0.81, abs=0.15)  # both branches dropped
    assert linear(x).shape == (64, 3)


def test_the_repeated_sampler_of_deit_rounds_its_epoch() -> None:
    """1,281,024 draws: floor(N / 256) 256. At other batches that is another number of steps."""
    config = experiment("experiment=deit", "batch_size=1000")
    assert make_plan(config, samples=1_281_024).steps_per_epoch == 1281
    assert make_plan(config, samples=IMAGENET).steps_per_epoch == 1281
    small = experiment("experiment=deit", "batch_size=64")
    assert make_plan(small, samples=1437).steps_per_epoch == 20  # of 1280
    plain = experiment("experiment=deit", "batch_size=64", "augmentation.epoch_multiple=1")
    assert make_plan(plain, samples=1437).steps_per_epoch == 22


def test_evaluation_crops() -> None:
    assert experiment("experiment=deit").augmentation.eval_crop_ratio == 0.875
    assert experiment("experiment=xcit").augmentation.eval_crop_ratio == 1.0
    assert experiment("experiment=augreg").augmentation.eval_crop_ratio == 0.875
