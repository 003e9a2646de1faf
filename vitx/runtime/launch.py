"""Starting the ranks of a run on this machine, or being one that torchrun started.

Ranks are forked from this process before it imports torch: they begin with the configuration it
resolved, and it stays small. Importing this module imports no torch.
"""

from __future__ import annotations

import atexit
import contextlib
import faulthandler
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from typing import NoReturn, TypeVar

from vitx.config.schema import RuntimeConfig
from vitx.errors import RankLostError, UsageError, VitxError, as_storage_error
from vitx.runtime.memory_file import MemoryFile
from vitx.runtime.openmp import wait_politely
from vitx.runtime.rank import OTHERWISE, TRAINING, Advice, Rank, Report
from vitx.runtime.signals import HANDLED, end_with_parent
from vitx.runtime.supervisor import DUMP, Supervisor
from vitx.runtime.world import ALONE, World

Story = Callable[[World], None]
Value = TypeVar("Value")


def meet(runtime: RuntimeConfig) -> World:
    """Return the ranks that torchrun started, this process being one; else that it is alone.

    Raises:
        RankLostError: the others did not come.
        UsageError: `runtime.devices` asks for more of them.
    """
    if standing() is None:
        return ALONE
    if runtime.devices not in (1, None):
        raise UsageError(
            f"runtime.devices={runtime.devices}: torchrun started {os.environ['WORLD_SIZE']} "
            "processes already; leave it out"
        )
    end_with_parent()
    world = _join(runtime, None)
    atexit.register(world.close)  # for all jobs of a sweep it is the same
    return world


