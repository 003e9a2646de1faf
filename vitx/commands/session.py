"""One session of training in an open run directory: begin or go on, train, report."""

from __future__ import annotations

import dataclasses
import secrets
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from typing import Any

from vitx.assemble import Assembly, assemble
from vitx.checkpoint.sharing import shared
from vitx.checkpoint.snapshot import Snapshot
from vitx.checkpoint.store import load_newest, path_of, sweep
from vitx.commands.job import Job
from vitx.commands.lost import tell_losses
from vitx.commands.opening import Opened, verb_of
from vitx.commands.record import environment, recorded, why_not_exact
from vitx.commands.report_lines import closing_lines, opening_lines
from vitx.commands.room import refuse_too_little_room
from vitx.config.passes import settle
from vitx.config.resolve import to_plain
from vitx.config.schema import TrainConfig, WandbMode
from vitx.errors import Interrupted, Preempted, StorageError
from vitx.files import write_json
from vitx.foreign_run import as_written
from vitx.loggers.base import Logger
from vitx.loggers.console import Console
from vitx.loggers.jsonl import JsonlLogger
from vitx.parts import Machine
from vitx.runtime.device import peak_memory_bytes
from vitx.runtime.signals import StopRequest
from vitx.runtime.world import World
from vitx.teaching.build import refuse_other_teachers
from vitx.teaching.tutor import Tutor
from vitx.train.trainer import Trainer


def train_session(opened: Opened, job: Job, stop: StopRequest, world: World) -> None:
    """Train from the newest checkpoint, or from nothing, to the end or to a stop.

    All ranks do; rank 0 alone reads and writes the run directory, and speaks.
    """
    run = opened.run
    console = Console(run.log) if world.leads else Console(quiet=True)
    snapshot = shared(_newest(opened, console) if world.leads else None, world)
    with (
        recorded(
            run,
            verb=verb_of(opened.config),
            argv=job.overrides,
            seed=opened.config.seed,
            world=world,
        ) as record,
        world.losses(),
    ):
        config = settle(opened.config, world.size, world.first(lambda: record["micro_batch"]))
        last_row = _last_row(opened, snapshot)
        loggers: list[Logger] = []
        if world.leads:
            rows = JsonlLogger(opened.run.metrics, keep_to_step=last_row)
            loggers = [rows, *_open_mirror(opened, job, record, console, snapshot)]
        with _finishing(loggers) as summary:
            assembly = assemble(
                config,
                run,
                stop=stop,
                console=console,
                loggers=loggers,
                start_step=snapshot.step if snapshot else 0,
                world=world,
            )
            if world.leads:
                tell_losses(
                    record,
                    rows.found,
                    config,
                    assembly.parts.plan,
                    last_row=last_row,
                    say=console.say,
                )
                _note(assembly, config, record, resumed=snapshot is not None)
            step = None if snapshot is None else snapshot.step
            if snapshot is not None:
                assembly.trainer.restore(snapshot)
            # Its files are mapped into memory: pruned ones would keep their room on the disk.
            del snapshot
            if world.leads:
                refuse_too_little_room(config, run, assembly.trainer)
                write_json(run.record, record)  # a session that is killed leaves this
            for line in opening_lines(opened, assembly.trainer, assembly.parts, step=step):
                console.say(line)
            with closing(assembly), _noting_inexactness(assembly.trainer, record):
                assembly.trainer.fit()
            result = _result(assembly, opened)
            summary |= result
            if world.leads:
                write_json(run.result, result)
    for line in closing_lines(opened, result, alone=job.sweep_dir is None and not job.is_part):
        console.say(line)


def _newest(opened: Opened, console: Console) -> Snapshot | None:
    sweep(opened.run.checkpoints)
    return load_newest(opened.run.checkpoints, say=console.say)


def _last_row(opened: Opened, snapshot: Snapshot | None) -> int:
    """Return the step of the last row that is not written again; -1 where all are."""
    if snapshot is None:
        return -1
    with as_written(opened.run.checkpoints):
        return max(0, int(snapshot.state["callbacks"]["metrics"]["row_step"]))


