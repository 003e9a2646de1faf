"""Checkpoints on disk: whole or not there, verified when read, pruned with care."""

import hashlib
import json
import os
import random
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from vitx.checkpoint.manifest import find_damage
from vitx.checkpoint.store import (
    Snapshot,
    commit,
    load,
    load_newest,
    path_of,
    prune,
    steps_in,
    sweep,
    weights_file,
)
from vitx.errors import StorageError

FILES = ("ema.safetensors", "model.safetensors", "optimizer.safetensors", "state.json")


def snapshot(step: int, *, value: float | None = None) -> Snapshot:
    weights = torch.arange(12.0).reshape(3, 4) + (step if value is None else value)
    return Snapshot(
        step=step,
        tensors={
            "model": {"weight": weights.t(), "half": weights.bfloat16(), "count": torch.tensor(7)},
            "ema": {"weight": weights * 2},
            "optimizer": {"state/weight/exp_avg": weights * 3},
        },
        state={"train": {"step": step, "loss": 0.1 + step}, "name": "größe"},
    )


def same(one: Snapshot, other: Snapshot) -> bool:
    return (one.step, one.state) == (other.step, other.state) and all(
        one.tensors[file].keys() == other.tensors[file].keys()
        and all(
            tensor.equal(other.tensors[file][name])
            and tensor.dtype == other.tensors[file][name].dtype
            for name, tensor in tensors.items()
        )
        for file, tensors in one.tensors.items()
    )


def said(folder: Path) -> tuple[Snapshot | None, list[str]]:
    lines: list[str] = []
    return load_newest(folder, say=lines.append), lines


def test_what_is_written_is_read_back_bit_for_bit(tmp_path: Path) -> None:
    path = commit(tmp_path / "checkpoints", snapshot(123))

    assert path.name == "step-00000123"
    assert sorted(file.name for file in path.iterdir()) == [FILES[0], "manifest.json", *FILES[1:]]
    assert same(load(path), snapshot(123))
    assert [each.name for each in path.parent.iterdir()] == [path.name]


def test_the_manifest_describes_every_file(tmp_path: Path) -> None:
    path = commit(tmp_path, snapshot(3))

    manifest = json.loads((path / "manifest.json").read_text())
    assert (manifest["step"], manifest["finite"], set(manifest["files"])) == (3, True, set(FILES))
    for name, entry in manifest["files"].items():
        content = (path / name).read_bytes()
        assert entry == {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}


@pytest.mark.parametrize("value", [float("inf"), float("nan")])
def test_the_manifest_says_whether_all_is_finite(value: float, tmp_path: Path) -> None:
    path = commit(tmp_path, snapshot(3, value=value))

    assert json.loads((path / "manifest.json").read_text())["finite"] is False


def test_tensors_that_share_memory_are_stored_each(tmp_path: Path) -> None:
    tied = torch.arange(6.0).reshape(2, 3)
    tensors = {"model": {"head": tied, "embed": tied, "slice": tied[:, 1:], "turned": tied.t()}}

    read = load(commit(tmp_path, Snapshot(step=1, tensors=tensors, state={})))

    for name, tensor in tensors["model"].items():
        assert read.tensors["model"][name].equal(tensor)


def cut(share: float) -> Callable[[Path], None]:
    def damage(file: Path) -> None:
        os.truncate(file, int(file.stat().st_size * share))

    return damage


