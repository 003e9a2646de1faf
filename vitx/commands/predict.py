"""`vitx predict`: what is in pictures, as a run says, and where it looks."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vitx.config.plain import read
from vitx.config.resolve import load_run_config
from vitx.config.schema import PredictConfig
from vitx.data.given import Given, find_given
from vitx.errors import DataError, UsageError
from vitx.escapes import visible_line
from vitx.files import storage_errors, strict_floats, writable_place, write_bytes
from vitx.redaction import shown
from vitx.runs import find_run
from vitx.runtime.openmp import wait_politely

if TYPE_CHECKING:
    from vitx.commands.predicting import Prediction, Said

_WIDEST_FILE, _WIDEST_CLASS = 48, 24  # characters; what is longer is told whole, out of line
_OF_TRUE = "attention"


def main(args: list[str]) -> int:
    """Carry out `vitx predict` with these arguments.

    Returns:
        0.

    Raises:
        DataError: some pictures can't be decoded; all others are told.
        VitxError: nothing is told, since a part of it can't be had.
    """
    config = _checked(read("predict", args, PredictConfig))
    given = find_given(config.pictures)
    run = find_run(config.run)
    trained = load_run_config(run.config)
    wait_politely()
    # torch takes seconds to import; what is wrong with the command was said before.
    from vitx.commands.predicting import drawn_names, prepare

    prediction = prepare(config, run, trained)
    places: Sequence[Path | None] = [None] * len(given.names)
    if config.attention is not None:
        folder = Path(config.attention)
        places = drawn_names(given.names, folder)
        with storage_errors(folder):
            folder.mkdir(parents=True, exist_ok=True)
    _begin(config, prediction, given)
    width = min(_WIDEST_FILE, max(len(visible_line(name)) for name in given.names))
    bad: list[Said] = []
    for said, place in zip(prediction.each(given.names), places, strict=True):
        drawn = None if place is None or said.attention is None else _draw(said, place, prediction)
        if said.probabilities is None:
            bad.append(said)
        if config.json:
            print(_object(said, config, prediction, drawn), flush=True)
        else:
            print(shown(_line(said, config, prediction, width)), flush=True)
    if config.attention is not None and not config.json:
        print(shown(f"{prediction.way}; written to {config.attention}"))
    if bad:
        raise DataError(
            f"{len(bad)} of {len(given.names)} pictures can't be decoded, the first is "
            f"{visible_line(bad[0].name)}: {bad[0].reason}"
        )
    return 0


def _checked(config: PredictConfig) -> PredictConfig:
    """Return the settings with `attention=true` and `false` settled.

    Raises:
        UsageError: one can't be carried out.
        StorageError: the folder of attention can't be written.
    """
    if not config.pictures:
        raise UsageError("expected pictures or folders; type vitx predict PICTURE")
    for name in ("top", "batch_size"):
        value = getattr(config, name)
        if value is not None and value < 1:
            raise UsageError(f"{name}={value}: expected 1 or more")
    named = {"true": _OF_TRUE, "false": None}
    config = replace(config, attention=named.get(str(config.attention), config.attention))
    if config.attention == "":
        raise UsageError("attention=: expected a folder, true or null")
    if config.attention is not None:
        writable_place(Path(config.attention))
    return config


def _begin(config: PredictConfig, prediction: Prediction, given: Given) -> None:
    # With json=true stdout is for a program.
    stream = sys.stderr if config.json else sys.stdout
    lines = list(given.notes)
    if not config.json:
        lines.insert(0, f"{prediction.checkpoint}, weights {prediction.weights}")
    for line in lines:
        print(shown(line), file=stream)


def _likeliest(said: Said, top: int, prediction: Prediction) -> Iterator[tuple[str, float]]:
    """Yield the likeliest classes with their probabilities; of equals the first."""
    assert said.probabilities is not None  # noqa: S101 (bad ones are told apart before)
    values, numbers = said.probabilities.sort(descending=True, stable=True)
    for value, number in zip(values[:top].tolist(), numbers[:top].tolist(), strict=True):
        yield prediction.classes[number], value


def _line(said: Said, config: PredictConfig, prediction: Prediction, width: int) -> str:
    name = visible_line(said.name).ljust(width)
    if said.probabilities is None:
        return f"{name}  can't be decoded: {visible_line(said.reason)}"
    names = map(visible_line, prediction.classes)
    wide = min(_WIDEST_CLASS, max(map(len, names)))
    cells = (
        f"{visible_line(each).ljust(wide)} {100 * value:6.2f} %"
        for each, value in _likeliest(said, config.top, prediction)
    )
    return "  ".join([name, *cells])


def _object(
    said: Said, config: PredictConfig, prediction: Prediction, drawn: dict[str, Any] | None
) -> str:
    """Return a line of JSON, of ASCII that a terminal does not obey."""
    told: dict[str, Any] = {"file": said.name}
    if said.probabilities is None:
        told["error"] = said.reason
    else:
        told["predictions"] = [
            {"class": name, "probability": value}
            for name, value in _likeliest(said, config.top, prediction)
        ]
    if drawn is not None:
        told["attention"] = drawn
    told |= {
        "run": str(prediction.run.path),
        "checkpoint": prediction.checkpoint.name,
        "weights": prediction.weights,
        "sha256": prediction.sha256,
    }
    return json.dumps(strict_floats(told), allow_nan=False).replace("\x7f", "\\u007f")


def _draw(said: Said, place: Path, prediction: Prediction) -> dict[str, Any]:
    """Write a picture beside its attention map.

    Returns:
        Where it is, and what its colours stand for.
    """
    from vitx.report.beside import draw_beside

    assert said.attention is not None and said.shown is not None  # noqa: S101 (both or none)
    shares = said.attention.patches[0].numpy()
    ends = f"from {shares.min():.6g} to {shares.max():.6g}, black is 0"
    texts = {
        "Software": "vitx predict",
        "Source": f"{prediction.checkpoint}, weights {prediction.weights} {prediction.sha256}",
        "Description": f"{prediction.way}; {ends}",
    }
    write_bytes(place, draw_beside(said.shown, shares, texts))
    return {
        "file": str(place),
        "what": prediction.way,
        "lowest": float(shares.min()),
        "highest": float(shares.max()),
        "prefix": said.attention.prefix[0].tolist(),
    }
