"""A wait that takes too long is ended; many short ones, and none at all, are not."""

import threading
import time

from vitx.data.watchdog import Watchdog


def test_only_one_long_wait_is_ended() -> None:
    ended = threading.Event()
    watchdog = Watchdog(0.2, ended.set)
    for _ in range(12):  # longer than its patience together
        with watchdog:
            time.sleep(0.05)
    time.sleep(1.0)  # nobody waits
    assert not ended.is_set()
    assert not watchdog.barked

    with watchdog:
        assert ended.wait(10)
    assert watchdog.barked
    watchdog.close()


def test_what_is_closed_ends_nothing() -> None:
    ended = threading.Event()
    watchdog = Watchdog(0.1, ended.set)
    with watchdog:
        watchdog.close()
        assert not ended.wait(0.6)
