"""Published sets: what they are checked for, and how answers on them count."""

import io
from collections.abc import Callable, Sequence
from pathlib import Path

import datasets
import numpy as np
import pytest
import torch
from PIL import Image

from vitx.config.schema import DatasetConfig
from vitx.data.images import LabelledImages
from vitx.errors import DataError
from vitx.evaluate.judging import Rules, judge
from vitx.evaluate.suites.imagenet import (
    class_texts,
    in_published_order,
    listed_classes,
    real_labels,
    wnids,
)
from vitx.evaluate.suites.names import GROUPS, NAMES
from vitx.evaluate.suites.published import Given, published, real, with_real_labels
from vitx.evaluate.suites.table import SUITES


def nothing() -> LabelledImages:
    raise AssertionError("nobody asks for the run's own split")


def given(classes: Sequence[str] = (), **settings: object) -> Given:
    known = {"data": None, "paths": {}, **settings}
    return Given(classes=tuple(classes or wnids()), own=nothing, config=DatasetConfig(), **known)


def picture() -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (4, 4)).save(file, format="PNG")
    return file.getvalue()


def write(root: Path, folders: Sequence[str], names: Callable[[int, int], str]) -> Path:
    """Write the pictures that `names` has for each folder, by its number and theirs."""
    content, number = picture(), 0
    for folder in folders:
        (root / folder).mkdir(parents=True)
        for one in range(2):
            (root / folder / names(number, one)).write_bytes(content)
            number += 1
    return root


def test_every_name_has_its_suite() -> None:
    assert tuple(SUITES) == NAMES
    assert all(set(names) <= set(NAMES) for names in GROUPS.values())


def test_the_lists_are_the_published_ones() -> None:
    assert len(wnids()) == len(set(wnids())) == 1000
    assert sorted(wnids()) == list(wnids())
    assert (wnids()[0], class_texts()[0]) == ("n01440764", "tench, Tinca tinca")
    assert (wnids()[999], class_texts()[999]) == (
        "n15075141",
        "toilet tissue, toilet paper, bathroom tissue",
    )
    for name, first in (("a", "n01498041"), ("r", "n01443537")):
        listed = listed_classes(name)
        assert len(set(listed)) == 200
        assert wnids()[listed[0]] == first


def test_real_has_the_published_counts() -> None:
    labels = real_labels()
    assert len(labels) == 50_000
    assert sum(not each for each in labels) == 3_163
    assert sum(len(each) > 1 for each in labels) == 7_443
    assert max(map(len, labels)) == 9


def validation(labels: np.ndarray, name: Callable[[int], str]) -> LabelledImages:
    """ImageNet's validation images by name, all of them one tiny picture."""
    content = picture()
    data = datasets.Dataset.from_dict(
        {"image": [{"bytes": content, "path": name(n)} for n in range(len(labels))]},
        features=datasets.Features({"image": datasets.Image(decode=False)}),
    )
    return LabelledImages(name="val", data=data, image_column="image", labels=labels)


def first_of_real() -> np.ndarray:
    return np.array([each[0] if each else 0 for each in real_labels()])


def test_a_predictor_known_in_advance_scores_what_it_has_to() -> None:
    """It says the last of ReaL's labels where the number is even, and nonsense elsewhere."""
    images = validation(first_of_real(), lambda n: f"ILSVRC2012_val_{n + 1:08d}.JPEG")
    scored, accepted = with_real_labels(images)
    assert len(scored) == 46_837

    labels = real_labels()
    kept = [number for number, each in enumerate(labels) if each]
    logits = torch.zeros(300, 1000)
    expected = []
    for row in range(300):
        right = row % 2 == 0
        wrong = next(c for c in range(1000) if c not in labels[kept[row]])
        logits[row, labels[kept[row]][-1] if right else wrong] = 1.0
        expected.append(right)
    rows = torch.arange(300)
    found = judge(logits, torch.tensor(scored.labels[:300]), rows, Rules(accepted=accepted))
    assert found.correct.tolist() == expected


def test_real_is_joined_by_name_whatever_the_order() -> None:
    order = np.random.default_rng(0).permutation(50_000)
    images = validation(
        first_of_real()[order], lambda n: f"n01/ILSVRC2012_val_{order[n] + 1:08d}.JPEG"
    )
    _, accepted = with_real_labels(images)
    assert accepted == [real_labels()[n] for n in order if real_labels()[n]]


