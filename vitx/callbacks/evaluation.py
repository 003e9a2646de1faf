"""Evaluates the model, and the average of its weights, during training."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from vitx.evaluate.loop import EvaluationStopped, Evaluator
from vitx.records import EvalResult
from vitx.train.events import Callback, Every
from vitx.train.trainer import Trainer


class Evaluation(Callback):
    """Scores on the validation split at an interval and after the last step.

    Attributes:
        latest: results by kind of weights, `model` and, where there is one, `ema`.
        latest_step: the step they are of.
        best_step: the step with the highest top-1 of the deciding weights; the earliest of equals.
        best_top1: that top-1, in percent.
    """

    name = "evaluation"

    def __init__(self, evaluator: Evaluator, every: Every) -> None:
        self._evaluator, self._every = evaluator, every
        self.latest: dict[str, EvalResult] = {}
        self.latest_step = 0
        self.best_step: int | None = None
        self.best_top1 = -1.0

    def at_boundary(self, trainer: Trainer) -> None:
        """Evaluate where it is due and not done yet."""
        step = trainer.state.step
        if not self._every.due(step) or step == self.latest_step:
            return
        models = {"model": trainer.model}
        if trainer.ema is not None:
            models["ema"] = trainer.ema.module
        try:
            results = {
                kind: self._evaluator(model, stop=trainer.stop.agree).result()
                for kind, model in models.items()
            }
        except EvaluationStopped:
            return
        self.latest, self.latest_step = results, step
        if self.deciding.top1 > self.best_top1:
            self.best_step, self.best_top1 = step, self.deciding.top1

    @property
    def deciding(self) -> EvalResult:
        """The result that counts: of the average where there is one."""
        return self.latest.get("ema") or self.latest["model"]

    def row(self, step: int) -> dict[str, float]:
        """Return what a step's metrics row says of its evaluation; empty where there was none."""
        if step != self.latest_step:
            return {}
        row = {}
        for kind, result in self.latest.items():
            prefix = "val" if kind == "model" else "val_ema"
            for name in ("top1", "top5", "loss"):
                row[f"{prefix}/{name}"] = getattr(result, name)
                for head, own in result.heads.items():
                    row[f"{prefix}/{head}/{name}"] = getattr(own, name)
        return row

    def state_dict(self) -> dict[str, Any]:
        """Return the latest and the best results."""
        return {
            "latest": {kind: asdict(result) for kind, result in self.latest.items()},
            "latest_step": self.latest_step,
            "best_step": self.best_step,
            "best_top1": self.best_top1,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take those results over."""
        self.latest = {kind: EvalResult.restore(counts) for kind, counts in state["latest"].items()}
        self.latest_step, self.best_step = state["latest_step"], state["best_step"]
        self.best_top1 = state["best_top1"]
