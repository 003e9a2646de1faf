"""Composition: registers the schema with Hydra, composes `conf/` and a command line."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from pathlib import Path

from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from omegaconf import DictConfig, OmegaConf

from vitx.config.schema import DistillConfig, EvalConfig, TrainConfig
from vitx.paths import conf_dir, runs_dir

HYDRA_VERSION_BASE = "1.3"
SCHEMAS: dict[str, type] = {"train": TrainConfig, "distill": DistillConfig, "eval": EvalConfig}


def register() -> None:
    """Make the schemas known to Hydra, and the one resolver that `conf/` uses."""
    store = ConfigStore.instance()
    for verb, schema in SCHEMAS.items():
        store.store(name=f"{verb}_schema", node=schema)
    OmegaConf.register_new_resolver("vitx.sweep_dir", _sweep_dir, use_cache=True, replace=True)


def compose(
    verb: str, overrides: Sequence[str] = (), *, config_dir: Path | None = None
) -> DictConfig:
    """Compose the configuration of a verb as the command line does.

    Args:
        verb: name of a primary config, such as `train`.
        overrides: Hydra overrides.
        config_dir: folder of the primary config; the shipped one by default.

    Returns:
        The composed, typed, not yet checked configuration, with Hydra's own part under `hydra`.
    """
    register()
    folder = str((config_dir or conf_dir()).resolve())
    around = GlobalHydra.instance().hydra  # that of a job which composes something else
    GlobalHydra.instance().clear()
    try:
        with initialize_config_dir(config_dir=folder, version_base=HYDRA_VERSION_BASE):
            return hydra_compose(verb, overrides=list(overrides), return_hydra_config=True)
    finally:
        GlobalHydra.instance().hydra = around


def _sweep_dir() -> str:
    now = datetime.datetime.now(datetime.UTC).strftime("%Y%m%dT%H%M%SZ")
    return str(runs_dir() / "sweeps" / now)
