"""`vitx torture`: faults inflicted on small runs on this machine, and what came of each."""

from __future__ import annotations

import dataclasses
import shutil
import sys
import tempfile
import time
from pathlib import Path

from vitx.config.plain import read
from vitx.config.schema import TortureAction, TortureConfig
from vitx.errors import StorageError, UsageError, VitxError
from vitx.files import storage_errors, writable_place
from vitx.torture.bench import Bench
from vitx.torture.inflicting import Row, Verdict, inflict_all
from vitx.torture.programs import fork_server
from vitx.torture.report import Progress, lines_of, summary, write
from vitx.torture.table import Fault, select


def main(args: list[str]) -> int:
    """Carry out `vitx torture` with these arguments.

    Returns:
        0, or 1 where a promise is not kept: that is a bug.

    Raises:
        UsageError: the words can't be carried out.
        StorageError: the folder or the report can't be written.
    """
    config = read("torture", args, TortureConfig)
    faults = select(config.only)
    if config.action is TortureAction.list:
        print("\n".join(f"{fault.name:<17} {fault.done}" for fault in faults))
        return 0
    _refuse(config)
    folder = _folder(config)
    rows: list[Row] = []
    passed = False
    try:
        passed = _inflict(faults, config, folder, rows)
    finally:
        if passed and config.folder is None:
            shutil.rmtree(folder, ignore_errors=True)
        else:
            print(f"what they left is in {folder}")
    return 0 if passed else VitxError.exit_code


def _refuse(config: TortureConfig) -> None:
    """Say what can't be carried out.

    Raises:
        UsageError: it is one of the settings, or the system.
    """
    if sys.platform != "linux":
        raise UsageError("vitx torture looks at processes through /proc; it takes Linux")
    for name in ("kills", "devices"):
        if getattr(config, name) < 1:
            raise UsageError(f"{name}={getattr(config, name)}: expected 1 or more")
    writable_place(Path(config.report).absolute().parent)


def _folder(config: TortureConfig) -> Path:
    if config.folder is None:
        return Path(tempfile.mkdtemp(prefix="vitx-torture-"))
    folder = Path(config.folder).absolute()
    with storage_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        if any(folder.iterdir()):
            raise StorageError(f"{folder} holds files; choose a new folder")
    return folder


def _inflict(faults: list[Fault], config: TortureConfig, folder: Path, rows: list[Row]) -> bool:
    """Inflict faults and tell of each; say whether none failed."""
    started, progress = time.monotonic(), Progress()
    bench = Bench(
        folder=folder,
        kills=config.kills,
        devices=config.devices,
        device=config.device,
        seed=config.seed,
        say=progress,
    )
    try:
        progress("importing libraries")
        fork_server()
        for row in inflict_all(faults, bench):
            rows.append(row)
            progress.clear()
            print("\n".join(lines_of(row)), flush=True)
    finally:
        progress.clear()
        seconds = time.monotonic() - started
        print(summary(rows, seconds))
        write(Path(config.report), rows, _plain(config), seconds)
    return not any(row.verdict is Verdict.failed for row in rows)


def _plain(config: TortureConfig) -> dict[str, object]:
    return {**dataclasses.asdict(config), "action": config.action.name}
