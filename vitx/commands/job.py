"""What Hydra knows of a job besides its configuration."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from hydra.types import RunMode
from omegaconf import OmegaConf

from vitx.config.jobs import label_of


@dataclass(frozen=True, kw_only=True)
class Job:
    """What Hydra knows of a job besides its configuration.

    Attributes:
        choices: the option chosen of each group.
        overrides: what was typed.
        sweep_dir: folder of the sweep, or None outside one.
        number: the job's number in its sweep.
        label: the settings that its sweep varies.
        is_part: whether something else that was asked for needs it.
    """

    choices: dict[str, str | None] = field(default_factory=dict)
    overrides: tuple[str, ...] = ()
    sweep_dir: Path | None = None
    number: int = 0
    label: str = ""
    is_part: bool = False


def job_of(hydra: Any, varied: frozenset[str]) -> Job:
    """Return the job of a composed configuration.

    Args:
        hydra: Hydra's own section of it.
        varied: keys of the settings that its sweep varies.
    """
    # As typed: read one by one, they would be taken for settings with interpolations to resolve.
    task = OmegaConf.to_container(hydra.overrides.task, resolve=False)
    overrides = tuple(map(str, cast("list[str]", task)))
    choices = {str(key): value for key, value in hydra.runtime.choices.items()}
    if hydra.mode is not RunMode.MULTIRUN:
        return Job(choices=choices, overrides=overrides)
    return Job(
        choices=choices,
        overrides=overrides,
        sweep_dir=Path(hydra.sweep.dir),
        label=label_of(overrides, varied),
        number=int(hydra.job.num),
    )
