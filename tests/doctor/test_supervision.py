"""What ends the process that looks, or holds it up, is found; the rest is looked at as well."""

from pathlib import Path

import pytest

import vitx.doctor.supervision
from vitx.doctor.examination import CHECKS
from vitx.doctor.findings import Finding, Grade
from vitx.doctor.supervision import examine

CRASHES = "import os, signal\nos.kill(os.getpid(), signal.SIGSEGV)\n"
HANGS = "import time\ntime.sleep(1000)\n"


def library(folder: Path, name: str, body: str) -> None:
    (folder / name).mkdir(parents=True)
    (folder / name / "__init__.py").write_text(body)


def look(folder: Path, monkeypatch: pytest.MonkeyPatch) -> list[Finding]:
    monkeypatch.syspath_prepend(str(folder))
    return [*examine("train", ["runtime.device=cpu"], [*CHECKS])]


def test_a_library_that_crashes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    library(tmp_path, "torch", CRASHES)

    found = look(tmp_path, monkeypatch)

    (told,) = [finding for finding in found if finding.grade is Grade.problem]
    assert told.text == "importing torch ends the process by SIGSEGV"
    assert told.mend.startswith("install torch again")
    unseen = [each.name for each in found if each.text.endswith("since torch can't be imported")]
    assert unseen == ["operators", "gpu", "device", "precision", "data"]
    # Each is told, in its order, and what came before the crash once.
    names = [*dict.fromkeys(finding.name for finding in found)]
    assert names == [name for name in CHECKS if name in names]
    assert {"python", "versions", "libraries", "open files", "huggingface"} <= {*names}
    assert sum(finding.name == "python" for finding in found) == 1


@pytest.mark.slow
def test_a_reader_of_the_words_that_crashes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    library(tmp_path, "hydra", CRASHES)

    found = look(tmp_path, monkeypatch)

    problems = [finding.text for finding in found if finding.grade is Grade.problem]
    assert problems == [
        "importing hydra ends the process by SIGSEGV",
        "they can't be read, and defaults are looked at: hydra can't be imported",
    ]
    assert found[-1].name == "huggingface"


@pytest.mark.slow
def test_a_library_that_hangs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vitx.doctor.supervision, "_PATIENCE_S", 30.0)
    library(tmp_path, "timm", HANGS)

    found = look(tmp_path, monkeypatch)

    (told,) = [finding for finding in found if finding.grade is Grade.problem]
    assert told.text == "importing timm takes longer than 30 s; is a disk away?"
    assert found[-1].name == "huggingface"
