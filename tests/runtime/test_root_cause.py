"""What torchrun takes for the root cause, of the files that ranks leave it."""

import os
import time
from pathlib import Path

import pytest
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError, ProcessFailure

from vitx.errors import DataError, Preempted, RankLostError, VitxError
from vitx.runtime.root_cause import leave_word


def left_by(rank: int, error: VitxError, folder: Path) -> tuple[ProcessFailure, float]:
    """Return what torchrun reads of a rank that ends so, and the seconds it took to end."""
    file, began = folder / f"error-{rank}.json", time.monotonic()
    if (pid := os.fork()) == 0:
        os.environ |= {"RANK": str(rank), "TORCHELASTIC_ERROR_FILE": str(file)}
        leave_word(error, f"vitx train: {error}", error.exit_code)
        os._exit(error.exit_code)
    _, status = os.waitpid(pid, 0)
    code = os.waitstatus_to_exitcode(status)
    return ProcessFailure(rank, pid, code, str(file)), time.monotonic() - began


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_consequence_is_later_than_a_cause_that_is_told_after_it(tmp_path: Path) -> None:
    consequence, waited_s = left_by(0, RankLostError("another was lost"), tmp_path)
    cause, _ = left_by(1, DataError("x.png is damaged"), tmp_path)
    told = ChildFailedError("vitx", {0: consequence, 1: cause})

    assert told.get_first_failure() == (1, cause)
    assert "vitx train: x.png is damaged" in str(told)
    assert (consequence.exitcode, cause.exitcode) == (6, 3)
    assert waited_s > 1  # one that was killed is noticed before


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_who_is_stopped_of_a_cause_is_later_than_it(tmp_path: Path) -> None:
    stopped, waited_s = left_by(0, Preempted("stopped by SIGTERM"), tmp_path)
    cause, _ = left_by(1, DataError("x.png is damaged"), tmp_path)

    assert ChildFailedError("vitx", {0: stopped, 1: cause}).get_first_failure() == (1, cause)
    assert waited_s < 1  # its end is asked for


def test_nothing_is_left_where_torchrun_did_not_ask(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCHELASTIC_ERROR_FILE", str(tmp_path / "error.json"))
    monkeypatch.delenv("RANK", raising=False)
    leave_word(RankLostError(""), "", 6)
    assert not (tmp_path / "error.json").exists()
