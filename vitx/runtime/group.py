"""Several ranks over torch.distributed."""

from __future__ import annotations

import datetime
import json
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from safetensors.torch import load as load_bytes
from safetensors.torch import save as save_bytes
from torch import Tensor
from torch._C._distributed_c10d import FileStore, Store
from torch.distributed.rendezvous import rendezvous

from vitx import errors
from vitx.errors import RankLostError, VitxError
from vitx.runtime.network import (
    LOOPBACK,
    address_towards,
    await_listener,
    interface_between,
    interface_of,
)
from vitx.runtime.world import World

Value = TypeVar("Value")

# What gloo says when a peer has gone or does not answer; its errors have no type of their own.
_GLOO = re.compile(
    r"gloo/|Connection (closed|reset)|Timed out|timed out|Socket Timeout|Broken pipe"
)
_SOURCE = re.compile(r"\[/\S+:\d+\] ")  # where in gloo's own files it was raised
_LOCALHOST = "127.0.0.1"
# It waits for a connection five times as long as it is told to wait for anything.
_GLOO_PATIENCE = 5


@dataclass(frozen=True, kw_only=True)
class Group(World):
    """Ranks that talk over a process group: gloo for what is on the CPU, NCCL for what is not.

    Attributes:
        step_timeout_s: seconds that a rank may keep the others waiting once training goes.
    """

    step_timeout_s: int

    def first(self, ask: Callable[[], Value]) -> Value:
        """Return on every rank what `ask` returned on rank 0, as plain data.

        Raises:
            VitxError: it was raised there.
        """
        told: dict[str, Any] = {}
        failure: BaseException | None = None
        if self.leads:
            try:
                told = {"value": ask()}
            except VitxError as error:
                told, failure = {"error": type(error).__name__, "text": str(error)}, error
        (told,) = self._broadcast([told])
        if failure is not None:
            raise failure
        if "error" in told:
            raise getattr(errors, told["error"])(told["text"])
        value: Value = told["value"]
        return value

    def gather(self, value: Value) -> list[Value]:
        """Return the plain values of all ranks, in their order, on every rank."""
        own = _encoded(value)
        sizes = [torch.zeros(1, dtype=torch.int64) for _ in range(self.size)]
        dist.all_gather(sizes, torch.tensor([len(own)]))
        longest = int(max(sizes))
        padded = torch.zeros(longest, dtype=torch.uint8)
        padded[: len(own)] = own
        parts = [torch.empty(longest, dtype=torch.uint8) for _ in range(self.size)]
        dist.all_gather(parts, padded)
        return [_decoded(part[: int(size)]) for part, size in zip(parts, sizes, strict=True)]

    def highest(self, number: int) -> int:
        """Return the highest of the ranks' numbers."""
        held = torch.tensor([number])
        dist.all_reduce(held, dist.ReduceOp.MAX)
        return int(held)

    def share(self, tensors: Mapping[str, Tensor] | None) -> dict[str, Tensor]:
        """Return on every rank the CPU tensors that rank 0 has; the others give None."""
        held = torch.empty(0, dtype=torch.uint8)
        if self.leads:
            contiguous = {name: each.contiguous() for name, each in (tensors or {}).items()}
            held = torch.frombuffer(bytearray(save_bytes(contiguous)), dtype=torch.uint8)
        held = self._broadcast_bytes(held)
        return dict(tensors or {}) if self.leads else load_bytes(held.numpy().tobytes())

    def share_in_place(self, tensors: Sequence[Tensor]) -> None:
        """Give tensors of every rank the values that they have on rank 0."""
        for each in tensors:
            dense = each.detach().contiguous()
            dist.broadcast(dense, 0)
            with torch.no_grad():
                each.copy_(dense)

    def started(self) -> None:
        """From now on a rank that keeps the others waiting is given up sooner."""
        _give_each_other(datetime.timedelta(seconds=self.step_timeout_s))

    @contextmanager
    def losses(self) -> Iterator[None]:
        """Turn the failure of a conversation with the other ranks into a RankLostError.

        Raises:
            RankLostError: one has gone, or did not answer in time.
            RuntimeError: whatever else the body raised.
        """
        try:
            yield
        except RuntimeError as error:
            if not is_loss(error):
                raise
            raise RankLostError(
                "another process of this run was lost or did not answer "
                f"({_reason(error)}); the same command goes on from the newest checkpoint"
            ) from error

    def close(self) -> None:
        """Leave the others; once is enough."""
        if dist.is_initialized():
            dist.destroy_process_group()

    def _broadcast(self, values: list[Any]) -> list[Any]:
        held = _encoded(values) if self.leads else torch.empty(0, dtype=torch.uint8)
        told: list[Any] = _decoded(self._broadcast_bytes(held))
        return told

    def _broadcast_bytes(self, held: Tensor) -> Tensor:
        size = torch.tensor([len(held)])
        dist.broadcast(size, 0)
        if not self.leads:
            held = torch.empty(int(size), dtype=torch.uint8)
        dist.broadcast(held, 0)
        return held


