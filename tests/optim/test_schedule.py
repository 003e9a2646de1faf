"""Learning rates against formulas written out here, step by step."""

import math

import pytest
import torch

from vitx.config.schema import OptimizerConfig, Per, ScheduleConfig, ScheduleKind
from vitx.errors import UsageError
from vitx.optim.schedule import Schedule
from vitx.records import Plan

PEAK, START, END = 1e-3, 1e-6, 1e-5


def curve(
    *, steps: int, per_epoch: int, lr: float = PEAK, scale: float | None = None, **config: object
) -> list[float]:
    """Return the learning rate of every step as the optimizer has it."""
    group = {"params": [torch.nn.Parameter(torch.zeros(1))]}
    optimizer = torch.optim.SGD([group | ({} if scale is None else {"lr_scale": scale})], lr=lr)
    plan = Plan(steps_per_epoch=per_epoch, total_steps=steps, batch_size=1, micro_batch=1)
    schedule = Schedule(optimizer, ScheduleConfig(**config), plan)
    rates = []
    for step in range(steps):
        schedule.set(step)
        rates.append(optimizer.param_groups[0]["lr"])
        assert schedule.peak_now() == rates[-1]
    return rates


def warm(t: int, length: int) -> float:
    return START + (PEAK - START) * t / length


def cosine(t: int, length: int) -> float:
    return END + 0.5 * (PEAK - END) * (1 + math.cos(math.pi * t / length))


def linear(t: int, length: int) -> float:
    return END + (PEAK - END) * (1 - t / length)


@pytest.mark.parametrize(("kind", "formula"), [("cosine", cosine), ("linear", linear)])
def test_decay_to_the_end_rate_per_step(kind: str, formula) -> None:
    rates = curve(steps=40, per_epoch=8, kind=ScheduleKind[kind], warmup="10st")
    expected = [warm(t, 10) if t < 10 else formula(t, 40) for t in range(40)]
    assert rates == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(("kind", "formula"), [("cosine", cosine), ("linear", linear)])
def test_decay_to_the_end_rate_per_epoch(kind: str, formula) -> None:
    rates = curve(steps=40, per_epoch=8, kind=ScheduleKind[kind], warmup="2ep", per=Per.epoch)
    epochs = [warm(0, 2), warm(1, 2), formula(2, 5), formula(3, 5), formula(4, 5)]
    assert rates == pytest.approx([rate for rate in epochs for _ in range(8)], rel=1e-12)


def test_part_of_an_epoch_counts_as_one() -> None:
    """Per epoch, 2.5 epochs are 3 and a warm-up of 1.5 is 2."""
    rates = curve(steps=20, per_epoch=8, warmup="12st", per=Per.epoch)
    epochs = [warm(0, 2)] * 8 + [warm(1, 2)] * 8 + [cosine(2, 3)] * 4
    assert rates == pytest.approx(epochs, rel=1e-12)


def test_five_numbers_worked_out_on_paper() -> None:
    # T = 4, no warm-up, from 1 to 0: (1 + cos(0, 45, 90, 135 degrees)) / 2.
    rates = curve(steps=4, per_epoch=4, lr=1.0, warmup="0", min_lr=0.0)
    root = math.sqrt(0.5)
    assert rates == pytest.approx([1.0, (1 + root) / 2, 0.5, (1 - root) / 2])
    # One tenth every two steps, and a warm-up of one that begins at a fifth.
    options = {"kind": ScheduleKind.step, "decay_every": "2st", "warmup": "1st"}
    rates = curve(steps=5, per_epoch=5, lr=1.0, warmup_lr=0.2, **options)
    assert rates == pytest.approx([0.2, 1.0, 0.1, 0.1, 0.01])


def test_deit_s_over_300_epochs() -> None:
    """DeiT: 5e-4 at 512 with 1024 in a batch, 5 epochs from 1e-6 inside the 300, down to 1e-5."""
    lr = OptimizerConfig(lr=5e-4, lr_batch=512).peak_lr(1024)
    assert lr == 1e-3
    rates = curve(steps=300 * 3, per_epoch=3, lr=lr, warmup="5ep", per=Per.epoch)
    assert rates[0] == 1e-6
    assert rates[4 * 3] == pytest.approx(1e-6 + 4 / 5 * (1e-3 - 1e-6))
    assert rates[5 * 3] == pytest.approx(9.993216e-4, rel=1e-6)  # entered at t = 5, not at 0
    assert rates[150 * 3] == pytest.approx((1e-3 + 1e-5) / 2)
    assert rates[-1] == pytest.approx(1e-5 + 9.9e-4 * math.sin(math.pi / 600) ** 2)


