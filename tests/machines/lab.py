"""Machines that are namespaces: each with its own network, name, processes and disk.

A switch holds a bridge; every machine hangs on it by one cable, and sees of the others nothing but
what comes over it. Each is held by a process that ends with the one that tests, and with it ends
all that runs there.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType

import pytest

from tests.train.programs import ROOT, live_processes, until
from vitx.torture.programs import PATIENCE_S

NETWORK = "10.77.0"
CONFIGURED_S = 20  # what changing a part of it may take
_TOOLS = ("ip", "mount", "nsenter", "unshare")
# Without the rights of root, those of a user namespace do.
_AS_ROOT = () if os.geteuid() == 0 else ("--user", "--map-root-user")
_HIDDEN = ("RANK", "WORLD_SIZE", "LOCAL_", "MASTER_", "GLOO_", "NCCL_", "TORCHELASTIC_", "SLURM_")


def why_not() -> str:
    """Say what is missing here for such machines; nothing where they can be made."""
    if missing := [tool for tool in _TOOLS if shutil.which(tool) is None]:
        return f"there is no {', '.join(missing)} here"
    tried = subprocess.run(
        [*_unshare(*_AS_ROOT), "sh", "-c", "ip link add br0 type bridge && ip link add type veth"],
        capture_output=True,
        text=True,
        timeout=CONFIGURED_S,
    )
    return tried.stderr.strip()


class Command:
    """What runs on a machine."""

    def __init__(self, process: subprocess.Popen[bytes], output: Path) -> None:
        self._process, self._output = process, output

    @property
    def text(self) -> str:
        """What it wrote to stdout and stderr."""
        return self._output.read_text(encoding="utf-8", errors="replace")

    @property
    def pid(self) -> int:
        """Its process, without the one that entered the machine to start it."""
        (child,) = _children(self._process.pid)
        return child

    def running(self) -> bool:
        return self._process.poll() is None

    def wait(self, timeout_s: float = PATIENCE_S) -> int:
        """Return the exit code; that of a signal is negative."""
        until(lambda: not self.running(), timeout_s, what=f"the end of\n{self.text}")
        return self._process.wait()


class _Held:
    """Namespaces that last until they are let go, or this process ends."""

    def __init__(self, command: Sequence[str]) -> None:
        self._process = subprocess.Popen(
            [*command, "sh", "-c", "echo; exec cat"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        assert self._process.stdout is not None
        if not self._process.stdout.readline():
            pytest.fail(f"not made: {self._process.communicate()[1].decode()}")
        self.init = self._process.pid
        while below := _children(self.init):  # `nsenter` and `unshare` fork
            (self.init,) = below

    def configure(self, *lines: str) -> None:
        """Carry out lines of a shell inside."""
        done = subprocess.run(
            [*self.entered(), "sh", "-ec", "\n".join(lines)],
            capture_output=True,
            text=True,
            timeout=CONFIGURED_S,
        )
        assert done.returncode == 0, done.stderr

    def entered(self) -> list[str]:
        """Return the words in front of a command that runs inside."""
        user = ["--user"] if _AS_ROOT else []
        where = ["--net", "--mount", "--uts", "--pid"]
        return ["nsenter", "--target", str(self.init), *user, *where]

    def processes(self) -> set[int]:
        """Return the live processes inside, but for the one that holds it."""
        return {pid for pid, _, _ in live_processes() if self._holds(pid)} - {self.init}

    def let_go(self) -> None:
        """End all that runs inside."""
        with suppress(ProcessLookupError):
            os.kill(self.init, signal.SIGKILL)
        self._process.communicate()

    def _holds(self, pid: int) -> bool:
        with suppress(OSError):  # it ended meanwhile
            return os.readlink(f"/proc/{pid}/ns/pid") == os.readlink(f"/proc/{self.init}/ns/pid")
        return False


class Machine(_Held):
    """One machine of a `Lab`.

    Attributes:
        address: where the others reach it.
        work: its folder for runs, as seen from outside.
    """

    def __init__(self, lab: Lab, number: int) -> None:
        super().__init__([*lab.switch.entered(), *_unshare()])
        self._lab, self._cable, self.address = lab, f"cable{number}", _address(number)
        self._disk = lab.folder.with_name(f"{lab.folder.name}-disk-{number}")
        self._outputs = lab.folder.with_name(f"{lab.folder.name}-outputs-{number}")
        self.work = self._disk / "work"
        self._commands: list[Command] = []
        for each in (self.work, self._disk / "tmp", self._outputs):
            each.mkdir(parents=True)
        (self._disk / "hosts").write_text(_hosts(number))
        (self._disk / "nsswitch.conf").write_text("hosts: files\n")  # nobody waits for a name
        lab.switch.configure(
            f"ip link add {self._cable} type veth peer name eth0 netns {self._inner_pid()}",
            f"ip link set {self._cable} master br0 up",
        )
        self.configure(
            f"hostname node{number}",
            f"ip address add {self.address}/24 dev eth0",
            "ip link set lo up",
            "ip link set eth0 up",
            f"mount --bind {self._disk / 'hosts'} /etc/hosts",
            f"mount --bind {self._disk / 'nsswitch.conf'} /etc/nsswitch.conf",
            f"mount --bind {self._disk} {lab.folder}",  # the same path on all, another disk
        )

    def start(self, *words: str, **env: str) -> Command:
        """Start a command in its folder for runs."""
        output = self._outputs / str(len(list(self._outputs.iterdir())))
        own = {
            "PYTHONPATH": str(ROOT),
            "TMPDIR": str(self._lab.folder / "tmp"),
            "VITX_CACHE": str(self._lab.folder / "work/cache"),
        }
        around = {key: each for key, each in os.environ.items() if not key.startswith(_HIDDEN)}
        with output.open("wb") as file:
            process = subprocess.Popen(
                [*self.entered(), f"--wdns={self._lab.folder / 'work'}", "--", *words],
                env=around | own | env,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self._commands.append(Command(process, output))
        return self._commands[-1]

    def on_disk(self, name: str) -> Path:
        """Return what commands find as `../<name>`, as seen from outside."""
        return self._disk / name

    def let_go(self) -> None:
        """End all that runs on it, as a power cut does."""
        super().let_go()
        for each in self._commands:
            each.wait()

    def put(self, source: Path, name: str) -> None:
        """Copy a folder to its disk."""
        shutil.copytree(source, self.on_disk(name))

    def pull_cable(self) -> None:
        """Have all that it sends and is sent vanish."""
        self._lab.switch.configure(f"ip link set {self._cable} down")

    def _inner_pid(self) -> str:
        """Return the id that the process which holds it has on the switch."""
        status = Path(f"/proc/{self.init}/status").read_text().splitlines()
        return next(line for line in status if line.startswith("NSpid:")).split()[-2]


class Lab:
    """Machines on one network, with one path for the disk of each.

    Args:
        folder: where each sees its disk; from outside, it stays empty.
        count: how many machines.
    """

    def __init__(self, folder: Path, count: int) -> None:
        folder.mkdir()
        self.folder = folder
        self.switch = _Held(_unshare(*_AS_ROOT))
        self.machines: list[Machine] = []
        self._count = count

    def __enter__(self) -> list[Machine]:
        try:
            self.switch.configure("ip link add br0 type bridge", "ip link set br0 up")
            for number in range(self._count):
                self.machines.append(Machine(self, number))
        except BaseException:
            self._close()
            raise
        return self.machines

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._close()

    def _close(self) -> None:
        for each in (*self.machines, self.switch):
            each.let_go()


def _unshare(*user: str) -> list[str]:
    private = ["--net", "--mount", "--uts", "--pid", "--mount-proc"]
    return ["unshare", *user, *private, "--fork", "--kill-child"]


def _address(number: int) -> str:
    return f"{NETWORK}.{number + 1}"


def _hosts(number: int) -> str:
    # As Debian's installer writes it: the own name is an address of the loopback interface.
    others = [f"{_address(each)} node{each}" for each in range(9) if each != number]
    return "\n".join(["127.0.0.1 localhost", f"127.0.1.1 node{number}", *others, ""])


def _children(pid: int) -> list[int]:
    return [int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
