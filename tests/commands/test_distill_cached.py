"""Stored answers of a teacher: the same student to the last bit, and the teacher is not asked."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.commands.distilling import distil
from tests.train.tiny import (
    LOADERS_FORK,
    STEPS_PER_EPOCH,
    newest,
    rows,
    total,
    weights,
)
from vitx.cli import main
from vitx.errors import Preempted, StorageError, UsageError
from vitx.models.teacher import Teacher

pytestmark = [*LOADERS_FORK, pytest.mark.usefixtures("own_runs")]
CACHED = "teacher.cache=outputs"


@contextmanager
def counting(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """Yield a list that grows by the pictures of each question to a teacher."""
    asked: list[int] = []
    real = Teacher.forward

    def forward(self: Teacher, images: torch.Tensor) -> torch.Tensor:
        asked.append(len(images))
        return real(self, images)

    with monkeypatch.context() as patched:
        patched.setattr(Teacher, "forward", forward)
        yield asked


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    with counting(monkeypatch) as questions:
        yield questions


def answers(tmp_path: Path) -> list[Path]:
    return sorted((tmp_path / "cache").rglob("*.safetensors"))


@pytest.mark.parametrize("loss", ["hard", "soft"])
@pytest.mark.parametrize("mixing", ["mixed", "unmixed"])
def test_cached_and_asked_come_to_the_same_student(
    loss: str, mixing: str, words: tuple[str, ...], tmp_path: Path, asked: list[int]
) -> None:
    words = (*words, f"distillation={loss}")
    if mixing == "unmixed":
        words = (*words, "augmentation.mixup=0", "augmentation.cutmix=0")
    distil(*words, f"run_dir={tmp_path / 'asked'}")
    questions = len(asked)
    distil(*words, CACHED, f"run_dir={tmp_path / 'first'}")
    assert len(asked) == 2 * questions
    distil(*words, CACHED, f"run_dir={tmp_path / 'second'}")
    assert len(asked) == 2 * questions

    sums = {total(tmp_path / name) for name in ("asked", "first", "second")}
    assert len(sums) == 1


def test_another_student_pays_nothing(
    words: tuple[str, ...], tmp_path: Path, asked: list[int]
) -> None:
    distil(*words, CACHED, f"run_dir={tmp_path / 'first'}")
    paid = len(asked)
    others = (
        "optimizer.lr=1e-4",
        "model.patch_px=4",
        "distillation.weight=0.9",
        "dataset.workers=1",
    )
    for number, word in enumerate(others):
        distil(*words, CACHED, word, "epochs=1st", f"run_dir={tmp_path / str(number)}")
    assert len(asked) == paid
    distil(*words, CACHED, "seed=9", "epochs=1st", f"run_dir={tmp_path / 'seed'}")
    assert len(asked) > paid


@pytest.mark.parametrize("loss", ["hard", "soft"])
def test_stopped_anywhere_it_comes_to_the_same(
    loss: str, words: tuple[str, ...], tmp_path: Path, asked: list[int]
) -> None:
    words = (*words, CACHED, f"distillation={loss}")
    distil(*words, f"run_dir={tmp_path / 'whole'}")
    paid = len(asked)
    shutil.rmtree(tmp_path / "cache")
    for stop in ("stop_at=1st", "stop_at=7st"):
        with pytest.raises(Preempted):
            distil(*words, f"run_dir={tmp_path / 'parts'}", stop)
    distil(f"resume={tmp_path / 'parts'}")
    assert total(tmp_path / "parts") == total(tmp_path / "whole")
    assert len(asked) == 2 * paid  # what was asked before a stop was not asked again


def test_a_damaged_shard_is_named_and_its_answers_asked_again(
    words: tuple[str, ...], tmp_path: Path, asked: list[int]
) -> None:
    distil(*words, CACHED, f"run_dir={tmp_path / 'first'}")
    paid = len(asked)
    spoiled, _ = answers(tmp_path)  # one for each epoch
    content = bytearray(spoiled.read_bytes())
    content[-1] ^= 255
    spoiled.write_bytes(content)

    distil(*words, CACHED, f"run_dir={tmp_path / 'second'}")
    assert str(spoiled) in (tmp_path / "second/log.txt").read_text()
    assert len(asked) == paid + paid // 2
    assert total(tmp_path / "second") == total(tmp_path / "first")
    distil(*words, CACHED, f"run_dir={tmp_path / 'third'}")
    assert len(asked) == paid + paid // 2


def test_answers_of_another_augmentation_are_not_used(
    words: tuple[str, ...], tmp_path: Path, asked: list[int]
) -> None:
    distil(*words, CACHED, "epochs=1ep", f"run_dir={tmp_path / 'first'}")
    (there,), paid = answers(tmp_path), len(asked)
    other = (*words, CACHED, "epochs=1ep", "augmentation.hflip=0")
    distil(*other, f"run_dir={tmp_path / 'second'}")
    assert len(asked) == 2 * paid

    # Laid in the place of the other one's, it is known by what it says of itself.
    (place,) = set(answers(tmp_path)) - {there}
    shutil.copy(there, place)
    distil(*other, f"run_dir={tmp_path / 'third'}")
    assert (
        "another teacher, augmentation, epoch or place" in (tmp_path / "third/log.txt").read_text()
    )
    assert len(asked) == 3 * paid
    assert total(tmp_path / "third") == total(tmp_path / "second")


def test_epochs_that_repeat_are_asked_about_once(
    words: tuple[str, ...], tmp_path: Path, asked: list[int]
) -> None:
    words = (*words, "teacher.reuse_epochs=1", "epochs=3ep")
    distil(*words, CACHED, f"run_dir={tmp_path / 'cached'}")
    assert sum(asked) == STEPS_PER_EPOCH * 8
    assert len(answers(tmp_path)) == 1
    distil(*words, f"run_dir={tmp_path / 'asked'}")
    assert total(tmp_path / "asked") == total(tmp_path / "cached")
    with pytest.raises(Preempted):
        distil(*words, CACHED, "stop_at=9st", f"run_dir={tmp_path / 'parts'}")
    distil(f"resume={tmp_path / 'parts'}")
    assert total(tmp_path / "parts") == total(tmp_path / "cached")


def test_repeating_is_of_the_data_and_not_of_the_dropout(
    words: tuple[str, ...], tmp_path: Path
) -> None:
    words = (*words, "epochs=2ep", "optimizer.lr=1e-30", "schedule.warmup=0", "schedule.min_lr=0")
    still = ("model.dropout=0", "model.drop_path=0")
    for name, more in (("fresh", ()), ("again", ("teacher.reuse_epochs=1",))):
        distil(*words, *still, *more, f"run_dir={tmp_path / name}")
    distil(*words, "teacher.reuse_epochs=1", f"run_dir={tmp_path / 'dropped'}")

    def losses(name: str) -> tuple[list[float], list[float]]:
        each = [row["train/loss"] for row in rows(tmp_path / name)]
        return each[:STEPS_PER_EPOCH], each[STEPS_PER_EPOCH:]

    first, second = losses("again")
    assert first == second  # the weights stand still
    first, second = losses("fresh")
    assert first != second
    first, second = losses("dropped")
    assert first != second


def test_few_classes_in_few_digits_are_enough_for_hard(
    words: tuple[str, ...], tmp_path: Path
) -> None:
    distil(*words, f"run_dir={tmp_path / 'asked'}")
    for number, more in enumerate((("teacher.top_k=2",), ("teacher.cache_precision=fp16",))):
        distil(*words, CACHED, *more, f"run_dir={tmp_path / str(number)}")
        assert weights(tmp_path / str(number)) == weights(tmp_path / "asked")


def test_mixed_answers_are_shared_between_batch_sizes(
    words: tuple[str, ...], tmp_path: Path, asked: list[int]
) -> None:
    words = (*words, CACHED, "teacher.mixed=mix", "epochs=1ep", "distillation=soft")
    distil(*words, f"run_dir={tmp_path / 'first'}")
    assert "on 16 mixed pictures" in (tmp_path / "first/log.txt").read_text()
    paid = sum(asked)
    distil(*words, "batch_size=16", f"run_dir={tmp_path / 'second'}")
    assert sum(asked) == paid
    assert all(torch.isfinite(each).all() for each in load_file(_model(tmp_path)).values())


def _model(tmp_path: Path) -> Path:
    return newest(tmp_path / "second") / "model.safetensors"


def test_several_teachers_are_stored_apart(
    words: tuple[str, ...], teacher: Path, tmp_path: Path, asked: list[int]
) -> None:
    alone = (*words, CACHED, "teacher.top_k=3", "distillation=soft")
    both = (*alone, f"teacher.also=[{{weights: {teacher}, crop_ratio: 0.5}}]")
    distil(*alone, f"run_dir={tmp_path / 'alone'}")
    paid = len(asked)
    distil(*both, f"run_dir={tmp_path / 'both'}")
    assert len(asked) == 2 * paid  # the first one's answers were there
    distil(*both, "teacher.cache=none", f"run_dir={tmp_path / 'asked'}")
    assert total(tmp_path / "both") == total(tmp_path / "asked")
    assert total(tmp_path / "both") != total(tmp_path / "alone")


def test_too_small_a_disk_is_said_before_anything_is_made(
    words: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, asked: list[int]
) -> None:
    def disk(_path: object) -> object:
        return shutil._ntuple_diskusage(10, 9, 20 * 2**20)

    monkeypatch.setattr(shutil, "disk_usage", disk)
    long = (*words, CACHED, "distillation=soft", "epochs=100000ep", "checkpoint.every=50%")
    with pytest.raises(StorageError, match=r"needs .* GiB .* teacher.reuse_epochs=\d+ fits"):
        distil(*long, f"run_dir={tmp_path / 'run'}")
    assert not asked
    assert not (tmp_path / "run").exists()
    assert not (tmp_path / "cache").exists()


def test_a_check_stores_nothing_and_tells_the_room(
    words: tuple[str, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["check", "distill", *words, CACHED, f"run_dir={tmp_path / 'run'}"]) == 0
    assert "answers in" in capsys.readouterr().out
    assert not (tmp_path / "cache").exists()
    distil(*words, CACHED, f"run_dir={tmp_path / 'run'}")
    assert main(["check", "distill", *words, CACHED, f"run_dir={tmp_path / 'other'}"]) == 0
    assert "96 of 96 are there" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("typed", "told"),
    [
        ("teacher.top_k=0", "teacher.top_k=0: expected at least 1"),
        ("teacher.top_k=9", "teacher.top_k=9: expected 1 to 3, the classes"),
        ("teacher.cache_precision=auto", "expected fp32, bf16 or fp16"),
        ("teacher.reuse_epochs=0", "teacher.reuse_epochs=0: expected at least 1"),
        ("teacher.crop_ratio=1.5", "teacher.crop_ratio=1.5: expected more than 0, at most 1"),
        ("distillation.features={blocks.0: layer1}", "also and cache go without"),
        ("teacher.also=[{epochs: 2ep}]", "teacher.also[0].name is needed"),
    ],
)
def test_what_can_not_be_stored_is_refused(
    typed: str, told: str, words: tuple[str, ...], tmp_path: Path
) -> None:
    with pytest.raises(UsageError) as caught:
        distil(*words, CACHED, typed, f"run_dir={tmp_path / 'run'}")
    assert told in str(caught.value)
    assert not (tmp_path / "run").exists()
