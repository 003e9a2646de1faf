"""Doing something beside something else, in a thread that no end of the program waits for."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TypeVar

Value = TypeVar("Value")


def beside(do: Callable[[], Value]) -> Callable[[], Value]:
    """Begin to do something; return what waits for it, and returns or raises what it does."""
    came: list[Value] = []
    wrong: list[BaseException] = []

    def story() -> None:
        try:
            came.append(do())
        except BaseException as error:  # noqa: BLE001 (raised where it is waited for)
            wrong.append(error)

    thread = threading.Thread(target=story, daemon=True)
    thread.start()

    def wait() -> Value:
        thread.join()
        if wrong:
            raise wrong[0]
        return came[0]

    return wait
