from pathlib import Path

import datasets
import pytest
from omegaconf import OmegaConf

from vitx.config.store import compose
from vitx.data.sources import load_splits

# Columns, splits and number of classes of the repository that each preset names.
LAYOUTS = {
    "cifar10": ("img", {"label": 10}, ("train", "test"), "test"),
    "cifar100": ("img", {"coarse_label": 20, "fine_label": 100}, ("train", "test"), "test"),
    "fashion_mnist": ("image", {"label": 10}, ("train", "test"), "test"),
    "flowers102": ("image", {"label": 102}, ("train", "validation", "test"), "validation"),
    "pets": ("image", {"label": 37, "label_cat_dog": 2}, ("train", "test"), "test"),
    "food101": ("image", {"label": 101}, ("train", "validation"), "validation"),
    "tiny_imagenet": ("image", {"label": 200}, ("train", "valid"), "valid"),
    "imagenet1k": ("image", {"label": 1000}, ("train", "validation", "test"), "validation"),
}


def preset(name, *overrides):
    composed = compose("train", [f"dataset={name}", *overrides])
    return OmegaConf.to_object(composed.dataset)


@pytest.mark.parametrize("name", LAYOUTS)
def test_preset_with_a_local_copy(tmp_path, picture, hub, name):
    image, labels, splits, expected = LAYOUTS[name]
    features = {image: datasets.Image()}
    features |= {key: datasets.ClassLabel(num_classes=count) for key, count in labels.items()}
    tables = {}
    for split in splits:
        hidden = name == "imagenet1k" and split == "test"
        rows = {image: [{"bytes": picture(shade), "path": None} for shade in range(3)]}
        rows |= {key: [-1 if hidden else count - 1] * 3 for key, count in labels.items()}
        tables[split] = datasets.Dataset.from_dict(rows, features=datasets.Features(features))
    hub(tmp_path / "copy", **tables)
    loaded = load_splits(preset(name, f"dataset.path={tmp_path / 'copy'}"))
    count = max(labels.values())
    assert len(loaded.classes) == count
    assert loaded.val.name == expected
    assert loaded.train.labels.tolist() == [count - 1] * 3
    assert loaded.train.encoded(1) == picture(1)


def test_every_preset_composes():
    names = {file.stem for file in Path(__file__).parents[2].glob("conf/dataset/*.yaml")}
    assert names == set(LAYOUTS) | {"digits", "folder", "hub"}
    for name in LAYOUTS:
        assert preset(name).path.count("/") == 1
    assert preset("digits").channels == 1
