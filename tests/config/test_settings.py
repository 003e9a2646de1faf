"""The catalogue against its oracles: the dataclasses, a YAML library, Hydra's own composition."""

from __future__ import annotations

import dataclasses
from enum import Enum
from pathlib import Path

import pytest
import yaml
from omegaconf import DictConfig, ListConfig, OmegaConf

from vitx.config.settings import groups, options, read_flat, schema_of, sections, settings
from vitx.config.store import SCHEMAS, compose
from vitx.paths import conf_dir


def test_a_verb_is_found_by_the_name_of_its_dataclass() -> None:
    assert {verb: schema_of(verb) for verb in SCHEMAS} == SCHEMAS


@pytest.mark.parametrize("verb", SCHEMAS)
def test_every_default_is_the_one_that_hydra_composes(verb: str) -> None:
    config = compose(verb)
    for name, setting in settings(verb).items():
        parent = OmegaConf.select(config, setting.section) if setting.section else config
        if parent is None:
            continue  # a section that is null until its group is chosen
        composed = parent[name.rpartition(".")[2]]
        if isinstance(composed, DictConfig | ListConfig):
            composed = OmegaConf.to_container(composed)
        if isinstance(composed, Enum):
            composed = composed.name
        shown = setting.default if setting.kind in ("choice", "text") else _read(setting.default)
        shown = None if shown == "null" else shown
        assert shown == (pytest.approx(composed) if isinstance(composed, float) else composed), name


def _read(text: str) -> object:
    try:
        return float(text)
    except ValueError:
        return yaml.safe_load(text)


def _flattened(value: object, prefix: str = "") -> dict[str, object]:
    if not isinstance(value, dict):
        return {}
    found: dict[str, object] = {}
    for key, inner in value.items():
        if isinstance(inner, dict):
            found |= _flattened(inner, f"{prefix}{key}.")
        elif key != "defaults":
            found[prefix + key] = inner
    return found


@pytest.mark.parametrize("file", sorted(conf_dir().rglob("*.yaml")), ids=lambda file: file.stem)
def test_the_flat_reader_agrees_with_a_yaml_library(file: Path) -> None:
    expected = _flattened(yaml.safe_load(file.read_text(encoding="utf-8")))
    read = read_flat(file)
    for name, text in read.items():
        if text.startswith("{"):
            inner = {f"{name}.{key}": value for key, value in yaml.safe_load(text).items()}
            assert all(expected.pop(key) == value for key, value in inner.items())
            continue
        value = expected.pop(name)
        if isinstance(value, str):
            assert text == value, name
        else:
            assert yaml.safe_load(text) == value, name
    assert not expected


def test_every_field_is_documented() -> None:
    undocumented = [
        name for verb in SCHEMAS for name, setting in settings(verb).items() if not setting.doc
    ]
    assert undocumented == []
    assert all(doc for verb in SCHEMAS for doc in sections(verb).values())


@pytest.mark.parametrize("verb", SCHEMAS)
def test_groups_and_options_are_those_that_hydra_composes(verb: str) -> None:
    config = compose(verb)
    choices = {k: v for k, v in config.hydra.runtime.choices.items() if "/" not in k}
    chosen = {name: group.default for name, group in groups(verb).items() if group.default}
    assert chosen == {name: option for name, option in choices.items() if option}
    for group in groups(verb).values():
        assert group.options == tuple(sorted(f.stem for f in (conf_dir() / group.name).iterdir()))


def test_a_further_folder_adds_options(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "mine.yaml").write_text("name: resnet18\n", encoding="utf-8")
    assert "mine" not in options("model")
    assert "mine" in groups("train", [tmp_path])["model"].options


def test_path_settings_are_marked_by_the_schema() -> None:
    assert {name for name, setting in settings("train").items() if setting.path} == {
        "dataset.path",
        "model.weights",
        "run_dir",
        "resume",
    }
    assert settings("eval")["run"].path
    assert all(dataclasses.is_dataclass(schema) for schema in SCHEMAS.values())
