"""The learning rate as a pure function of the step."""

from __future__ import annotations

import torch

from vitx.config.schema import DecayFrom, Per, ScheduleConfig, ScheduleKind
from vitx.errors import UsageError
from vitx.records import Plan
from vitx.runtime.torchvision_ops import declare_missing_ops

_TIMM_NAMES = {
    ScheduleKind.cosine: "cosine",
    ScheduleKind.linear: "poly",
    ScheduleKind.step: "step",
    ScheduleKind.constant: "constant",
}


class Schedule:
    """Sets an optimizer's learning rate for a step: linear warm-up, then the named decay.

    With warm-up W, length T, peak p and end e, step t < W has `w + t (p - w) / W`, and after it
    cosine has `e + (p - e) (1 + cos(pi t / T)) / 2`, linear `e + (p - e) (1 - t / T)`, step
    `p r^floor(t / D)`. Warm-up lies inside the run and the decay is entered at t = W, as in timm
    and so in DeiT; with `decay_from=warmup` it is entered at 0, with t - W and T - W in the place
    of t and T. Per epoch, t counts epochs. A schedule that is late by L has at t the rate of t - L,
    and at first that of 0: DeiT sets an epoch's rate at its end.
    """

    def __init__(
        self, optimizer: torch.optim.Optimizer, config: ScheduleConfig, plan: Plan
    ) -> None:
        declare_missing_ops()
        from timm.scheduler import create_scheduler_v2

        self._per_epoch = config.per is Per.epoch
        self._steps_per_epoch = plan.steps_per_epoch
        self._optimizer = optimizer
        self._late = self._length(config.late, plan, setting="schedule.late")
        warmup = self._length(config.warmup, plan, setting="schedule.warmup")
        after_warmup = config.decay_from is DecayFrom.warmup
        self._scheduler, _ = create_scheduler_v2(
            optimizer,
            sched=_TIMM_NAMES[config.kind],
            num_epochs=self._count(plan.total_steps) - (warmup if after_warmup else 0),
            warmup_epochs=warmup,
            warmup_prefix=after_warmup,
            decay_epochs=self._length(config.decay_every, plan, setting="schedule.decay_every"),
            decay_rate=1.0 if config.kind is ScheduleKind.linear else config.decay_rate,
            warmup_lr=config.warmup_lr,
            min_lr=config.min_lr,
            step_on_epochs=True,  # our t is already in the unit that counts
        )

    def set(self, step: int) -> None:
        """Give the optimizer the learning rates of optimizer step `step`, from 0."""
        t = step // self._steps_per_epoch if self._per_epoch else step
        self._scheduler.step(max(0, t - self._late))

    def peak_now(self) -> float:
        """Return the largest learning rate among the groups as they are set."""
        return float(max(group["lr"] for group in self._optimizer.param_groups))

    def _length(self, text: str, plan: Plan, *, setting: str) -> int:
        length = self._count(plan.steps_in(text, setting=setting))
        if setting == "schedule.warmup" and length >= self._count(plan.total_steps):
            unit, other = ("epochs", "schedule.per=step") if self._per_epoch else ("steps", "0")
            raise UsageError(
                f"schedule.warmup={text} is {length} {unit}, the whole run has "
                f"{self._count(plan.total_steps)}; set a shorter one, or {other}"
            )
        if setting == "schedule.decay_every" and length == 0:
            raise UsageError(f"schedule.decay_every={text} is less than a step; set a longer one")
        return length

    def _count(self, steps: int) -> int:
        return -(-steps // self._steps_per_epoch) if self._per_epoch else steps
