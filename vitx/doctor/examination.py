"""The process that looks: reads the words, does one check after another, and tells what it found.

What is broken can end it, by a library that crashes at its import, or hold it up, by a disk that
does not answer. `vitx.doctor.supervision` on the other side then takes note of that, and begins
another one behind the check that it was at.

It writes JSON lines to stdout: `{"at": NUMBER}` before a check, `{"trying": LIBRARY}` before an
import, `{"alive": true}` while it waits, `{"finding": {...}}` for what was found, `{"usage": LINE}`
where the words can't be carried out, and `{"done": true}` at the end.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import Any

from vitx.config.schema import DistillConfig, TrainConfig
from vitx.doctor import (
    accounts,
    communication,
    dataset,
    devices,
    libraries,
    loading,
    machine,
    storage,
    versions,
)
from vitx.doctor.findings import Finding, problem, warning
from vitx.doctor.planned import Planned, Unusable
from vitx.errors import Problems, UsageError, VitxError, as_storage_error
from vitx.runtime.openmp import wait_politely

Check = Callable[[Planned], Iterable[Finding]]
CHECKS: dict[str, Check] = {
    "python": versions.check_python,
    "versions": versions.check_versions,
    "torchvision": versions.check_pair,
    "libraries": partial(libraries.check_libraries, say=lambda name: _tell(trying=name)),
    "operators": libraries.check_operators,
    "gpu": devices.check_gpus,
    "device": devices.check_device,
    "precision": devices.check_precision,
    "compiler": devices.check_compiler,
    "data": dataset.check_data,
    "cores": machine.check_cores,
    "memory": machine.check_memory,
    "shared memory": loading.check_shared_memory,
    "open files": loading.check_open_files,
    "processes": loading.check_processes,
    "file size": loading.check_file_size,
    "run folder": storage.check_run_folder,
    "cache folder": storage.check_cache_folder,
    "temporary": storage.check_temporary_folder,
    "clock": storage.check_clock,
    "wandb": accounts.check_wandb,
    "huggingface": accounts.check_hub,
    "communication": partial(communication.check_communication, alive=lambda: _tell(alive=True)),
}
"""Every check by its name, in the order of the report: what others rest on stands first."""


def main() -> None:
    """Look at everything from a check on.

    The command line is the number of that check, the libraries that are known to be broken with
    commas between them, the verb, and its words.
    """
    first, unusable, verb, *words = sys.argv[1:]
    wait_politely()
    _keep_stdout()
    broken = {*filter(None, unusable.split(","))}
    try:
        config = _read_words(verb, words, broken)
    except UsageError as error:
        _tell(usage=str(error))
        return
    except Exception as error:  # Hydra may be what is broken
        config = TrainConfig()
        if first == "0":
            why = f"{error} can't be imported" if isinstance(error, Unusable) else _reason(error)
            text = f"they can't be read, and defaults are looked at: {why}"
            _tell(finding=_as_plain(problem("words", text, "mend hydra-core and omegaconf first")))
    planned = Planned(config=config, verb=verb, unusable=broken)
    for number, (name, check) in enumerate(CHECKS.items()):
        if number < int(first):
            continue
        _tell(at=number)
        for finding in _findings(name, check, planned):
            _tell(finding=_as_plain(finding))
    _tell(done=True)


def _findings(name: str, check: Check, planned: Planned) -> Iterator[Finding]:
    """Yield what a check finds; one that raises has found something as well."""
    try:
        yield from check(planned)
    except Unusable as error:
        yield warning(name, f"not looked at, since {error} can't be imported")
    except VitxError as error:
        yield problem(name, str(error), code=error.exit_code)
    except Exception as error:  # told, whatever it is
        known = as_storage_error(error)
        if known is not None:
            yield problem(name, str(known), code=known.exit_code)
        else:
            yield problem(name, f"can't be looked at: {_reason(error)}")


def _read_words(verb: str, words: Sequence[str], broken: set[str]) -> TrainConfig:
    """Return the configuration that words come to.

    Raises:
        Unusable: what composes it is broken.
        UsageError: they can't be carried out.
    """
    if "hydra" in broken:
        raise Unusable("hydra")
    _tell(trying="hydra")
    from vitx.config.checks import problems_of
    from vitx.config.jobs import read_command_line
    from vitx.config.resolve import to_config

    line = read_command_line(verb, words)
    problems = Problems(found=[UsageError(each) for each in line.problems])
    if line.multirun:
        raise UsageError("doctor looks at one run; leave -m out, and choose one value of each list")
    for job in line.jobs:
        config = to_config(job.config, DistillConfig if verb == "distill" else TrainConfig)
        problems.found += [UsageError(each) for each in problems_of(config)]
    problems.raise_all()
    return config


def _reason(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__


def _as_plain(finding: Finding) -> dict[str, Any]:
    return {**vars(finding), "grade": finding.grade.name}


_answers: list[int] = []  # where this process answers, once it runs


def _keep_stdout() -> None:
    """Keep stdout for the answers; what libraries print goes to stderr."""
    _answers.append(os.dup(1))
    os.dup2(2, 1)


def _tell(**message: Any) -> None:
    os.write(_answers[0], json.dumps(message).encode() + b"\n")


if __name__ == "__main__":
    main()
