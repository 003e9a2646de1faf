"""`vitx check` says beforehand what the command would end with, all of it, and makes nothing."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch

from tests.train.tiny import EVERYTHING, TINY, checkpoint, newest, train
from vitx.cli import main
from vitx.errors import Preempted

# What is typed beside the tiny run; {pictures} and {folder} are directories.
REFUSED = [
    "model.name=vit_tyni",
    "optimizer.name=adamm",
    "optimizer.betas=[0.9,0.9,0.9]",
    "augmentation.auto_augment=rand-x",
    "batch_size=0",
    "batch_size=64",
    "epochs=0",
    "schedule.warmup=5parsecs",
    "runtime.device=cuda:7",
    "dataset.image_px=20",
    "dataset.path={folder}/nowhere",
    "dataset.train_split=trian",
    "dataset.val_split=tset",
    "dataset.num_classes=2",
    "model.weights={folder}/nowhere.pth",
    "model.weights={folder}/hostile.pth",
    "model.variant.xca=false",
    "optimizer.lr=1e38 optimizer.weight_decay=0 schedule.warmup=0",
    "run_dir={folder}/full",
    "run_dir={folder}/hostile.pth/run",
    "resume={folder}/nowhere",
    "name=../up",
    "modle=3",
    "dataset=folder dataset.path=null",
    "runtime.micro_batch=3",
    "dataset.mean=[0.5]",
    "dataset.image_column=img dataset=hub",
]


@pytest.fixture
def words(pictures: Path) -> list[str]:
    return [*TINY, f"dataset.path={pictures}", "epochs=2st"]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make a directory to stand in, with a file that is no weights and one that is no run."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("VITX_CACHE", str(tmp_path / "cache"))
    torch.save({"model": torch.nn.Linear(1, 1)}, tmp_path / "hostile.pth")
    (tmp_path / "full").mkdir()
    (tmp_path / "full/notes.txt").write_text("mine")
    return tmp_path


def names(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def test_it_says_what_would_run_and_makes_nothing(
    words: list[str], folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = names(folder)

    assert main(["check", *words, *EVERYTHING]) == 0

    said = capsys.readouterr().out
    assert names(folder) == before
    assert {path.name for path in folder.iterdir()} == {"full", "hostile.pth"}
    first = {line.split()[0] for line in said.splitlines() if line[0] != " "}
    assert {"data", "model", "classes", "size", "memory", "time", "disk", "tried"} <= first
    assert "classes    ape, bee, cow" in said
    assert "decoded    48 of the 48 pictures of train" in said
    assert "training steps on 4 pictures; loss" in said
    assert "about" in said and "0.3333 epochs of" in said


@pytest.mark.parametrize("typed", REFUSED)
def test_what_training_refuses_is_refused_with_its_code_and_its_words(
    typed: str, words: list[str], folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    more = typed.format(folder=folder).split()
    code = main(["train", *words, *more])
    told = capsys.readouterr().err.removeprefix("vitx train: ").strip()
    assert code in (2, 3, 4, 5)

    assert main(["check", *words, *more]) == code

    said = capsys.readouterr().err
    assert "Traceback" not in said
    if code == 5:  # at another step, where the learning rate is another
        told = told.partition(" at step")[0]
    assert told.partition("; ")[0] in said


def test_everything_is_said_at_once(
    words: list[str], folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wrong = {
        "modle=3": "modle: no such setting",
        "seed=x": "seed=x: expected a whole number",
        "epochs=0": "epochs=0: expected more than nothing",
        "augmentation.hflip=2": "augmentation.hflip=2.0: expected 0 to 1",
        "optimizer.name=adamm": "optimizer.name=adamm: timm has no such optimizer",
        "runtime.device=cuda:7": "runtime.device=cuda:7: torch has no such device",
        "dataset.path=gone": "dataset.path=gone: expected a directory",
        "model.patch_px=7": "model.name=vit_tiny_patch16_224 does not take pictures of 16 px",
        "run_dir=full": "full holds files but no run",
    }
    assert main(["check", *words, *wrong]) == 2

    said = capsys.readouterr().err
    assert said.startswith(f"vitx check: {len(wrong)} problems\n")
    for line in wrong.values():
        assert line in said


def test_every_picture_that_is_bad_is_named(
    words: list[str], pictures: Path, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(pictures, folder / "own")
    for name in ("train/ape/03.png", "train/cow/05.png", "val/bee/01.png"):
        (folder / "own" / name).write_bytes(b"GIF89a")

    assert main(["check", *words, "dataset.path=own"]) == 3
    said = capsys.readouterr().err
    assert "2 of 48 pictures of train can't be decoded" in said
    assert "1 of 21 pictures of val can't be decoded" in said
    assert all(name in said for name in ("03.png", "05.png", "01.png"))

    skip = ["dataset.path=own", "dataset.bad_image=skip"]
    assert main(["check", *words, *skip, "dataset.bad_image_limit=0.05"]) == 0
    assert main(["check", *words, *skip, "dataset.bad_image_limit=0.01"]) == 3
    assert "more than the 1 that dataset.bad_image_limit allows" in capsys.readouterr().err


@pytest.fixture
def stopped(words: list[str], folder: Path) -> Path:
    with pytest.raises(Preempted):
        train(
            *words, "epochs=6st", f"run_dir={folder / 'run'}", "stop_at=4st", "checkpoint.every=2st"
        )
    return folder / "run"


def test_a_run_to_go_on_with_is_checked_from_where_it_stands(
    words: list[str], stopped: Path, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = names(folder)
    goes_on = ["check", *words, "epochs=6st", "checkpoint.every=2st", "run_dir=run"]

    assert main(goes_on) == 0
    said = capsys.readouterr().out
    assert "resumed    at step 4 of 6" in said
    assert "0.3333 epochs of" in said  # two steps of six
    assert main([*goes_on, "optimizer.lr=0.5"]) == 4
    assert "optimizer.lr: 0.001 in the run, 0.5 now" in capsys.readouterr().err
    assert main(["check", "resume=run"]) == 0
    assert names(folder) == before


def test_a_damaged_checkpoint_is_named_and_stays_where_it_is(
    stopped: Path, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (newest(stopped) / "model.safetensors").write_bytes(b"nothing")
    before = names(folder)

    assert main(["check", "resume=run"]) == 0
    assert "checkpoint step-00000004 is damaged" in (said := capsys.readouterr().out)
    assert "resumed    at step 2 of 6" in said
    assert names(folder) == before

    (checkpoint(stopped, 2) / "model.safetensors").write_bytes(b"nothing")
    assert main(["check", "resume=run"]) == 4


def test_a_run_in_use_or_finished_is_said(
    words: list[str], folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from vitx.runs import RunDir

    train(*words, f"run_dir={folder / 'run'}")
    assert main(["check", *words, "run_dir=run"]) == 0
    assert "is finished, top-1" in capsys.readouterr().out

    (folder / "run/result.json").unlink()
    with RunDir(folder / "run").locked():
        assert main(["check", *words, "run_dir=run"]) == 8


def test_too_little_memory_or_disk_is_said_before(
    words: list[str],
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    from vitx.commands import rehearsal, room

    monkeypatch.setattr(rehearsal, "usable_memory_bytes", lambda _: 10**7)
    usage = shutil.disk_usage(folder)._replace(free=10**4)
    monkeypatch.setattr(room.shutil, "disk_usage", lambda _: usage)

    assert main(["check", *words]) == 2
    said = capsys.readouterr().err
    assert "2 problems" in said
    assert "of memory and can have 0.00931 GiB" in said
    assert "checkpoints need" in said


def test_every_job_of_a_sweep_is_checked(
    words: list[str], folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["check", "train", "-m", *words, "optimizer.lr=1e-3,2e-3", "batch_size=8,64"]) == 3

    captured = capsys.readouterr()
    assert "job 0  batch_size=8 optimizer.lr=0.001" in captured.out
    assert "job 3  batch_size=64 optimizer.lr=0.002" in captured.out
    assert captured.out.count("\ntried ") == captured.out.count("\nproblem ") == 2
    assert "batch_size=64 is more than the 48 training samples" in captured.err
    assert not (folder / "runs").exists()


def test_an_evaluation_is_checked(
    words: list[str], folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train(*words, f"run_dir={folder / 'run'}")
    before = names(folder)

    assert main(["check", "eval", "run=run"]) == 0
    said = capsys.readouterr().out
    assert "val: 21 pictures of 'val'" in said
    assert "\ntime  " in said
    wrong = ["checkpoint=7", "weights=ema", "dataset=folder", "dataset.path=gone", "suite=../x"]
    assert main(["check", "eval", "run=run", *wrong]) == 2
    told = capsys.readouterr().err
    assert all(part in told for part in ("no checkpoint of step 7", "'../x'", "dataset.path=gone"))
    assert main(["check", "eval", "run=gone"]) == 2
    assert names(folder) == before


def test_a_file_to_import_is_read_and_nothing_is_kept(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.save({"model": {"module.a": torch.ones(2)}}, folder / "good.pth")
    before = names(folder)

    assert main(["check", "import", "good.pth"]) == 0
    assert "1 tensors of part model" in capsys.readouterr().out
    assert main(["check", "import", "hostile.pth"]) == 4
    assert names(folder) == before


@pytest.mark.slow
def test_the_stages_of_a_recipe_are_checked(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["check", "recipe", "run", "deit_b_384", "scale=smoke"]) == 0
    said = capsys.readouterr().out
    assert said.count("\nstage ") == 2
    assert "will be there after the stages before" in said


@pytest.mark.parametrize(
    ("typed", "line"),
    [
        ("tarin", "tarin: nothing to check; did you mean 'train'?"),
        ("models", "models: nothing to check; train, distill, eval, recipe, import can be checked"),
        ("recipe list", "only vitx check recipe run NAME checks something"),
        ("recipe run deit_ss", "no recipe 'deit_ss'"),
        ("train --foo", "--foo: no such flag"),
    ],
)
def test_what_can_not_be_checked_is_said(
    typed: str, line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["check", *typed.split()]) == 2
    assert line in capsys.readouterr().err


def test_help_is_of_the_verb(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "--help"]) == 0
    assert "usage: vitx check" in capsys.readouterr().out
    assert main(["check", "eval", "--help"]) == 0
    assert "usage: vitx eval" in capsys.readouterr().out


def test_a_name_that_is_taken_gets_a_number_as_in_training(
    words: list[str], folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train(*words, "name=one")
    (folder / "runs/two").mkdir()
    (folder / "runs/two/notes.txt").write_text("mine")

    assert main(["check", *words, "name=one", "epochs=6st"]) == 0
    assert "run        runs/one-2\n" in capsys.readouterr().out
    assert main(["check", *words, "name=two"]) == 0
    assert main(["check", *words, f"name={'a' * 300}"]) == main(
        ["train", *words, f"name={'a' * 300}"]
    )


def test_what_stands_in_the_way_of_a_result_is_said(words: list[str], folder: Path) -> None:
    (folder / "link").symlink_to(folder / "nowhere")
    assert main(["check", *words, "run_dir=link"]) == 4
    train(*words, f"run_dir={folder / 'run'}")
    (folder / "run/eval").write_text("")
    assert main(["check", "eval", "run=run"]) == main(["eval", "run=run"]) == 4
    torch.save({"model": {"a": torch.ones(2)}}, folder / "good.pth")
    assert main(["check", "import", "good.pth", "to=good.pth/x.safetensors"]) == 4


def test_jobs_of_a_sweep_that_share_a_run_are_refused(
    words: list[str], folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["check", "-m", *words, "run_dir=a,b", "seed=0,1"]) == 2
    assert "run_dir=a: jobs 0 and 1 of the sweep share it" in capsys.readouterr().err


@pytest.mark.slow  # on a busy machine patience ends before a whole batch is tried
def test_a_large_evaluation_counts_for_memory(
    words: list[str], folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    larger = ["model=timm", "model.name=resnet18", "dataset=digits", "dataset.image_px=160"]
    larger = [*(word for word in words if "model" not in word and "dataset" not in word), *larger]
    asked = []
    for size in (2, 256):
        assert main(["check", *larger, "batch_size=2", f"evaluation.batch_size={size}"]) == 0
        (line,) = (row for row in capsys.readouterr().out.splitlines() if row[:6] == "memory")
        asked.append(float(line.split()[2]))
    assert asked[1] > asked[0] + 0.2


def test_a_configuration_is_asked_for_elsewhere(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "--cfg", "job"]) == 2
    assert "type vitx train --cfg job" in capsys.readouterr().err
