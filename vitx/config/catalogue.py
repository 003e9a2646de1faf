"""The catalogue: every option of `model=` with its size, its pretrained tags and its results.

Read from files beside this module and from `conf/model/`, with the standard library alone:
`models.csv` holds what was measured (`python -m benchmarks.models` writes it), `published.csv`
what others report, with the place it stands in.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from vitx.config.settings import option_values

FILES = Path(__file__).parent


@dataclass(frozen=True, kw_only=True)
class Published:
    """A result that others report.

    Attributes:
        tag: pretrained weights of timm it belongs to; empty where there are none.
        dataset: whose validation split it is of.
        image_px: side of the pictures.
        crop: side of the centre crop over side of the resized picture; None is not stated.
        top1: in percent.
        source: where it stands.
        note: what is special about it.
    """

    tag: str
    dataset: str
    image_px: int
    crop: float | None
    top1: float
    source: str
    note: str

    @property
    def by_authors(self) -> bool:
        """Whether those report it who trained the model."""
        return not self.source.startswith("timm")


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One option of `model=`.

    Attributes:
        option: its name.
        family: such as XCiT.
        name: architecture, by its timm name.
        image_px: side of the pictures it was published for.
        parameters: trainable ones, with 1000 classes.
        macs: multiply-accumulates for one picture of that size.
        tags: pretrained weights in timm, its default first.
        published: results, those of its authors first, then those at its own size.
    """

    option: str
    family: str
    name: str
    image_px: int
    parameters: int
    macs: int
    tags: tuple[str, ...]
    published: tuple[Published, ...]

    @property
    def result(self) -> Published | None:
        """The ImageNet-1k result of the first tag that has one; that of its authors, if any."""
        known = [each for each in self.published if each.dataset == "imagenet1k"]
        of_tags = (each for tag in self.tags for each in known if each.tag == tag)
        return next(of_tags, known[0] if known else None)


@cache
def entries() -> dict[str, Entry]:
    """Return the catalogue by option, in the order of families and sizes."""
    published = _published()
    return {entry.option: entry for entry in _measured(published)}


def _measured(published: dict[str, list[Published]]) -> Iterator[Entry]:
    with (FILES / "models.csv").open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            values = option_values("model", row["option"])
            name, image_px = values["model.name"], int(values.get("model.image_px", 224))
            own = {f"model.{each}" for each in ("name", "image_px", "drop_path", "drop_path_rule")}
            is_published = values.keys() <= own  # arguments of its own make it another model
            results = [
                *(published.get(row["option"], [])),
                *(published.get(name, []) if is_published else []),
            ]
            yield Entry(
                option=row["option"],
                family=row["family"],
                name=name,
                image_px=image_px,
                parameters=int(row["parameters"]),
                macs=int(row["macs"]),
                tags=tuple(row["tags"].split()),
                published=tuple(sorted(results, key=_least_like(image_px))),
            )


def _least_like(image_px: int) -> Callable[[Published], tuple[bool, bool]]:
    return lambda each: (not each.by_authors, each.image_px != image_px)


def _published() -> dict[str, list[Published]]:
    found: dict[str, list[Published]] = {}
    with (FILES / "published.csv").open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            name, _, tag = row["model"].partition(".")
            result = Published(
                tag=tag,
                dataset=row["dataset"],
                image_px=int(row["image_px"]),
                crop=float(row["crop"]) if row["crop"] else None,
                top1=float(row["top1"]),
                source=row["source"],
                note=row["note"],
            )
            found.setdefault(name, []).append(result)
    return found
