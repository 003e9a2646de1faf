"""Ranks that meet and add up, and ranks that can't."""

import shutil
import subprocess

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

    assert said.startswith("problem  communication 2 processes could not talk: the 2 processes of")
    assert "Traceback" not in said
    assert "runtime.devices=1" in said
