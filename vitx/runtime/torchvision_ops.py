"""Make `import torchvision`, and so `import timm`, work beside a CPU build of torch.

A torchvision built for CUDA declares its operators in a library that a CPU torch can't load, and
then fails at import on `torchvision::nms`. Declaring the two schemas first is enough for models,
transforms and `v2`; detection operators stay unavailable. Import timm only after calling this.
"""

from __future__ import annotations

import contextlib
import functools
import importlib.util
from pathlib import Path

import torch

_SCHEMAS = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
)


@functools.cache
def declare_missing_ops() -> torch.library.Library | None:
    """Declare torchvision's schemas where its own library can't.

    Returns:
        The library that holds the declarations (they live as long as it does), or None where
        torchvision's own library loads.
    """
    spec = importlib.util.find_spec("torchvision")
    if spec is None or spec.origin is None:
        return None
    own = next(Path(spec.origin).parent.glob("_C*.*"), None)
    with contextlib.suppress(OSError):
        if own is not None:
            torch.ops.load_library(own)
            return None
    library = torch.library.Library("torchvision", "FRAGMENT")
    for schema in _SCHEMAS:
        library.define(schema)
    return library