def standing() -> int | None:
    """Return the number of this process among those that torchrun started; None if it is alone.

    Raises:
        UsageError: the environment has something else in the place of these numbers.
    """
    rank, size, _, _ = map(_count, ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE"))
    return None if (size or 1) < 2 else rank


def _count(name: str) -> int | None:
    """Return a whole number that the environment has; None where it has not."""
    value = os.environ.get(name)
    if value is not None and not (value.isascii() and value.isdigit()):
        raise UsageError(f"the environment has {name}={value}: expected a number, as of torchrun")
    return None if value is None else int(value)


def launch(
    story: Story,
    world: World,
    runtime: RuntimeConfig,
    *,
    apart: bool = False,
    advice: Advice = TRAINING,
) -> None:
    """Have a story told by all ranks of a run.

    Args:
        story: what each rank does.
        world: as of `meet`.
        runtime: how many there are, and how long they wait for each other.
        apart: a single rank is forked too: what ends it, such as a lack of memory, does not end
            this process, which goes on with others and imports no torch meanwhile.
        advice: what to do where one was lost.

    Raises:
        VitxError: as the story ended; of several ranks, the one that went wrong first.
        RankLostError: one was killed, hung, or met a bug.
    """
    ranks = count_ranks(runtime) if world is ALONE else 1
    if world is not ALONE or (ranks == 1 and not apart):
        story(world)
        return
    _refuse_used_gpu()
    restarts_left = runtime.max_restarts
    while True:
        supervisor = Supervisor(step_timeout_s=runtime.step_timeout_s)
        lost = _supervise(story, ranks, runtime, supervisor, advice)
        if lost is None:
            return
        # Its ranks have measured a long Ctrl-Z as time that others kept them waiting.
        if not supervisor.was_suspended:
            if not restarts_left:
                raise lost
            restarts_left -= 1
        print(f"{lost}\nbeginning again where it was saved", file=sys.stderr, flush=True)


def aside(ask: Callable[[], Value], runtime: RuntimeConfig) -> Value:
    """Return the plain data that `ask` returns.

    Where ranks are still to be forked from this process, another one is asked, so that this one
    imports no torch.

    Raises:
        VitxError: as `ask` does.
    """
    if count_ranks(runtime) == 1:
        return ask()
    with MemoryFile() as answer:
        supervisor = Supervisor(step_timeout_s=runtime.step_timeout_s)
        lost = _supervise(
            lambda _: answer.write(json.dumps(ask())), 1, runtime, supervisor, OTHERWISE
        )
        if lost is not None:
            raise lost
        value: Value = json.loads(answer.read())
    return value


def count_ranks(runtime: RuntimeConfig) -> int:
    """Return the number of processes that `runtime.devices` asks for.

    Raises:
        UsageError: it asks for as many as there are GPUs, and there is none.
    """
    if runtime.devices is not None:
        return runtime.devices
    ask = "import torch; print(torch.cuda.device_count())"
    said = subprocess.run(  # noqa: S603 (fixed words)
        [sys.executable, "-W", "ignore", "-c", ask], capture_output=True, text=True, check=False
    ).stdout.strip()
    if said in ("", "0"):
        raise UsageError("runtime.devices=null: there is no GPU here; type a number of processes")
    return int(said)


def _supervise(
    story: Story, ranks: int, runtime: RuntimeConfig, supervisor: Supervisor, advice: Advice
) -> RankLostError | None:
    """Have a story told once.

    Returns:
        The loss of a rank of a run that nobody had asked to stop; None where there was none.

    Raises:
        RankLostError: one was lost after somebody had.
        VitxError: as the story ended otherwise.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    with contextlib.ExitStack() as held:
        meeting, *files = (held.enter_context(MemoryFile()) for _ in range(1 + 2 * ranks))
        try:
            with supervisor:
                for number in range(ranks):
                    name = f"rank {number}" if ranks > 1 else ""
                    rank = Rank(name=name, advice=advice, word=files.pop(), output=files.pop())
                    if (pid := os.fork()) == 0:
                        _be_rank(story, rank, number, ranks, meeting, runtime)
                    rank.pid = pid
                    supervisor.add(rank)
                supervisor.wait()
        except RankLostError as error:
            if supervisor.was_asked:
                raise
            return error
    return None


def _be_rank(
    story: Story, rank: Rank, number: int, ranks: int, meeting: MemoryFile, runtime: RuntimeConfig
) -> NoReturn:
    """Tell the story as a rank, leave word of how it ended, and end."""
    report, code = Report.bug(RuntimeError("it ended before it began")), 1
    try:
        _stand_apart(rank.output, number)
        os.environ |= {
            "RANK": str(number),
            "LOCAL_RANK": str(number),
            "WORLD_SIZE": str(ranks),
            "LOCAL_WORLD_SIZE": str(ranks),
        }
        world = ALONE if ranks == 1 else _join(runtime, meeting.path)
        with world.losses():
            story(world)
        report, code = Report.done(), 0
        world.close()
    except VitxError as error:
        report, code = Report.error(error), error.exit_code
    except BaseException as error:  # noqa: BLE001 (the supervisor says it)
        if (known := as_storage_error(error)) is not None:
            report, code = Report.error(known), known.exit_code
        else:
            report = Report.bug(error)
    finally:
        with contextlib.suppress(OSError):
            rank.leave(report)
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


def _stand_apart(output: MemoryFile, number: int) -> None:
    """Leave the terminal's group, which its Ctrl-C goes to, and end with the supervisor."""
    end_with_parent()
    os.setpgid(0, 0)
    signal.signal(signal.SIGTTOU, signal.SIG_IGN)  # `stty tostop` stops who writes from another
    for each in HANDLED:
        if signal.getsignal(each) != signal.SIG_IGN:  # as nohup wants it
            signal.signal(each, signal.SIG_DFL)
    faulthandler.register(DUMP, file=output.number, all_threads=True)
    if number > 0:
        os.dup2(output.number, 1)
        os.dup2(output.number, 2)


def _join(runtime: RuntimeConfig, store: str | None) -> World:
    wait_politely()
    # torch takes seconds to import.
    from vitx.runtime.group import join

    return join(
        setup_timeout_s=runtime.setup_timeout_s,
        step_timeout_s=runtime.step_timeout_s,
        store=store,
        nccl=not runtime.device.startswith("cuda:"),
    )


def _refuse_used_gpu() -> None:
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        raise UsageError(
            "runtime.devices: this process has used a GPU already, so it can't start others; "
            "give the jobs of a sweep one number of devices"
        )
