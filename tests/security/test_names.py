"""No name leads out of the directory that it names something in."""

import os
import random
from pathlib import Path

import pytest

from tests.security.hostile import as_run
from tests.train.programs import Programs
from tests.train.tiny import total
from vitx.checkpoint.store import steps_in
from vitx.commands.job import Job
from vitx.commands.members import find_step
from vitx.commands.opening import choose_run, open_run
from vitx.config.schema import TrainConfig
from vitx.errors import StorageError, UsageError
from vitx.runs import RunDir, check_name, find_run, new_run_dir

PARTS = (
    *("..", ".", "/", "\\", "\0", "\n", "\r", "\t", "\x1b[2J", "\x7f", "\x85", "\u2028", "\u202e"),
    *(
        "~",
        "~root",
        "$HOME",
        "%2e%2e",
        "C:",
        "a",
        "run",
        "..a",
        "a..",
        " ",
        "-",
        "*",
        "?",
        ":",
        "|",
    ),
    *(
        "ü",
        "日本",
        "😀",
        "\ud800",
        "\u200d",
        "=",
        ",",
        "[",
        "{",
        "'",
        '"',
        "step-00000001",
        ".tmp-1",
    ),
    *("eval", "checkpoints", "x" * 255, "x" * 5000, "\ufeff", "nul", "con", ".lock", "`id`", ";"),
)


def names(count: int) -> list[str]:
    draw = random.Random(0)
    return [*PARTS, *("".join(draw.choices(PARTS, k=draw.randint(1, 5))) for _ in range(count))]


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("VITX_RUNS", str(tmp_path / "runs"))
    return tmp_path / "runs"


def test_a_thousand_names_stay_in_the_folder_of_runs(runs: Path, tmp_path: Path) -> None:
    refused = made = 0
    for name in names(1000):
        try:
            run = new_run_dir(check_name(name))
        except (UsageError, StorageError):
            refused += 1
            continue
        made += 1
        assert run.path.parent == runs
        assert run.path.is_dir() and not run.path.is_symlink()
        assert run.path.name.isprintable() and not run.path.name.startswith(".")
    assert made > 30 and refused > 500
    assert {path.name for path in tmp_path.iterdir()} == {"runs"}
    assert len(list(runs.iterdir())) == made


def test_a_thousand_names_of_a_suite(tmp_path: Path) -> None:
    for name in names(1000):
        try:
            suite = check_name(name)
        except UsageError:
            continue
        assert (tmp_path / f"{suite}.json").parent == tmp_path


def test_a_thousand_labels_of_a_sweep_name_one_directory_each(tmp_path: Path) -> None:
    for number, name in enumerate(names(1000)):
        job = Job(sweep_dir=tmp_path, number=number, label=f"name={name} seed={name}")
        run = open_run(TrainConfig(), job).run
        assert run.path.parent == tmp_path
        assert run.path.name.startswith(f"{number}-")
    assert len(list(tmp_path.iterdir())) == number + 1


@pytest.mark.parametrize("name", ["run_dir", "resume", "dataset.path"])
def test_a_path_with_nul_is_refused(name: str) -> None:
    from vitx.config.checks import problems_of

    config = TrainConfig()
    section = config.dataset if name == "dataset.path" else config
    setattr(section, name.rpartition(".")[2], "a\0b")
    assert f"{name}: a text can't hold a NUL character" in problems_of(config)


@pytest.mark.parametrize(
    "checkpoint", ["../..", "1" * 5000, "-1", "1/../2", "٣", "1_0", "", " 1", "0x1", "\0", "1\n"]
)
def test_a_checkpoint_is_a_number(checkpoint: str, finished: Path) -> None:
    with pytest.raises(UsageError, match="expected last, best or a step number"):
        find_step(RunDir(finished), checkpoint)


@pytest.fixture
def copy(finished: Path, tmp_path: Path) -> Path:
    return as_run(tmp_path / "run", (finished / "config.yaml").read_bytes(), like=finished)


ENTRIES = (
    *("eval", "checkpoints", "wandb", "log.txt", "metrics.jsonl", "run.json", "config.yaml"),
    *("result.json", ".owner.json", ".lock", "wandb/mirror.log", "eval/.val.parquet"),
    *("checkpoints/.tmp-1-host-1", "checkpoints/step-00000009", "checkpoints/step-00000002/x"),
)


