"""The training loop."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn.utils import clip_grad_norm_, clip_grads_with_norm_, get_total_norm

from vitx.checkpoint.sharding import load_parts, whole, whole_on_first
from vitx.checkpoint.snapshot import Snapshot
from vitx.checkpoint.tree import join, load_optimizer_tree, optimizer_tree, split
from vitx.config.schema import Precision
from vitx.data.loader import TrainStream
from vitx.errors import StorageError
from vitx.objectives.classification import Objective
from vitx.optim.schedule import Schedule
from vitx.records import Plan
from vitx.runtime.device import autocast
from vitx.runtime.seeds import derive, set_random_state
from vitx.runtime.signals import StopRequest
from vitx.runtime.world import ALONE, World
from vitx.train.events import Callback
from vitx.train.gradients import Gradients
from vitx.train.state import TrainState

if TYPE_CHECKING:
    from timm.utils import ModelEmaV3


@dataclass(kw_only=True)
class Trainer:
    """Runs optimizer steps; everything else is a callback.

    Attributes:
        model: the module whose weights are saved and evaluated.
        helper: trained and saved with the model, but no part of it: projections of its features.
        gradients: has the model in the form that the objective calls, and makes the gradients of
            the passes of all ranks those of the batch.
        open_stream: gives the batches from a state on.
        clip_norm: largest gradient norm, or None.
        clip_each: of each tensor by itself, not of all together.
        stop: polled between steps.
    """

    model: nn.Module
    gradients: Gradients
    objective: Objective
    optimizer: torch.optim.Optimizer
    schedule: Schedule
    ema: ModelEmaV3 | None
    open_stream: Callable[[TrainState], TrainStream]
    plan: Plan
    device: torch.device
    precision: Precision
    seed: int
    clip_norm: float | None
    clip_each: bool
    stop: StopRequest
    world: World = ALONE
    helper: nn.Module | None = None
    callbacks: Sequence[Callback] = ()
    state: TrainState = field(default_factory=TrainState)

    def __post_init__(self) -> None:
        self.trained = self.model
        if self.helper is not None:
            self.trained = nn.ModuleDict({"model": self.model, "helper": self.helper})
        self.parameters = [each for each in self.trained.parameters() if each.requires_grad]
        self.scaler = torch.amp.GradScaler(
            self.device.type, enabled=self.precision is Precision.fp16
        )
        self.stream: TrainStream | None = None
        self.rows: list[Tensor] = []  # of the split, of each pass of the step under way
        self._settling = True  # until a step is done, compiling and loading may take long

    def fit(self) -> None:
        """Train from `state.step` to the end of the plan.

        Raises:
            Preempted, Interrupted: asked to stop; the callbacks have saved the run.
        """
        state, plan = self.state, self.plan
        self.stream = stream = self.open_stream(state)
        passes, gradients = plan.passes(self.world.rank, self.world.size), self.gradients
        self.model.train()
        self._boundary()  # what an interruption left undone at this step
        while state.step < plan.total_steps and not self.stop:
            started = time.perf_counter()
            self.schedule.set(state.step)
            terms: dict[str, list[Tensor]] = defaultdict(list)
            self.rows = []
            for micro in passes:
                batch = stream.next(state.step, micro)
                # Dropout and drop path draw from this, whatever came before.
                set_random_state(derive("step", self.seed, state.step, micro))
                with gradients.of_pass(last=micro == passes[-1]):
                    with autocast(self.precision, self.device):
                        loss, parts = self.objective(gradients.forward, batch)
                    self.scaler.scale(loss / gradients.divisor).backward()
                for name, value in parts.items():
                    terms[name].append(value)
                self.rows.append(batch.indices)
            gradients.of_batch()
            self.scaler.unscale_(self.optimizer)
            grads = [each.grad for each in self.parameters if each.grad is not None]
            norm = whole(get_total_norm(grads))
            if all([each.before_update(self, norm, terms) for each in self.callbacks]):
                if self.clip_norm is not None and self.clip_each:
                    for parameter in self.parameters:
                        clip_grad_norm_(parameter, self.clip_norm)
                elif self.clip_norm is not None:
                    clip_grads_with_norm_(self.parameters, self.clip_norm, norm)
                self.scaler.step(self.optimizer)
                self.scaler.update()
            self.optimizer.zero_grad(set_to_none=True)
            state.step += 1
            state.samples += plan.batch_size
            if self.ema is not None:
                self.ema.update(self.model, step=state.step)
            state.seconds += time.perf_counter() - started
            terms["grad_norm"] = [norm] if self.world.leads else []  # the same on all ranks
            for callback in self.callbacks:
                callback.on_step(self, terms)
            if self._settling:
                self.world.started()
                self._settling = False
            self._boundary()
        if self.stop:
            for callback in self.callbacks:
                callback.on_stop(self)
            raise self.stop.as_error(f"after step {state.step} of {plan.total_steps}")

    def close(self) -> None:
        """End the loader processes, and what callbacks hold."""
        if self.stream is not None:
            self.stream.close()
        for callback in self.callbacks:
            callback.close()

    def _boundary(self) -> None:
        self.stop.agree()
        for callback in self.callbacks:
            # Asked to stop, what is periodic can wait for the resumed run; saving can't.
            if not self.stop:
                callback.at_boundary(self)

    @property
    def epoch(self) -> float:
        """Epochs done, as a fraction."""
        return self.state.step / self.plan.steps_per_epoch

    def snapshot(self) -> Snapshot:
        """Return all that is needed to go on from here; called by all ranks together.

        Its tensors are those of now, no copies; rank 0 has them.
        """
        self.state.bad_rows.update(*self.world.gather(sorted(self.state.bad_rows)))
        tensors, skeleton = split(optimizer_tree(self.optimizer, self.trained))
        files = {"model": dict(self.model.state_dict()), "optimizer": tensors}
        if self.helper is not None:
            files["helper"] = dict(self.helper.state_dict())
        if self.ema is not None:
            files["ema"] = dict(self.ema.module.state_dict())
        held = {name: whole_on_first(each, self.world) for name, each in files.items()}
        state: dict[str, Any] = {
            "schema": 1,
            "train": self.state.as_dict(),
            "optimizer": skeleton,
            "scaler": self.scaler.state_dict(),
            "callbacks": {each.name: each.state_dict() for each in self.callbacks if each.name},
        }
        return Snapshot(step=self.state.step, tensors=held, state=state)

    def restore(self, snapshot: Snapshot) -> None:
        """Stand where a snapshot was taken.

        Raises:
            StorageError: the snapshot is of another model, optimizer or set of callbacks.
        """
        try:
            self.restore_weights(snapshot)
            if snapshot.state["scaler"]:  # empty where the run had another precision
                self.scaler.load_state_dict(snapshot.state["scaler"])
            self.state.load(snapshot.state["train"])
            for callback in self.callbacks:
                if callback.name:
                    callback.load_state_dict(snapshot.state["callbacks"][callback.name])
        except (LookupError, RuntimeError, ValueError, TypeError, AttributeError) as error:
            raise StorageError(
                f"the checkpoint of step {snapshot.step} does not fit this configuration: {error}"
            ) from error

    def restore_weights(self, snapshot: Snapshot) -> None:
        """Take over model, average and optimizer of a snapshot; counters stay.

        Raises:
            KeyError, RuntimeError, ValueError: it is of another model or optimizer.
        """
        load_parts(self.model, snapshot.tensors["model"])
        if self.helper is not None:
            self.helper.load_state_dict(snapshot.tensors["helper"])
        if self.ema is not None:
            load_parts(self.ema.module, snapshot.tensors["ema"])
        tree = join(snapshot.tensors["optimizer"], snapshot.state["optimizer"])
        load_optimizer_tree(self.optimizer, self.trained, tree)