@pytest.mark.parametrize(
    ("name", "says"),
    [
        (lambda n: f"{n}.png", "50 of 50 images can't be joined with ReaL's labels, such as '0.p"),
        (lambda n: f"ILSVRC2012_val_{n // 2 + 1:08d}.JPEG", "25 images are there more than once"),
        (lambda n: f"ILSVRC2012_val_{n + 50_000:08d}.JPEG", "49 of 50 images can't be joined"),
        (lambda n: f"ILSVRC2012_val_{n + 7:08d}.JPEG", "of its labels have the original one"),
    ],
)
def test_what_can_not_be_joined(name: Callable[[int], str], says: str) -> None:
    with pytest.raises(DataError, match=says):
        with_real_labels(validation(first_of_real()[:50], name))


def test_v2_is_read_by_class_number_and_not_by_the_order_of_names(tmp_path: Path) -> None:
    folders = [str(n) for n in range(1000)]
    write(tmp_path / "imagenetv2-matched-frequency-format-val", folders, lambda n, _: f"{n}.jpeg")
    with pytest.raises(DataError, match=r"suite=v2: 2,000 of 10,000 pictures are there; 1000 clas"):
        published("v2", given(data=tmp_path))

    suite = published("v2", given(data=tmp_path, partial=True))
    (part,) = suite.parts
    names = part.images.file_names()
    assert [int(name.split("/")[0]) for name in names] == part.images.labels.tolist()
    assert names[2].startswith("1/")
    assert names[4].startswith("10/")  # behind 1 by name, with label 10
    assert "2,000 of 10,000" in suite.notes[0]


@pytest.mark.parametrize("name", ["a", "r"])
def test_a_list_of_200_masks_the_others(name: str, tmp_path: Path) -> None:
    folders = [wnids()[n] for n in listed_classes(name)]
    write(tmp_path / "some where", folders, lambda n, _: f"{n}.jpg")
    suite = published(name, given(paths={name: str(tmp_path / "some where")}, partial=True))
    (part,) = suite.parts
    assert part.rules.among == listed_classes(name)
    assert set(part.images.labels.tolist()) == set(listed_classes(name))

    other = next(n for n in range(1000) if n not in listed_classes(name))
    write(tmp_path / "some where", [wnids()[other]], lambda n, _: f"{n}.jpg")
    with pytest.raises(DataError, match=f"1 classes that it has not, such as {wnids()[other]}"):
        published(name, given(paths={name: str(tmp_path / "some where")}, partial=True))


def test_classes_that_are_missing_are_told(tmp_path: Path) -> None:
    write(tmp_path / "sketch", wnids()[:7], lambda n, _: f"{n}.jpg")
    with pytest.raises(DataError, match=r"14 of 50,889 pictures .* none of 993 classes, such as"):
        published("sketch", given(data=tmp_path))


@pytest.mark.parametrize(
    ("classes", "says"),
    [
        (("a", "b"), "the model has 2$"),
        (tuple(map(str, range(1000))), "others: class 0 is '0', not 'n01440764'"),
        (tuple(reversed(wnids())), "the same ones in another order: class 0 is 'n15075141'"),
    ],
)
def test_models_of_other_classes_are_refused(classes: tuple[str, ...], says: str) -> None:
    assert not in_published_order(classes)
    for find in (lambda: published("a", given(classes)), lambda: real(given(classes))):
        with pytest.raises(DataError, match=says):
            find()


def test_both_names_of_the_classes_are_known() -> None:
    assert in_published_order(wnids())
    assert in_published_order(class_texts())


def test_data_that_is_nowhere_says_what_to_get(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"nothing says where its pictures are; .* paths.v2=DIR"):
        published("v2", given())
    with pytest.raises(DataError, match=r"data=.*: no directory .*/imagenet-a; expected 7,500 pi"):
        published("a", given(data=tmp_path))
    with pytest.raises(DataError, match=r"paths.imagenet=.*: no directory"):
        real(given(paths={"imagenet": str(tmp_path / "nowhere")}))
