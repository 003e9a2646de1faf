"""Versions are those of real metadata, in folders that stand before the others on the path."""

from pathlib import Path

import pytest

from tests.doctor.looking import found


def installed(folder: Path, name: str, version: str, *requires: str) -> None:
    """Write what an installation leaves of a distribution."""
    place = folder / f"{name.replace('-', '_')}-{version}.dist-info"
    place.mkdir(parents=True)
    lines = ["Metadata-Version: 2.1", f"Name: {name}", f"Version: {version}"]
    lines += [f"Requires-Dist: {each}" for each in requires]
    (place / "METADATA").write_text("\n".join(lines) + "\n\n")


def test_what_is_here_is_as_it_should_be() -> None:
    lines = found("versions", "check_python check_versions check_pair").splitlines()

    assert [line.split()[:2] for line in lines] == [
        ["ok", "python"],
        ["ok", "versions"],
        ["ok", "torchvision"],
    ]
    for name in ("torch", "torchvision", "timm", "hydra-core", "datasets", "pillow", "wandb"):
        assert f" {name} " in lines[1]


@pytest.mark.parametrize(
    ("name", "version", "line", "mend"),
    [
        ("torch", "2.9.1", "torch 2.9.1: expected >=2.10; older ones have known holes", ">=2.10"),
        ("pillow", "13.0.0", "pillow 13.0.0: expected <13,>=12.3; 13 refuses the posterize", "<13"),
        ("hydra-core", "1.4.0", "hydra-core 1.4.0: expected <1.4,>=1.3.8; 1.4 makes obj", "<1.4"),
        ("hydra-core", "1.3.2", "hydra-core 1.3.2: expected <1.4,>=1.3.8; ", ">=1.3.8"),
        ("timm", "0.9.16", "timm 0.9.16: expected <1.1,>=1.0.31", "timm<1.1"),
    ],
)
def test_a_version_out_of_its_range(
    name: str, version: str, line: str, mend: str, tmp_path: Path
) -> None:
    installed(tmp_path, name, version)

    said = found("versions", "check_versions", PYTHONPATH=str(tmp_path)).splitlines()

    assert len(said) == 2
    assert said[0].startswith(f"problem  versions      {line}")
    assert said[1].strip().startswith(f"type pip install '{name}")
    assert mend in said[1]


def test_ranges_are_those_that_vitx_was_installed_with(tmp_path: Path) -> None:
    installed(tmp_path, "vitx", "0.1.0", "no-such-library>=3", "numpy>=999; extra == 'dev'")

    said = found("versions", "check_versions", PYTHONPATH=str(tmp_path))

    assert "no-such-library is not installed" in said
    assert "type pip install 'no-such-library>=3'" in said
    assert "numpy" not in said


@pytest.mark.parametrize(
    ("torch", "torchvision", "fits"),
    [  # as pytorch.org lists them
        ("2.0.1", "0.15.2", True),
        ("2.4.0", "0.19.0", True),
        ("2.6.0", "0.21.0", True),
        ("2.10.0+cpu", "0.25.0", True),
        ("2.6.0", "0.20.1", False),
        ("2.10.0", "0.2.5", False),
    ],
)
def test_pairs_by_the_numbers(torch: str, torchvision: str, fits: bool, tmp_path: Path) -> None:
    installed(tmp_path, "torch", torch)
    installed(tmp_path, "torchvision", torchvision)

    said = found("versions", "check_pair", PYTHONPATH=str(tmp_path))

    assert said.startswith("ok" if fits else "problem")
    if not fits:
        assert torch in said and torchvision in said
        release = 15 + int(torch.split(".")[1])
        assert f"type pip install 'torchvision==0.{release}.*'" in said


def test_pairs_by_what_torchvision_itself_asks_for(tmp_path: Path) -> None:
    installed(tmp_path, "torch", "2.12.1")
    installed(tmp_path, "torchvision", "0.28.0", "numpy", "torch==2.13.0")

    said = found("versions", "check_pair", PYTHONPATH=str(tmp_path))

    assert "0.28.0 is of torch 2.13.0, and torch 2.12.1 is here" in said
    assert "type pip install 'torchvision==0.27.*'" in said
