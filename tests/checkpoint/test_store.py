"""Checkpoints on disk: whole or not there, verified when read, pruned with care."""

import hashlib
import json
import os
from pathlib import Path

import pytest
import torch

from tests.checkpoint.small import FILES, said, same, snapshot, unreadable
from vitx.checkpoint.snapshot import Snapshot
from vitx.checkpoint.store import commit, load, path_of, prune, steps_in, sweep, weights_file
from vitx.errors import StorageError


def test_what_is_written_is_read_back_bit_for_bit(tmp_path: Path) -> None:
    path = commit(tmp_path / "checkpoints", snapshot(123))

    assert path.name == "step-00000123"
    assert sorted(file.name for file in path.iterdir()) == [FILES[0], "manifest.json", *FILES[1:]]
    assert same(load(path), snapshot(123))
    assert [each.name for each in path.parent.iterdir()] == [path.name]


def test_the_manifest_describes_every_file(tmp_path: Path) -> None:
    path = commit(tmp_path, snapshot(3))

    manifest = json.loads((path / "manifest.json").read_text())
    own = manifest.pop("sha256")
    text = json.dumps(manifest, sort_keys=True, separators=(",", ":"))
    assert own == hashlib.sha256(text.encode()).hexdigest()
    assert (manifest["schema"], manifest["step"], manifest["finite"]) == (2, 3, True)
    assert set(manifest["files"]) == set(FILES)
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

    read = load(commit(tmp_path, Snapshot(step=1, tensors=tensors, state={}).copied()))

    for name, tensor in tensors["model"].items():
        assert read.tensors["model"][name].equal(tensor)


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
    ("finite", "keep", "also", "due", "left"),
    [
        ("+++++", 2, set(), 1, [4, 5]),
        ("+++++", 3, {1}, 1, [1, 3, 4, 5]),
        ("+++--", 2, set(), 1, [3, 4, 5]),
        ("+----", 2, {2}, 1, [1, 2, 4, 5]),
        ("-----", 2, set(), 1, [4, 5]),
        ("+++++", 2, set(), 3, [3, 4, 5]),
        ("+-++-", 2, set(), 2, [4, 5]),
        ("-+---", 2, set(), 4, [2, 4, 5]),
        ("+", 2, set(), 1, [1]),
    ],
)
def test_the_newest_the_best_and_the_last_finite_are_kept(
    finite: str, keep: int, also: set[int], due: int, left: list[int], tmp_path: Path
) -> None:
    for step, mark in enumerate(finite, start=1):
        commit(tmp_path, snapshot(step, value=0.0 if mark == "+" else float("nan")))

    prune(tmp_path, keep=keep, also=also, is_due=lambda step: step % due == 0)

    assert steps_in(tmp_path) == left
    assert {path.name for path in tmp_path.iterdir()} == {f"step-{step:08d}" for step in left}


def test_pruning_survives_a_damaged_manifest(tmp_path: Path) -> None:
    for step in (1, 2, 3):
        commit(tmp_path, snapshot(step, value=float("nan")))
    (path_of(tmp_path, 2) / "manifest.json").write_text("{")

    prune(tmp_path, keep=2, also=set(), is_due=bool)

    assert steps_in(tmp_path) == [2, 3]


def test_pruning_leaves_what_can_not_be_read(tmp_path: Path) -> None:
    for step in (1, 2, 3, 4):
        commit(tmp_path, snapshot(step))
    unreadable(path_of(tmp_path, 2) / "manifest.json")

    prune(tmp_path, keep=2, also=set(), is_due=bool)

    assert steps_in(tmp_path) == [2, 3, 4]


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


def test_a_copy_is_of_its_moment_and_uses_memory_again() -> None:
    weight = torch.arange(6.0).reshape(2, 3)
    state = {"list": [1]}
    live = Snapshot(step=1, tensors={"model": {"turned": weight.t()}}, state=state)

    first = live.copied()
    weight += 1
    state["list"].append(2)
    second = live.copied(into=first)

    assert first.state == {"list": [1]}
    assert second.tensors["model"]["turned"].equal(weight.t())
    assert second.tensors["model"]["turned"] is first.tensors["model"]["turned"]
    other = Snapshot(step=2, tensors={"model": {"turned": weight}}, state={})
    assert other.copied(into=second).tensors["model"]["turned"].equal(weight)
    assert second.tensors["model"]["turned"].equal(weight.t())
