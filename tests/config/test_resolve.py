"""From composed to checked, to plain data, to YAML and back, without a change."""

from __future__ import annotations

import dataclasses
from enum import Enum
from pathlib import Path
from typing import Any

import pytest
import yaml

from vitx.config.resolve import (
    differences,
    dump_yaml,
    load_yaml,
    resolve,
    to_plain,
)
from vitx.config.schema import (
    BadImage,
    DatasetKind,
    EvalConfig,
    Precision,
    TrainConfig,
    WandbMode,
)
from vitx.config.store import compose
from vitx.errors import StorageError, UsageError


def configured(*overrides: str) -> TrainConfig:
    return resolve(compose("train", overrides), TrainConfig)


@pytest.fixture(scope="module")
def default() -> TrainConfig:
    return configured()


def copy(config: TrainConfig, **values: Any) -> TrainConfig:
    """Return it with settings changed; `__` stands for the dot of a name."""
    config = dataclasses.replace(config)
    for name, value in values.items():
        section, _, field = name.rpartition("__")
        if section:
            part = dataclasses.replace(getattr(config, section), **{field: value})
            config = dataclasses.replace(config, **{section: part})
        else:
            config = dataclasses.replace(config, **{field: value})
    return config


def leaves(value: Any) -> list[Any]:
    if isinstance(value, dict):
        return [leaf for each in value.values() for leaf in leaves(each)]
    if isinstance(value, list):
        return [leaf for each in value for leaf in leaves(each)]
    return [value]


def test_resolved_is_dataclasses_and_enums_all_the_way(default: TrainConfig) -> None:
    assert type(default) is TrainConfig
    for field in dataclasses.fields(TrainConfig):
        factory = field.default_factory
        if factory is not dataclasses.MISSING:
            assert type(getattr(default, field.name)) is factory
    assert default.dataset.kind is DatasetKind.digits
    assert default.precision is Precision.auto
    assert type(default.augmentation.scale) is list
    assert type(default.model.args) is dict
    evaluation = resolve(compose("eval"), EvalConfig)
    assert type(evaluation) is EvalConfig
    assert evaluation.dataset is None


def test_enums_are_typed_and_written_by_name() -> None:
    config = configured("precision=bf16", "dataset.bad_image=raise", "logger.wandb.mode=off")
    assert config.precision is Precision.bf16
    assert config.dataset.bad_image is BadImage["raise"]
    assert config.logger.wandb.mode is WandbMode.off
    plain = to_plain(config)
    assert plain["dataset"]["bad_image"] == "raise"
    assert plain["logger"]["wandb"]["mode"] == "off"
    # YAML 1.1 reads a bare `off` as false.
    assert yaml.safe_load(dump_yaml(config))["logger"]["wandb"]["mode"] == "off"


def test_all_problems_come_in_one_error() -> None:
    with pytest.raises(UsageError) as caught:
        configured("epochs=5%", "model.drop_path=2", "augmentation.mix_mode=half", "batch_size=0")
    line = str(caught.value)
    assert line.count("; ") >= 3
    for name in ("epochs=5%", "model.drop_path=2", "augmentation.mix_mode=half", "batch_size=0"):
        assert name in line


def test_plain_is_what_json_and_yaml_know(default: TrainConfig) -> None:
    plain = to_plain(default)
    kinds = {type(leaf) for leaf in leaves(plain)}
    assert kinds <= {str, int, float, bool, type(None)}
    assert list(plain) == [field.name for field in dataclasses.fields(TrainConfig)]

    class Odd(Enum):
        name_of_it = "value"

    assert to_plain({1: (Odd.name_of_it, None)}) == {"1": ["name_of_it", None]}


@pytest.mark.parametrize(
    "overrides",
    [
        (),
        ("experiment=deit_cifar10",),
        ("debug=fast", "model=xcit_s12_p8", "augmentation=three_augment", "objective=bce"),
        ("dataset=folder", "dataset.path='/a b,c=d/ü'", "optimizer=sgd", "schedule=step"),
        ("dataset.mean=[0.1]", "dataset.std=[0.2]", "ema.decay=0.99996", "optimizer.eps=1e-8"),
    ],
)
def test_round_trip(overrides: tuple[str, ...], tmp_path: Path) -> None:
    config = configured(*overrides)
    (tmp_path / "c.yaml").write_text(dump_yaml(config), encoding="utf-8")
    assert load_yaml(tmp_path / "c.yaml", TrainConfig) == config


