"""What vitx makes is for its user; whoever wants to share it widens it."""

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from vitx.config.schema import Precision
from vitx.files import write_json
from vitx.models.origin import as_safetensors
from vitx.objectives.encoding import Encoding
from vitx.objectives.lesson import Answer
from vitx.objectives.teacher_cache import AnswerStore
from vitx.paths import make_private
from vitx.runs import RunDir, new_run_dir

TELLING = ("config.yaml", "run.json", "log.txt", "result.json")  # settings, argv, paths


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.fixture(params=[0o022, 0o002, 0o000, 0o077])
def umask(request: pytest.FixtureRequest) -> Iterator[int]:
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


def test_a_run_directory_is_private(
    umask: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VITX_RUNS", str(tmp_path / "runs"))
    named, given = new_run_dir("x"), RunDir(tmp_path / "deep" / "run")
    given.make()
    assert (mode(named.path), mode(given.path)) == (0o700, 0o700)
    # The folders around it are as the umask has them: they tell names, no contents.
    assert mode(tmp_path / "runs") == mode(tmp_path / "deep") == 0o777 & ~umask


def test_a_directory_made_beforehand_keeps_its_mode(tmp_path: Path) -> None:
    """So a group shares a run: `mkdir -m 2770 run`, or chmod at any time."""
    (tmp_path / "run").mkdir()
    (tmp_path / "run").chmod(0o2770)
    RunDir(tmp_path / "run").make()
    assert mode(tmp_path / "run") == 0o2770


def test_files_that_tell_are_never_for_others(umask: int, tmp_path: Path) -> None:
    write_json(tmp_path / "run.json", {})
    assert mode(tmp_path / "run.json") == 0o660 & ~umask


def test_of_a_whole_run(finished: Path) -> None:
    assert mode(finished) == 0o700
    for name in TELLING:
        assert mode(finished / name) & stat.S_IRWXO == 0, name


def test_the_cache_is_private(umask: int, tmp_path: Path) -> None:
    make_private(tmp_path / "home" / ".cache" / "vitx" / "answers")
    assert mode(tmp_path / "home" / ".cache") == 0o700
    assert mode(tmp_path / "home" / ".cache" / "vitx") == 0o700
    (tmp_path / "shared").mkdir(mode=0o777)
    (tmp_path / "shared").chmod(0o2775)
    make_private(tmp_path / "shared" / "answers")
    assert mode(tmp_path / "shared") == 0o2775


def test_what_is_imported_lies_in_a_private_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VITX_CACHE", str(tmp_path / "cache"))
    torch.save({"a": torch.ones(2)}, tmp_path / "file.pth")
    held = as_safetensors(tmp_path / "file.pth", name="vit_tiny_patch16_224")
    assert held.is_relative_to(tmp_path / "cache")
    assert mode(tmp_path / "cache") == mode(held.parent) == 0o700


def test_answers_of_a_teacher_too(tmp_path: Path) -> None:
    encoding = Encoding(classes=3, top_k=None, precision=Precision.fp32)
    store = AnswerStore(tmp_path / "cache" / "answers", {}, encoding, places=4, say=print)
    answer = Answer(logits=torch.zeros(4, 3), classes=torch.zeros(4, dtype=torch.int64))
    store.write(0, 0, encoding.encode(answer))
    store.flush()
    assert list(store.folder.rglob("*.safetensors"))
    for folder in (tmp_path / "cache", tmp_path / "cache" / "answers", store.folder):
        assert mode(folder) == 0o700