def flip(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[-2] ^= 1
    file.write_bytes(content)


DAMAGES = {
    "cut-0": cut(0),
    "cut-50": cut(0.5),
    "cut-99": cut(0.99),
    "flip": flip,
    "gone": os.unlink,
}


@pytest.mark.parametrize("file", [*FILES, "manifest.json"])
@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_checkpoint_is_named_set_aside_and_passed_over(
    damage: str, file: str, tmp_path: Path
) -> None:
    for step in (3, 6, 9):
        commit(tmp_path, snapshot(step))
    DAMAGES[damage](path_of(tmp_path, 9) / file)

    found, lines = said(tmp_path)

    assert found is not None
    assert same(found, snapshot(6))
    assert len(lines) == 1
    assert "step-00000009" in lines[0]
    assert file in lines[0]
    assert steps_in(tmp_path) == [3, 6]
    assert (tmp_path / "step-00000009.corrupt").is_dir()
    assert said(tmp_path)[1] == []


def test_swapped_files_are_found(tmp_path: Path) -> None:
    for step in (3, 6, 9):
        commit(tmp_path, snapshot(step))
    one, other = (path_of(tmp_path, 9) / name for name in ("ema.safetensors", "model.safetensors"))
    other.rename(tmp_path / "aside")
    one.rename(other)
    (tmp_path / "aside").rename(one)
    (path_of(tmp_path, 3) / "model.safetensors").replace(path_of(tmp_path, 6) / "model.safetensors")

    lines: list[str] = []
    with pytest.raises(StorageError, match="no good checkpoint"):
        load_newest(tmp_path, say=lines.append)

    assert ["sha256 differs" in line or "bytes, expected" in line for line in lines[:2]] == [
        True
    ] * 2
    assert "model.safetensors is missing" in lines[2]


@pytest.mark.parametrize("flips", [30, pytest.param(300, marks=pytest.mark.slow)])
def test_a_single_flipped_bit_is_found(flips: int, tmp_path: Path) -> None:
    path = commit(tmp_path, snapshot(9))
    draw = random.Random(0)
    for name in FILES:
        file = path / name
        content = file.read_bytes()
        for position in draw.sample(range(8 * len(content)), flips):
            flipped = bytearray(content)
            flipped[position // 8] ^= 1 << position % 8
            file.write_bytes(flipped)
            assert (
                find_damage(path) == f"{name} has other content than was written (sha256 differs)"
            )
        file.write_bytes(content)
    assert find_damage(path) is None


@pytest.mark.parametrize("stride", [11, pytest.param(1, marks=pytest.mark.slow)])
def test_a_flipped_bit_in_the_manifest_is_found_or_changes_nothing(
    stride: int, tmp_path: Path
) -> None:
    path = commit(tmp_path, snapshot(9))
    manifest = path / "manifest.json"
    content = manifest.read_bytes()
    for position in range(0, 8 * len(content), stride):
        flipped = bytearray(content)
        flipped[position // 8] ^= 1 << position % 8
        manifest.write_bytes(flipped)
        if find_damage(path) is None:
            assert same(load(path), snapshot(9)), flipped[position // 8 - 20 : position // 8 + 20]


def test_a_checkpoint_under_another_name_is_none(tmp_path: Path) -> None:
    commit(tmp_path, snapshot(3)).rename(path_of(tmp_path, 9))

    assert find_damage(path_of(tmp_path, 9)) is not None


def test_when_all_are_damaged_nothing_is_begun_afresh_now_or_later(tmp_path: Path) -> None:
    for step in (3, 6):
        flip(commit(tmp_path, snapshot(step)) / "model.safetensors")

    for _ in range(2):
        with pytest.raises(StorageError, match="no good checkpoint"):
            said(tmp_path)


def test_a_checkpoint_of_a_newer_vitx_is_refused_and_left_alone(tmp_path: Path) -> None:
    commit(tmp_path, snapshot(3))
    manifest = commit(tmp_path, snapshot(6)) / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"schema": 1', '"schema": 2'))

    with pytest.raises(StorageError, match="schema 2"):
        said(tmp_path)

    assert steps_in(tmp_path) == [3, 6]


def test_order_is_that_of_steps_not_of_time_or_text(tmp_path: Path) -> None:
    for step in (100_000_00, 9, 50):  # eight digits, and written out of order
        commit(tmp_path, snapshot(step))
    os.utime(path_of(tmp_path, 9), (2e9, 2e9))

    found, _ = said(tmp_path)

    assert found is not None
    assert found.step == 100_000_00


@pytest.mark.parametrize(
    "name", ["old-step-00000099", "step-99", "step-00000099.corrupt", "step-000000990", ".tmp-99"]
)
def test_what_only_resembles_a_checkpoint_is_none(name: str, tmp_path: Path) -> None:
    commit(tmp_path, snapshot(3))
    commit(tmp_path, snapshot(99)).rename(tmp_path / name)

    assert steps_in(tmp_path) == [3]


def test_no_checkpoint_at_all_is_a_beginning(tmp_path: Path) -> None:
    assert said(tmp_path / "missing") == (None, [])


def test_sweeping_removes_what_an_interrupted_write_left_and_nothing_else(tmp_path: Path) -> None:
    kept = {commit(tmp_path, snapshot(3)), tmp_path / "step-00000006.corrupt", tmp_path / "notes"}
    (tmp_path / "step-00000006.corrupt").mkdir()
    (tmp_path / "notes").write_text("mine")
    for name in (".tmp-6-host-1", ".tmp-trash-step-00000001-1"):
        (tmp_path / name / "deep").mkdir(parents=True)
        (tmp_path / name / "model.safetensors").write_bytes(b"half")

    sweep(tmp_path)

    assert set(tmp_path.iterdir()) == kept


@pytest.mark.parametrize(
    ("finite", "keep", "also", "left"),
    [
        ("+++++", 2, set(), [4, 5]),
        ("+++++", 3, {1}, [1, 3, 4, 5]),
        ("+++--", 2, set(), [3, 4, 5]),
        ("+----", 2, {2}, [1, 2, 4, 5]),
        ("-----", 2, set(), [4, 5]),
        ("+", 2, set(), [1]),
    ],
)
def test_the_newest_the_best_and_the_last_finite_are_kept(
    finite: str, keep: int, also: set[int], left: list[int], tmp_path: Path
) -> None:
    for step, mark in enumerate(finite, start=1):
        commit(tmp_path, snapshot(step, value=0.0 if mark == "+" else float("nan")))

    prune(tmp_path, keep=keep, also=also)

    assert steps_in(tmp_path) == left
    assert {path.name for path in tmp_path.iterdir()} == {f"step-{step:08d}" for step in left}


def test_pruning_survives_a_damaged_manifest(tmp_path: Path) -> None:
    for step in (1, 2, 3):
        commit(tmp_path, snapshot(step, value=float("nan")))
    (path_of(tmp_path, 2) / "manifest.json").write_text("{")

    prune(tmp_path, keep=2, also=set())

    assert steps_in(tmp_path) == [2, 3]


def test_a_write_that_fails_leaves_the_rest_as_it_was(tmp_path: Path) -> None:
    commit(tmp_path, snapshot(3))
    before = {file: file.read_bytes() for file in tmp_path.rglob("*.*") if file.is_file()}
    broken = Snapshot(step=6, tensors=snapshot(6).tensors, state={"not": object()})

    with pytest.raises(StorageError, match="step-00000006"):
        commit(tmp_path, broken)

    assert {file: file.read_bytes() for file in tmp_path.rglob("*.*") if file.is_file()} == before


@pytest.mark.parametrize("in_one_step", [True, False])
def test_a_step_saved_again_replaces_what_was_saved(
    in_one_step: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not in_one_step:
        monkeypatch.setattr("vitx.checkpoint.store._exchange", lambda *_: False)
    for value in (1.0, 2.0):
        commit(tmp_path, snapshot(3, value=value))

    assert steps_in(tmp_path) == [3]
    assert [path.name for path in tmp_path.iterdir()] == ["step-00000003"]
    assert same(load(path_of(tmp_path, 3)), snapshot(3, value=2.0))


def test_weights_are_found_in_a_run_a_checkpoint_and_a_file(tmp_path: Path) -> None:
    for step in (3, 6):
        commit(tmp_path / "checkpoints", snapshot(step))
    newest = path_of(tmp_path / "checkpoints", 6)

    for given in (tmp_path, newest, newest / "ema.safetensors"):
        assert weights_file(str(given)) == newest / "ema.safetensors"
    (newest / "ema.safetensors").unlink()
    assert weights_file(str(tmp_path)) == newest / "model.safetensors"
    with pytest.raises(StorageError, match=r"model\.weights="):
        weights_file(str(tmp_path / "nothing"))
