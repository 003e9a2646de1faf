"""Keeps a non-finite gradient from the weights, and says which pictures it came of."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from vitx.checkpoint.manifest import find_damage, is_proven_finite
from vitx.checkpoint.sharing import shared
from vitx.checkpoint.snapshot import Snapshot
from vitx.checkpoint.store import load, path_of
from vitx.config.schema import NonFinite
from vitx.errors import NonFiniteError
from vitx.files import strict_floats, write_json
from vitx.runs import RunDir
from vitx.train.events import Callback, Every
from vitx.train.trainer import Trainer

# fp16: the loss scale halves at each overflow; so many in a row is no overflow any more.
MOST_SKIPS_IN_A_ROW = 20
# skip, without a loss scale that explains them.
MOST_UNEXPLAINED = 10
MOST_ROLLBACKS = 3
# Below it, a loss scale makes gradients smaller than they are.
LEAST_SCALE = 1.0


class Guard(Callback):
    """Acts where the global gradient norm, that of all ranks together, is NaN or infinite.

    Under fp16 a few overflows are how the loss scale finds its size; those steps are skipped by
    the scaler, and only many in a row end the run. Other steps end it, are left out, or send it
    back: then weights, optimizer and average are those of the newest checkpoint that is due and
    finite, while the counters stay, so that the batches between are not met again (as in the
    training of PaLM, arXiv 2204.02311, section 5.1). One that a stop has added is passed over: the
    run comes to what it would have come to without the stop.

    Args:
        policy: which of these.
        run: where checkpoints are, and where a note of the pictures is left.
        saved: when a checkpoint is due.
        settle: waits until checkpoints that are being written are there.
        say: takes what the user should know.
    """

    name = "guard"

    def __init__(
        self,
        policy: NonFinite = NonFinite["raise"],
        run: RunDir | None = None,
        *,
        saved: Every | None = None,
        settle: Callable[[], None] = lambda: None,
        say: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._policy, self._run, self._saved = policy, run, saved
        self._settle, self._say = settle, say
        self._skips = self._rollbacks = 0
        self._buffers: list[Tensor] = []  # as the last step left them

    def at_boundary(self, trainer: Trainer) -> None:
        """Keep what a forward pass moves: batch statistics of a step that is to be left out."""
        if self._policy is NonFinite["skip"]:
            self._buffers = [each.clone() for each in trainer.model.buffers()]

    def before_update(
        self, trainer: Trainer, norm: Tensor, terms: Mapping[str, Sequence[Tensor]]
    ) -> bool:
        """Check the norm; on a GPU this waits for the backward pass.

        Returns:
            Whether the weights may move.
        """
        if bool(torch.isfinite(norm)):
            self._skips = 0
            return True
        self._skips += 1
        if trainer.scaler.is_enabled():
            too_small = trainer.scaler.get_scale() < LEAST_SCALE
            if self._skips >= MOST_SKIPS_IN_A_ROW or too_small:
                raise self._error(trainer, norm, terms)
            return True  # the scaler leaves the step out
        if self._policy is NonFinite["skip"] and self._skips <= MOST_UNEXPLAINED:
            for buffer, before in zip(trainer.model.buffers(), self._buffers, strict=True):
                buffer.copy_(before)
            self._tell(trainer, norm, terms, "the step is left out")
            return False
        if self._policy is NonFinite["rollback"]:
            self._roll_back(trainer, norm, terms)
            return False
        raise self._error(trainer, norm, terms)

    def state_dict(self) -> dict[str, Any]:
        """Return how many steps in a row were skipped, and how often the run was sent back."""
        return {"skips": self._skips, "rollbacks": self._rollbacks}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take these numbers over."""
        self._skips, self._rollbacks = int(state["skips"]), int(state.get("rollbacks", 0))

    def _roll_back(
        self, trainer: Trainer, norm: Tensor, terms: Mapping[str, Sequence[Tensor]]
    ) -> None:
        if self._rollbacks == MOST_ROLLBACKS:
            why = f"non_finite=rollback has sent it back {MOST_ROLLBACKS} times"
            raise self._error(trainer, norm, terms, why)
        self._settle()
        found = shared(self._target(trainer) if trainer.world.leads else None, trainer.world)
        if found is None:
            why = "non_finite=rollback found no checkpoint of checkpoint.every to go back to"
            raise self._error(trainer, norm, terms, why)
        self._rollbacks += 1
        trainer.restore_weights(found)
        self._tell(trainer, norm, terms, f"weights are again those of step {found.step}")

    def _target(self, trainer: Trainer) -> Snapshot | None:
        """Return the checkpoint to go back to.

        That a newer one is missing or damaged is noted: with it the run comes to other weights.
        """
        if self._run is None or self._saved is None:
            return None
        lost: list[str] = []
        for step in self._saved.down_from(trainer.state.step):
            path = path_of(self._run.checkpoints, step)
            damage = find_damage(path) if path.is_dir() else "missing"
            if damage is not None:
                self._say(f"checkpoint {path.name} can't be gone back to: {damage}")
                lost.append(path.name)
            elif is_proven_finite(path):
                if lost:
                    why = f"went back to {path.name} for want of {', '.join(lost)}"
                    trainer.state.inexact.append(why)
                return load(path)
        return None

    def _tell(
        self, trainer: Trainer, norm: Tensor, terms: Mapping[str, Sequence[Tensor]], what: str
    ) -> None:
        note = self._note(trainer, norm, terms)
        step = trainer.state.step + 1
        self._say(f"the gradient norm is {norm.item()} at step {step}: {what}{note}")

    def _error(
        self,
        trainer: Trainer,
        norm: Tensor,
        terms: Mapping[str, Sequence[Tensor]],
        why: str = "",
    ) -> NonFiniteError:
        """Return the end of the run; `why` it is one although it could go on."""
        note = self._note(trainer, norm, terms)
        return NonFiniteError(
            f"the gradient norm is {norm.item()} at step {trainer.state.step + 1}, learning "
            f"rate {trainer.schedule.peak_now():.3g}; {why}{'; ' if why else ''}weights and "
            f"checkpoints are from before it; try a lower optimizer.lr, optimizer.clip_norm=1, "
            f"precision=fp32 or non_finite=skip{note}"
        )

    def _note(self, trainer: Trainer, norm: Tensor, terms: Mapping[str, Sequence[Tensor]]) -> str:
        """Keep which pictures each forward pass had, and its loss; say where."""
        passes = [
            {"loss": loss.item(), "rows": rows.tolist()}
            for loss, rows in zip(terms["loss"], trainer.rows, strict=True)
        ]
        ranks = trainer.world.gather(strict_floats(passes))
        if self._run is None:
            return ""
        step = trainer.state.step + 1
        path = self._run.path / "non_finite" / f"step-{step:08d}.json"
        if trainer.world.leads:
            path.parent.mkdir(exist_ok=True)
            write_json(path, {"step": step, "norm": norm.item(), "passes": sum(ranks, start=[])})
        return f"; its pictures are named in {path}"