def _open_mirror(
    opened: Opened, job: Job, record: dict[str, Any], console: Console, snapshot: Snapshot | None
) -> list[Logger]:
    wandb = opened.config.logger.wandb
    if wandb.mode is WandbMode.off:
        return []
    from vitx.loggers.wandb import start_wandb

    if snapshot is None or record["wandb_id"] is None:
        # From the beginning again: its steps would stand twice in one W&B run.
        record["wandb_id"] = secrets.token_hex(4)
        write_json(opened.run.record, record)
    mirror, line = start_wandb(
        wandb,
        run_dir=opened.run.path,
        run_name=opened.run.path.name,
        group=wandb.group or (job.sweep_dir.name if job.sweep_dir else None),
        plain_config=to_plain(opened.config),
        wandb_id=record["wandb_id"],
        resumed=snapshot is not None,
    )
    console.say(line)
    return [] if mirror is None else [mirror]


class _finishing:  # noqa: N801 (reads as a statement)
    """Ends the loggers with the status that the body ended with."""

    def __init__(self, loggers: Sequence[Logger]) -> None:
        self._loggers = loggers
        self._summary: dict[str, Any] = {}

    def __enter__(self) -> dict[str, Any]:
        return self._summary

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        stopped = kind is not None and issubclass(kind, (Interrupted, Preempted))
        status = "finished" if kind is None else "preempted" if stopped else "failed"
        for logger in self._loggers:
            logger.finish(status, self._summary)


def _note(
    assembly: Assembly, config: TrainConfig, record: dict[str, Any], *, resumed: bool
) -> None:
    """Keep what the run is made of, and refuse to go on with something else."""
    parts, data = assembly.parts, assembly.parts.splits.fingerprint()
    _note_exactness(parts.machine, config, record, resumed=resumed)
    if parts.transfer is not None:
        record["weights"] = dataclasses.asdict(parts.transfer)
    if parts.tutor is not None:
        _note_teachers(parts.tutor, record)
    if resumed:
        refuse_other_data(record, data)
    record["data"], record["classes"] = data, list(parts.splits.classes)
    record["total_steps"] = parts.plan.total_steps


def _note_exactness(
    machine: Machine, config: TrainConfig, record: dict[str, Any], *, resumed: bool
) -> None:
    here = environment(machine, config)
    if resumed:
        why = why_not_exact(record["environment"], here, compile_=config.runtime.compile)
        _add_reasons(why, record)
    record["environment"], record["micro_batch"] = here, config.micro_batch


@contextmanager
def _noting_inexactness(trainer: Trainer, record: dict[str, Any]) -> Iterator[None]:
    """Keep what happened to the weights while the body trained, however that ends."""
    try:
        yield
    finally:
        if trainer.world.leads:
            _add_reasons(trainer.state.inexact, record)


def _add_reasons(why: Sequence[str], record: dict[str, Any]) -> None:
    seen = record["exact"]["why"]
    reasons = [*seen, *(each for each in why if each not in seen)]
    record["exact"] = {"resume": not reasons, "why": reasons}


def refuse_other_data(record: dict[str, Any], data: str) -> None:
    """Refuse to go on with other data.

    Args:
        record: run.json; empty where it was lost.
        data: fingerprint of the data as they are now.

    Raises:
        StorageError: they are not those that the run was trained on.
    """
    before = record.get("data")
    if before is not None and before != data:
        raise StorageError(
            f"the dataset is not the one this run was trained on (fingerprint {before}, now "
            f"{data}); restore it, or begin a new run"
        )


def _note_teachers(tutor: Tutor, record: dict[str, Any]) -> None:
    refuse_other_teachers(record, [each.sha256 for each in tutor.teachers])
    record["teachers"] = [
        {
            "sha256": each.sha256,
            "name": each.plan.config.model.name,
            "origin": each.plan.origin,
            "file": str(each.plan.file),
        }
        for each in tutor.teachers
    ]


def _result(assembly: Assembly, opened: Opened) -> dict[str, Any]:
    trainer, evaluation = assembly.trainer, assembly.evaluation
    seconds = trainer.state.seconds
    return {
        **evaluation.deciding.as_dict(),
        "weights": "ema" if "ema" in evaluation.latest else "model",
        "step": trainer.state.step,
        "epoch": trainer.epoch,
        "best": {"top1": evaluation.best_top1, "step": evaluation.best_step},
        **{kind: result.as_dict() for kind, result in evaluation.latest.items()},
        "train_skipped": len(trainer.state.bad_rows),
        "images_per_second": trainer.state.samples / seconds if seconds else None,
        "peak_memory_bytes": peak_memory_bytes(trainer.device),
        "checkpoint": str(
            path_of(opened.run.checkpoints, trainer.state.step).relative_to(opened.run.path)
        ),
    }
