"""Stored answers: exact where they claim to be, never trusted unseen, shared between writers."""

from __future__ import annotations

import multiprocessing
import shutil
import time
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from tests.objectives.answers import C, draw, encoding
from vitx.objectives import teacher_cache
from vitx.objectives.lesson import Answer
from vitx.objectives.teacher_cache import AnswerStore

PLACES = 600


class Said(list[str]):
    def __call__(self, text: str) -> None:
        self.append(text)


def store(folder: Path, *, say: Said | None = None, top_k: int | None = None, **more: object):
    heard = Said() if say is None else say
    identity = {"seed": more.pop("seed", 0)}
    return AnswerStore(folder, identity, encoding(top_k), places=PLACES, say=heard, **more)


def shards(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*.safetensors"))


def test_what_was_written_is_read_by_another(tmp_path: Path) -> None:
    ours = store(tmp_path)
    answer = draw(100)
    ours.write(3, 200, encoding().encode(answer))  # over the border of a shard of 256
    assert ours.shard_places >= 256
    ours.flush()

    found = store(tmp_path).read(3, 210, 50)
    assert found is not None
    assert torch.equal(found["values"], answer.logits[10:60])
    assert store(tmp_path).read(3, 199, 2) is None
    assert store(tmp_path).read(2, 200, 2) is None
    assert store(tmp_path, seed=1).read(3, 200, 2) is None
    assert store(tmp_path, top_k=2).read(3, 200, 2) is None


def test_batches_over_the_border_of_shards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(teacher_cache, "_SHARD_BYTES", 1)  # 256 places, the fewest
    ours, answer = store(tmp_path), draw(PLACES)
    for first in range(0, PLACES, 75):
        part = Answer(
            logits=answer.logits[first : first + 75], classes=answer.classes[first : first + 75]
        )
        ours.write(0, first, encoding().encode(part))
    ours.flush()
    assert len(shards(tmp_path)) == 3
    found = store(tmp_path).read(0, 0, PLACES)
    assert found is not None
    assert torch.equal(found["values"], answer.logits)
    assert store(tmp_path).stored_places(1) == PLACES


def test_the_first_answer_stays(tmp_path: Path) -> None:
    first, second = store(tmp_path), store(tmp_path)
    second.write(0, 0, encoding().encode(draw(10, seed=2)))
    first.write(0, 5, encoding().encode(draw(10, seed=1)))
    first.flush()
    second.flush()
    found = store(tmp_path).read(0, 0, 15)
    assert found is not None
    assert torch.equal(found["values"][5:], draw(10, seed=1).logits)
    assert torch.equal(found["values"][:5], draw(10, seed=2).logits[:5])


def _write_some(folder: Path, number: int) -> None:
    torch.set_num_threads(1)
    ours = store(folder)
    for first in range(number * 10, PLACES, 40):
        ours.write(0, first, encoding().encode(draw(10, seed=first)))
        ours.flush()


def test_several_processes_write_one_shard(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    writers = [context.Process(target=_write_some, args=(tmp_path, each)) for each in range(4)]
    for each in writers:
        each.start()
    for each in writers:
        each.join(60)
        assert each.exitcode == 0
    found = store(tmp_path).read(0, 0, PLACES)
    assert found is not None
    for first in range(0, PLACES, 10):
        assert torch.equal(found["values"][first : first + 10], draw(10, seed=first).logits)
    assert not [path for path in tmp_path.rglob(".*") if path.name != ".lock"]


def _flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-40] ^= 1
    path.write_bytes(content)


def _truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-10])


def _of_another(path: Path) -> None:
    other = store(path.parents[1], seed=5)
    other.write(0, 0, encoding().encode(draw(PLACES, seed=9)))
    other.flush()
    shutil.copy(shards(other.folder)[0], path)
    shutil.rmtree(other.folder)


def _of_other_shape(path: Path) -> None:
    tensors = load_file(path)
    save_file({**tensors, "values": torch.zeros(3, C)}, path)


def _empty(path: Path) -> None:
    path.write_bytes(b"")


