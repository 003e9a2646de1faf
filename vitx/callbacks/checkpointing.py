"""Saves the run at an interval, after the last step and when it is asked to stop."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from vitx.callbacks.evaluation import Evaluation
from vitx.checkpoint.store import commit, path_of, prune, read_state, steps_in
from vitx.loggers.base import Logger
from vitx.train.events import Callback, Every
from vitx.train.trainer import Trainer


class Checkpointing(Callback):
    """Commits checkpoints and prunes old ones. Stands last, so that it saves what others did."""

    def __init__(
        self,
        folder: Path,
        every: Every,
        *,
        keep: int,
        evaluation: Evaluation,
        loggers: Sequence[Logger],
        say: Callable[[str], None],
    ) -> None:
        self._folder, self._every, self._keep = folder, every, keep
        self._evaluation, self._loggers, self._say = evaluation, loggers, say

    def at_boundary(self, trainer: Trainer) -> None:
        """Save where it is due."""
        step = trainer.state.step
        # The best step is saved whenever it is found: it is what `checkpoint=best` promises.
        if self._every.due(step) or (step > 0 and step == self._evaluation.best_step):
            self._save(trainer)

    def on_stop(self, trainer: Trainer) -> None:
        """Save where the run stands, and say so."""
        if trainer.state.step > 0:
            self._save(trainer)
            self._say(f"saved {path_of(self._folder, trainer.state.step)}")

    def _save(self, trainer: Trainer) -> None:
        step, snapshot = trainer.state.step, trainer.snapshot()
        # What an interruption left undone at this step may have been done since it was saved.
        if step in steps_in(self._folder) and read_state(self._folder, step) == snapshot.state:
            return
        # The rows up to this step have to be as durable as the checkpoint.
        for logger in self._loggers:
            logger.flush()
        commit(self._folder, snapshot.copied())
        best = self._evaluation.best_step
        prune(self._folder, keep=self._keep, also=set() if best is None else {best})
