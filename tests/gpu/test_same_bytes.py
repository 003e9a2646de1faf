"""A GPU comes to the same bytes: stopped and gone on with, and on one process and two.

Two processes share the GPU and talk over gloo; over NCCL each takes a GPU of its own.
"""

import os
import signal
from pathlib import Path

import pytest
import torch

from tests.train.programs import Programs
from vitx.torture.identity import logged, read, rows, total, weights
from vitx.torture.small_run import EVERYTHING, TINY

SHARED = ("runtime.device=cuda:0", "runtime.devices=2")
EXACT = ("runtime.exact_world=true", "runtime.micro_batch=2")
XCIT = (
    *(word for word in TINY if not word.startswith(("model=", "+model.args"))),
    "model=xcit_n12",
    "dataset.image_px=32",
    "+model.args.embed_dim=32",
    "+model.args.depth=2",
)
BF16, FP32, FP16 = (f"precision={name}" for name in ("bf16", "fp32", "fp16"))
two_gpus = pytest.mark.skipif(torch.cuda.device_count() < 2, reason="there is one GPU")


def words(pictures: Path, *more: str, model: tuple[str, ...] = TINY) -> tuple[str, ...]:
    return ("train", *model, f"dataset.path={pictures}", *more)


@pytest.mark.parametrize("precision", [FP32, BF16, FP16])
def test_stopped_and_gone_on_with(
    precision: str, pictures: Path, vitx: Programs, tmp_path: Path
) -> None:
    typed = words(pictures, *EVERYTHING, precision, "runtime.device=cuda")
    vitx.done(*typed, f"run_dir={tmp_path / 'whole'}")
    for stop in (4, 7):
        vitx.done(*typed, f"run_dir={tmp_path / 'parts'}", f"stop_at={stop}st", code=75)
    vitx.done(*typed, f"run_dir={tmp_path / 'parts'}")
    assert total(tmp_path / "parts") == total(tmp_path / "whole")
    (why,) = read(tmp_path / "parts/run.json")["exact"]["why"]
    assert why == "kernels of this device need not repeat their sums in one order"


@pytest.mark.parametrize("model", [TINY, XCIT], ids=["vit", "xcit"])
@pytest.mark.parametrize("precision", [FP32, BF16])
def test_exact_world_on_one_process_and_two(
    model: tuple[str, ...], precision: str, pictures: Path, vitx: Programs, tmp_path: Path
) -> None:
    typed = words(pictures, *EVERYTHING, *EXACT, precision, "runtime.device=cuda:0", model=model)
    vitx.done(*typed, f"run_dir={tmp_path / 'one'}")
    vitx.done(*typed, f"run_dir={tmp_path / 'two'}", "runtime.devices=2")
    assert weights(tmp_path / "two") == weights(tmp_path / "one")
    assert total(tmp_path / "two") == total(tmp_path / "one")
    assert all(row["train/exact_sums"] > 0 for row in rows(tmp_path / "two"))


def test_another_number_after_a_stop(pictures: Path, vitx: Programs, tmp_path: Path) -> None:
    typed = words(pictures, *EVERYTHING, *EXACT, "runtime.device=cuda:0")
    vitx.done(*typed, f"run_dir={tmp_path / 'whole'}")
    run_dir = f"run_dir={tmp_path / 'parts'}"
    vitx.done(*typed, run_dir, "runtime.devices=2", "stop_at=4st", code=75)
    vitx.done(*typed, run_dir, "stop_at=7st", code=75)
    vitx.done(*typed, run_dir, "runtime.devices=2")
    assert total(tmp_path / "parts") == total(tmp_path / "whole")


def test_ordinary_sums_come_close(pictures: Path, vitx: Programs, tmp_path: Path) -> None:
    typed = words(pictures, FP32)
    vitx.done(*typed, f"run_dir={tmp_path / 'one'}", "runtime.device=cuda:0")
    vitx.done(*typed, f"run_dir={tmp_path / 'two'}", *SHARED)
    one, two = rows(tmp_path / "one"), rows(tmp_path / "two")
    assert two[0]["train/loss"] == pytest.approx(one[0]["train/loss"], rel=1e-6)
    for first, second in zip(one, two, strict=True):
        assert second["train/loss"] == pytest.approx(first["train/loss"], rel=1e-4)


def test_a_lost_rank_ends_the_other_and_leaves_the_gpu(
    pictures: Path, vitx: Programs, tmp_path: Path
) -> None:
    run_dir = tmp_path / "run"
    typed = words(pictures, "epochs=200ep", *SHARED, f"run_dir={run_dir}")
    program = vitx(*typed)
    program.reaches(lambda: logged(run_dir) >= 2, what="two steps")
    rank = program.children()[1]
    os.kill(rank, signal.SIGKILL)
    assert program.wait(30) == 6
    assert f"rank 1 (process {rank}) was ended by SIGKILL" in program.text
    program.leaves_nothing()


@two_gpus
@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
def test_over_nccl(strategy: str, pictures: Path, vitx: Programs, tmp_path: Path) -> None:
    typed = words(pictures, "runtime.devices=2", f"runtime.strategy={strategy}")
    vitx.done(*typed, f"run_dir={tmp_path / 'run'}")
    assert read(tmp_path / "run/result.json")["step"] == 12
