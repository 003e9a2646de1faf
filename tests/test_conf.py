"""Everything that ships composes, resolves and names what exists; recipes are the papers'."""

from __future__ import annotations

from typing import Any

import pytest
import yaml
from omegaconf import OmegaConf

from vitx.config.quoting import hydra_arguments
from vitx.config.resolve import resolve, to_plain
from vitx.config.schema import ModelConfig
from vitx.config.screening import screen
from vitx.config.settings import groups
from vitx.config.store import SCHEMAS, compose
from vitx.config.words import split
from vitx.paths import conf_dir
from vitx.runtime.torchvision_ops import declare_missing_ops

# What an option leaves to be given.
GIVEN = {
    ("model", "timm"): "model.name=resnet18",
    ("teacher", "timm"): "teacher.name=resnet18",
    ("teacher", "run"): "teacher.weights=/runs/x",
    ("optimizer", "timm"): "optimizer.name=adan",
    ("dataset", "folder"): "dataset.path=/pictures",
    ("dataset", "hub"): "dataset.path=org/name",
}
CHOICES = [
    (verb, group.name, option)
    for verb in SCHEMAS
    for group in groups(verb).values()
    for option in group.options
]
# These set values of other groups.
GLOBAL = {"experiment", "debug"}


def rows(verb: str) -> list[dict[str, str]]:
    """Return choices of one option of each group, so that every option is in one of them.

    The models that are more than the options of any other group are left out.
    """
    found = {name: g.options for name, g in groups(verb).items() if name not in GLOBAL}
    length = max(len(options) for name, options in found.items() if name != "model")
    return [
        {name: options[number % len(options)] for name, options in found.items()}
        for number in range(length)
    ]


ROWS = [(verb, row) for verb in SCHEMAS for row in rows(verb)]


def resolved(verb: str, *overrides: str) -> Any:
    words = split(verb, list(overrides))
    screen(verb, words)
    return resolve(compose(verb, hydra_arguments(verb, words)), SCHEMAS[verb])


def options(group: str) -> dict[str, dict[str, Any]]:
    return {
        file.stem: yaml.safe_load(file.read_text(encoding="utf-8")) or {}
        for file in conf_dir().glob(f"{group}/*.yaml")
    }


def check(verb: str, chosen: dict[str, str]) -> None:
    given = [GIVEN[choice] for choice in chosen.items() if choice in GIVEN]
    plain = to_plain(resolved(verb, *(f"{g}={o}" for g, o in chosen.items()), *given))
    for group, option in chosen.items():
        # What the file says is what the run gets.
        for name, value in options(group)[option].items():
            if value != "???" and not isinstance(value, dict):
                assert plain[group][name] == value, f"{group}={option} {name}"


@pytest.mark.parametrize(("verb", "chosen"), ROWS)
def test_every_option_composes_and_resolves(verb: str, chosen: dict[str, str]) -> None:
    check(verb, chosen)


@pytest.mark.parametrize(
    ("verb", "group", "option"), [c for c in CHOICES if c[1] in GLOBAL], ids=str
)
def test_options_for_everything_compose_and_resolve(verb: str, group: str, option: str) -> None:
    resolved(verb, f"{group}={option}")


@pytest.mark.slow
@pytest.mark.parametrize("option", groups("train")["model"].options)
def test_every_model_composes_and_resolves(option: str) -> None:
    check("train", {"model": option})


def test_every_model_is_made_of_settings_of_a_model() -> None:
    schema = OmegaConf.structured(ModelConfig)
    for option, values in options("model").items():
        merged = OmegaConf.merge(schema, values)
        assert OmegaConf.missing_keys(merged) <= {"name"}, option


def test_there_is_no_folder_that_no_verb_has() -> None:
    folders = {folder.name for folder in conf_dir().iterdir() if folder.is_dir()}
    assert folders == {group for _, group, _ in CHOICES}
    assert {file.stem for file in conf_dir().glob("*.yaml")} == {*SCHEMAS, "quiet"}


def test_no_option_names_a_python_object() -> None:
    for file in conf_dir().rglob("*.yaml"):
        assert "_target_" not in file.read_text(encoding="utf-8")


