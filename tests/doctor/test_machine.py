"""Devices, cores and the compiler of this machine."""

import os
import sys
from pathlib import Path

import pytest
import torch

from tests.doctor.looking import found, plain
from vitx.config.schema import Precision
from vitx.doctor.devices import check_compiler, check_device, check_gpus, check_precision
from vitx.doctor.findings import Grade
from vitx.doctor.machine import check_memory

no_gpu = pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
ONE_CORE = f"import os; os.sched_setaffinity(0, {{{min(os.sched_getaffinity(0))}}}); "


@no_gpu
def test_a_device_that_is_not_there() -> None:
    planned = plain()
    planned.config.runtime.device = "cuda"
    (finding,) = check_device(planned)
    assert finding.grade is Grade.problem
    assert finding.text.startswith("runtime.device=cuda: torch has no such device here")
    assert finding.mend == "type runtime.device=auto"
    assert list(check_precision(planned)) == []  # not told twice


@no_gpu
def test_no_gpu_is_no_problem() -> None:
    planned = plain()
    planned.config.runtime.device = "auto"
    planned.config.runtime.devices = None
    assert [each.grade for each in check_gpus(planned)] == [Grade.ok]
    assert [each.grade for each in check_device(planned)] == [Grade.ok]
    assert planned.ranks == 1


def test_precision() -> None:
    planned = plain()
    (finding,) = check_precision(planned)
    assert finding.text.startswith("fp32 on cpu with ")
    planned.config.precision = Precision.fp16
    (finding,) = check_precision(planned)
    assert (finding.grade, finding.mend) == (Grade.warning, "type precision=fp32")
    planned.config.precision = Precision.bf16
    (finding,) = check_precision(planned)
    multiplies = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    assert (finding.grade is Grade.ok) is multiplies


@pytest.mark.parametrize(
    ("change", "line", "mend"),
    [
        ("", "ok       cores         1 usable", ""),
        ("runtime.threads = 2", "warning  cores         1 usable", "type runtime.threads=1"),
        ("runtime.devices = 2", "warning  cores         1 usable", "type runtime.devices=1"),
        ("dataset.workers = 3", "warning  cores         1 usable", "type dataset.workers=1"),
    ],
)
def test_cores(change: str, line: str, mend: str) -> None:
    change = ONE_CORE + (f"planned.config.{change}" if change else "")
    said = found("machine", "check_cores", change=change)
    assert said.startswith(line)
    assert mend in said


def test_memory_is_that_of_the_model() -> None:
    planned = plain()
    planned.config.model.name = "vit_base_patch16_224"  # 85.8 M parameters
    (finding,) = check_memory(planned)
    # Weights, gradients, two moments, 4 bytes each, and the libraries.
    assert "take 1.86 GiB" in finding.text
    planned.config.runtime.devices = 10**6
    (finding,) = check_memory(planned)
    assert finding.grade is Grade.problem


def test_the_compiler_is_looked_for_where_it_is_needed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    planned = plain()
    assert list(check_compiler(planned)) == []
    planned.config.runtime.compile = True
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    (finding,) = check_compiler(planned)
    assert finding.grade is Grade.problem
    assert "there is no C++ compiler" in finding.text
    assert "runtime.compile=false" in finding.mend

    broken = tmp_path / "g++"
    broken.write_text(f"#!{sys.executable}\nimport sys\nsys.exit('error: omp.h: not found')\n")
    broken.chmod(0o755)
    (finding,) = check_compiler(planned)
    assert finding.grade is Grade.problem
    assert "omp.h: not found" in finding.text