TEXTS = ["null", "~", "true", "off", "123", "1e-3", "0x1F", "1_000", "2020-01-01", " a ", "a: b",
         "# no", "'", '"', "- x", "{a}", "[a]", "*a", "&a", "!x", "%", "@", "`", "ü 日本", "a\tb",
         "=", "<<", "a,b", "\\n", "5%", "1ep", ".inf", ".nan", "y", "No"]  # fmt: skip


@pytest.mark.parametrize("text", TEXTS)
def test_round_trip_of_texts_that_yaml_would_take_for_something(
    text: str, default: TrainConfig, tmp_path: Path
) -> None:
    config = copy(default, name=text, dataset__path=text, model__args={"a": [text, {text: 1}]})
    (tmp_path / "c.yaml").write_text(dump_yaml(config), encoding="utf-8")
    assert load_yaml(tmp_path / "c.yaml", TrainConfig) == config


@pytest.mark.parametrize("number", [1e-6, 5e-4, 0.1 + 0.2, 1e300, 5e-324, 1 / 3, 0.0])
def test_round_trip_of_numbers(number: float, default: TrainConfig, tmp_path: Path) -> None:
    config = copy(default, optimizer__lr=number, augmentation__scale=[number, 1.0])
    (tmp_path / "c.yaml").write_text(dump_yaml(config), encoding="utf-8")
    assert load_yaml(tmp_path / "c.yaml", TrainConfig) == config


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"3",
        b"- a",
        b"\xff\xfe",
        b"epochs: [1",
        b"zzz: 1",
        b"model: {nmae: x}",
        b"model: 3",
        b"model: {name: x}\nbatch_size: many",
        b"model: {name: x}\nprecision: fp8",
        b"model: {name: x}\nseed: ${oc.env:HOME}",
        b"model: {name: '${x}'}",
        b"model: {name: x, args: {a: '${oc.env:HOME}'}}",
        b"model: !!python/object/apply:os.system [exit]",
        b"epochs: 3ep",
    ],
    ids=lambda content: content.decode("latin-1").replace("\n", " ") or "empty",
)
def test_what_is_not_a_saved_configuration(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_bytes(content)
    with pytest.raises(StorageError) as caught:
        load_yaml(path, TrainConfig)
    line = str(caught.value)
    assert line.startswith(str(path))
    assert "\n" not in line


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="No such file"):
        load_yaml(tmp_path / "none.yaml", TrainConfig)


def test_differences_name_the_setting_and_both_values(default: TrainConfig) -> None:
    assert differences(default, default) == []
    wanted = copy(
        default, optimizer__lr=2e-3, precision=Precision.bf16, model__args={"depth": 2}, seed=3
    )
    assert sorted(differences(default, wanted)) == [
        "model.args: {} in the run, {'depth': 2} now",
        "optimizer.lr: 0.001 in the run, 0.002 now",
        "precision: auto in the run, bf16 now",
        "seed: 0 in the run, 3 now",
    ]


FREE = {
    "dataset.path": "elsewhere",
    "dataset.bad_image": BadImage["skip"],
    "dataset.bad_image_limit": 0.5,
    "dataset.workers": 3,
    "runtime.device": "cuda",
    "runtime.threads": 1,
    "checkpoint.keep": 9,
    "name": "x",
    "run_dir": "y",
    "resume": "never",
    "stop_at": "3ep",
}


def test_what_changes_no_result_is_no_difference(default: TrainConfig) -> None:
    values = {name.replace(".", "__"): value for name, value in FREE.items()}
    free = copy(default, **values)
    free = copy(free, logger__wandb=dataclasses.replace(free.logger.wandb, project="other"))
    assert differences(default, free) == []
