"""Ranks that meet and add up, and ranks that can't."""

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.doctor.looking import found

TWO = "planned.config.runtime.devices = 2"


def test_two_processes_add_up() -> None:
    said = found("communication", "check_communication", change=TWO)

    assert said.startswith("ok")
    assert "2 processes added up 16 MiB over gloo in" in said


def test_one_process_has_nobody_to_talk_to() -> None:
    assert found("communication", "check_communication") == ""


def test_without_a_loopback_interface() -> None:
    alone = ("unshare", "--net")
    if shutil.which("unshare") is None or subprocess.run([*alone, "true"], check=False).returncode:
        pytest.skip("no right to make a network namespace")

    said = found("communication", "check_communication", change=TWO, limits=alone)

    assert said.startswith("problem  communication 2 processes could not talk: the loopback inter")
    assert "Traceback" not in said
    assert "runtime.devices=1" in said


@pytest.mark.parametrize(
    ("fault", "told"),
    [
        ("tensor += 1", "the sum of the ranks' vectors is wrong: their link alters data"),
        pytest.param("os.kill(os.getpid(), 9)", "rank 1 (process", marks=pytest.mark.slow),
        (
            "raise dist.DistBackendError('NCCL error in: NCCLUtils.cpp:94, invalid usage\\n"
            "Last error:\\nDuplicate GPU detected : rank 1 and rank 0')",
            "NCCL: Duplicate GPU detected : rank 1 and rank 0",
        ),
    ],
)
def test_what_went_wrong_first_is_told(fault: str, told: str, tmp_path: Path) -> None:
    """Rank 0 meets nothing but the end of the other one."""
    (tmp_path / "sitecustomize.py").write_text(FAULTY.format(fault=repr(fault)))

    said = found("communication", "check_communication", change=TWO, PYTHONPATH=str(tmp_path))

    assert said.startswith(f"problem  communication 2 processes could not talk: {told}")
    assert "goes on" not in said
    assert "NCCL_DEBUG" not in said  # on a CPU


# Spoils what rank 1 adds up, in whichever process that comes to be.
FAULTY = """
import os
import sys

if "vitx.doctor.communication" in sys.orig_argv:
    import torch.distributed as dist

    added_up = dist.all_reduce

    def all_reduce(tensor, *args, **kwargs):
        done = added_up(tensor, *args, **kwargs)
        if os.environ.get("RANK") == "1":
            exec({fault})
        return done

    dist.all_reduce = all_reduce
"""
