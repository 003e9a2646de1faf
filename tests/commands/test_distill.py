"""`vitx distill`: the teacher is found, trained or refused; the run resumes to the same bits."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.commands.distilling import distil, planned
from tests.train.programs import Programs
from tests.train.tiny import (
    LOADERS_FORK,
    TINY,
    evaluate,
    newest,
    read,
    rows,
    total,
    train,
)
from vitx.cli import main
from vitx.commands import train as training
from vitx.commands.job import Job
from vitx.errors import Preempted, StorageError, UsageError, VitxError
from vitx.runs import RunDir

pytestmark = [*LOADERS_FORK, pytest.mark.usefixtures("own_runs")]

RESNET = ("teacher=timm", "teacher.name=resnet10t", "teacher.epochs=1ep")


@pytest.mark.parametrize("loss", ["hard", "soft"])
def test_stopped_anywhere_it_comes_to_the_same(
    loss: str, words: tuple[str, ...], tmp_path: Path
) -> None:
    words = (*words, f"distillation={loss}")
    distil(*words, f"run_dir={tmp_path / 'whole'}")
    for stop in ("stop_at=1st", "stop_at=7st"):
        with pytest.raises(Preempted):
            distil(*words, f"run_dir={tmp_path / 'parts'}", stop)
    distil(f"resume={tmp_path / 'parts'}")

    assert total(tmp_path / "parts") == total(tmp_path / "whole")
    row = rows(tmp_path / "whole")[-1]
    names = ("label_loss", "teacher_loss", "teacher_top1", "agreement")
    assert all(f"train/{name}" in row for name in names)
    record = read(tmp_path / "whole/run.json")
    assert record["verb"] == "distill"
    assert record["teachers"][0]["name"] == "resnet10t"


def test_what_the_teacher_says_matters_and_can_be_left_out(
    words: tuple[str, ...], tmp_path: Path
) -> None:
    plain = tuple(word for word in words if not word.startswith("teacher"))
    train(*plain, f"run_dir={tmp_path / 'plain'}")
    distil(*words, "distillation.weight=0", f"run_dir={tmp_path / 'none'}")
    distil(*words, f"run_dir={tmp_path / 'half'}")

    found = {
        name: load_file(newest(tmp_path / name) / "model.safetensors")
        for name in ("plain", "none", "half")
    }
    assert all(torch.equal(found["plain"][key], found["none"][key]) for key in found["plain"])
    assert any(not torch.equal(found["plain"][key], found["half"][key]) for key in found["plain"])


def test_a_distillation_token_learns_from_the_teacher_alone(
    words: tuple[str, ...], tmp_path: Path
) -> None:
    words = (*words, "model=deit_ti_dist", "model.patch_px=8", "model.drop_path=0", "epochs=1st")
    # What the teacher weighs nothing moves the head that it speaks to by decay alone: none here.
    words = (*words, "optimizer.weight_decay=0", "schedule.warmup=0", "ema.decay=null")
    for weight in (0, 1):
        distil(*words, f"distillation.weight={weight}", f"run_dir={tmp_path / str(weight)}")
    first, second = (load_file(newest(tmp_path / name) / "optimizer.safetensors") for name in "01")

    def moved(found: dict[str, torch.Tensor], head: str) -> bool:
        return any(
            bool(each.any())
            for name, each in found.items()
            if f"{head}.weight" in name and each.ndim == 2
        )

    assert moved(first, "head") and not moved(first, "head_dist")
    assert moved(second, "head_dist")
    evaluate(f"run={tmp_path / '1'}")
    assert read(tmp_path / "1/eval/val.json")["top1"] == read(tmp_path / "1/result.json")["top1"]


def test_a_teacher_without_weights_is_trained_once(
    pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = (*TINY, *RESNET, f"dataset.path={pictures}", "epochs=1st")
    distil(*words, f"run_dir={tmp_path / 'first'}")
    assert "The teacher is trained first" in capsys.readouterr().out
    (own,) = (tmp_path / "runs/teachers").iterdir()
    before = (own / "result.json").stat().st_mtime_ns

    others = ("seed=7", "optimizer.lr=1e-4", "augmentation=deit", "batch_size=4")
    distil(*words, *others, f"run_dir={tmp_path / 'second'}")
    assert "trained first" not in capsys.readouterr().out
    distil(*words, "teacher.epochs=2ep", f"run_dir={tmp_path / 'third'}")
    assert "trained first" in capsys.readouterr().out

    assert (own / "result.json").stat().st_mtime_ns == before
    assert len([*(tmp_path / "runs/teachers").iterdir()]) == 2
    taught = [
        read(tmp_path / name / "run.json")["teachers"][0]["origin"] for name in ("first", "second")
    ]
    assert taught == [str(own), str(own)]


def test_a_stopped_teacher_goes_on_and_then_the_student_begins(
    pictures: Path, tmp_path: Path
) -> None:
    words = (
        *TINY,
        *RESNET,
        "teacher.epochs=3ep",
        f"dataset.path={pictures}",
        "epochs=1st",
        f"run_dir={tmp_path / 'run'}",
    )
    plan = planned(*words)
    assert plan.file is None
    plan.config.stop_at = "2st"  # of the three that it takes
    with pytest.raises(Preempted):
        training.run(plan.config, Job())
    distil(*words)

    assert read(Path(plan.origin) / "run.json")["sessions"] == 2
    assert read(tmp_path / "run/run.json")["teachers"][0]["origin"] == plan.origin


def test_as_typed_it_trains_teacher_and_student(vitx: Programs, pictures: Path) -> None:
    words = (*TINY, *RESNET, f"dataset.path={pictures}", "epochs=1st", "run_dir=student")
    said = vitx.done("distill", *words)
    assert said.index("The teacher is trained first") < said.index("Now the student.")
    assert "teacher    resnet10t of" in said
    assert said.count("next:") == 1


def test_a_tag_of_other_classes_is_not_asked(pictures: Path, tmp_path: Path) -> None:
    words = (*TINY, "teacher=regnet", f"dataset.path={pictures}")
    plan = planned(*words)
    assert plan.why.startswith("deit_in1k is for 1000 classes, the dataset has 3; ")
    assert plan.config.model.name == "regnety_160"


def renamed(teacher: Path, folder: Path, classes: list[str]) -> Path:
    shutil.copytree(teacher, folder)
    record = read(folder / "run.json")
    (folder / "run.json").write_text(json.dumps(record | {"classes": classes}))
    return folder


@pytest.mark.parametrize(
    ("classes", "told"),
    [
        (["ape", "bee"], "the teacher knows 2 classes, the dataset has 3"),
        (["bee", "ape", "cow"], "in another order: class 0 is 'bee', in the dataset 'ape'"),
        (["ape", "bee", "cat"], "are others: class 2 is 'cat', in the dataset 'cow'"),
    ],
)
def test_classes_are_compared_by_name_and_order(
    classes: list[str], told: str, words: tuple[str, ...], teacher: Path, tmp_path: Path
) -> None:
    other = renamed(teacher, tmp_path / "other", classes)
    with pytest.raises(UsageError, match=told):
        distil(*words, f"teacher.weights={other}", f"run_dir={tmp_path / 'run'}")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("typed", "error", "told"),
    [
        ("teacher.weights=/nowhere", StorageError, "expected a run, a file of weights or a tag"),
        ("teacher.name=resnet18", UsageError, "is of resnet10t; leave it out"),
        ("distillation.weight=2", UsageError, "distillation.weight=2.0: expected 0 to 1"),
        ("distillation.temperature=0", UsageError, "distillation.temperature=0.0"),
        ("teacher.epochs=50%", UsageError, "teacher.epochs=50%: expected epochs or steps"),
        ("teacher.image_px=0", UsageError, "teacher.image_px=0: expected at least 1"),
    ],
)
def test_what_can_not_teach_is_refused_before_anything_is_made(
    typed: str, error: type[Exception], told: str, words: tuple[str, ...], tmp_path: Path
) -> None:
    with pytest.raises(error) as caught:
        distil(*words, typed, f"run_dir={tmp_path / 'run'}")
    assert told in str(caught.value)
    assert not (tmp_path / "run").exists()


def test_another_teacher_in_its_place_is_noticed(
    words: tuple[str, ...], teacher: Path, tmp_path: Path
) -> None:
    own = tmp_path / "teacher"
    shutil.copytree(teacher, own)
    words = (*words, f"teacher.weights={own}", f"run_dir={tmp_path / 'run'}")
    with pytest.raises(Preempted):
        distil(*words, "stop_at=2st")
    shutil.rmtree(own / "checkpoints")
    train(
        *("model=timm", "model.name=resnet10t", "dataset=folder", "dataset.image_px=32", "seed=1"),
        *("dataset.workers=0", "epochs=1ep", "batch_size=8", f"run_dir={tmp_path / 'fresh'}"),
        next(word for word in words if word.startswith("dataset.path=")),
    )
    shutil.copytree(tmp_path / "fresh/checkpoints", own / "checkpoints")
    with pytest.raises(StorageError, match="the teacher is not the one this run learned from"):
        distil(*words)


def test_each_verb_goes_on_with_its_own_runs(words: tuple[str, ...], tmp_path: Path) -> None:
    with pytest.raises(Preempted):
        distil(*words, f"run_dir={tmp_path / 'run'}", "stop_at=2st")
    with pytest.raises(StorageError, match="was begun by vitx distill; go on with that"):
        train(f"resume={tmp_path / 'run'}")


def test_the_student_is_looked_at_before_its_teacher_is_trained(
    pictures: Path, tmp_path: Path
) -> None:
    words = (*TINY, *RESNET, f"dataset.path={pictures}", f"run_dir={tmp_path / 'run'}")
    for wrong in ("+model.args.foo=1", "batch_size=64", "optimizer.name=adamm"):
        with pytest.raises(VitxError):
            distil(*words, wrong)
    assert not (tmp_path / "runs").exists()


def test_a_teacher_goes_on_where_its_data_are_now(pictures: Path, tmp_path: Path) -> None:
    first = tmp_path / "first"
    shutil.copytree(pictures, first)
    words = (*TINY, *RESNET, "teacher.epochs=3ep", "epochs=1st", f"run_dir={tmp_path / 'run'}")
    plan = planned(*words, f"dataset.path={first}")
    plan.config.stop_at = "2st"
    with pytest.raises(Preempted):
        training.run(plan.config, Job())
    first.rename(tmp_path / "second")

    distil(*words, f"dataset.path={tmp_path / 'second'}")
    assert read(tmp_path / "run/run.json")["teachers"][0]["origin"] == plan.origin


def test_a_teacher_that_is_gone_is_not_made_anew_for_a_run_that_goes_on(
    pictures: Path, tmp_path: Path
) -> None:
    words = (*TINY, *RESNET, f"dataset.path={pictures}", f"run_dir={tmp_path / 'run'}")
    with pytest.raises(Preempted):
        distil(*words, "stop_at=2st")
    shutil.rmtree(tmp_path / "runs/teachers")
    with pytest.raises(StorageError, match="now it would be trained anew"):
        distil(*words)


def test_where_it_begins_is_part_of_a_teachers_name(pictures: Path) -> None:
    words = (*TINY, "teacher=regnet", f"dataset.path={pictures}")
    tagged, bare = planned(*words), planned(*words, "teacher.weights=null")
    assert "deit_in1k is for 1000 classes, the dataset has 3" in tagged.why
    assert "it begins from" in tagged.why
    assert bare.why == "no weights are named; it begins from random weights"
    if tagged.config.model.weights is not None:  # the Hub could be reached
        assert tagged.origin != bare.origin


@pytest.mark.parametrize(
    ("typed", "code", "told"),
    [
        ((), 0, "its teacher, trained before it"),
        (("teacher.name=bogusnet", "+model.args.foo=1"), 2, "teacher.name=bogusnet"),
        (("teacher.epochs=0",), 2, "teacher.epochs=0: expected more than nothing"),
    ],
)
def test_it_is_checked_with_its_teacher(
    typed: tuple[str, ...],
    code: int,
    told: str,
    pictures: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    words = (*TINY, *RESNET, f"dataset.path={pictures}", f"run_dir={tmp_path / 'run'}")
    assert main(["check", "distill", *words, *typed]) == code
    said = capsys.readouterr()
    assert told in said.out + said.err
    assert ("model.args" in said.err) == ("+model.args.foo=1" in typed)
    assert not [*tmp_path.iterdir()]


def test_another_teacher_and_one_in_use_are_seen_beforehand(
    words: tuple[str, ...], pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    taught = (*TINY, *RESNET, f"dataset.path={pictures}", f"run_dir={tmp_path / 'run'}")
    plan = planned(*taught)
    RunDir(Path(plan.origin)).path.mkdir(parents=True)
    with RunDir(Path(plan.origin)).locked():
        assert main(["check", "distill", *taught]) == 8
    assert "the teacher: " in capsys.readouterr().err
