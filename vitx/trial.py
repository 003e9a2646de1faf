"""A few real steps of a run that leave nothing behind, measured."""

from __future__ import annotations

import statistics
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise

from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks

from vitx.assemble import open_stream
from vitx.callbacks.guard import Guard
from vitx.config.schema import TrainConfig
from vitx.data.sources import LabelledImages
from vitx.errors import Paused, UsageError, as_storage_error
from vitx.estimate import Pace, Trial
from vitx.evaluate.loop import EvaluationStopped
from vitx.objectives.classification import Objective, Terms
from vitx.parts import Machine, Parts, make_evaluator
from vitx.records import Batch, Plan
from vitx.runtime.device import peak_memory_bytes, usable_cores
from vitx.runtime.signals import StopRequest
from vitx.train.events import Callback
from vitx.train.trainer import Trainer

# Most seconds of steps with one number of pictures, and how many of them.
_PATIENCE_S = 4.0
_LEAST_STEPS, _MOST_STEPS = 3, 20


def try_out(config: TrainConfig, parts: Parts, trainer: Trainer) -> Trial:
    """Train and evaluate for some seconds, with as many pictures at a time as that allows.

    Args:
        config: the whole configuration.
        parts: as gathered for it.
        trainer: of these parts; does not stay as it is.

    Returns:
        What was measured.

    Raises:
        UsageError: a step can't be done, or does not fit into memory.
        VitxError: whatever else would end training.
    """
    own = parts  # with its loader processes; the steps load for themselves
    parts = replace(parts, machine=replace(parts.machine, workers=0))
    try:
        kept = _kept_bytes(config, parts, trainer)
        pictures, grown = _most_pictures(config, parts, trainer)
        evaluation = evaluation_pace(
            config, own.splits.val, own.model, own.machine, most=2 * pictures
        )
        # As in a run, an evaluation has been between: what was freed lies in pieces.
        last = _some_steps(config, parts, trainer, pictures=pictures, most=_MOST_STEPS)
        peak = peak_memory_bytes(trainer.device)
        if own.machine.workers:
            loading_s = _loading_s(config, own, trainer, pictures=pictures)
            last = replace(last, pace=replace(last.pace, loading_s=loading_s))
    except (RuntimeError, ValueError, IndexError) as error:
        if (storage := as_storage_error(error)) is not None:
            raise UsageError(str(storage)) from error
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise UsageError(f"a training step fails: {reason}") from error
    files = trainer.snapshot().tensors
    return Trial(
        pictures=pictures,
        loss=last.loss,
        training=last.pace,
        evaluation=evaluation,
        peak_bytes=peak,
        picture_bytes=max(kept, grown),
        file_bytes={
            name: sum(tensor.nbytes for tensor in tensors.values())
            for name, tensors in files.items()
        },
    )


@dataclass(frozen=True, kw_only=True)
class _Steps:
    """Some steps with the same number of pictures."""

    loss: float
    pace: Pace


class _Stopwatch(Callback):
    """Takes the time of each step, and asks to stop when there was enough of it."""

    def __init__(self) -> None:
        self.passes: list[float] = []  # seconds of each step
        self.waits: list[float] = []
        self.updates: list[float] = []
        self.loss = float("nan")
        self._begun = self._waited = 0.0

    def at_boundary(self, trainer: Trainer) -> None:
        """Begin a step."""
        if sum(self.passes) > _PATIENCE_S and len(self.passes) >= _LEAST_STEPS:
            trainer.stop.ask("the end of the trial")
        assert trainer.stream is not None  # noqa: S101 (fit opened it)
        self._begun, self._waited = time.perf_counter(), trainer.stream.wait_s

    def before_update(
        self, trainer: Trainer, norm: Tensor, terms: Mapping[str, Sequence[Tensor]]
    ) -> bool:
        """End the passes; `norm` was waited for by the guard."""
        assert trainer.stream is not None  # noqa: S101 (fit opened it)
        self._passed = time.perf_counter()
        self.waits.append(trainer.stream.wait_s - self._waited)
        self.passes.append(self._passed - self._begun - self.waits[-1])
        return True

    def on_step(self, trainer: Trainer, terms: Mapping[str, Sequence[Tensor]]) -> None:
        """End the update."""
        self.loss = terms["loss"][-1].item()  # waits for a GPU
        self.updates.append(time.perf_counter() - self._passed)


def _most_pictures(config: TrainConfig, parts: Parts, trainer: Trainer) -> tuple[int, float]:
    """Take steps of more and more pictures, up to a whole pass or the end of patience.

    Returns:
        The most pictures in a pass, and the bytes by which each of the last ones raised the peak.
    """
    whole, grown, before = parts.plan.micro_batch, 0.0, 0
    pictures = min(2, whole)  # mixing pairs them
    while True:
        peak = peak_memory_bytes(trainer.device)
        found = _some_steps(config, parts, trainer, pictures=pictures, most=_LEAST_STEPS)
        if before:
            grown = (peak_memory_bytes(trainer.device) - peak) / (pictures - before)
        step_s = (found.pace.compute_s + found.pace.loading_s) * pictures
        if pictures == whole or 2 * step_s * _LEAST_STEPS > _PATIENCE_S:
            return pictures, grown
        before, pictures = pictures, min(2 * pictures, whole)


