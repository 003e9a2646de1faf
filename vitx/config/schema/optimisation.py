"""What is minimised, and how."""

from __future__ import annotations

from dataclasses import dataclass, field

from vitx.config.schema.choices import DecayFrom, Loss, Per, ScheduleKind


@dataclass(kw_only=True)
class ObjectiveConfig:
    """What is minimised."""

    loss: Loss = Loss.cross_entropy
    """cross_entropy, bce (on binarised targets, mean: DeiT III), sigmoid (sum, soft: AugReg)."""


@dataclass(kw_only=True)
class OptimizerConfig:
    """The optimizer, by its name in timm's factory."""

    name: str = "adamw"
    """timm optimizer: adamw, lamb, sgd, ... (timm.optim.list_optimizers())."""
    lr: float = 1e-3
    """Peak learning rate, at a global batch of lr_batch."""
    lr_batch: int | None = None
    """Batch the rate is for: the rate used is lr * batch_size / lr_batch; null is lr itself."""
    weight_decay: float = 0.05
    """Decoupled weight decay; one-dimensional, bias and model-declared parameters have none."""
    decay_all: bool = False
    """Decay every parameter alike."""
    decay_also: list[str] = field(default_factory=list)
    """Patterns of names that decay although the model exempts them: ["pos_embed.*"] for XCiT."""
    decay_never: list[str] = field(default_factory=list)
    """Patterns of names that don't decay: ["*.temperature"] for the one of XCiT."""
    layer_decay: float | None = None
    """Factor of the learning rate from one layer to the one below; null is 1 everywhere."""
    clip_norm: float | None = None
    """Largest global gradient norm; null does not clip."""
    clip_each: bool = False
    """Clip each tensor to clip_norm by itself, as DINO does, instead of all together."""
    momentum: float = 0.9
    """Momentum of those optimizers that take one."""
    betas: list[float] | None = None
    """Betas of those optimizers that take them; null is their default."""
    eps: float | None = None
    """Epsilon of those optimizers that take it; null is their default."""

    def peak_lr(self, batch_size: int) -> float:
        """Return the learning rate used: linear in the global batch where `lr_batch` is given.

        Source: Goyal et al., arXiv 1706.02677; DeiT uses 5e-4 at 512.
        """
        return self.lr if self.lr_batch is None else self.lr * batch_size / self.lr_batch


@dataclass(kw_only=True)
class ScheduleConfig:
    """The learning rate over time."""

    kind: ScheduleKind = ScheduleKind.cosine
    """cosine, linear (to min_lr), step (by decay_rate) or constant."""
    per: Per = Per.step
    """Change it every step or every epoch."""
    warmup: str = "5%"
    """Length of the linear warm-up, inside the run: 5ep, 500st or 5%."""
    warmup_lr: float = 1e-6
    """Learning rate at the start of warm-up."""
    min_lr: float = 1e-5
    """Learning rate at the end."""
    decay_from: DecayFrom = DecayFrom.start
    """start (warm-up takes the place of the first decay: timm, DeiT) or warmup (big_vision)."""
    late: str = "0st"
    """Use the rate of so much earlier: DeiT's and XCiT's code is 1ep late."""
    decay_every: str = "30ep"
    """step: interval of the decay, as 30ep, 500st or 10%."""
    decay_rate: float = 0.1
    """step: factor of each decay."""


@dataclass(kw_only=True)
class EmaConfig:
    """The exponential moving average of the weights."""

    decay: float | None = None
    """Decay per step; null keeps no average. Where there is one, it is evaluated."""
    warmup: bool = False
    """Grow the decay as 1 - (1 + step)^(-2/3) until it reaches decay."""
