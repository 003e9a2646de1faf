"""Checkpoints that are not what was written: each is named, set aside and passed over."""

import hashlib
import json
import os
import random
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.checkpoint.small import FILES, said, same, snapshot, unreadable
from vitx.checkpoint.manifest import find_damage
from vitx.checkpoint.store import commit, load, load_newest, path_of, steps_in
from vitx.errors import StorageError

ALL_FILES = (*FILES, "manifest.json")


def cut(share: float) -> Callable[[Path], None]:
    def damage(file: Path) -> None:
        os.truncate(file, int(file.stat().st_size * share))

    return damage


def flip(bit: int) -> Callable[[Path], None]:
    def damage(file: Path) -> None:
        content = bytearray(file.read_bytes())
        content[bit // 8] ^= 1 << bit % 8
        file.write_bytes(content)

    return damage


def swap(other: str) -> Callable[[Path], None]:
    def damage(file: Path) -> None:
        first, second = file.read_bytes(), file.with_name(other).read_bytes()
        file.write_bytes(second)
        file.with_name(other).write_bytes(first)

    return damage


def damages(folder: Path, flips: int) -> list[tuple[str, Callable[[Path], None], str]]:
    """Return the file that is damaged, how, and the file that has to be named for it.

    Each file is cut, removed and swapped with each, and so many bits of all are flipped, one each.
    """
    draw = random.Random(0)
    found: list[tuple[str, Callable[[Path], None], str]] = []
    for number, name in enumerate(ALL_FILES):
        found += [(name, cut(share), name) for share in (0, 0.5, 0.99)]
        found += [(name, os.unlink, name)]
        for other in ALL_FILES[number + 1 :]:
            # The manifest is read first, then files in the order of their names.
            found += [(name, swap(other), other if other == "manifest.json" else name)]
    sizes = [8 * (folder / name).stat().st_size for name in ALL_FILES]
    for position in draw.sample(range(sum(sizes)), min(flips, sum(sizes))):
        bit, file = position, 0
        while bit >= sizes[file]:
            bit -= sizes[file]
            file += 1
        found.append((ALL_FILES[file], flip(bit), ALL_FILES[file]))
    return found


@pytest.mark.parametrize("flips", [30, pytest.param(2000, marks=pytest.mark.slow)])
def test_every_damage_is_named_set_aside_and_passed_over(flips: int, tmp_path: Path) -> None:
    good, run = tmp_path / "good", tmp_path / "run"
    for step in (3, 6, 9):
        commit(good, snapshot(step))
    chosen = damages(path_of(good, 9), flips)
    if flips > 30:
        assert len(chosen) >= 500
    for number, (file, damage, named) in enumerate(chosen):
        shutil.copytree(good, run)
        damage(path_of(run, 9) / file)

        found, lines = said(run)

        assert found is not None
        assert same(found, snapshot(6)), (number, file)
        assert len(lines) == 1
        assert lines[0].startswith("checkpoint step-00000009 is damaged: ")
        assert lines[0].split()[4] == named, lines[0]
        assert steps_in(run) == [3, 6]
        assert (run / "step-00000009.corrupt").is_dir()
        assert said(run)[1] == []
        shutil.rmtree(run)


@pytest.mark.parametrize("stride", [7, pytest.param(1, marks=pytest.mark.slow)])
def test_every_bit_of_the_manifest_counts(stride: int, tmp_path: Path) -> None:
    path = commit(tmp_path, snapshot(9))
    manifest = path / "manifest.json"
    content = manifest.read_bytes()
    for position in range(0, 8 * len(content), stride):
        flip(position)(manifest)
        damage = find_damage(path)
        assert damage is not None, position
        assert damage.startswith("manifest.json "), position
        manifest.write_bytes(content)
    assert find_damage(path) is None


def test_files_of_another_step_are_found(tmp_path: Path) -> None:
    for step in (3, 6):
        commit(tmp_path, snapshot(step))
    (path_of(tmp_path, 3) / "model.safetensors").replace(path_of(tmp_path, 6) / "model.safetensors")

    lines: list[str] = []
    with pytest.raises(StorageError, match="no good checkpoint"):
        load_newest(tmp_path, say=lines.append)

    assert "model.safetensors has other content than was written (sha256 differs)" in lines[0]
    assert "model.safetensors is missing" in lines[1]


def test_a_file_that_somebody_put_beside_is_not_read(tmp_path: Path) -> None:
    path = commit(tmp_path, snapshot(9))
    shutil.copy(path / "ema.safetensors", path / "helper.safetensors")

    assert same(load(path), snapshot(9))


def test_a_checkpoint_under_another_name_is_none(tmp_path: Path) -> None:
    commit(tmp_path, snapshot(3)).rename(path_of(tmp_path, 9))

    assert find_damage(path_of(tmp_path, 9)) is not None


def test_when_all_are_damaged_nothing_is_begun_afresh_now_or_later(tmp_path: Path) -> None:
    for step in (3, 6):
        flip(999)(commit(tmp_path, snapshot(step)) / "model.safetensors")

    for _ in range(2):
        with pytest.raises(StorageError, match="no good checkpoint"):
            said(tmp_path)


def test_what_can_not_be_read_now_is_left_alone(tmp_path: Path) -> None:
    for step in (3, 6):
        commit(tmp_path, snapshot(step))
    manifest = path_of(tmp_path, 6) / "manifest.json"
    content = manifest.read_bytes()
    unreadable(manifest)

    said_of_it = r"manifest\.json can't be read: Input/output error; nothing was changed; .* move "
    for _ in range(2):
        with pytest.raises(StorageError, match=said_of_it + "step-00000006 elsewhere"):
            said(tmp_path)
    assert steps_in(tmp_path) == [3, 6]

    manifest.unlink()
    manifest.write_bytes(content)
    found, lines = said(tmp_path)
    assert found is not None
    assert (same(found, snapshot(6)), lines) == (True, [])


@pytest.mark.parametrize("file", ALL_FILES)
def test_what_may_not_be_read_is_no_damage(file: str) -> None:
    nobody = os.getuid() or 65534  # root may read everything
    with tempfile.TemporaryDirectory() as name:  # others don't reach tmp_path
        folder = commit(Path(name), snapshot(3))
        for path in (Path(name), folder, *folder.iterdir()):
            path.chmod(0o755)
        (folder / file).chmod(0)
        if (child := os.fork()) == 0:
            os.setuid(nobody)
            said_of_it = ""
            try:
                find_damage(folder)
            except StorageError as error:
                said_of_it = str(error)
            os._exit(0 if f"{file} can't be read: Permission denied" in said_of_it else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def rewrite(manifest: Path, *, own_digest: bool, **changes: object) -> None:
    """Write a manifest as another version of vitx would have."""
    entries = json.loads(manifest.read_text()) | changes
    del entries["sha256"]
    if own_digest:
        text = json.dumps(entries, sort_keys=True, separators=(",", ":"))
        entries["sha256"] = hashlib.sha256(text.encode()).hexdigest()
    manifest.write_text(json.dumps(entries, indent=2) + "\n")


def test_a_checkpoint_of_a_newer_vitx_is_refused_and_left_alone(tmp_path: Path) -> None:
    commit(tmp_path, snapshot(3))
    manifest = commit(tmp_path, snapshot(6)) / "manifest.json"
    rewrite(manifest, own_digest=True, schema=3, cipher="none")

    with pytest.raises(StorageError, match="schema 3, this vitx reads 2; use a newer vitx"):
        said(tmp_path)

    assert steps_in(tmp_path) == [3, 6]
    assert "schema 3" in str(find_damage(path_of(tmp_path, 6)))


def test_a_checkpoint_of_schema_1_is_read_and_verified(tmp_path: Path) -> None:
    for step in (3, 6):
        path = commit(tmp_path, snapshot(step))
        rewrite(path / "manifest.json", own_digest=False, schema=1)
    found, lines = said(tmp_path)
    assert found is not None
    assert same(found, snapshot(6))
    assert lines == []

    flip(999)(path_of(tmp_path, 6) / "model.safetensors")

    found, lines = said(tmp_path)
    assert found is not None
    assert same(found, snapshot(3))
    assert "model.safetensors has other content" in lines[0]


def test_a_digit_of_the_schema_does_not_make_a_damaged_checkpoint_a_newer_one(
    tmp_path: Path,
) -> None:
    for step, own_digest, schema in ((3, True, 2), (6, False, 3), (9, False, 2)):
        path = commit(tmp_path, snapshot(step))
        rewrite(path / "manifest.json", own_digest=own_digest, schema=schema)

    found, lines = said(tmp_path)

    assert found is not None
    assert same(found, snapshot(3))
    assert ["manifest.json has other content than was written" in line for line in lines] == [
        True,
        True,
    ]