def test_step_decay_counts_from_the_beginning() -> None:
    rates = curve(
        steps=12,
        per_epoch=2,
        kind=ScheduleKind.step,
        warmup="1ep",
        decay_every="2ep",
        decay_rate=0.5,
    )
    late = [PEAK * 0.5 ** (t // 4) for t in range(2, 12)]
    assert rates == pytest.approx([warm(0, 2), warm(1, 2), *late])


def test_constant() -> None:
    rates = curve(steps=6, per_epoch=3, kind=ScheduleKind.constant, warmup="50%")
    assert rates == pytest.approx([warm(0, 3), warm(1, 3), warm(2, 3), PEAK, PEAK, PEAK])
    assert curve(steps=4, per_epoch=2, kind=ScheduleKind.constant, warmup="0") == [PEAK] * 4


def test_layer_scale_multiplies_every_rate() -> None:
    rates = curve(steps=40, per_epoch=8, warmup="10st")
    scaled = curve(steps=40, per_epoch=8, warmup="10st", scale=0.25)
    assert scaled == pytest.approx([0.25 * rate for rate in rates])


@pytest.mark.parametrize("kind", ScheduleKind)
@pytest.mark.parametrize("per", Per)
def test_a_function_of_the_step_alone(kind: ScheduleKind, per: Per) -> None:
    options = {"kind": kind, "per": per, "warmup": "1ep", "decay_every": "1ep"}
    whole = curve(steps=12, per_epoch=4, **options)
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=PEAK)
    plan = Plan(steps_per_epoch=4, total_steps=12, batch_size=1, micro_batch=1)
    schedule = Schedule(optimizer, ScheduleConfig(**options), plan)
    for step in (11, 0, 7, 7, 3):
        schedule.set(step)
        assert optimizer.param_groups[0]["lr"] == whole[step]


def test_a_resumed_optimizer_keeps_its_peak() -> None:
    """A schedule made after the rate was changed goes on from the peak, not from that rate."""
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=PEAK)
    plan = Plan(steps_per_epoch=4, total_steps=12, batch_size=1, micro_batch=1)
    first = Schedule(optimizer, ScheduleConfig(), plan)
    first.set(9)
    then = optimizer.param_groups[0]["lr"]
    again = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=PEAK)
    schedule = Schedule(again, ScheduleConfig(), plan)
    again.load_state_dict(optimizer.state_dict())
    schedule.set(9)
    assert again.param_groups[0]["lr"] == then


@pytest.mark.parametrize("warmup", ["12st", "3ep", "100%", "20ep"])
def test_warm_up_of_the_whole_run_is_refused(warmup: str) -> None:
    with pytest.raises(UsageError, match=f"schedule.warmup={warmup} is .* the whole run has 12"):
        curve(steps=12, per_epoch=4, warmup=warmup)


def test_warm_up_rounded_up_to_the_whole_run_is_refused() -> None:
    with pytest.raises(UsageError, match=r"schedule\.warmup"):
        curve(steps=4, per_epoch=4, warmup="1st", per=Per.epoch)


def test_a_decay_more_often_than_every_step_is_refused() -> None:
    with pytest.raises(UsageError, match=r"schedule\.decay_every"):
        curve(steps=12, per_epoch=4, kind=ScheduleKind.step, decay_every="1%")


def test_late_by_an_epoch_repeats_the_first_rate() -> None:
    rates = curve(steps=40, per_epoch=8, warmup="2ep", per=Per.epoch, late="1ep")
    epochs = [warm(0, 2), warm(0, 2), warm(1, 2), cosine(2, 5), cosine(3, 5)]
    assert rates == pytest.approx([rate for rate in epochs for _ in range(8)], rel=1e-12)


@pytest.mark.parametrize(("kind", "formula"), [("cosine", cosine), ("linear", linear)])
def test_the_decay_can_begin_behind_warmup(kind: str, formula) -> None:
    from vitx.config.schema import DecayFrom

    rates = curve(
        steps=40, per_epoch=8, kind=ScheduleKind[kind], warmup="10st", decay_from=DecayFrom.warmup
    )
    expected = [warm(t, 10) if t < 10 else formula(t - 10, 30) for t in range(40)]
    assert rates == pytest.approx(expected, rel=1e-12)
