"""What a run is measured on: suites by name, or another dataset."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from vitx.config.schema import EvalConfig, TrainConfig
from vitx.data.sources import Splits, load_val
from vitx.errors import UsageError
from vitx.evaluate.suites.names import GROUPS, NAMES, named
from vitx.evaluate.suites.own import as_it_is, usual_sizes
from vitx.evaluate.suites.published import Given
from vitx.evaluate.suites.suite import Suite
from vitx.evaluate.suites.table import SUITES
from vitx.runs import check_name

Own = Callable[[], Splits]
"""Finds the data that a run was trained on; asked twice it answers from memory."""


def result_names(config: EvalConfig) -> list[str]:
    """Return the names of the results."""
    if config.dataset is None:
        return named(config.suite)
    if len(config.suite) != 1 or config.suite[0] in {*NAMES, *GROUPS}:
        raise UsageError("suite=NAME of your own is needed for the result on another dataset")
    return [check_name(config.suite[0])]


def find_classes(record: dict[str, Any], own: Own) -> tuple[str, ...]:
    """Return the names of the model's classes; the data it was trained on need not be here.

    Args:
        record: run.json; empty where it was lost.
        own: finds these data.
    """
    return tuple(record.get("classes") or own().classes)


def find_suites(
    config: EvalConfig,
    trained: TrainConfig,
    classes: tuple[str, ...],
    names: Sequence[str],
    own: Own,
    *,
    patch_px: int | None = None,
) -> tuple[Suite, ...]:
    """Find what is measured on.

    Args:
        config: says where it is.
        trained: the run's configuration.
        classes: of the model.
        names: of the suites.
        own: finds the data of the run.
        patch_px: what the side of a picture has to be a multiple of, if anything.

    Returns:
        The suites in the order of the names.

    Raises:
        VitxError: something is not there, or of other classes.
    """
    if config.dataset is not None:
        found = load_val(config.dataset, classes=classes)
        return (as_it_is(names[0], found.val, found.notes),)
    given = Given(
        classes=classes,
        own=lambda: own().val,
        config=trained.dataset,
        data=None if config.data is None else Path(config.data),
        paths=dict(config.paths),
        partial=config.partial,
        sizes_px=tuple(config.resolutions) or usual_sizes(trained.image_px, patch_px or 1),
        corruptions=tuple(config.corruptions),
        severities=tuple(config.severities),
    )
    return tuple(SUITES[name](given) for name in names)
