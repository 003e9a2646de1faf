"""What the whole of a run takes, worked out from what a few steps of it took."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from vitx.config.schema import TrainConfig
from vitx.parts import Machine, Parts
from vitx.records import Plan
from vitx.runtime.device import usable_cores
from vitx.train.events import Every


@dataclass(frozen=True, kw_only=True)
class Pace:
    """Seconds that go by for one picture, or for one update of the weights.

    Attributes:
        compute_s: forward and backward pass of a picture.
        loading_s: reading and augmenting a picture, by all loader processes together.
        update_s: clipping, optimizer and average.
    """

    compute_s: float
    loading_s: float
    update_s: float = 0.0

    def picture_s(self, machine: Machine, *, cores: int) -> float:
        """Return the seconds for a picture where loader processes work beside the model.

        On a CPU both want the same cores.
        """
        if machine.workers == 0:
            return self.compute_s + self.loading_s
        alone = max(self.compute_s, self.loading_s)
        if machine.device.type != "cpu":
            return alone
        work_s = machine.threads * self.compute_s + min(machine.workers, cores) * self.loading_s
        return max(alone, work_s / cores)


@dataclass(frozen=True, kw_only=True)
class Trial:
    """What a few steps showed.

    Attributes:
        pictures: most that went through in one pass.
        loss: of the last step.
        training: the pace of training with so many.
        evaluation: the pace of evaluating one set of weights.
        peak_bytes: most memory used until then, as in result.json.
        picture_bytes: what a further picture in a pass takes: all that is kept of it for the
            backward pass, or as much as memory grew by.
        file_bytes: size of each file of a checkpoint, such as `model` and `optimizer`.
    """

    pictures: int
    loss: float
    training: Pace
    evaluation: Pace
    peak_bytes: int
    picture_bytes: float
    file_bytes: Mapping[str, int]

    @property
    def checkpoint_bytes(self) -> int:
        """Size of a checkpoint."""
        return sum(self.file_bytes.values())

    def memory_bytes(self, plan: Plan, machine: Machine) -> float:
        """Return the most memory that training uses."""
        resting = self.peak_bytes - self.picture_bytes * self.pictures
        passing = resting + self.picture_bytes * plan.micro_batch
        if plan.accumulation > 1:
            passing += self.file_bytes["model"]  # the gradients so far, about as large
        # On a CPU the copy that is being written lies there beside training.
        return passing + (self.checkpoint_bytes if machine.device.type == "cpu" else 0)


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What is still ahead of a run, estimated.

    Attributes:
        memory_bytes: most memory used, as in result.json.
        epoch_s: seconds of training for an epoch.
        evaluation_s: seconds of an evaluation, of all weights that are evaluated.
        evaluations: how many there are.
        total_s: seconds of training and evaluation; writing checkpoints and starting come to it.
    """

    memory_bytes: float
    epoch_s: float
    evaluation_s: float
    evaluations: int
    total_s: float


def estimate(
    config: TrainConfig, parts: Parts, trial: Trial, *, done: int = 0, ranks: int = 1
) -> Cost:
    """Estimate a run from a trial of it.

    Args:
        config: the whole configuration.
        parts: as gathered for it.
        trial: what was measured.
        done: steps that are trained already.
        ranks: processes that share the work; on a CPU they also share its cores, and gain nothing.

    Returns:
        What is ahead, checkpoints and start-up left out of its time.
    """
    plan, machine, cores = parts.plan, parts.machine, usable_cores()
    picture_s = trial.training.picture_s(machine, cores=cores)
    shares = 1 if machine.device.type == "cpu" else ranks
    step_s = plan.batch_size * picture_s / shares + trial.training.update_s
    weights = 1 if config.ema.decay is None else 2
    evaluation_s = (
        len(parts.splits.val) * weights * trial.evaluation.picture_s(machine, cores=cores) / shares
    )
    every = Every(config.evaluation.every, plan, setting="evaluation.every")
    evaluations = sum(every.due(step) for step in range(done + 1, plan.total_steps + 1))
    return Cost(
        memory_bytes=trial.memory_bytes(plan, machine),
        epoch_s=plan.steps_per_epoch * step_s,
        evaluation_s=evaluation_s,
        evaluations=evaluations,
        total_s=(plan.total_steps - done) * step_s + evaluations * evaluation_s,
    )
