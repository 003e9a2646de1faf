"""What a lack of memory or space says of itself, and what looks like one."""

import errno
import os
import subprocess
import sys

import pytest

from vitx.errors import as_storage_error

LOADING = "libtorch_cpu.so: failed to map segment from shared object"


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (MemoryError(), "out of memory; type a smaller runtime.micro_batch or batch_size"),
        (ImportError(LOADING), f"out of memory ({LOADING}); end other programs, or type ulimit -v"),
        (OSError(errno.ENOMEM, os.strerror(errno.ENOMEM)), "out of memory ([Errno 12] Cannot "),
        (RuntimeError("can't start new thread"), "out of memory (can't start new thread); "),
        (OSError(errno.EFBIG, "File too large", "x"), "x: File too large; files may not grow as "),
        (OSError(errno.ENOSPC, "No space left", "x"), "x: No space left; free space or choose"),
        (OSError(errno.EMFILE, "Too many open files"), "Too many open files; type ulimit -n"),
        (OSError(errno.EIO, "Input/output error", "x"), "x: Input/output error; see to the disk"),
        (ImportError(f"{LOADING}: Operation not permitted"), None),  # a disk without programs
        (ImportError("x.so: cannot allocate memory in static TLS block"), None),
        (ImportError("No module named 'x'"), None),
        (OSError(errno.ENOENT, "No such file or directory", "x"), None),
        (RuntimeError("shapes differ"), None),
    ],
)
def test_it_is_told_with_what_helps(error: Exception, line: str | None) -> None:
    told = as_storage_error(error)
    assert (told is None) == (line is None)
    assert str(told).startswith(line or "None")


def test_of_torch_itself() -> None:
    """Its own words, in a process that may have a little more memory than it has."""
    code = (
        "import resource, torch; from vitx.errors import as_storage_error\n"
        "resource.setrlimit(resource.RLIMIT_AS, (2**35, 2**35))\n"
        "try: torch.empty(2**36)\n"
        "except Exception as error: print(type(error).__name__, as_storage_error(error))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.startswith("RuntimeError out of memory (["), done.stdout