def test_every_model_is_registered() -> None:
    declare_missing_ops()
    import timm

    from vitx.models.architectures import alternet, cifar_vit  # noqa: F401

    for option, values in options("model").items():
        name = values["name"]
        assert name == "???" or timm.is_model(name), option


def test_every_optimizer_is_one_of_timms() -> None:
    declare_missing_ops()
    from timm.optim import list_optimizers

    known = {"???", *list_optimizers()}
    assert {values["name"] for values in options("optimizer").values()} <= known


# XCiT: README, detection and segmentation configurations; DeiT: main.py; DeiT III: README_revenge.
DROP_PATH = {
    **dict.fromkeys(["deit_ti", "deit_s", "deit_b"], 0.1),
    "deit3_s": 0.05,
    "deit3_b": 0.2,
    "deit3_l": 0.45,
    "deit3_h": 0.6,
    "xcit_s12": 0.05,
    "xcit_s12_p8": 0.05,
    "xcit_s24": 0.1,
    "xcit_s24_p8": 0.1,
    "xcit_m24": 0.15,
    "xcit_m24_p8": 0.15,
}


def test_drop_path_is_the_papers() -> None:
    found = options("model")
    for option, rate in DROP_PATH.items():
        assert found[option]["drop_path"] == rate, option
    assert "drop_path" not in found["xcit_t12"]


# DeiT's and XCiT's main.py at its defaults; DeiT III's README_revenge, ImageNet-1k, stage 1.
RECIPES = {
    "deit": {
        "crop": "random_resized",
        "scale": [0.08, 1.0],
        "interpolation": "bicubic",
        "hflip": 0.5,
        "auto_augment": "rand-m9-mstd0.5-inc1",
        "erase_prob": 0.25,
        "erase_mode": "pixel",
        "erase_count": 1,
        "repeats": 3,
        "mixup": 0.8,
        "cutmix": 1.0,
        "mix_prob": 1.0,
        "mix_switch_prob": 0.5,
        "mix_mode": "batch",
        "label_smoothing": 0.1,
        "eval_crop_ratio": 0.875,
    },
    "three_augment": {
        "auto_augment": "3a",
        "color_jitter": 0.3,
        "erase_prob": 0.0,
        "repeats": 3,
        "mixup": 0.8,
        "cutmix": 1.0,
        "label_smoothing": 0.0,
        "interpolation": "bicubic",
        "eval_crop_ratio": 1.0,
    },
}


@pytest.mark.parametrize("option", RECIPES)
def test_augmentation_is_the_papers(option: str) -> None:
    plain = to_plain(resolved("train", f"augmentation={option}"))["augmentation"]
    assert {name: plain[name] for name in RECIPES[option]} == RECIPES[option]


def test_the_experiment_on_cifar10_is_deits() -> None:
    config = resolved("train", "experiment=deit_cifar10")
    plain = to_plain(config)
    assert plain["optimizer"]["lr"] == 5e-4
    assert plain["optimizer"]["lr_batch"] == 512
    assert (plain["optimizer"]["name"], plain["optimizer"]["weight_decay"]) == ("adamw", 0.05)
    assert (plain["schedule"]["kind"], plain["schedule"]["warmup"]) == ("cosine", "5ep")
    assert (plain["schedule"]["warmup_lr"], plain["schedule"]["min_lr"]) == (1e-6, 1e-5)
    deit = RECIPES["deit"]
    assert {name: plain["augmentation"][name] for name in deit} == deit


def test_what_is_typed_wins_over_an_experiment() -> None:
    config = resolved("train", "experiment=deit_cifar10", "model=xcit_n12", "optimizer.lr=0.1")
    assert config.model.name == "xcit_nano_12_p16_224"
    assert config.optimizer.lr == 0.1
    assert config.epochs == "100ep"


def test_debug_is_short_and_keeps_a_model_that_is_named() -> None:
    assert resolved("train", "debug=fast").model.args["depth"] == 2
    config = resolved("train", "model=resnet50", "debug=fast")
    assert (config.epochs, config.model.name, config.model.args) == ("10st", "resnet50", {})
