"""Which weights are measured: of one checkpoint, of several, of several runs."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from vitx.checkpoint.manifest import find_damage
from vitx.checkpoint.store import path_of, steps_in
from vitx.config.resolve import load_run_config, run_config_from, to_plain
from vitx.config.schema import EvalCombine, EvalConfig, EvalCrop, PosResize, TrainConfig, Weights
from vitx.errors import StorageError, UsageError
from vitx.files import read_json
from vitx.foreign_run import as_written
from vitx.models.ensemble import Ensemble, mean_of_weights
from vitx.models.of_run import make_model, picture_format
from vitx.models.transfer import transfer
from vitx.models.weights import load_weights
from vitx.parts import Machine
from vitx.runs import RunDir, find_run

_STEP = re.compile(r"[0-9]{1,8}")
_RESIZE = PosResize.bicubic_antialias  # timm's own way


@dataclass(frozen=True, kw_only=True)
class Member:
    """Weights of a run.

    Attributes:
        run: its directory.
        config: its configuration.
        weights: `model` or `ema`.
        steps: of the checkpoints, ascending; of several the mean is meant.
    """

    run: Path
    config: TrainConfig
    weights: str
    steps: tuple[int, ...]

    def as_plain(self) -> dict[str, Any]:
        """Return it as plain data."""
        return {
            "run": str(self.run),
            "config": to_plain(self.config),
            "weights": self.weights,
            "steps": self.steps,
        }

    @classmethod
    def restore(cls, plain: dict[str, Any]) -> Member:
        """Return what `as_plain` was of."""
        return cls(
            run=Path(plain["run"]),
            config=run_config_from(plain["config"]),
            weights=plain["weights"],
            steps=tuple(plain["steps"]),
        )

    @property
    def files(self) -> list[Path]:
        """The file of weights of each checkpoint."""
        folders = (path_of(self.run / "checkpoints", step) for step in self.steps)
        return [folder / f"{self.weights}.safetensors" for folder in folders]

    def __str__(self) -> str:
        if len(self.steps) == 1:
            return f"{path_of(self.run / 'checkpoints', self.steps[0])}, weights {self.weights}"
        steps = ", ".join(map(str, self.steps))
        return f"{self.run}, mean of weights {self.weights} of steps {steps}"


def find_member(
    run: RunDir,
    trained: TrainConfig,
    *,
    checkpoint: str = "last",
    weights: Weights = Weights.auto,
    average: int = 1,
) -> Member:
    """Return weights of a run.

    Args:
        run: the run.
        trained: its configuration.
        checkpoint: last, best or a step.
        weights: which kind of them.
        average: of how many checkpoints up to that one.

    Raises:
        StorageError: there is no such checkpoint, or one is damaged.
        UsageError: there are not so many to average, or no average was kept.
    """
    step = find_step(run, checkpoint)
    steps = [each for each in steps_in(run.checkpoints) if each <= step][-average:]
    if len(steps) < average:
        raise UsageError(
            f"average={average}: {run.path} has {len(steps)} checkpoints up to step {step}"
        )
    for each in steps:
        folder = path_of(run.checkpoints, each)
        if damage := find_damage(folder):
            raise StorageError(f"checkpoint {folder} is damaged: {damage}; try another checkpoint=")
    kind = _choose_weights(weights, path_of(run.checkpoints, step))
    return Member(run=run.path, config=trained, weights=kind, steps=tuple(steps))


def find_step(run: RunDir, checkpoint: str) -> int:
    """Return the step of the checkpoint that is asked for; what is in it is not looked at.

    Raises:
        StorageError: the run has no such checkpoint.
        UsageError: `checkpoint` is neither last, best nor a step.
    """
    steps = steps_in(run.checkpoints)
    if not steps:
        raise StorageError(f"{run.path} has no checkpoint yet")
    if checkpoint == "last":
        step = steps[-1]
    elif checkpoint == "best":
        file = path_of(run.checkpoints, steps[-1]) / "state.json"
        with as_written(file):
            step = int(read_json(file)["callbacks"]["evaluation"]["best_step"] or steps[-1])
    elif _STEP.fullmatch(checkpoint):
        step = int(checkpoint)
    else:
        raise UsageError(f"checkpoint={checkpoint}: expected last, best or a step number")
    if step not in steps:
        known = ", ".join(map(str, steps))
        raise StorageError(f"{run.path} has no checkpoint of step {step}; it has {known}")
    return step


def _choose_weights(wanted: Weights, checkpoint: Path) -> str:
    """Return `ema` or `model`.

    Raises:
        UsageError: the average is asked for and the run kept none.
    """
    has_ema = (checkpoint / "ema.safetensors").is_file()
    if wanted is Weights.ema and not has_ema:
        raise UsageError("weights=ema: this run kept no average (ema.decay was null)")
    return "ema" if has_ema and wanted is not Weights.model else "model"


def find_others(config: EvalConfig, first: Member) -> list[Member]:
    """Return the newest weights of the further runs.

    Raises:
        UsageError: one sees other pictures, or its weights are of another model.
        StorageError: one can't be read.
    """
    found = []
    for path in config.also:
        run = find_run(path)
        trained = load_run_config(run.config)
        member = find_member(run, trained, weights=config.weights, average=config.average)
        if picture_format(trained) != picture_format(first.config):
            raise UsageError(f"also={path}: its model sees other pictures: size, channels or mean")
        if config.combine is EvalCombine.weights and trained.model != first.config.model:
            raise UsageError(f"also={path}: combine=weights takes runs of one model")
        found.append(member)
    return found


def suffix_of(config: EvalConfig, members: Sequence[Member]) -> str:
    """Return what the names of results have behind that of the suite: none takes another's place.

    Nothing is added for one checkpoint that is shown and asked what training showed and asked it.
    """
    parts = [] if config.head is None else [config.head.name]
    if (steps := len(members[0].steps)) > 1:
        parts.append(f"average{steps}")
    if len(members) > 1:
        what = "ensemble" if config.combine is EvalCombine.probabilities else "soup"
        parts.append(f"{what}{len(members)}")
    if config.crop is not EvalCrop.own:
        parts.append(config.crop.name)
    return "".join(f"-{part}" for part in parts)


def build(
    members: Sequence[Member],
    combine: EvalCombine,
    *,
    classes: int,
    settings: TrainConfig,
    machine: Machine,
    image_px: int | None = None,
) -> nn.Module:
    """Build the model that members are together; rank 0 reads the weights, the others receive.

    Args:
        members: one at least.
        combine: what several are: the mean of their weights, or of their probabilities.
        classes: C.
        settings: as evaluation has them.
        machine: where it is computed.
        image_px: side of the pictures; None is that of training.

    Returns:
        It, on its device.
    """

    def one(group: Sequence[Member]) -> nn.Module:
        own = dataclasses.replace(settings, model=group[0].config.model, seed=group[0].config.seed)
        if image_px is not None:
            own = dataclasses.replace(
                own, dataset=dataclasses.replace(own.dataset, image_px=image_px)
            )
        model = make_model(own, num_classes=classes, device=machine.device)
        if machine.world.leads:
            _fill(
                model, [file for each in group for file in each.files], resized=image_px is not None
            )
        machine.world.share_in_place(list(model.state_dict().values()))
        return model

    if combine is EvalCombine.weights or len(members) == 1:
        return one(members)
    return Ensemble([one([member]) for member in members])


def _fill(model: nn.Module, files: Sequence[Path], *, resized: bool) -> None:
    if len(files) == 1:
        _load(model, files[0], resized=resized)
    else:
        model.load_state_dict(mean_of_weights(_states(model, files, resized=resized)))


def _states(
    model: nn.Module, files: Sequence[Path], *, resized: bool
) -> Iterator[dict[str, Tensor]]:
    for file in files:
        _load(model, file, resized=resized)
        yield {name: value.clone() for name, value in model.state_dict().items()}


def _load(model: nn.Module, file: Path, *, resized: bool) -> None:
    if resized:
        transfer(model, file, source=str(file), resize=_RESIZE, partial=False)
    else:
        load_weights(model, file)
