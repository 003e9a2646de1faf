"""What `vitx check` does once the words are understood: build, try some steps, estimate."""

from __future__ import annotations

import datetime
from dataclasses import replace
from pathlib import Path

from vitx.assemble import make_trainer, refuse_broken_compiler
from vitx.checkpoint.store import load_newest
from vitx.commands.eval import refuse_decided
from vitx.commands.job import Job
from vitx.commands.opening import Opened, choose_run
from vitx.commands.report_lines import line, opening_lines
from vitx.commands.room import GIB, Room, find_room, gib
from vitx.commands.scoring import find_scoring_problems, prepare
from vitx.commands.scoring_record import Scoring
from vitx.commands.session import refuse_other_data
from vitx.commands.train import finished_line
from vitx.config.passes import settle
from vitx.config.resolve import load_run_config
from vitx.config.schema import EvalConfig, TrainConfig
from vitx.data.found import listed
from vitx.data.hub import to_download
from vitx.data.inspection import inspect
from vitx.data.sources import LabelledImages
from vitx.errors import Problems, UsageError, VitxError
from vitx.estimate import Cost, Trial, estimate
from vitx.files import writable_place
from vitx.models.build import Fit
from vitx.models.size import COUNTER, measure_size
from vitx.parts import Parts, bad_image_policy, find_problems, gather, make_decoder
from vitx.runs import find_run
from vitx.runtime.device import forget_peak_memory, usable_cores, usable_memory_bytes
from vitx.runtime.launch import count_ranks
from vitx.runtime.signals import StopRequest
from vitx.teaching.build import refuse_other_teachers
from vitx.trial import evaluation_pace, try_out

_LOOKING_S = 2.0  # at the pictures of a split
_LONG_S = 100.0  # from here on in hours and minutes
_TRIED_PICTURES = 64  # in one pass of an evaluation


def rehearse_training(
    config: TrainConfig, job: Job, problems: Problems, *, incomplete: frozenset[str]
) -> None:
    """Do everything of a training run but its training, and say what comes of it.

    Args:
        config: the whole configuration.
        job: what Hydra knows besides.
        problems: takes what would end the run.
        incomplete: sections that can't be tried.
    """
    opened = problems.tried(lambda: choose_run(config, job))
    if opened is not None and opened.run.result.is_file():
        print(finished_line(opened))
        return
    place = problems.tried(opened.run.try_make) if opened is not None else None
    if opened is not None and place is not None:
        problems.tried(opened.run.refuse_in_use)
    if waiting := problems.tried(lambda: to_download(config.dataset)):
        print(line("data", f"{waiting}, is downloaded first; what depends on it was not tried"))
        incomplete |= {"dataset"}
    if opened is None or place is None or problems.found or problems.lenient or incomplete:
        find_problems(config, problems, without=incomplete)
        return
    try:
        _rehearse(opened, place, problems)
    except VitxError as error:
        find_problems(opened.config, problems)
        problems.found.append(error)  # one told twice is said once


def rehearse_evaluation(config: EvalConfig, job: Job, problems: Problems) -> None:
    """Do everything of an evaluation but the whole of it, and say what comes of it.

    Args:
        config: the whole configuration.
        job: what Hydra knows besides.
        problems: takes what would end it.
    """
    problems.tried(lambda: refuse_decided(job))
    run = problems.tried(lambda: find_run(config.run))
    trained = problems.tried(lambda: load_run_config(run.config)) if run else None
    if run is None or trained is None:
        return
    problems.tried(lambda: writable_place(run.evaluations))
    if problems.found:
        find_scoring_problems(config, run, trained, problems)
        return
    try:
        _rehearse_scoring(prepare(config, run, trained), problems)
    except VitxError as error:
        find_scoring_problems(config, run, trained, problems)
        problems.found.append(error)


def _rehearse(opened: Opened, place: Path, problems: Problems) -> None:
    run, ranks = opened.run, count_ranks(opened.config.runtime)
    config = settle(opened.config, ranks)
    if config.runtime.compile:
        refuse_broken_compiler()
    snapshot = load_newest(run.checkpoints, say=print, set_aside=False)
    done = None if snapshot is None else snapshot.step
    parts = gather(config, start_step=done or 0, rehearsal=True)
    forget_peak_memory(parts.machine.device)
    # Compiling takes minutes, and what fails uncompiled fails compiled.
    eager = replace(config, runtime=replace(config.runtime, compile=False))
    trainer = make_trainer(eager, parts, stop=StopRequest())
    if snapshot is not None:
        trainer.restore(snapshot)
        del snapshot  # as much memory as the model
        record = run.known_record()
        refuse_other_data(record, parts.splits.fingerprint())
        if parts.tutor is not None:
            refuse_other_teachers(record, [each.sha256 for each in parts.tutor.teachers])
    for each in opening_lines(opened, trainer, parts, step=done):
        print(each)
    print(line("classes", listed(parts.splits.classes)))
    print(line("size", _size(config, parts)))
    for images in (parts.splits.train, parts.splits.val):
        problems.tried(lambda images=images: _look_at(config, images))  # type: ignore[misc]
    if problems.found:
        return  # a step would meet the same pictures
    trial = try_out(config, parts, trainer)
    cost = estimate(config, parts, trial, done=done or 0, ranks=ranks)
    print(line("tried", _tried(trial, parts)))
    if ranks > 1:
        print(line("processes", f"{ranks}; what follows is for one of them, alone on its device"))
    print(line("memory", _memory(trial, cost, parts)))
    print(line("time", _time(cost, parts, done=done or 0)))
    room = find_room(config, parts.plan, run, trial.file_bytes, step=done or 0, place=place)
    print(line("disk", _disk(room)))
    problems.tried(lambda: _refuse_memory(config, trial, cost, parts))
    problems.tried(room.refuse_too_little)
    for teacher in parts.tutor.teachers if parts.tutor is not None else ():
        if teacher.plan.file is not None:
            continue
        print("\nits teacher, trained before it")
        own = Problems()
        job = Job(is_part=True)
        rehearse_training(teacher.plan.config, job, own, incomplete=frozenset())
        problems.found += [type(error)(f"the teacher: {error}") for error in own.found]


