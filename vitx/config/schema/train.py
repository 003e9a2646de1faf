"""`vitx train`: what is saved, measured and logged, the machine, and the whole of it."""

from __future__ import annotations

from dataclasses import dataclass, field

from vitx.config.schema.choices import Head, NonFinite, Precision, Strategy, WandbMode
from vitx.config.schema.data import AugmentationConfig, DatasetConfig
from vitx.config.schema.model import ModelConfig
from vitx.config.schema.optimisation import (
    EmaConfig,
    ObjectiveConfig,
    OptimizerConfig,
    ScheduleConfig,
)

_MOST_EVALUATED = 256  # pictures in a forward pass, where nothing is set


@dataclass(kw_only=True)
class CheckpointConfig:
    """What is saved, and how much of it is kept."""

    every: str = "1ep"
    """Interval of checkpoints: 1ep, 500st or 10%."""
    keep: int = field(default=2, metadata={"may_change": True})
    """Newest checkpoints kept, at least 2; the best one is kept besides."""
    background: bool = field(default=True, metadata={"may_change": True})
    """Train on while a checkpoint is written; false waits for it."""


@dataclass(kw_only=True)
class EvaluationConfig:
    """Evaluation on the validation split during training."""

    every: str = "1ep"
    """Interval of evaluations: 1ep, 500st or 10%; the last step is always evaluated."""
    batch_size: int | None = None
    """Pictures per forward pass; null is twice the training micro-batch, at most 256."""
    head: Head = Head.mean_logits
    """Of a distillation token: mean_logits (DeiT's code), mean_softmax (its paper), one."""


@dataclass(kw_only=True)
class WandbConfig:
    """The W&B mirror of the metrics."""

    mode: WandbMode = WandbMode.off
    """auto (online where a login is found, else offline), online, offline or off."""
    project: str = "vitx"
    """W&B project."""
    entity: str | None = None
    """W&B team or user; null is the login's default."""
    group: str | None = None
    """W&B group; null is the sweep's name inside a sweep, else none."""
    init_timeout_s: int = 10
    """Seconds W&B may take to start before it goes offline."""
    finish_timeout_s: int = 30
    """Seconds W&B may take at the end."""


@dataclass(kw_only=True)
class LoggerConfig:
    """metrics.jsonl is always written; this is what else is."""

    every: str = "10st"
    """Interval of training rows: 10st, 1ep or 1%; values are means over it."""
    wandb: WandbConfig = field(default_factory=WandbConfig, metadata={"may_change": True})
    """The W&B mirror."""


@dataclass(kw_only=True)
class RuntimeConfig:
    """The machine."""

    device: str = field(default="auto", metadata={"may_change": True})
    """auto, cpu, cuda, cuda:1, mps. Several processes have a GPU each; all of them that with a
    number, for trying things out."""
    devices: int | None = field(default=1, metadata={"may_change": True})
    """Processes on this machine, one a GPU; null is as many as it has GPUs."""
    strategy: Strategy = field(default=Strategy.ddp, metadata={"may_change": True})
    """Several processes: ddp (each has the model) or fsdp (each a part, for one that won't fit)."""
    exact_world: bool = False
    """The same weights to the last bit on 1, 2, 4, 8 processes; costs time, which is measured."""
    step_timeout_s: int = field(default=150, metadata={"may_change": True})
    """Seconds that a process may keep the others waiting before the run ends with code 6."""
    setup_timeout_s: int = field(default=300, metadata={"may_change": True})
    """The same until the first step is done."""
    max_restarts: int = field(default=0, metadata={"may_change": True})
    """How often a run that lost a process begins again by itself where it was saved."""
    threads: int | None = field(default=None, metadata={"may_change": True})
    """CPU threads of a process; null shares the cores out. Another number changes the last bits."""
    micro_batch: int | None = None
    """Most pictures in one forward pass; null: batch_size / processes (exact_world: an eighth)."""
    compile: bool = False
    """torch.compile the model."""
    channels_last: bool = False
    """Keep pictures and convolutions in channels-last memory order."""


@dataclass(kw_only=True)
class TrainConfig:
    """`vitx train`: everything that determines a run."""

    model: ModelConfig = field(default_factory=ModelConfig)
    dataset: DatasetConfig = field(default_factory=DatasetConfig)
    augmentation: AugmentationConfig = field(default_factory=AugmentationConfig)
    objective: ObjectiveConfig = field(default_factory=ObjectiveConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    ema: EmaConfig = field(default_factory=EmaConfig)
    checkpoint: CheckpointConfig = field(default_factory=CheckpointConfig)
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)
    logger: LoggerConfig = field(default_factory=LoggerConfig)
    runtime: RuntimeConfig = field(default_factory=RuntimeConfig)
    epochs: str = "30ep"
    """Length of training: 30 or 30ep (epochs) or 5000st (steps)."""
    batch_size: int = 64
    """Global batch: pictures per optimizer step, over all devices and accumulation."""
    precision: Precision = Precision.auto
    """fp32, bf16, fp16; auto is bf16 on a GPU that has it, fp16 on another, fp32 on a CPU."""
    non_finite: NonFinite = field(default=NonFinite["raise"], metadata={"may_change": True})
    """A NaN or infinite gradient: raise, skip (leave the step out), rollback (to what is saved)."""
    seed: int = 0
    """Everything random follows from it."""
    name: str | None = field(default=None, metadata={"may_change": True})
    """Name of the run; null is <model>-<dataset>-<UTC time>."""
    run_dir: str | None = field(default=None, metadata={"path": True, "may_change": True})
    """Run directory; null is runs/<name>."""
    resume: str = field(default="auto", metadata={"path": True, "may_change": True})
    """auto continues run_dir where it exists; never refuses to; PATH continues that run."""
    stop_at: str | None = field(default=None, metadata={"may_change": True})
    """Save and leave with code 75 here (500st, 3ep, 50%), to go on later; null runs to the end."""

    @property
    def image_px(self) -> int:
        """Side of the pictures the model sees."""
        return self.dataset.image_px or self.model.image_px

    @property
    def micro_batch(self) -> int:
        """Pictures in one forward pass of training, where one process does all of them."""
        return min(self.runtime.micro_batch or self.batch_size, self.batch_size)

    @property
    def evaluation_batch(self) -> int:
        """Pictures in one forward pass of evaluation; the number of processes is not in it."""
        return self.evaluation.batch_size or min(2 * self.micro_batch, _MOST_EVALUATED)
