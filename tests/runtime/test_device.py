"""Device and arithmetic, settled."""

import pytest
import torch

from vitx.config.schema import Precision
from vitx.errors import UsageError
from vitx.runtime.device import (
    autocast,
    choose_device,
    choose_inference_precision,
    choose_precision,
)

CPU, CUDA = torch.device("cpu"), torch.device("cuda")


def test_auto_is_what_there_is() -> None:
    expected = "cuda" if torch.cuda.is_available() else "cpu"

    assert choose_device("auto").type == expected
    assert choose_device("cpu") == CPU


@pytest.mark.parametrize("name", ["cuda:77", "tpu", "meta", "cpu:x", ""])
def test_a_device_that_is_not_here(name: str) -> None:
    with pytest.raises(UsageError, match=f"runtime.device={name}"):
        choose_device(name)


@pytest.mark.parametrize("precision", [Precision.fp32, Precision.bf16, Precision.fp16])
def test_a_precision_that_is_named_is_taken(precision: Precision) -> None:
    assert choose_precision(precision, CPU) is precision
    assert choose_precision(precision, CUDA) is precision


@pytest.mark.parametrize(("bf16", "expected"), [(True, Precision.bf16), (False, Precision.fp16)])
def test_auto_precision(bf16: bool, expected: Precision, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: bf16)

    assert choose_precision(Precision.auto, CUDA) is expected
    assert choose_precision(Precision.auto, CPU) is Precision.fp32


@pytest.mark.parametrize("native", [True, False])
def test_a_frozen_model_is_in_bf16_where_the_cpu_multiplies_it(
    native: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: native)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: False)
    auto, fp32, fp16 = Precision.auto, Precision.fp32, Precision.fp16

    expected = Precision.bf16 if native else fp32
    assert choose_inference_precision(auto, fp32, CPU) is expected
    assert choose_inference_precision(fp32, fp32, CPU) is fp32
    assert choose_inference_precision(auto, fp16, CUDA) is fp16


@pytest.mark.parametrize(
    ("precision", "dtype"),
    [
        (Precision.fp32, torch.float32),
        (Precision.bf16, torch.bfloat16),
        (Precision.fp16, torch.float16),
    ],
)
def test_matrix_products_are_in_that_precision(precision: Precision, dtype: torch.dtype) -> None:
    weights = torch.eye(4)
    with autocast(precision, CPU):
        assert (weights @ weights).dtype is dtype
    assert (weights @ weights).dtype is torch.float32
