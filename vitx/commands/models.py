"""`vitx models`: the catalogue, filtered and sorted, or all that is known of one model."""

from __future__ import annotations

import dataclasses
import fnmatch
import math
from collections.abc import Callable, Iterator
from typing import Any

from vitx.commands.columns import aligned
from vitx.config.catalogue import Entry, Published, entries
from vitx.config.plain import read
from vitx.config.schema import ModelsConfig, Order
from vitx.errors import UsageError, near_matches

_MOST_TAGS = 3  # in a line of the list
_KEYS: dict[Order, Callable[[Entry], Any]] = {
    Order.model: lambda entry: entry.option,
    Order.parameters: lambda entry: entry.parameters,
    Order.gmacs: lambda entry: entry.macs,
    Order.px: lambda entry: entry.image_px,
    Order.top1: lambda entry: _top1(entry) or math.inf,
}
_NOTES = (
    "GMACs: 10^9 multiply-accumulates for one picture of px, counted by fvcore's rules.",
    "top-1: on ImageNet-1k, in percent, of the first of the weights: in1k alone is trained on",
    "ImageNet-1k only. Of the authors, or with * as timm measured it; - is unknown.",
)


def main(args: list[str]) -> int:
    """Carry out `vitx models` with these arguments."""
    config = read("models", args, ModelsConfig)
    found = select(config)
    named = entries().get(config.pattern or "")
    lines = _about(named) if named is not None else _table(found)
    print("\n".join(lines))
    return 0


def select(config: ModelsConfig) -> list[Entry]:
    """Return the models that were asked for, in the order that was asked for.

    Raises:
        UsageError: there is none.
    """
    families = {entry.family.lower(): entry.family for entry in entries().values()}
    if config.family is not None and config.family.lower() not in families:
        hint = near_matches(config.family, families.values())
        raise UsageError(
            f"family={config.family}: no such family{hint or '; ' + ', '.join(families.values())}"
        )
    for name in ("px", "max_parameters", "max_gmacs", "min_top1"):
        value = getattr(config, name)
        if value is not None and not value > 0:
            raise UsageError(f"{name}={value}: expected more than 0")
    found = [entry for entry in entries().values() if _matches(entry, config)]
    alone = dataclasses.replace(ModelsConfig(), pattern=config.pattern)
    if not found and config != alone and any(_matches(each, alone) for each in entries().values()):
        raise UsageError("no model named so has all that is asked for; leave a filter out")
    if not found:
        pattern = config.pattern or ""
        hint = near_matches(pattern, entries()) if pattern else ""
        raise UsageError(f"no model matches{hint}; one that timm has is model=timm model.name=NAME")
    if config.sort is Order.top1:  # what is unknown stands last
        found = [entry for entry in found if entry.result] if config.descending else found
    if config.sort is not Order.family:
        found.sort(key=_KEYS[config.sort])
    return found[::-1] if config.descending else found


def _matches(entry: Entry, config: ModelsConfig) -> bool:
    pattern = config.pattern or "*"
    if not set("*?[") & set(pattern):
        pattern = f"*{pattern}*"
    names = (entry.option, entry.name, entry.family)
    return (
        any(fnmatch.fnmatchcase(name.lower(), pattern.lower()) for name in names)
        and (config.family is None or entry.family.lower() == config.family.lower())
        and (config.px is None or entry.image_px == config.px)
        and _at_most(entry.parameters / 1e6, config.max_parameters)
        and _at_most(entry.macs / 1e9, config.max_gmacs)
        and (config.min_top1 is None or (_top1(entry) or 0) >= config.min_top1)
    )


def _at_most(value: float, most: float | None) -> bool:
    return most is None or value <= most


def _table(found: list[Entry]) -> Iterator[str]:
    rows = [("model", "family", "parameters", "GMACs", "px", "top-1", "weights")]
    rows += [
        (
            entry.option,
            entry.family,
            f"{entry.parameters / 1e6:.2f} M",
            f"{entry.macs / 1e9:.2f}",
            str(entry.image_px),
            _shown_top1(entry),
            _weights(entry),
        )
        for entry in found
    ]
    yield from aligned(rows, numbers={2, 3, 4, 5})
    yield ""
    yield from _NOTES


def _top1(entry: Entry) -> float | None:
    return entry.result.top1 if entry.result else None


def _weights(entry: Entry) -> str:
    """Return the tags, the one that the shown result is of first."""
    own = entry.result.tag if entry.result else ""
    tags = sorted(entry.tags, key=lambda tag: tag != own)
    return ", ".join(tags[:_MOST_TAGS]) + (", ..." if tags[_MOST_TAGS:] else "")


def _shown_top1(entry: Entry) -> str:
    if entry.result is None:
        return "- "
    return f"{entry.result.top1:.1f}{' ' if entry.result.by_authors else '*'}"


def _about(entry: Entry) -> Iterator[str]:
    yield f"{entry.option}: {entry.family}, {entry.name}"
    yield f"  parameters  {entry.parameters:,} with 1000 classes"
    yield f"  GMACs       {entry.macs / 1e9:.2f} for one picture of {entry.image_px} px"
    yield f"  weights     {', '.join(entry.tags) or 'none in timm'}"
    yield ""
    yield "published top-1 in percent"
    for result in entry.published:
        yield f"  {result.top1:>6.2f}  {_conditions(result)}"
        yield f"          {result.source}"
    if not entry.published:
        yield "  none that vitx knows"
    yield ""
    yield f"vitx train model={entry.option}"


def _conditions(result: Published) -> str:
    parts = [result.dataset, result.tag, f"{result.image_px} px"]
    parts += [f"crop {result.crop:g}"] if result.crop else []
    return ", ".join(part for part in [*parts, result.note] if part)
