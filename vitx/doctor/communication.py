"""Whether the processes of a run on this machine can talk to each other, tried."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from vitx.config.schema import RuntimeConfig
from vitx.doctor.findings import Finding, fine, problem
from vitx.doctor.planned import Planned
from vitx.errors import RankLostError, VitxError
from vitx.runtime.launch import launch
from vitx.runtime.signals import end_with_parent
from vitx.runtime.world import ALONE, World

if TYPE_CHECKING:
    import torch

_MEET_S, _ANSWER_S = 60, 20
_MOST_S, _SIGN_S = 2 * (_MEET_S + _ANSWER_S), 5
_VALUES = 2**22  # as many gradients as a small model has
_TIMES = 5
_GOES_ON = "; the same command goes on"  # said of a run; there is none here
# NCCL's words for what another rank came to; its other errors are of the rank that has them.
_OF_ANOTHER = re.compile(r"ncclRemoteError|Connection (closed|reset|refused)|[Tt]imed? ?out")
_LAST_ERROR = re.compile(r"Last error:\s*(\S.*)")


def check_communication(
    planned: Planned, *, alive: Callable[[], None] = lambda: None
) -> Iterator[Finding]:
    """Have as many ranks as are planned add up a vector, by what a run would use for it.

    Args:
        planned: says how many, and where.
        alive: called every few seconds while they do.

    Yields:
        How long it took, or why they could not: what went wrong first.
    """
    if planned.ranks == 1:
        return
    planned.need("torch")
    name, mend = "communication", "type runtime.devices=1, or mend what it names"
    if planned.on_gpu:
        mend += "; NCCL_DEBUG=INFO makes NCCL say more"
    code, said, complained = _tried(planned.ranks, planned.config.runtime.device, alive)
    if code:
        reason = (complained.strip() or f"exit code {code}").splitlines()[-1]
        yield problem(
            name,
            f"{planned.ranks} processes could not talk: {reason.partition(_GOES_ON)[0]}",
            mend,
            code=RankLostError.exit_code,
        )
        return
    found = json.loads(said)
    yield fine(
        name,
        f"{planned.ranks} processes added up {_VALUES * 4 / 2**20:.0f} MiB over "
        f"{found['backend']} in {1000 * found['seconds']:.3g} ms",
    )


def _tried(ranks: int, device: str, alive: Callable[[], None]) -> tuple[int, str, str]:
    """Return the exit code, stdout and stderr of trying it."""
    # In a program of its own: this one has used the GPUs, which can't be handed on by a fork.
    program = subprocess.Popen(  # noqa: S603 (our own words)
        [sys.executable, "-W", "ignore", "-m", __name__, str(ranks), device],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with program:
        for _ in range(_MOST_S // _SIGN_S):
            try:
                said, complained = program.communicate(timeout=_SIGN_S)
            except subprocess.TimeoutExpired:
                alive()
            else:
                return program.returncode, said, complained
        program.kill()
    return 1, "", f"they did not come to an end in {_MOST_S} s"


def main() -> None:
    """Try it; the command line is the number of ranks and `runtime.device`."""
    end_with_parent()
    ranks, device = int(sys.argv[1]), sys.argv[2]
    runtime = RuntimeConfig(devices=ranks, setup_timeout_s=_MEET_S, step_timeout_s=_ANSWER_S)
    try:
        launch(lambda world: _add_up(world, device), ALONE, runtime)
    except VitxError as error:
        sys.exit(str(error))


def _add_up(world: World, device: str) -> None:
    try:
        _do_add_up(world, device)
    except RuntimeError as error:
        # Called a loss, as in a run, it would be taken for what came of another rank's end.
        if (own := _own_failure(str(error))) is not None:
            raise VitxError(own) from error
        raise


def _own_failure(text: str) -> str | None:
    r"""Return what NCCL failed at in this rank; None where another rank, or no NCCL, is to blame.

    >>> _own_failure("NCCL error in: a.cpp:7, invalid usage\nLast error:\nDuplicate GPU detected")
    'NCCL: Duplicate GPU detected'
    >>> _own_failure("NCCL error in: a.cpp:7\nncclRemoteError: A call failed")
    """
    if "NCCL error" not in text or _OF_ANOTHER.search(text):
        return None
    last = _LAST_ERROR.search(text)
    return f"NCCL: {last[1].strip() if last else text.splitlines()[0]}"


def _do_add_up(world: World, device: str) -> None:
    import torch
    import torch.distributed as dist

    from vitx.runtime.device import choose_device

    where = choose_device(device, world.local_rank)
    if where.type == "cuda":
        torch.cuda.set_device(where)
    world.gather(world.rank)
    world.started()
    seconds = []
    for _ in range(_TIMES):
        vector = torch.ones(_VALUES, device=where)
        started = time.perf_counter()
        dist.all_reduce(vector)
        _refuse_wrong(vector, world)
        seconds.append(time.perf_counter() - started)
    if world.leads:
        backend = "NCCL" if where.type == "cuda" else "gloo"
        print(json.dumps({"seconds": min(seconds), "backend": backend}))


def _refuse_wrong(vector: torch.Tensor, world: World) -> None:
    if not bool((vector == world.size).all()):
        raise VitxError("the sum of the ranks' vectors is wrong: their link alters data")


if __name__ == "__main__":
    main()
