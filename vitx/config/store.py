"""Composition: registers the schema with Hydra, composes `conf/` and a command line."""

from __future__ import annotations

import datetime
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from hydra._internal import hydra as hydra_main
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from omegaconf import DictConfig, OmegaConf

from vitx.config.hydra_section import refuse_code
from vitx.config.schema import DistillConfig, EvalConfig, TrainConfig
from vitx.errors import UsageError
from vitx.paths import conf_dir, sweeps_dir
from vitx.redaction import has_login, is_secret_name, secret_in

HYDRA_VERSION_BASE = "1.3"
SCHEMAS: dict[str, type] = {"train": TrainConfig, "distill": DistillConfig, "eval": EvalConfig}


class ScreenedLoader(ConfigLoaderImpl):
    """Hydra's loader, which hands nothing over that names code.

    Every configuration goes through it, those of the jobs of a sweep too, in the process of
    whichever launcher; Hydra has no place of its own for such a check before it makes objects.
    """

    def _load_configuration_impl(
        self, config_name: str | None, overrides: list[str], *args: Any, **further: Any
    ) -> DictConfig:
        composed = super()._load_configuration_impl(config_name, overrides, *args, **further)
        section = OmegaConf.to_container(composed.hydra, resolve=False)
        assert isinstance(section, dict)  # noqa: S101 (by Hydra's schema)
        refuse_code({str(name): value for name, value in section.items()}, overrides)
        return composed


def register() -> None:
    """Make the schemas known to Hydra, what it may load, and the resolvers that there are.

    One is for `conf/`; the other takes the place of OmegaConf's, which reads any variable.
    """
    store = ConfigStore.instance()
    for verb, schema in SCHEMAS.items():
        store.store(name=f"{verb}_schema", node=schema)
    OmegaConf.register_new_resolver("vitx.sweep_dir", _sweep_dir, use_cache=True, replace=True)
    OmegaConf.register_new_resolver("oc.env", _variable, replace=True)
    vars(hydra_main)["ConfigLoaderImpl"] = ScreenedLoader  # what its applications load with


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
    return str(sweeps_dir() / now)


def _variable(name: str, *default: str | None) -> str | None:
    """Return a variable of the environment, for `${oc.env:NAME}`; what it says is written down."""
    if is_secret_name(name):
        raise UsageError(
            f"${{oc.env:{name}}}: the name is that of a secret, and a configuration is written "
            "down; leave it out: the client that needs it finds it in the environment"
        )
    value = os.environ.get(name, *default)
    if value is None and not default:
        raise UsageError(f"${{oc.env:{name}}}: there is no such variable; export {name}=VALUE")
    if value is not None and (has_login(value) or secret_in(value)):
        raise UsageError(f"${{oc.env:{name}}}: it holds a secret, which would be written down")
    return value