@pytest.mark.parametrize("entry", ENTRIES)
def test_a_link_out_of_a_strangers_run_is_refused(entry: str, copy: Path, tmp_path: Path) -> None:
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "file").write_text("mine")
    there = copy / entry
    if there.exists():
        there.rename(tmp_path / "moved")
        if there.name in ("checkpoints", "config.yaml"):
            mine = tmp_path / "moved"  # a run without one is none
    there.parent.mkdir(exist_ok=True)
    there.symlink_to(mine if there.suffix in ("", ".1") or mine.is_file() else mine / "file")
    for attempt in (
        lambda: find_run(str(copy)),
        lambda: choose_run(TrainConfig(resume=str(copy)), Job()),
        lambda: open_run(TrainConfig(run_dir=str(copy)), Job()),
    ):
        with pytest.raises(StorageError, match=r"is a link that leads out of the run"):
            attempt()
    assert not mine.is_dir() or [path.name for path in mine.iterdir()][:1] != ["val.json"]


def test_the_program_appends_nothing_to_a_file_behind_a_link(
    copy: Path, vitx: Programs, tmp_path: Path
) -> None:
    profile = tmp_path / "profile"
    profile.write_text("mine\n")
    (copy / "log.txt").symlink_to(profile)
    (copy / "result.json").unlink()
    for words in (("train", f"resume={copy}"), ("eval", f"run={copy}")):
        assert "log.txt is a link that leads out" in vitx.done(*words, code=4)
    assert profile.read_text() == "mine\n"


@pytest.mark.parametrize("entry", ["log.txt", "metrics.jsonl", "eval/val.json"])
def test_a_pipe_in_a_strangers_run_is_refused_rather_than_waited_for(
    entry: str, copy: Path
) -> None:
    (copy / entry).parent.mkdir(exist_ok=True)
    (copy / entry).unlink(missing_ok=True)
    os.mkfifo(copy / entry)
    with pytest.raises(StorageError, match="is no regular file"):
        find_run(str(copy))


def test_links_within_a_run_and_to_a_run_are_no_harm(copy: Path, tmp_path: Path) -> None:
    (copy / "newest").symlink_to("checkpoints/step-00000002")
    (tmp_path / "link").symlink_to(copy)
    assert steps_in(find_run(str(tmp_path / "link")).checkpoints) == [1, 2]


def test_a_file_is_not_written_through_a_link_of_the_name_it_has_meanwhile(tmp_path: Path) -> None:
    from vitx.files import write_text

    (tmp_path / "mine").write_text("mine")
    (tmp_path / f".run.json.{os.getpid()}").symlink_to(tmp_path / "mine")
    write_text(tmp_path / "run.json", "text")
    assert (tmp_path / "mine").read_text() == "mine"
    assert (tmp_path / "run.json").read_text() == "text"


ALL_AT_ONCE = "a=b,c[d]{e}\nünï 😀 '\" $HOME `id` %s"
ODD = ("a b", "ünï 😀", "a=b", "a,b", "[", "line\nbreak", "n" * 240, "-x", "'quoted\"")


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    (ALL_AT_ONCE, *ODD),
)
def test_odd_directories_work(
    name: str, short: tuple[str, ...], finished: Path, vitx: Programs, tmp_path: Path
) -> None:
    run = tmp_path / name / "run"
    vitx.done("train", *short, f"run_dir={run}", "stop_at=1st", code=75)
    vitx.done("train", *short, f"run_dir={run}")
    assert "exactly what training recorded" in vitx.done("eval", f"run={run}")
    assert total(run) == total(finished)


@pytest.mark.slow
def test_a_relative_and_a_linked_directory(
    short: tuple[str, ...], finished: Path, vitx: Programs, tmp_path: Path
) -> None:
    (tmp_path / "far away").mkdir()
    (tmp_path / "near").symlink_to("far away")
    vitx.done("train", *short, "run_dir=near/../near/run", "stop_at=1st", code=75)
    vitx.done("train", *short, f"run_dir={tmp_path}/far away/run")
    vitx.done("eval", "run=./near/run")
    assert total(tmp_path / "far away" / "run") == total(finished)