def join(
    *, setup_timeout_s: int, step_timeout_s: int, store: str | None = None, nccl: bool = True
) -> Group:
    """Meet the other ranks, which the environment counts as torchrun does.

    Args:
        setup_timeout_s: seconds to wait for them until training goes.
        step_timeout_s: and from then on.
        store: a file of theirs where ranks of one machine meet, and talk over its loopback
            interface alone; None goes by `MASTER_ADDR` and `MASTER_PORT`, and by the
            interface that leads there unless the environment names another.
        nccl: whether each has a GPU of its own, if there are GPUs; several on one talk over gloo.

    Returns:
        The ranks, all of them there.

    Raises:
        RankLostError: they did not come.
    """
    rank, size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    world = Group(
        rank=rank,
        size=size,
        local_rank=int(os.environ.get("LOCAL_RANK", rank)),
        local_size=int(os.environ.get("LOCAL_WORLD_SIZE", size)),
        step_timeout_s=step_timeout_s,
    )
    if dist.is_initialized():  # the jobs of a sweep under torchrun share it
        return world
    backend = "cpu:gloo,cuda:nccl" if nccl and torch.cuda.is_available() else "gloo"
    seconds = datetime.timedelta(seconds=setup_timeout_s)
    try:
        meeting = _meet_at(store, world, seconds)
        dist.init_process_group(
            backend,
            timeout=seconds / _GLOO_PATIENCE,
            store=meeting,
            rank=world.rank,
            world_size=world.size,
        )
    except (RuntimeError, ValueError) as error:
        raise RankLostError(
            f"the {size} processes of this run did not meet ({_reason(error)}); between machines, "
            "GLOO_SOCKET_IFNAME names the network interface to take"
        ) from error
    meeting.set_timeout(seconds)
    _give_each_other(seconds)
    return world


def _meet_at(file: str | None, world: World, timeout: datetime.timedelta) -> Store:
    """Return where the ranks tell each other their addresses, all of them having come there.

    What they talk over afterwards is settled in the environment.

    Raises:
        RankLostError: nobody can be met.
    """
    store: Store
    if file is not None:
        store = FileStore(file, world.size)
    else:
        _await_master(world, timeout.total_seconds())
        store, _, _ = next(rendezvous("env://", timeout=timeout))
    master = os.environ.get("MASTER_ADDR")
    store.set(f"vitx/{world.rank}", (master and address_towards(master)) or "")
    store.wait([f"vitx/{rank}" for rank in range(world.size)], timeout)
    if file is not None:
        if interface_of(_LOCALHOST) is None:
            raise RankLostError("the loopback interface is down; type ip link set lo up")
        os.environ["GLOO_SOCKET_IFNAME"] = os.environ["NCCL_SOCKET_IFNAME"] = LOOPBACK
        return store
    interface: str | None = LOOPBACK
    if str(world.size) != os.environ.get("LOCAL_WORLD_SIZE"):
        addresses = [store.get(f"vitx/{rank}").decode() for rank in range(world.size)]
        interface = interface_between(addresses, world.rank)
    if interface is not None:
        os.environ.setdefault("GLOO_SOCKET_IFNAME", interface)
        os.environ.setdefault("NCCL_SOCKET_IFNAME", f"={interface}")  # not another that begins so
    return store


def _await_master(world: World, timeout_s: float) -> None:
    """Wait for whoever the ranks meet at; raises RankLostError."""
    host, port = (os.environ.get(name, "") for name in ("MASTER_ADDR", "MASTER_PORT"))
    agent_listens = os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True"
    if not host or not port.isdigit() or (world.leads and not agent_listens):
        return  # torch says what is wrong with them, or listens itself
    if why := await_listener(host, int(port), timeout_s):
        raise RankLostError(
            f"the {world.size} processes of this run did not meet: nobody answered at "
            f"{host}:{port} within {timeout_s:g} s ({why}); MASTER_ADDR and MASTER_PORT have to "
            "name rank 0, and runtime.setup_timeout_s is how long it is waited for"
        )


def _give_each_other(patience: datetime.timedelta) -> None:
    # torch has no public name for it; the setting of torch.distributed's own trainers.
    from torch.distributed.distributed_c10d import _set_pg_timeout

    _set_pg_timeout(patience)


def is_loss(error: RuntimeError) -> bool:
    """Say whether an error is that of a conversation with another rank."""
    return isinstance(error, dist.DistError) or bool(_GLOO.search(str(error)))


def _reason(error: Exception) -> str:
    return _SOURCE.sub("", str(error).strip().splitlines()[0]).partition(". ")[0]


def _encoded(value: Any) -> Tensor:
    return torch.frombuffer(bytearray(json.dumps(value).encode()), dtype=torch.uint8)


def _decoded(held: Tensor) -> Any:
    return json.loads(held.numpy().tobytes())
