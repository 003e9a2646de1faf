"""Whether the processes of a run on this machine can talk to each other, tried."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

from vitx.config.schema import RuntimeConfig
from vitx.doctor.findings import Finding, fine, problem
from vitx.doctor.planned import Planned
from vitx.errors import RankLostError, VitxError
from vitx.runtime.launch import launch
from vitx.runtime.world import ALONE, World

if TYPE_CHECKING:
    import torch

_MEET_S, _ANSWER_S = 60, 20
_VALUES = 2**22  # as many gradients as a small model has
_TIMES = 5


def check_communication(planned: Planned) -> Iterator[Finding]:
    """Have as many ranks as are planned add up a vector, by what a run would use for it."""
    if planned.ranks == 1:
        return
    planned.need("torch")
    # In a program of its own: this one has used the GPUs, which can't be handed on by a fork.
    words = [str(planned.ranks), planned.config.runtime.device]
    said = subprocess.run(  # noqa: S603 (our own words)
        [sys.executable, "-W", "ignore", "-m", __name__, *words],
        capture_output=True,
        text=True,
        timeout=2 * (_MEET_S + _ANSWER_S),
        check=False,
    )
    name = "communication"
    if said.returncode:
        reason = (said.stderr.strip() or f"exit code {said.returncode}").splitlines()[-1]
        yield problem(
            name,
            f"{planned.ranks} processes could not talk: {reason}",
            "type runtime.devices=1, or mend what it names; NCCL_DEBUG=INFO makes NCCL say more",
            code=RankLostError.exit_code,
        )
        return
    found = json.loads(said.stdout)
    yield fine(
        name,
        f"{planned.ranks} processes added up {_VALUES * 4 / 2**20:.0f} MiB over "
        f"{found['backend']} in {1000 * found['seconds']:.3g} ms",
    )


def main() -> None:
    """Try it; the command line is the number of ranks and `runtime.device`."""
    ranks, device = int(sys.argv[1]), sys.argv[2]
    runtime = RuntimeConfig(devices=ranks, setup_timeout_s=_MEET_S, step_timeout_s=_ANSWER_S)
    try:
        launch(lambda world: _add_up(world, device), ALONE, runtime)
    except VitxError as error:
        sys.exit(str(error))


def _add_up(world: World, device: str) -> None:
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
        raise RankLostError("the sum of the ranks' vectors is wrong: their link alters data")


if __name__ == "__main__":
    main()
