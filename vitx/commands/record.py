"""run.json: what ran, where, and how it ended."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

import vitx
from vitx.config.schema import TrainConfig
from vitx.errors import Interrupted, Preempted, VitxError, as_storage_error
from vitx.files import write_json
from vitx.parts import Machine
from vitx.redaction import redacted
from vitx.runs import SCHEMA, RunDir, now
from vitx.runtime.world import ALONE, World

_PACKAGES = ("torch", "torchvision", "timm", "datasets", "numpy", "pillow", "safetensors")


@contextmanager
def recorded(
    run: RunDir, *, verb: str, argv: tuple[str, ...], seed: int, world: World = ALONE
) -> Iterator[dict[str, Any]]:
    """Keep run.json true from start to end, however it ends; rank 0 does.

    Yields:
        The record; what the body adds to it is written at the end.

    Raises:
        VitxError: whatever the body raised.
    """
    if not world.leads:
        yield {}
        return
    before = run.known_record()
    started = time.monotonic()
    record: dict[str, Any] = {
        "schema": SCHEMA,
        "verb": verb,
        "argv": [redacted(word) for word in argv],
        "status": "running",
        "exit_code": None,
        "started": before.get("started", now()),
        "seconds": before.get("seconds", 0.0),
        "sessions": before.get("sessions", 0) + 1,
        "seed": seed,
        "world_size": world.size,
        "micro_batch": before.get("micro_batch"),
        "total_steps": before.get("total_steps"),
        "versions": _versions(),
        "git_commit": _git_commit(),
        "environment": before.get("environment"),
        "exact": before.get("exact", {"resume": True, "why": []}),
        "metrics_missing": before.get("metrics_missing", []),
        "data": before.get("data"),
        "classes": before.get("classes"),
        "weights": before.get("weights"),
        "teachers": before.get("teachers"),
        "wandb_id": before.get("wandb_id"),
    }
    write_json(run.record, record)
    status, code = "failed", 1
    try:
        yield record
        status, code = "finished", 0
    except VitxError as error:
        code = error.exit_code
        status = "preempted" if isinstance(error, (Interrupted, Preempted)) else "failed"
        raise
    except Exception as error:
        known = as_storage_error(error)
        code = known.exit_code if known else 1
        raise
    finally:
        seconds = before.get("seconds", 0.0) + time.monotonic() - started
        record |= {"status": status, "exit_code": code, "seconds": seconds}
        # A record that can't be written must not hide how the run really ended.
        if shutil.disk_usage(run.path).free > 0 or status == "finished":
            write_json(run.record, record)


def environment(machine: Machine, config: TrainConfig) -> dict[str, Any]:
    """Return what decides the last bits of a result besides what was typed.

    Args:
        machine: where it is computed.
        config: the pictures of a pass settled.
    """
    runtime = config.runtime
    division = {"processes": machine.world.size, "strategy": runtime.strategy.name}
    return {
        **({} if runtime.exact_world else division),
        "micro_batch": config.micro_batch,
        "torch": torch.__version__,
        "device": _device_name(machine.device),
        "threads": machine.threads,
        "precision": machine.precision.name,
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
    }


def why_not_exact(
    before: dict[str, Any] | None, now_: dict[str, Any], *, compile_: bool
) -> list[str]:
    """Return why continuing a run may differ in the last bits from never having stopped."""
    if before is None:  # a session writes it down before its first step
        why = ["run.json was lost: what the steps before were computed with is not known"]
    else:
        why = [
            f"{key}: {before.get(key)} before, {now_[key]} now"
            for key in now_
            if before.get(key) != now_[key]
        ]
    if not now_["device"].startswith("cpu"):
        why.append("kernels of this device need not repeat their sums in one order")
    if compile_:
        why.append("torch.compile may choose other kernels next time")
    return why


def _device_name(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{device.type} {platform.machine()}"


def _versions() -> dict[str, str]:
    versions = {"vitx": vitx.__version__, "python": platform.python_version()}
    for package in _PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            continue
    return versions


def _git_commit() -> str | None:
    """Return the commit of the checkout that vitx runs from, with `+` where it was changed."""
    git, root = shutil.which("git"), Path(vitx.__file__).resolve().parent.parent
    if git is None or not (root / ".git").exists():
        return None

    def ask(*words: str) -> str:
        return subprocess.run(  # noqa: S603 (fixed words)
            [git, "-C", str(root), *words],
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
            env={**os.environ, "LC_ALL": "C"},
        ).stdout.strip()

    try:
        return ask("rev-parse", "HEAD") + ("+" if ask("status", "--porcelain", "-uno") else "")
    except (OSError, subprocess.SubprocessError):
        return None