def _of_another_epoch(path: Path) -> None:
    ours = store(path.parents[2])
    ours.write(1, 0, encoding().encode(draw(PLACES, seed=9)))
    ours.flush()
    (other,) = set(shards(path.parents[2])) - {path}
    other.replace(path)


def _counting_wrongly(path: Path) -> None:
    with safe_open(path, framework="pt") as file:
        told = file.metadata()
    save_file(load_file(path), path, metadata={**told, "present": "x1", "sha256": "0"})


SPOILED = (_flip, _truncate, _of_another, _of_another_epoch, _of_other_shape, _empty)


@pytest.mark.parametrize("spoil", [*SPOILED, _counting_wrongly])
def test_a_shard_that_can_not_be_trusted_is_named_and_made_again(
    spoil: object, tmp_path: Path
) -> None:
    ours = store(tmp_path)
    ours.write(0, 0, encoding().encode(draw(PLACES)))
    ours.flush()
    (path,) = shards(tmp_path)
    spoil(path)  # type: ignore[operator]

    said = Said()
    again = store(tmp_path, say=said)
    assert again.stored_places(1) in (0, PLACES)
    assert again.read(0, 0, 10) is None
    assert again.read(0, 20, 10) is None
    (line,) = said
    assert str(path) in line
    assert "the teacher is asked again" in line
    again.write(0, 0, encoding().encode(draw(10, seed=4)))
    again.flush()
    found = store(tmp_path, say=said).read(0, 0, 10)
    assert found is not None
    assert torch.equal(found["values"], draw(10, seed=4).logits)
    assert len(said) == 1


def test_what_another_run_stored_meanwhile_is_seen(tmp_path: Path) -> None:
    reader, writer = store(tmp_path), store(tmp_path)
    assert reader.read(0, 0, 10) is None
    writer.write(0, 0, encoding().encode(draw(10)))
    writer.flush()
    assert reader.read(0, 0, 10) is not None


def test_it_is_saved_from_time_to_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter(range(0, 10_000, 20))
    monkeypatch.setattr(time, "monotonic", lambda: next(clock))
    ours = store(tmp_path)
    for first in range(0, 30, 10):
        ours.write(0, first, encoding().encode(draw(10, seed=first)))
    monkeypatch.undo()
    assert store(tmp_path).read(0, 0, 20) is not None


def test_a_rehearsal_writes_nothing(tmp_path: Path) -> None:
    ours = store(tmp_path, read_only=True)
    ours.write(0, 0, encoding().encode(draw(10)))
    ours.flush()
    assert not [*tmp_path.iterdir()]


def test_a_full_disk_is_told_of_once_and_ends_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(teacher_cache, "write_shard", full)
    said = Said()
    ours = store(tmp_path, say=said)
    for epoch in range(4):
        ours.write(epoch, 0, encoding().encode(draw(10)))
        ours.flush()
    (line,) = said
    assert "are not stored any more" in line
    assert "the disk is full" in line
    assert not shards(tmp_path)


def test_room_is_reckoned_before(tmp_path: Path) -> None:
    ours = store(tmp_path)
    whole = PLACES * ours.encoding.place_bytes
    assert ours.missing_bytes(10) == 11 * whole  # one is written anew beside its old self
    for epoch in range(10):
        ours.write(epoch, 0, encoding().encode(draw(PLACES)))
    ours.flush()
    assert ours.missing_bytes(10) == 0
    for path in shards(tmp_path):
        assert whole <= path.stat().st_size <= whole + 1000


def test_what_was_there_is_given_back(tmp_path: Path) -> None:
    first, second = draw(10, seed=1), draw(20, seed=2)
    ours = store(tmp_path)
    ours.write(0, 5, encoding().encode(first))
    kept = ours.write(0, 0, encoding().encode(second))
    assert torch.equal(kept["values"][5:15], first.logits)
    assert torch.equal(kept["values"][:5], second.logits[:5])
    assert torch.equal(kept["values"][15:], second.logits[15:])
