"""Reads a foreign file of weights; run as a program, since what it reads may be hostile.

Its one argument is a JSON object, and so is its one line of output. It gives itself little memory,
time and disk first, and ends with the process that started it.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import pickle
import re
import resource
import signal
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

PREFIXES = ("module.", "_orig_mod.", "backbone.")
"""What wrappers put before names: DDP, torch.compile, and a backbone with a head of its own."""

_MOST_TENSORS = 20_000
_NAME = re.compile(r"\w{1,100}(\.\w{1,100}){0,20}", re.ASCII)
_SHOWN, _LONGEST = 20, 80  # names of what is left out
_SPARE_BYTES = 1 << 30  # beyond twice the file: what reading and checking takes besides
_SPARE_CPU_S, _BYTES_PER_CPU_S = 60, 20_000_000
_NO_WEIGHTS = "is no file of torch.save, or a damaged one"
_PARENT_DEATH_SIGNAL = 1  # PR_SET_PDEATHSIG of Linux' prctl.h


class Refused(Exception):  # noqa: N818 (an outcome)
    """The file is not to be used; the text says why."""


def answer(request: dict[str, Any]) -> dict[str, Any]:
    """Return what was found, or `error`."""
    file = Path(request["file"])
    try:
        size = _unpacked_size(file)
        import torch  # before the limit, which is about the file

        _limit(size)
        part, found = _read(file, request)
        tensors, removed, left_out = _named(found)
        for name, tensor in tensors.items():
            _check(name, tensor)
        own = {name: tensor.contiguous().clone() for name, tensor in tensors.items()}
    except Refused as refusal:
        return {"error": str(refusal)}
    except MemoryError:
        return {"error": "asks for more memory than its size explains"}
    except RuntimeError as error:
        greedy = "alloc" in str(error) or isinstance(error, torch.OutOfMemoryError)
        return {"error": "asks for more memory than its size explains" if greedy else _NO_WEIGHTS}
    except Exception:  # noqa: BLE001 (a hostile file may raise anything, with any text)
        return {"error": _NO_WEIGHTS}
    if problem := _write(own, Path(request["to"]), source=file.name):
        return {"error": problem}
    return {
        "tensors": len(own),
        "parameters": sum(tensor.numel() for tensor in own.values()),
        "part": part,
        "removed": removed,
        "left_out": left_out[:_SHOWN],
        "more_left_out": len(left_out[_SHOWN:]),
    }


def _write(tensors: dict[str, Any], to: Path, *, source: str) -> str:
    from safetensors import safe_open
    from safetensors.torch import save_file

    try:
        save_file(tensors, to, metadata={"format": "pt", "source": _printable(source)})
        with safe_open(to, framework="pt") as written:
            return "" if set(written.keys()) == set(tensors) else "could not be written whole"
    except Exception as error:  # noqa: BLE001 (safetensors reports a full disk as its own)
        return f"could not be written as safetensors: {_printable(str(error))}"


def _limit(size: int) -> None:
    """Limit memory, processor time and disk to what a file of this size can need."""
    seconds = _SPARE_CPU_S + size // _BYTES_PER_CPU_S
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds + 5))
    largest = 2 * size + _SPARE_BYTES
    resource.setrlimit(resource.RLIMIT_FSIZE, (largest, largest))
    status = Path("/proc/self/status")
    if status.exists():  # elsewhere the checks of sizes have to do
        fields = dict(line.split(":", 1) for line in status.read_text().splitlines())
        most = int(fields["VmData"].split()[0]) * 1024 + largest
        resource.setrlimit(resource.RLIMIT_DATA, (most, most))


def _unpacked_size(file: Path) -> int:
    """Return the bytes a file unpacks to; an archive that grows a lot is refused."""
    size = file.stat().st_size
    if not zipfile.is_zipfile(file):
        return size
    with zipfile.ZipFile(file) as archive:
        unpacked = sum(entry.file_size for entry in archive.infolist())
    # torch.save and numpy.savez store; numpy.savez_compressed may halve weights, not more.
    if unpacked > 4 * size + (1 << 20):
        raise Refused(f"unpacks to {unpacked:,} bytes from {size:,}: no file of weights does")
    return max(size, unpacked)


def _read(file: Path, request: dict[str, Any]) -> tuple[str, dict[Any, Any]]:
    """Return the part that was read, and its content by name."""
    if zipfile.is_zipfile(file) and _is_npz(file):
        return "", _read_npz(file, request["name"])
    if _is_safetensors(file):
        from safetensors.torch import load_file

        return "", load_file(file)
    return _choose_part(_load(file), request["part"])


def _is_npz(file: Path) -> bool:
    with zipfile.ZipFile(file) as archive:
        names = archive.namelist()
    return bool(names) and all(name.endswith(".npy") for name in names)


def _is_safetensors(file: Path) -> bool:
    with file.open("rb") as stream:
        start = stream.read(9)
    return len(start) == 9 and start[8:] == b"{" and int.from_bytes(start[:8], "little") < 1 << 27


def _load(file: Path) -> Any:
    import torch

    try:
        # Training scripts keep their arguments beside the weights; a Namespace holds plain data.
        with torch.serialization.safe_globals([argparse.Namespace]):
            return torch.load(
                file, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(file) or None
            )
    except pickle.UnpicklingError as error:
        if named := re.search(r"GLOBAL ([\w.]+)", str(error)):
            raise Refused(f"holds {named[1]}, which is code to run and no weight") from None
        raise Refused(_NO_WEIGHTS) from None


def _choose_part(loaded: Any, wanted: str | None) -> tuple[str, dict[Any, Any]]:
    if not isinstance(loaded, dict):
        raise Refused(f"holds a {type(loaded).__name__}, no weights by name")
    parts = dict(_parts(loaded))
    if _holds_tensors(loaded) and wanted is None:
        return "", loaded
    listed = ", ".join(_printable(name) for name in list(parts)[:_SHOWN]) or "none"
    if wanted is not None and wanted not in parts:
        raise Refused(f"has no part {wanted} with tensors; there is {listed}")
    if wanted is None and not parts:
        names = ", ".join(_printable(str(name)) for name in list(loaded)[:_SHOWN])
        raise Refused(f"holds no tensor by name; it has {names or 'nothing'}")
    if wanted is None and len(parts) > 1:
        raise Refused(
            f"holds weights more than once ({listed}); take one: vitx import FILE "
            f"part={_printable(next(iter(parts)))}"
        )
    name = wanted if wanted is not None else next(iter(parts))
    others = {f"({other})": None for other in loaded if other != name.partition(".")[0]}
    return name, {**parts[name], **others}


def _parts(loaded: dict[Any, Any]) -> Iterator[tuple[str, dict[Any, Any]]]:
    """Yield what holds tensors by name: entries, and entries of those that hold none themselves."""
    for name, value in loaded.items():
        if not isinstance(name, str) or not isinstance(value, dict) or name == "optimizer":
            continue
        if _holds_tensors(value):
            yield name, value
            continue
        for inner, held in value.items():
            if isinstance(inner, str) and isinstance(held, dict) and _holds_tensors(held):
                yield f"{name}.{inner}", held


def _holds_tensors(values: dict[Any, Any]) -> bool:
    import torch

    return any(isinstance(value, torch.Tensor) for value in values.values())


def _named(found: dict[Any, Any]) -> tuple[dict[str, Any], list[str], list[str]]:
    """Return the tensors by name without prefixes, the prefixes, and what is left out."""
    import torch

    tensors = {
        name: value
        for name, value in found.items()
        if isinstance(name, str) and isinstance(value, torch.Tensor)
    }
    left_out = [_printable(_text(name)) for name in found if name not in tensors]
    removed: list[str] = []
    while prefix := next((each for each in PREFIXES if _wraps(each, tensors)), None):
        removed.append(prefix)
        left_out += [_printable(name) for name in tensors if not name.startswith(prefix)]
        tensors = {
            name.removeprefix(prefix): tensor
            for name, tensor in tensors.items()
            if name.startswith(prefix)
        }
    if not tensors:
        raise Refused("holds no tensor by name")
    if len(tensors) > _MOST_TENSORS:
        raise Refused(f"holds {len(tensors)} tensors; no model has so many")
    return tensors, removed, left_out


def _text(name: Any) -> str:
    # Other keys may be of any size and depth.
    return name if isinstance(name, str) else f"<{type(name).__name__}>"


def _printable(text: str) -> str:
    """Return a text that a terminal shows as it is, cut to a line."""
    shown = "".join(letter if letter.isprintable() else "?" for letter in text[: _LONGEST + 1])
    return shown if len(shown) <= _LONGEST else f"{shown[:_LONGEST]}..."


def _wraps(prefix: str, names: dict[str, Any]) -> bool:
    """Return whether the names are a wrapped model's: all of them, or all but a head's."""
    with_it = [name for name in names if name.startswith(prefix)]
    return bool(with_it) and all(name.startswith((prefix, "head.")) for name in names)


def _check(name: str, tensor: Any) -> None:
    import torch

    if not _NAME.fullmatch(name) or name == "__metadata__":
        raise Refused(f"has a tensor named {_printable(name)!r}, which is no name of a parameter")
    if tensor.layout is not torch.strided or tensor.is_quantized or tensor.device.type != "cpu":
        raise Refused(f"{name} is no plain tensor ({tensor.layout}, {tensor.dtype})")
    if tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes():
        raise Refused(f"{name} says it is {list(tensor.shape)}, more than the file holds")
    plain = (torch.float64, torch.float32, torch.float16, torch.bfloat16)
    whole = (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8, torch.bool)
    if tensor.dtype not in (*plain, *whole):
        raise Refused(f"{name} is of {tensor.dtype}; expected a floating-point or integer type")
    if tensor.is_floating_point() and not torch.isfinite(tensor).all():
        raise Refused(f"{name} has values that are not finite")


def _read_npz(file: Path, name: str | None) -> dict[str, Any]:
    """Return the tensors of a JAX checkpoint under timm's names, as timm converts them."""
    import numpy as np

    if name is None:
        raise Refused("has JAX's names; say which model it is: vitx import FILE model=vit_b16")
    with np.load(file, allow_pickle=False) as arrays:
        shapes = {each: arrays[each].shape for each in arrays.files}
    positions = next((s for each, s in shapes.items() if each.endswith("pos_embedding")), None)
    if positions is None:
        raise Refused("has no position embedding; expected a ViT of the JAX repositories")
    from vitx.runtime.torchvision_ops import declare_missing_ops

    declare_missing_ops()
    import timm
    import torch

    head = next((s for each, s in shapes.items() if each.endswith("head/kernel")), None)
    stem = name.partition(".")[0]
    with torch.device("meta"):
        probe: Any = timm.create_model(stem, num_classes=0)
    side = round((positions[1] - 1) ** 0.5) * probe.patch_embed.feat_ratio()
    model: Any = timm.create_model(stem, num_classes=head[-1] if head else 0, img_size=side)
    model.load_pretrained(str(file))
    state: dict[str, Any] = model.state_dict()
    return state


def main() -> None:
    """Answer the request in the first argument."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if hasattr(prctl := ctypes.CDLL(None), "prctl"):
        prctl.prctl(_PARENT_DEATH_SIGNAL, signal.SIGKILL)
    print(json.dumps(answer(json.loads(sys.argv[1]))))


if __name__ == "__main__":
    main()
