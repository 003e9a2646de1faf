"""Whether a teacher knows the classes of a dataset, by name and in the same order."""

from __future__ import annotations

from collections.abc import Sequence

from vitx.config.schema import ModelConfig
from vitx.errors import UsageError
from vitx.models.build import tag_classes

_IMAGENET_CLASSES = 1000


def other_classes_of_tag(model: ModelConfig, classes: Sequence[str]) -> str:
    """Return why weights of a tag say nothing of these classes; empty where they do.

    Raises:
        UsageError: they are ImageNet's, in another order.
    """
    count = tag_classes(model.weights or "", name=model.name)
    if count is not None and count != len(classes):
        return f"{model.weights} is for {count} classes, the dataset has {len(classes)}"
    for names in _known_orders(count):
        if set(names) == set(classes) and tuple(names) != tuple(classes):
            raise UsageError(f"teacher.weights={model.weights}: {difference(names, classes)}")
    return ""


def difference(there: Sequence[str], here: Sequence[str]) -> str:
    """Return how the classes of a teacher differ from the dataset's; empty where they don't."""
    if tuple(there) == tuple(here):
        return ""
    if len(there) != len(here):
        return f"the teacher knows {len(there)} classes, the dataset has {len(here)}"
    order = "in another order" if sorted(there) == sorted(here) else "others"
    number = next(at for at, pair in enumerate(zip(there, here, strict=True)) if len({*pair}) > 1)
    return (
        f"the classes of the teacher are {order}: class {number} is {there[number]!r}, "
        f"in the dataset {here[number]!r}"
    )


def _known_orders(count: int | None) -> list[list[str]]:
    """Return the names that classes of ImageNet go by, in the order of published weights."""
    if count != _IMAGENET_CLASSES:
        return []
    from timm.data import ImageNetInfo

    info = ImageNetInfo()
    return [list(info.label_names()), list(info.label_descriptions())]
