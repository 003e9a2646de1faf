"""The program where its descriptors are closed, full or of a narrow encoding, in real shells."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
_FULL = "No space left on device"

pytestmark = pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is full")


def in_shell(redirections: str, *words: str, **env: str) -> subprocess.CompletedProcess[str]:
    """Run `vitx` in a shell with some redirections."""
    return subprocess.run(
        ["sh", "-c", f'exec "$@" {redirections}', "sh", sys.executable, "-m", "vitx", *words],
        env={**os.environ, "PYTHONPATH": str(ROOT), **env},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


@pytest.mark.parametrize("closed", [">&-", "2>&-", "<&-", "<&- >&- 2>&-"])
@pytest.mark.parametrize(("words", "code"), [(["--help"], 0), (["trian"], 2)])
def test_what_is_closed_leads_nowhere(closed: str, words: list[str], code: int) -> None:
    done, usual = in_shell(closed, *words), in_shell("", *words)

    assert done.returncode == code == usual.returncode
    assert done.stdout == ("" if ">&-" in closed.split() else usual.stdout)
    assert done.stderr == ("" if "2>&-" in closed.split() else usual.stderr)


def test_no_file_becomes_stdout(tmp_path: Path) -> None:
    code = (
        "import sys; from vitx.cli import main; sys.argv[1:] = ['--version']; main()\n"
        f"file = open({str(tmp_path / 'file')!r}, 'w'); file.write(str(file.fileno()))"
    )
    words = [sys.executable, "-c", code]
    subprocess.run(
        ["sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh", *words],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        check=True,
    )
    assert int((tmp_path / "file").read_text()) > 2


def test_letters_that_an_encoding_lacks_are_escaped() -> None:
    done = in_shell("", "eval", "--cfg", "job", "run=ü", PYTHONIOENCODING="ascii")

    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("run: \\xfc\n")


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_full_stdout_is_told_at_the_end(unbuffered: str) -> None:
    done = in_shell(">/dev/full", "--help", PYTHONUNBUFFERED=unbuffered)

    assert done.returncode == 4
    assert done.stderr == f"vitx: stdout can't be written: {_FULL}; all else is done\n"


def test_a_full_stderr_changes_no_code() -> None:
    assert in_shell("2>/dev/full", "trian").returncode == 2
    assert in_shell(">/dev/full 2>/dev/full", "--help").returncode == 4
