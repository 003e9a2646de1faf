"""ImageNet-1k's classes, and what other data sets say of them: ReaL's labels, lists of 200.

The lists are those that timm ships; the tests hold them against the published files.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from functools import cache
from importlib.util import find_spec
from pathlib import Path

CLASSES = 1000
VAL_IMAGES = 50_000
_VAL_NAME = re.compile(r"ILSVRC2012_val_(\d{8})\b")


@cache
def wnids() -> tuple[str, ...]:
    """Return the WordNet ids of the 1,000 classes, in the order of the class numbers."""
    return tuple(_read("imagenet_synsets.txt").split())


@cache
def class_texts() -> tuple[str, ...]:
    """Return the names of the 1,000 classes, such as `tench, Tinca tinca`, in their order."""
    lines = (line.partition("\t") for line in _read("imagenet_synset_to_lemma.txt").splitlines())
    known = {wnid: text for wnid, _, text in lines}
    return tuple(known[wnid] for wnid in wnids())


@cache
def listed_classes(name: str) -> tuple[int, ...]:
    """Return the numbers of the 200 classes of ImageNet-A (`a`) or ImageNet-R (`r`), ascending."""
    return tuple(sorted(map(int, _read(f"imagenet_{name}_indices.txt").split())))


@cache
def real_labels() -> tuple[tuple[int, ...], ...]:
    """Return ReaL's labels of the 50,000 validation images in the order of their file names.

    Of 3,163 nobody found one (L. Beyer et al., Are We Done with ImageNet?, arXiv 2006.07159).
    """
    return tuple(map(tuple, json.loads(_read("imagenet_real_labels.json"))))


def in_published_order(classes: Sequence[str]) -> bool:
    """Say whether a model's classes are ImageNet-1k's in the order that masks and labels are for.

    Args:
        classes: its names of them.

    Returns:
        Whether these are the WordNet ids, or the names that go with them.
    """
    return tuple(classes) in (wnids(), class_texts())


def val_number(name: str) -> int | None:
    """Return the number, from 0, of a validation image by its file name; None where it has none.

    >>> val_number("n01440764/ILSVRC2012_val_00000293.JPEG")
    292
    """
    found = _VAL_NAME.search(name)
    return None if found is None else int(found[1]) - 1


def _read(name: str) -> str:
    spec = find_spec("timm")  # finds it, and imports nothing
    if spec is None or spec.origin is None:
        raise AssertionError("timm is a dependency")
    return (Path(spec.origin).parent / "data/_info" / name).read_text(encoding="utf-8")
