"""Recipes: the stages of a published result, what to expect, and where each setting is from.

Read from `recipes/*.yaml`. A file with `each:` holds several recipes that differ in a few words: in
every text `{word}` stands for the word's value. What authors report stands once, in
`published.csv`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from vitx.config.catalogue import Published, entries
from vitx.errors import UsageError, near_matches
from vitx.paths import recipes_dir


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One run of a recipe.

    Attributes:
        name: such as `train`; another stage names its run as `{train}`.
        verb: `train`.
        overrides: as typed behind the verb.
    """

    name: str
    verb: str
    overrides: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Expected:
    """The number to compare with.

    Attributes:
        stage: whose result it is.
        top1: in percent.
        conditions: dataset, size of the pictures, crop.
        source: where it stands.
        spread: what others got with the same settings, in words; empty where unknown.
    """

    stage: str
    top1: float
    conditions: str
    source: str
    spread: str


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """A published result and how to get it.

    Attributes:
        name: as typed.
        title: model and data.
        stages: in order.
        expected: what to compare with; None where nobody reports a number.
        cost: hardware and hours, in words.
        sources: setting or group of settings, and where its value is from.
        differences: what is not as it was published.
    """

    name: str
    title: str
    stages: tuple[Stage, ...]
    expected: Expected | None
    cost: str
    sources: tuple[tuple[str, str], ...]
    differences: tuple[str, ...]


@cache
def recipes() -> dict[str, Recipe]:
    """Return every recipe by name."""
    return {
        recipe.name: recipe
        for file in sorted(recipes_dir().glob("*.yaml"))
        for recipe in _read(file)
    }


def find(name: str) -> Recipe:
    """Return the recipe of a name.

    Raises:
        UsageError: there is none.
    """
    if name not in recipes():
        hint = near_matches(name, recipes()) or "; vitx recipe list shows them"
        raise UsageError(f"no recipe '{name}'{hint}")
    return recipes()[name]


def _read(file: Path) -> Iterator[Recipe]:
    content: dict[str, Any] = yaml.safe_load(file.read_text(encoding="utf-8"))
    each: Mapping[str, Mapping[str, Any]] = content.pop("each", {file.stem: {}})
    for name, words in each.items():
        yield _recipe(name, _filled(content, words))


def _filled(value: Any, words: Mapping[str, Any]) -> Any:
    """Return a value with `{word}` replaced in every text; a text that is but one becomes it."""
    match value:
        case dict():
            return {key: _filled(each, words) for key, each in value.items()}
        case list():
            return [_filled(each, words) for each in value]
        case str():
            for word, held in words.items():
                if value == f"{{{word}}}":
                    return held
                value = value.replace(f"{{{word}}}", str(held))
    return value


def _recipe(name: str, content: dict[str, Any]) -> Recipe:
    stages = tuple(
        Stage(name=key, verb=stage.get("verb", "train"), overrides=tuple(stage["overrides"]))
        for key, stage in content["stages"].items()
    )
    return Recipe(
        name=name,
        title=content["title"],
        stages=stages,
        expected=_expected(content.get("expected"), last=stages[-1].name),
        cost=content.get("cost", "not stated"),
        sources=tuple(content.get("sources", {}).items()),
        differences=tuple(content.get("differences", ())),
    )


def _expected(content: dict[str, Any] | None, *, last: str) -> Expected | None:
    if content is None:
        return None
    stage, spread = content.get("stage", last), content.get("spread", "")
    if "top1" in content:
        return Expected(
            stage=stage,
            top1=float(content["top1"]),
            conditions=content["conditions"],
            source=content["source"],
            spread=spread,
        )
    dataset, tag = content.get("dataset", "imagenet1k"), content.get("tag", "")
    found = _published(content["model"], dataset=dataset, tag=tag, note=content.get("note", ""))
    crop = f", crop {found.crop:g}" if found.crop else ""
    note = f", {found.note}" if found.note else ""
    return Expected(
        stage=stage,
        top1=found.top1,
        conditions=f"{dataset}, {found.image_px} px{crop}{note}",
        source=found.source,
        spread=spread,
    )


def _published(option: str, *, dataset: str, tag: str, note: str) -> Published:
    """Return the first result of these weights whose note has these words."""
    return next(
        each
        for each in entries()[option].published
        if each.dataset == dataset and each.tag == tag and note in each.note
    )
