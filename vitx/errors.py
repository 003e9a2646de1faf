"""The ways vitx ends, each with its exit code: one line for the user, never a traceback."""

from __future__ import annotations

import difflib
import errno
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import TypeVar

Part = TypeVar("Part")


class VitxError(Exception):
    """An end that is explained by one line: what was expected, what was got, what to type."""

    exit_code = 1


class UsageError(VitxError):
    """The command line or the configuration can't be carried out."""

    exit_code = 2


class DataError(VitxError):
    """A dataset, a label or a picture is not what it has to be."""

    exit_code = 3


class StorageError(VitxError):
    """A checkpoint can't be read, or the run directory can't be written."""

    exit_code = 4


class NonFiniteError(VitxError):
    """The loss or a gradient became NaN or infinite."""

    exit_code = 5


class RankLostError(VitxError):
    """A process of a run of several was lost, or kept the others waiting too long."""

    exit_code = 6


class SweepError(VitxError):
    """Some jobs of a sweep failed; the others are done."""

    exit_code = 7


class RunInUseError(VitxError):
    """Another process is writing this run directory."""

    exit_code = 8


class Preempted(VitxError):
    """Asked to stop from outside; everything is saved and the run can go on."""

    exit_code = 75


class Paused(Preempted):
    """Stopped where the configuration says; everything is saved and the run can go on."""


class Interrupted(VitxError):
    """Stopped by the user; everything is saved and the run can go on."""

    exit_code = 130


class Stopped(KeyboardInterrupt):  # noqa: N818 (nothing went wrong)
    """A signal asked the program to stop; raised wherever it was.

    No VitxError: what goes on where a part of it fails is to end of this, as of a Ctrl-C.

    Attributes:
        end: what it comes to.
    """

    def __init__(self, end: VitxError) -> None:
        super().__init__(str(end))
        self.end = end


def as_request(error: BaseException | None) -> VitxError | None:
    """Return the end that a request to stop stands for; None where there was none.

    A library may have turned it into an error of its own.
    """
    while error is not None and not isinstance(error, KeyboardInterrupt):
        error = error.__context__
    if error is None:
        return None
    return error.end if isinstance(error, Stopped) else Interrupted("interrupted")


@dataclass(kw_only=True)
class Problems:
    """Tries one thing after another, and keeps what is wrong with each.

    Attributes:
        found: the ends that they came to.
        lenient: something is known to be wrong, and what else it leads to is not told.
    """

    found: list[VitxError] = field(default_factory=list)
    lenient: bool = False

    def tried(self, part: Callable[[], Part]) -> Part | None:
        """Return what a part comes to; None where it comes to nothing."""
        try:
            return part()
        except VitxError as error:
            self.found.append(error)
        except Exception:
            if not self.lenient:
                raise
        return None

    def raise_all(self) -> None:
        """End as the first of them would, but say all of them; each once.

        Raises:
            VitxError: there are some.
        """
        if not (lines := self.lines()):
            return
        text = lines[0]
        if len(lines) > 1:
            text = "\n".join([f"{len(lines)} problems", *(f"  {line}" for line in lines)])
        raise type(self.found[0])(text)

    def lines(self) -> list[str]:
        """Return what is wrong, each once."""
        return list(dict.fromkeys(str(error) for error in self.found))


LONGER_FILES = "files may not grow as long here; type ulimit -f unlimited"
"""What helps where the shell limits files."""

_ELSEWHERE = "free space or choose another directory"
_STORAGE_ERRORS = {
    errno.ENOSPC: _ELSEWHERE,
    errno.EDQUOT: _ELSEWHERE,
    errno.EROFS: _ELSEWHERE,
    errno.EACCES: _ELSEWHERE,
    errno.ENAMETOOLONG: _ELSEWHERE,
    errno.EFBIG: LONGER_FILES,
    errno.EMFILE: "type ulimit -n 4096",
    errno.ENFILE: "end other programs",
    errno.EIO: "see to the disk",
    errno.ESTALE: "see to the network file system",
}
# How the loader of shared libraries, torch's allocator and Python's threads say that there is no
# memory; the first of them says as much of a disk whose files may not be executed, with a reason.
_NO_MEMORY = re.compile(
    r"failed to map segment from shared object$|Cannot allocate memory\)?$"
    r"|DefaultCPUAllocator: (can't allocate|not enough) memory|can't start new thread"
)


def as_storage_error(error: BaseException) -> StorageError | None:
    """Return the end that a lack of memory, space, files or permission stands for, or None."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return StorageError("out of memory; type a smaller runtime.micro_batch or batch_size")
    if isinstance(error, OSError) and error.errno in _STORAGE_ERRORS:
        where = f"{error.filename}: " if error.filename else ""
        return StorageError(f"{where}{error.strerror}; {_STORAGE_ERRORS[error.errno]}")
    if isinstance(error, (OSError, ImportError, RuntimeError)) and _NO_MEMORY.search(str(error)):
        why = str(error).strip().splitlines()[-1]
        return StorageError(
            f"out of memory ({why}); end other programs, or type ulimit -v unlimited"
        )
    return None


def near_matches(word: str, known: Iterable[str]) -> str:
    """Render the closest of `known` as a hint.

    Args:
        word: what was typed.
        known: what could have been meant.

    Returns:
        `"; did you mean 'a' or 'b'?"`, or the empty string where nothing is close.

    >>> near_matches("modle", ["model", "dataset"])
    "; did you mean 'model'?"
    """
    close = difflib.get_close_matches(word, sorted(set(known)), n=2, cutoff=0.6)
    if not close:
        return ""
    return "; did you mean " + " or ".join(f"'{match}'" for match in close) + "?"
