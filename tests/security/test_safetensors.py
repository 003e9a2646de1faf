"""Files of weights whose header lies are refused before what they ask for is allocated."""

import json
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from tests.security.hostile import as_run, sign
from tests.train.programs import ROOT
from tests.train.tiny import train
from vitx.checkpoint.store import load
from vitx.config.schema import PosResize
from vitx.errors import StorageError
from vitx.models.transfer import transfer
from vitx.models.weights import load_weights


def model() -> nn.Module:
    return nn.Sequential(nn.Linear(3, 2))


def header(entries: dict[str, Any], body: bytes = b"", *, length: int | None = None) -> bytes:
    text = json.dumps(entries).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + body


def entry(start: int, end: int, shape: list[int], kind: str = "F32") -> dict[str, Any]:
    return {"dtype": kind, "shape": shape, "data_offsets": [start, end]}


WEIGHT, BIAS = entry(0, 24, [2, 3]), entry(24, 32, [2])
NAMES = {"0.weight": WEIGHT, "0.bias": BIAS}
LIES = {
    "a header of 2^63 bytes": header(NAMES, bytes(32), length=1 << 63),
    "a header of 2^64 - 1 bytes": header(NAMES, bytes(32), length=(1 << 64) - 1),
    "a header over 100 MB": struct.pack("<Q", 101 << 20) + b"{" + b" " * (101 << 20),
    "overlapping tensors": header({"0.weight": WEIGHT, "0.bias": entry(0, 8, [2])}, bytes(24)),
    "a gap between tensors": header({"0.weight": WEIGHT, "0.bias": entry(30, 38, [2])}, bytes(38)),
    "more than the file holds": header({"0.weight": entry(0, 1 << 50, [1 << 48])}, bytes(32)),
    "a shape that is not its bytes": header({"0.weight": entry(0, 24, [1 << 40]), "0.bias": BIAS}),
    "a shape beyond 64 bits": header({"0.weight": entry(0, 24, [1 << 63, 4])}, bytes(32)),
    "negative offsets": header({"0.weight": entry(-8, 16, [2, 3])}, bytes(32)),
    "bytes behind the tensors": header(NAMES, bytes(64)),
    "an unknown type": header({"0.weight": entry(0, 24, [2, 3], "PICKLE")}, bytes(24)),
    "whole numbers for weights": header(
        {"0.weight": entry(0, 24, [2, 3], "I32"), "0.bias": BIAS}, bytes(32)
    ),
    "truth values for weights": header(
        {"0.weight": entry(0, 6, [2, 3], "BOOL"), "0.bias": entry(6, 14, [2])}, bytes(14)
    ),
    "complex numbers": header(
        {"0.weight": entry(0, 48, [2, 3], "C64"), "0.bias": entry(48, 56, [2])}, bytes(56)
    ),
    "another tensor": header(NAMES | {"extra": entry(32, 36, [1])}, bytes(36)),
    "another shape": header({"0.weight": entry(0, 24, [3, 2]), "0.bias": BIAS}, bytes(32)),
    "a list": struct.pack("<Q", 2) + b"[]",
    "depth": struct.pack("<Q", 100_000) + b"[" * 100_000,
}


@pytest.mark.parametrize("name", LIES)
def test_a_header_that_lies(name: str, tmp_path: Path) -> None:
    file, into = tmp_path / "model.safetensors", model()
    file.write_bytes(LIES[name])
    before = {name: value.clone() for name, value in into.state_dict().items()}
    with pytest.raises(StorageError):
        load_weights(into, file)
    with pytest.raises(StorageError):
        transfer(into, file, source="x", resize=PosResize.bicubic, partial=False)
    assert all(torch.equal(into.state_dict()[name], value) for name, value in before.items())


def test_values_that_are_not_finite(tmp_path: Path) -> None:
    file = tmp_path / "model.safetensors"
    save_file({"0.weight": torch.full((2, 3), float("nan")), "0.bias": torch.zeros(2)}, file)
    with pytest.raises(StorageError, match="not finite"):
        transfer(model(), file, source="x", resize=PosResize.bicubic, partial=False)


PEAK = """
import pathlib, sys
import torch
from torch import nn
from vitx.errors import StorageError
from vitx.models.weights import load_weights
def peak():
    status = pathlib.Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) // 1024
model, before = nn.Sequential(nn.Linear(3, 2)), peak()
for file in sys.argv[1:]:
    try:
        load_weights(model, pathlib.Path(file))
    except StorageError:
        print("refused")
print(peak() - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_they_are_refused_before_memory_is_taken(tmp_path: Path) -> None:
    files = []
    for number, name in enumerate(LIES):
        if name != "a header over 100 MB":  # of which the file itself has so many bytes
            files.append(tmp_path / f"{number}.safetensors")
            files[-1].write_bytes(LIES[name])
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", PEAK, *map(str, files)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    *refused, grown_mb = done.stdout.split()
    assert refused == ["refused"] * len(files)
    assert int(grown_mb) < 50


def _extra(tensors: dict[str, torch.Tensor]) -> None:
    tensors["extra"] = torch.zeros(1)


def _other_shape(tensors: dict[str, torch.Tensor]) -> None:
    name = next(iter(tensors))
    tensors[name] = torch.zeros(7, 7)


@pytest.mark.parametrize("change", [_extra, _other_shape, dict.clear])
def test_a_checkpoint_of_other_tensors_is_refused_when_it_is_resumed(
    change: Callable[[dict[str, torch.Tensor]], None],
    short: tuple[str, ...],
    finished: Path,
    tmp_path: Path,
) -> None:
    run = as_run(tmp_path / "run", (finished / "config.yaml").read_bytes(), like=finished)
    (run / "result.json").unlink()
    folder = run / "checkpoints" / "step-00000002"
    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    (folder / "model.safetensors").unlink()
    save_file(tensors, folder / "model.safetensors")
    sign(folder / "model.safetensors")
    assert load(folder).step == 2  # the sums are right
    with pytest.raises(StorageError, match="does not fit this configuration"):
        train(*short, f"run_dir={run}")
