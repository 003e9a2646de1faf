"""Whether what vitx imports can be imported, in the way that vitx does it."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator
from pathlib import Path

from vitx.doctor.findings import Finding, fine, problem, warning
from vitx.doctor.planned import Planned, Unusable
from vitx.doctor.versions import fitting_torchvision

# In the order in which they depend on each other; the name it is installed by, where that differs.
_LIBRARIES = {
    "numpy": "numpy",
    "torch": "torch",
    "torchvision": "torchvision",
    "timm": "timm",
    "hydra": "hydra-core",
    "omegaconf": "omegaconf",
    "safetensors": "safetensors",
    "PIL": "pillow",
    "pyarrow": "pyarrow",
    "datasets": "datasets",
    "sklearn": "scikit-learn",
}
_LENGTH = 200  # of a reason


def check_libraries(planned: Planned, *, say: Callable[[str], None]) -> Iterator[Finding]:
    """Import every library.

    Args:
        planned: takes note of those that can't be.
        say: hears of each before: an import can end the process.

    Yields:
        One finding for each that is broken, or one for all.
    """
    broken = []
    for library, package in _LIBRARIES.items():
        say(library)
        try:
            planned.need(library)
        except Unusable as error:
            if error.__cause__ is not None:  # else it was told before
                broken.append(_broken(library, package, error.__cause__))
    if not broken and not planned.unusable:
        yield fine("libraries", f"{', '.join(_LIBRARIES)} can be imported")
    yield from broken


def check_operators(planned: Planned) -> Iterator[Finding]:
    """Look whether torchvision's compiled part goes with this build of torch."""
    planned.need("torchvision")
    torch = planned.need("torch")
    from vitx.runtime.torchvision_ops import declare_missing_ops

    if declare_missing_ops() is None:
        yield fine("operators", "torchvision's own library loads")
        return
    build = f"CUDA {torch.version.cuda}" if torch.version.cuda else "the CPU"
    yield warning(
        "operators",
        f"torchvision{_build()}'s own library does not load beside a torch for {build}: "
        "models and transforms work here, its detection operators such as nms don't",
        "vitx needs none of those; for others install both from the same index",
    )


def _build() -> str:
    spec = importlib.util.find_spec("torchvision")
    file = Path(spec.origin).with_name("version.py") if spec and spec.origin else None
    text = file.read_text(encoding="utf-8") if file and file.is_file() else ""
    first = text.partition("\n")[0].partition("=")[2].strip(" '\"")
    return f" {first}" if first else ""


def _broken(library: str, package: str, error: BaseException) -> Finding:
    lines = str(error).strip().splitlines() or [type(error).__name__]
    reason = lines[0][:_LENGTH]
    text = f"{library} can't be imported: {type(error).__name__}: {reason}"
    mend = f"type pip install --force-reinstall --no-deps {package}"
    if isinstance(error, ModuleNotFoundError) and error.name == library:
        mend = f"type pip install {package}"
    elif library == "torchvision":
        mend += f"=={fitting}.*" if (fitting := fitting_torchvision()) else ""
    return problem("libraries", text, mend)
