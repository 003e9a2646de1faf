"""Whether the checkpoints of a run find room on their disk."""

from __future__ import annotations

import resource
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from vitx.checkpoint.store import path_of, steps_in
from vitx.config.schema import TrainConfig
from vitx.errors import StorageError
from vitx.optim.size import state_bytes
from vitx.records import Plan
from vitx.runs import RunDir
from vitx.train.events import Every
from vitx.train.trainer import Trainer

GIB = 2**30


@dataclass(frozen=True, kw_only=True)
class Room:
    """What the checkpoints of a run take, and what there is for them.

    Attributes:
        file_bytes: size of each file of a checkpoint, such as `model` and `optimizer`.
        most: checkpoints that lie there at one time: those that are kept, the best one, and the
            one that is being written.
        free_bytes: free, or taken by checkpoints that will make room for others.
        place: where the run is, or will be.
    """

    file_bytes: Mapping[str, int]
    most: int
    free_bytes: int
    place: Path

    @property
    def checkpoint_bytes(self) -> int:
        """Size of a checkpoint."""
        return sum(self.file_bytes.values())

    @property
    def needed_bytes(self) -> int:
        """Size of as many as lie there at one time."""
        return self.checkpoint_bytes * self.most

    def refuse_too_little(self) -> None:
        """Refuse a run whose checkpoints can't be written.

        Raises:
            StorageError: the disk has no room for them, or a file may not be as large.
        """
        if self.needed_bytes > self.free_bytes:
            raise StorageError(
                f"checkpoints need {gib(self.needed_bytes)} and {self.place} has "
                f"{gib(self.free_bytes)} free; free some space, choose another run_dir, or type "
                "checkpoint.keep=2"
            )
        limit = resource.getrlimit(resource.RLIMIT_FSIZE)[0]
        largest = max(self.file_bytes, key=lambda name: self.file_bytes[name])
        if limit != resource.RLIM_INFINITY and self.file_bytes[largest] > limit:
            raise StorageError(
                f"{largest}.safetensors needs {gib(self.file_bytes[largest])} and this shell's "
                f"files may have {gib(limit)}; type ulimit -f unlimited"
            )


def find_room(
    config: TrainConfig,
    plan: Plan,
    run: RunDir,
    file_bytes: Mapping[str, int],
    *,
    step: int,
    place: Path,
) -> Room:
    """Compare what is still to be written with what is free.

    Args:
        config: the whole configuration.
        plan: the length of the run.
        run: where its checkpoints go.
        file_bytes: size of each file of one.
        step: steps that are trained already.
        place: the nearest directory that exists; the folder of checkpoints may be a link elsewhere.

    Returns:
        The room that there is.
    """
    # Every evaluation may find a best step, which is saved at once.
    intervals = [
        Every(config.checkpoint.every, plan, setting="checkpoint.every"),
        Every(config.evaluation.every, plan, setting="evaluation.every"),
    ]
    ahead = (each for each in range(step + 1, plan.total_steps + 1) if _due(intervals, each))
    place = run.checkpoints if run.checkpoints.is_dir() else place
    there = [path_of(run.checkpoints, each) for each in steps_in(run.checkpoints)]
    most = config.checkpoint.keep + 2
    return Room(
        file_bytes=file_bytes,
        most=min(most, len(there) + len(list(islice(ahead, most)))),
        free_bytes=shutil.disk_usage(place).free + sum(map(_size_of, there)),
        place=place,
    )


def refuse_too_little_room(config: TrainConfig, run: RunDir, trainer: Trainer) -> None:
    """Refuse to begin what could not be saved.

    Args:
        config: the whole configuration.
        run: the directory of the run, which is there.
        trainer: stands where the run begins or goes on; nothing of it is changed.

    Raises:
        StorageError: the checkpoints of the run find no room.
    """
    modules = {"model": trainer.model, "helper": trainer.helper}
    if trainer.ema is not None:
        modules["ema"] = trainer.ema.module
    sizes = {
        name: sum(tensor.nbytes for tensor in module.state_dict().values())
        for name, module in modules.items()
        if module is not None
    }
    sizes["optimizer"] = state_bytes(trainer.optimizer, config.optimizer)
    step, place = trainer.state.step, run.path
    find_room(config, trainer.plan, run, sizes, step=step, place=place).refuse_too_little()


def gib(size: float) -> str:
    """Return a number of bytes as text."""
    return f"{size / GIB:.3g} GiB"


def _due(intervals: list[Every], step: int) -> bool:
    return any(each.due(step) for each in intervals)


def _size_of(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.iterdir())
