"""The weights that a run starts from, wherever they lie."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from torch import nn

from vitx.checkpoint.store import weights_file
from vitx.config.schema import ModelConfig
from vitx.errors import StorageError
from vitx.models.origin import as_safetensors, download, is_remote, what_is_expected
from vitx.models.transfer import Transfer, transfer
from vitx.runs import classes_of


def start_from_weights(
    model: nn.Module, config: ModelConfig, classes: Sequence[str]
) -> Transfer | None:
    """Load the weights that a configuration starts from.

    Args:
        model: receives the values, in place.
        config: names the weights, and says what may happen to them.
        classes: class names of the dataset.

    Returns:
        What became of them; None where they are random.

    Raises:
        StorageError: they can't be had, or are for another model.
    """
    name, weights = config.name, config.weights
    if weights is None:
        return None
    classes_there = None
    if is_remote(weights, name=name):
        file = download(weights, name=name)
    elif Path(weights).exists():
        file = weights_file(weights, config.run_weights)
        classes_there = classes_of(file)
        file = as_safetensors(file, name=name)
    else:
        raise StorageError(what_is_expected(weights, name=name))
    return transfer(
        model,
        file,
        source=weights,
        resize=config.pos_resize,
        partial=config.partial_weights,
        classes=classes,
        classes_there=classes_there,
    )
