"""Which network interface the ranks of several machines talk over.

Left to itself, gloo takes the address that the machine's own name stands for, and on many (as
Debian sets them up) that is one of the loopback interface, where no other machine can reach it.
"""

from __future__ import annotations

import contextlib
import fcntl
import ipaddress
import socket
import struct
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

LOOPBACK = "lo"
_SIOCGIFADDR = 0x8915  # of Linux' sockios.h: the address of an interface
_PAUSE_S, _LEAST_S = 0.2, 1.0
_DISCARD = 9  # a port; nothing is sent there


def interface_between(addresses: Sequence[str], rank: int) -> str | None:
    """Return the interface that a rank reaches the others over.

    It is the one with the route to the machine of rank 0. There, that name may stand for the
    loopback interface; then it is the one with the route to a rank that came from elsewhere.

    Args:
        addresses: of each rank, what it sends from towards rank 0; empty where it can't be told.
        rank: of this process.

    Returns:
        Its name; None where it can't be told.
    """
    own = addresses[rank]
    if own and _is_loopback(own):
        remote = next((each for each in addresses if each and not _is_loopback(each)), None)
        own = (remote and address_towards(remote)) or ""
    return interface_of(own) if own else None


def address_towards(host: str) -> str | None:
    """Return the address of this machine that packets to `host` come from; None without a route."""
    with contextlib.suppress(OSError):
        for family, kind, protocol, _, target in socket.getaddrinfo(
            host, _DISCARD, type=socket.SOCK_DGRAM
        ):
            with contextlib.suppress(OSError), socket.socket(family, kind, protocol) as probe:
                probe.connect(target)
                return str(probe.getsockname()[0])
    return None


def interface_of(address: str) -> str | None:
    """Return the interface that has an address of this machine; None where none is found."""
    for _, name in socket.if_nameindex():
        if address in (_ipv4_of(name), *_ipv6_of(name)):
            return name
    return None


def await_listener(host: str, port: int, timeout_s: float) -> str | None:
    """Wait until somebody listens at an address.

    torch waits too, but fills the screen with frames of C++ and takes three times as long.

    Returns:
        Why nobody can be reached; None once somebody is.
    """
    deadline = time.monotonic() + timeout_s
    while True:
        left_s = max(deadline - time.monotonic(), _LEAST_S)
        try:
            socket.create_connection((host, port), timeout=left_s).close()
        except OSError as error:
            if time.monotonic() + _PAUSE_S > deadline:
                return error.strerror or str(error)
        else:
            return None
        time.sleep(_PAUSE_S)


def _is_loopback(address: str) -> bool:
    return ipaddress.ip_address(address.partition("%")[0]).is_loopback


def _ipv4_of(interface: str) -> str | None:
    """Return the first IPv4 address of an interface."""
    request = struct.pack("256s", interface.encode())
    with contextlib.suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asked:
        answer = fcntl.ioctl(asked, _SIOCGIFADDR, request)
        return socket.inet_ntoa(answer[20:24])  # behind the name, family and port
    return None


def _ipv6_of(interface: str) -> Iterator[str]:
    with contextlib.suppress(OSError):
        for line in Path("/proc/net/if_inet6").read_text().splitlines():
            digits, *_, name = line.split()
            if name == interface:
                yield str(ipaddress.IPv6Address(int(digits, 16)))
