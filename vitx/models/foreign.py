"""Weight files that others wrote, turned into safetensors without running what is in them.

A pickle can run code and an archive can unpack to more than it seems. So a file is read in a child
process that has little memory to lose, by torch's loader of tensors only; what it finds is checked
and written as safetensors, which is data.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import resource
import signal
import subprocess
import sys
import zipfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from vitx.errors import StorageError

PREFIXES = ("module.", "_orig_mod.", "backbone.")
"""What wrappers put before names: DDP, torch.compile, and a backbone with a head of its own."""
_PARTS = (
    *("model", "state_dict", "model_state_dict", "model_ema", "state_dict_ema"),
    *("teacher", "student"),
)
_TIMEOUT_S = 900
_LONGEST_REASON = 200
_MOST_TENSORS = 20_000
_NAME = re.compile(r"[\w.\-/]{1,300}", re.ASCII)
_SPARE_BYTES = 1 << 30  # beyond twice the file: what reading and checking takes besides


@dataclass(frozen=True, kw_only=True)
class Imported:
    """What was found in a foreign file.

    Attributes:
        tensors: number of tensors written.
        parameters: number of values in them.
        part: which part of the file they were in; empty where it is nothing but them.
        removed: prefixes that were taken off the names.
        left_out: what else was in the file, by name.
    """

    tensors: int
    parameters: int
    part: str
    removed: tuple[str, ...]
    left_out: tuple[str, ...]


def import_weights(
    file: Path, to: Path, *, part: str | None = None, name: str | None = None
) -> Imported:
    """Read a `.pth`, `.pt`, `.bin` or `.npz` file and write its tensors as safetensors.

    Args:
        file: the foreign file.
        to: is written whole or not at all.
        part: which of several sets of weights to take, such as `teacher`; None is the only one.
        name: timm's name of the architecture; needed for `.npz`, whose names are those of JAX.

    Returns:
        What was found.

    Raises:
        StorageError: the file can't be read, holds more than tensors, or holds bad ones.
    """
    if not file.is_file():
        raise StorageError(f"{file}: no such file")
    temporary = to.with_name(f".tmp-{os.getpid()}-{to.name}")
    request = {"file": str(file), "to": str(temporary), "part": part, "name": name}
    try:
        to.parent.mkdir(parents=True, exist_ok=True)
        answer = _ask_child(file, request)
        if "error" in answer:
            raise StorageError(f"{file}: {answer['error']}")
        temporary.replace(to)
    except OSError as error:
        raise StorageError(f"{to} can't be written: {error}") from error
    finally:
        temporary.unlink(missing_ok=True)
    lists = {key: tuple(answer[key]) for key in ("removed", "left_out")}
    return Imported(**(answer | lists))


def _ask_child(file: Path, request: dict[str, Any]) -> dict[str, Any]:
    try:
        done = subprocess.run(  # noqa: S603 (our own module)
            [sys.executable, "-P", "-m", __name__, json.dumps(request)],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise StorageError(f"{file}: not read within {_TIMEOUT_S} s") from None
    if done.returncode < 0:
        ended = signal.Signals(-done.returncode).name
        raise StorageError(f"{file}: reading it ended with {ended}; it asks for too much")
    try:
        answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    except (IndexError, ValueError):
        said = (done.stderr.strip().splitlines() or ["nothing"])[-1]
        raise StorageError(f"{file} can't be read as weights: {said}") from None
    return answer


# What follows runs in the child.


def _child(request: dict[str, Any]) -> dict[str, Any]:
    """Do the work; return the answer, `error` in it where the file is refused."""
    file = Path(request["file"])
    try:
        size = _unpacked_size(file)
        import torch  # before the limit, which is about the file

        _limit_memory(2 * size + _SPARE_BYTES)
        if zipfile.is_zipfile(file) and _is_npz(file):
            part, found = "", _read_npz(file, request["name"])
        else:
            part, found = _choose_part(_load(file), request["part"])
        tensors, removed, left_out = _named(found)
        for name, tensor in tensors.items():
            _check(name, tensor)
        from safetensors.torch import save_file

        own = {name: tensor.contiguous().clone() for name, tensor in tensors.items()}
        save_file(own, request["to"], metadata={"format": "pt", "source": file.name})
        parameters = sum(tensor.numel() for tensor in own.values())
    except StorageError as error:
        return {"error": str(error)}
    except (MemoryError, torch.OutOfMemoryError):
        return {"error": "asks for more memory than its size explains"}
    except RuntimeError as error:
        if "alloc" in str(error):
            return {"error": "asks for more memory than its size explains"}
        return {"error": f"can't be read as weights: {_first_line(error)}"}
    except Exception as error:  # noqa: BLE001 (a hostile file may raise anything)
        return {"error": f"can't be read as weights: {_first_line(error)}"}
    return asdict(
        Imported(
            tensors=len(own),
            parameters=parameters,
            part=part,
            removed=tuple(removed),
            left_out=tuple(left_out),
        )
    )


def _first_line(error: BaseException) -> str:
    line = (str(error).strip().splitlines() or [type(error).__name__])[0]
    return line if len(line) < _LONGEST_REASON else f"{line[:_LONGEST_REASON]}..."


def _limit_memory(further: int) -> None:
    status = Path("/proc/self/status")
    if not status.exists():
        return  # another system: the checks of sizes remain
    fields = dict(line.split(":", 1) for line in status.read_text().splitlines())
    used = int(fields["VmData"].split()[0]) * 1024
    resource.setrlimit(resource.RLIMIT_DATA, (used + further, used + further))


def _unpacked_size(file: Path) -> int:
    """Return the bytes a file unpacks to; an archive that grows a lot is refused."""
    size = file.stat().st_size
    if not zipfile.is_zipfile(file):
        return size
    with zipfile.ZipFile(file) as archive:
        unpacked = sum(entry.file_size for entry in archive.infolist())
    # torch.save and numpy.savez store; numpy.savez_compressed may halve weights, not more.
    if unpacked > 4 * size + (1 << 20):
        raise StorageError(f"unpacks to {unpacked:,} bytes from {size:,}: no file of weights does")
    return max(size, unpacked)


def _is_npz(file: Path) -> bool:
    with zipfile.ZipFile(file) as archive:
        names = archive.namelist()
    return bool(names) and all(name.endswith(".npy") for name in names)


def _load(file: Path) -> Any:
    import pickle

    import torch

    try:
        # Training scripts keep their arguments beside the weights; a Namespace holds plain data.
        with torch.serialization.safe_globals([argparse.Namespace]):
            return torch.load(
                file, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(file) or None
            )
    except pickle.UnpicklingError as error:
        if named := re.search(r"GLOBAL ([\w.]+)", str(error)):
            raise StorageError(
                f"holds {named[1]}, which is code to run and no weight; refused"
            ) from None
        raise StorageError("is no file of torch.save, or a damaged one") from None


def _choose_part(loaded: Any, wanted: str | None) -> tuple[str, dict[Any, Any]]:
    if not isinstance(loaded, dict):
        raise StorageError(f"holds a {type(loaded).__name__}, no weights by name")
    parts = {
        name: loaded[name]
        for name in _PARTS
        if isinstance(loaded.get(name), dict) and _holds_tensors(loaded[name])
    }
    if wanted is not None:
        if wanted not in parts:
            raise StorageError(f"has no part {wanted}; there is {', '.join(parts) or 'only one'}")
        return wanted, _with_rest(loaded, wanted)
    if not parts:
        return "", loaded
    if len(parts) > 1:
        raise StorageError(
            f"holds weights more than once ({', '.join(parts)}); take one: "
            f"vitx import FILE part={next(iter(parts))}"
        )
    only = next(iter(parts))
    return only, _with_rest(loaded, only)


def _holds_tensors(values: dict[Any, Any]) -> bool:
    import torch

    return any(isinstance(value, torch.Tensor) for value in values.values())


def _with_rest(loaded: dict[Any, Any], part: str) -> dict[Any, Any]:
    """Return the weights of a part, and the names beside it as what is left out."""
    return {**loaded[part], **{f"({name})": None for name in loaded if name != part}}


def _named(found: dict[Any, Any]) -> tuple[dict[str, Any], list[str], list[str]]:
    """Return the tensors by name without prefixes, the prefixes, and what is left out."""
    import torch

    tensors = {str(name): value for name, value in found.items() if isinstance(value, torch.Tensor)}
    left_out = [str(name) for name in found if str(name) not in tensors]
    removed: list[str] = []
    while prefix := next((each for each in PREFIXES if _wraps(each, tensors)), None):
        removed.append(prefix)
        left_out += [name for name in tensors if not name.startswith(prefix)]
        tensors = {
            name.removeprefix(prefix): tensor
            for name, tensor in tensors.items()
            if name.startswith(prefix)
        }
    if not tensors:
        raise StorageError("holds no tensor by name")
    if len(tensors) > _MOST_TENSORS:
        raise StorageError(f"holds {len(tensors)} tensors; no model has so many")
    return tensors, removed, left_out


def _wraps(prefix: str, names: dict[str, Any]) -> bool:
    """Return whether the names are a wrapped model's: all of them, or all but a head's."""
    with_it = [name for name in names if name.startswith(prefix)]
    return bool(with_it) and all(name.startswith((prefix, "head.")) for name in names)


def _check(name: str, tensor: Any) -> None:
    import torch

    if not _NAME.fullmatch(name):
        raise StorageError(f"has a tensor named {name[:60]!r}, which is no name of a parameter")
    if tensor.layout is not torch.strided or tensor.is_quantized or tensor.device.type != "cpu":
        raise StorageError(f"{name} is no plain tensor ({tensor.layout}, {tensor.dtype})")
    if tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes():
        raise StorageError(f"{name} says it is {list(tensor.shape)}, more than the file holds")
    if tensor.is_complex():
        raise StorageError(f"{name} is complex")
    if tensor.is_floating_point() and not torch.isfinite(tensor).all():
        raise StorageError(f"{name} has values that are not finite")


def _read_npz(file: Path, name: str | None) -> dict[str, Any]:
    """Return the tensors of a JAX checkpoint under timm's names, as timm converts them."""
    import numpy as np

    if name is None:
        raise StorageError("has JAX's names; say which model it is: vitx import FILE model=vit_b16")
    with np.load(file, allow_pickle=False) as arrays:
        shapes = {each: arrays[each].shape for each in arrays.files}
    positions = next((s for each, s in shapes.items() if each.endswith("pos_embedding")), None)
    if positions is None:
        raise StorageError("has no position embedding; expected a ViT of the JAX repositories")
    from vitx.runtime.torchvision_ops import declare_missing_ops

    declare_missing_ops()
    import timm

    head = next((s for each, s in shapes.items() if each.endswith("head/kernel")), None)
    stem = name.partition(".")[0]
    probe: Any = timm.create_model(stem, num_classes=0)
    side = round((positions[1] - 1) ** 0.5) * probe.patch_embed.feat_ratio()
    model: Any = timm.create_model(stem, num_classes=head[-1] if head else 0, img_size=side)
    model.load_pretrained(str(file))
    state: dict[str, Any] = model.state_dict()
    return state


if __name__ == "__main__":
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    print(json.dumps(_child(json.loads(sys.argv[1]))))