def _some_steps(
    config: TrainConfig, parts: Parts, trainer: Trainer, *, pictures: int, most: int
) -> _Steps:
    watch = _Stopwatch()
    small = _smaller(config, parts, trainer, pictures=pictures, steps=most)
    _fit(replace(small, callbacks=[Guard(), watch]))
    return _Steps(
        loss=watch.loss,
        pace=Pace(
            # The first step finds nothing in place.
            compute_s=statistics.median(watch.passes[1:]) / pictures,
            loading_s=statistics.median(watch.waits[1:]) / pictures,
            update_s=statistics.median(watch.updates[1:]),
        ),
    )


def _loading_s(config: TrainConfig, parts: Parts, trainer: Trainer, *, pictures: int) -> float:
    """Return the seconds for a picture that nobody waits for but the loader processes."""
    ahead = 2 * parts.machine.workers + 1  # batches that lie ready when the first is taken
    small = _smaller(config, parts, trainer, pictures=pictures, steps=ahead + _MOST_STEPS)
    stream, waits = small.open_stream(small.state), list[float]()
    try:
        for step in range(ahead + _MOST_STEPS):
            before = stream.wait_s
            stream.next(step, 0)
            waits.append(stream.wait_s - before)
            if step > ahead and sum(waits) > _PATIENCE_S:
                break
    finally:
        stream.close()
    return statistics.mean(waits[ahead:]) / pictures


def _kept_bytes(config: TrainConfig, parts: Parts, trainer: Trainer) -> float:
    """Return the bytes kept for the backward pass, for each picture beyond the second."""
    whole = parts.plan.micro_batch
    sizes = [min(2, whole), min(4, whole)]
    if sizes[0] == sizes[1]:
        return 0.0
    kept = []
    for pictures in sizes:
        weighed = _Weighed(trainer.objective, trainer.model)
        small = _smaller(config, parts, trainer, pictures=pictures, steps=1)
        _fit(replace(small, objective=weighed))
        kept.append(weighed.kept_bytes)
    return (kept[1] - kept[0]) / (sizes[1] - sizes[0])


class _Weighed:
    """An objective that also says what its graph keeps."""

    def __init__(self, objective: Objective, model: nn.Module) -> None:
        self._objective, self.kept_bytes = objective, 0
        own = [*model.parameters(), *model.buffers()]
        self._own = {each.untyped_storage().data_ptr() for each in own}

    def __call__(self, model: nn.Module, batch: Batch) -> tuple[Tensor, Terms]:
        kept: dict[int, int] = {}

        def note(tensor: Tensor) -> Tensor:
            storage = tensor.untyped_storage()
            if storage.data_ptr() not in self._own:
                kept[storage.data_ptr()] = storage.nbytes()
            return tensor

        with saved_tensors_hooks(note, lambda tensor: tensor):
            result = self._objective(model, batch)
        self.kept_bytes = sum(kept.values())
        return result


def _smaller(
    config: TrainConfig, parts: Parts, trainer: Trainer, *, pictures: int, steps: int
) -> Trainer:
    """Return a trainer of the same model for a few steps of so many pictures."""
    plan = Plan(
        steps_per_epoch=max(1, len(parts.splits.train) // pictures),
        total_steps=steps,
        batch_size=pictures,
        micro_batch=pictures,
    )
    return replace(
        trainer,
        plan=plan,
        open_stream=partial(open_stream, config, replace(parts, plan=plan)),
        stop=StopRequest(),
        state=type(trainer.state)(),
    )


def _fit(trainer: Trainer) -> None:
    try:
        trainer.fit()
    except Paused:
        pass
    finally:
        trainer.close()


def evaluation_pace(
    config: TrainConfig, images: LabelledImages, model: nn.Module, machine: Machine, *, most: int
) -> Pace:
    """Score a model on a few batches of a split.

    Args:
        config: as the model was trained, or will be.
        images: the split.
        model: on its device.
        machine: its loader processes are reckoned with, not used.
        most: pictures in one pass.

    Returns:
        The pace of one set of weights.
    """
    alone = replace(machine, workers=0)
    whole = make_evaluator(config, images, alone)
    size = min(most, whole.batch_size, len(images))
    settings = replace(config, evaluation=replace(config.evaluation, batch_size=size))
    evaluator = make_evaluator(settings, images, alone)
    moments: list[float] = []

    def enough() -> bool:
        moments.append(time.perf_counter())
        return moments[-1] - moments[0] > _PATIENCE_S / 2 and len(moments) > _LEAST_STEPS

    with suppress(EvaluationStopped):
        evaluator(model, stop=enough)
        moments.append(time.perf_counter())  # the end of the last batch
    started = time.perf_counter()
    for row in range(size):
        evaluator.samples[row]
    loading_s = (time.perf_counter() - started) / size
    # The last batch may be a smaller one, the first finds nothing in place.
    batches = [after - before for before, after in pairwise(moments)]
    batch_s = statistics.median(batches[1:-1] or batches[:1])
    if size < whole.batch_size and batch_s / size * whole.batch_size < 2 * _PATIENCE_S:
        with suppress(EvaluationStopped):  # one whole batch, for the memory it takes
            whole(model, stop=iter([False, True]).__next__)
    shared = max(1, min(machine.workers, usable_cores()))
    return Pace(compute_s=max(0.0, batch_s / size - loading_s), loading_s=loading_s / shared)