def _rehearse_scoring(scoring: Scoring, problems: Problems) -> None:
    for each in scoring.lines():
        print(each)
    for suite in scoring.suites:
        seen = suite.parts[0]
        problems.tried(lambda seen=seen: _look_at(scoring.config, seen.images))  # type: ignore[misc]
    if problems.found:
        return
    machine, seconds = scoring.machine, 0.0
    for suite in scoring.suites:
        images = suite.parts[0].images
        pace = evaluation_pace(scoring.config, images, scoring.model, machine, most=_TRIED_PICTURES)
        pictures = sum(len(part.images) for part in suite.parts)
        seconds += pictures * pace.picture_s(machine, cores=usable_cores())
    print(line("time", f"about {_duration(seconds)}"))


def _look_at(config: TrainConfig, images: LabelledImages) -> None:
    seen = inspect(make_decoder(config.dataset, images), seconds=_LOOKING_S)
    print(line("decoded", f"{seen.seen} of the {seen.rows} pictures of {images.name}"))
    seen.raise_problem(bad_image_policy(config.dataset, images))


def _size(config: TrainConfig, parts: Parts) -> str:
    fit = Fit(
        num_classes=len(parts.splits.classes),
        channels=config.dataset.channels,
        image_px=config.image_px,
    )
    macs = measure_size(config.model, fit).macs
    return f"{macs / 1e9:.3g} GMACs for one picture of {fit.image_px} px, by {COUNTER}"


def _tried(trial: Trial, parts: Parts) -> str:
    whole = parts.plan.micro_batch
    rest = "" if trial.pictures == whole else f" of the {whole} in a pass; the rest is extrapolated"
    return f"training steps on {trial.pictures} pictures{rest}; loss {trial.loss:.4g}"


def _memory(trial: Trial, cost: Cost, parts: Parts) -> str:
    usable = usable_memory_bytes(parts.machine.device)
    limit = "" if usable is None else f" of {gib(usable)}"
    names = {
        "model": "weights",
        "optimizer": "optimizer",
        "ema": "average",
        "helper": "projections",
    }
    sizes: dict[str, float] = {names[name]: size for name, size in trial.file_bytes.items()}
    if parts.machine.device.type == "cpu":
        sizes["a copy to save"] = trial.checkpoint_bytes
    if trial.picture_bytes:  # unknown where a pass has a picture or two
        sizes["backward pass"] = trial.picture_bytes * parts.plan.micro_batch
    shares = ", ".join(f"{name} {size / GIB:.3g}" for name, size in sizes.items())
    return f"about {gib(cost.memory_bytes)}{limit}: {shares}, the rest libraries and data"


def _time(cost: Cost, parts: Parts, *, done: int) -> str:
    epochs = (parts.plan.total_steps - done) / parts.plan.steps_per_epoch
    return (
        f"about {_duration(cost.total_s)} at the speed of now: {epochs:.4g} epochs of "
        f"{_duration(cost.epoch_s)}, {cost.evaluations} evaluations of "
        f"{_duration(cost.evaluation_s)}"
    )


def _disk(room: Room) -> str:
    return (
        f"{gib(room.checkpoint_bytes)} a checkpoint, at most {gib(room.needed_bytes)} of the "
        f"{gib(room.free_bytes)} free in {room.place}"
    )


def _refuse_memory(config: TrainConfig, trial: Trial, cost: Cost, parts: Parts) -> None:
    usable, plan = usable_memory_bytes(parts.machine.device), parts.plan
    if usable is None or cost.memory_bytes <= usable:
        return
    fitting = [
        size
        for size in range(2, plan.micro_batch, 2)
        if plan.batch_size % size == 0
        and trial.memory_bytes(replace(plan, micro_batch=size), parts.machine) <= usable
    ]
    hint = f"; type runtime.micro_batch={fitting[-1]}" if fitting else "; choose a smaller model"
    raise UsageError(
        f"training needs about {gib(cost.memory_bytes)} of memory and can have {gib(usable)}{hint}"
    )


def _duration(seconds: float) -> str:
    if seconds < _LONG_S:
        return f"{seconds:.3g} s"
    return str(datetime.timedelta(seconds=round(seconds)))
