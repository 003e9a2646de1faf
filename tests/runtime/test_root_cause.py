"""What torchrun takes for the root cause, of the files that ranks leave it."""

import os
import time
from pathlib import Path

import pytest
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError, ProcessFailure

from tests.train.programs import until
from vitx.errors import DataError, Preempted, RankLostError, VitxError
from vitx.runtime.root_cause import leave_word


def left_by(*errors: VitxError, folder: Path) -> list[tuple[ProcessFailure, float]]:
    """Return what torchrun reads of ranks that end so, and the seconds each took to end.

    Each begins when the one before is told, and not when it has ended.
    """
    begun = []
    for rank, error in enumerate(errors):
        file, began = folder / f"error-{rank}.json", time.monotonic()
        if (pid := os.fork()) == 0:
            os.environ |= {"RANK": str(rank), "TORCHELASTIC_ERROR_FILE": str(file)}
            leave_word(error, f"vitx train: {error}", error.exit_code)
            os._exit(error.exit_code)
        until(lambda file=file: file.exists(), what="its word")
        begun.append((pid, file, began))
    found = []
    for rank, (pid, file, began) in enumerate(begun):
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        found.append((ProcessFailure(rank, pid, code, str(file)), time.monotonic() - began))
    return found


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_consequence_is_later_than_a_cause_that_is_told_after_it(tmp_path: Path) -> None:
    (consequence, waited_s), (cause, _) = left_by(
        RankLostError("another was lost"), DataError("x.png is damaged"), folder=tmp_path
    )
    told = ChildFailedError("vitx", {0: consequence, 1: cause})

    assert told.get_first_failure() == (1, cause)
    assert "vitx train: x.png is damaged" in str(told)
    assert (consequence.exitcode, cause.exitcode) == (6, 3)
    assert waited_s > 1  # one that was killed is noticed before


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_who_is_stopped_of_a_cause_is_later_than_it(tmp_path: Path) -> None:
    (stopped, waited_s), (cause, _) = left_by(
        Preempted("stopped by SIGTERM"), DataError("x.png is damaged"), folder=tmp_path
    )

    assert ChildFailedError("vitx", {0: stopped, 1: cause}).get_first_failure() == (1, cause)
    assert waited_s < 1  # its end is asked for


def test_nothing_is_left_where_torchrun_did_not_ask(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCHELASTIC_ERROR_FILE", str(tmp_path / "error.json"))
    monkeypatch.delenv("RANK", raising=False)
    leave_word(RankLostError(""), "", 6)
    assert not (tmp_path / "error.json").exists()
