"""Versions of Python and of libraries, beside the ranges that vitx was installed with."""

from __future__ import annotations

import platform
from collections.abc import Iterator
from importlib import metadata
from typing import TYPE_CHECKING

import vitx
from vitx.doctor.findings import Finding, fine, problem, warning
from vitx.doctor.planned import Planned

if TYPE_CHECKING:
    from packaging.requirements import Requirement

_SHOWN = (
    "torch",
    "torchvision",
    "timm",
    "hydra-core",
    "omegaconf",
    "datasets",
    "safetensors",
    "pillow",
    "wandb",
    "numpy",
)
# Beside the range, which the metadata have: why it ends there.
_WHY = {
    "torch": "older ones have known holes in reading weights",
    "hydra-core": "1.4 makes objects in another way; before 1.3.8 a configuration could run code",
    "omegaconf": "it goes with hydra-core 1.3",
    "pillow": "13 refuses the posterize to 0 bits that timm's RandAugment draws",
}
# torchvision 0.15 went with torch 2.0, and so on: 0.28 with 2.13.
_TORCH_MAJOR, _TORCHVISION_AHEAD = 2, 15


def check_python(_: Planned) -> Iterator[Finding]:
    """Look at Python and vitx."""
    python = platform.python_version()
    text = f"{python}, vitx {vitx.__version__}, {platform.system()} {platform.machine()}"
    try:
        wanted = metadata.metadata("vitx")["Requires-Python"]
    except metadata.PackageNotFoundError:
        yield warning(
            "python",
            f"{text}; vitx is not installed here, so that versions can't be compared",
            "type pip install -e . in its checkout",
        )
        return
    from packaging.specifiers import SpecifierSet

    if SpecifierSet(wanted).contains(python, prereleases=True):
        yield fine("python", text)
    else:
        yield problem("python", f"{text}; vitx needs {wanted}", "make clean install PYTHON=python3")


def check_versions(_: Planned) -> Iterator[Finding]:
    """Compare the version of each library with the range that vitx asks for."""
    from packaging.requirements import Requirement

    try:
        asked = [Requirement(each) for each in metadata.requires("vitx") or ()]
    except metadata.PackageNotFoundError:
        asked = []
    wrong = [
        finding
        for requirement in asked
        if requirement.marker is None or requirement.marker.evaluate({"extra": ""})
        if (finding := _compare(requirement))
    ]
    found = ", ".join(f"{name} {there}" for name in _SHOWN if (there := _version(name)))
    yield from wrong or [fine("versions", found)]


def check_pair(_: Planned) -> Iterator[Finding]:
    """Look whether torchvision is the release that goes with torch."""
    from packaging.requirements import Requirement
    from packaging.version import Version

    torch, torchvision = _version("torch"), _version("torchvision")
    if torch is None or torchvision is None:
        return  # told as missing
    asked = [Requirement(each) for each in metadata.requires("torchvision") or ()]
    pins = [each.specifier for each in asked if each.name == "torch" and str(each.specifier)]
    ours, theirs = Version(torch), Version(torchvision)
    fitting = fitting_torchvision()
    if pins:
        together = pins[0].contains(ours, prereleases=True)
    else:
        together = fitting is None or theirs.base_version.startswith(f"{fitting}.")
    if together:
        yield fine("torchvision", f"{torchvision} goes with torch {torch}")
        return
    of = f"of torch {str(pins[0]).removeprefix('==')}" if pins else "of another torch"
    yield problem(
        "torchvision",
        f"{torchvision} is {of}, and torch {torch} is here",
        f"type pip install 'torchvision=={fitting}.*'" if fitting else "install them together",
    )


def fitting_torchvision() -> str | None:
    """Return the release of torchvision that goes with torch, such as 0.28; None if unknown."""
    from packaging.version import Version

    torch = _version("torch")
    if torch is None or Version(torch).major != _TORCH_MAJOR:
        return None
    return f"0.{Version(torch).minor + _TORCHVISION_AHEAD}"


def _compare(requirement: Requirement) -> Finding | None:
    there = _version(requirement.name)
    install = f"type pip install '{requirement}'"
    if there is None:
        return problem("versions", f"{requirement.name} is not installed", install)
    if requirement.specifier.contains(there, prereleases=True):
        return None
    why = _WHY.get(requirement.name)
    text = f"{requirement.name} {there}: expected {requirement.specifier}"
    return problem("versions", text + (f"; {why}" if why else ""), install)


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None
