"""A command line becomes the jobs that Hydra would run, and every wrong word is told."""

from __future__ import annotations

from pathlib import Path

import pytest

from vitx.config.jobs import read_command_line
from vitx.errors import UsageError


def test_sound_words_are_one_job() -> None:
    line = read_command_line("train", ["model=xcit_s12", "model.args.depth=2", "run_dir=a=b"])

    (job,) = line.jobs
    assert not line.problems
    assert not line.multirun
    assert job.label == ""
    assert job.config.model.args == {"depth": 2}
    assert job.config.run_dir == "a=b"


def test_a_sweep_is_every_combination_in_hydras_order() -> None:
    line = read_command_line("train", ["-m", "seed=0,1", "model=vit_ti8,xcit_n12", "epochs=3"])

    assert line.multirun
    assert [job.label for job in line.jobs] == [
        "seed=0 model=vit_ti8",
        "seed=0 model=xcit_n12",
        "seed=1 model=vit_ti8",
        "seed=1 model=xcit_n12",
    ]
    assert [job.config.seed for job in line.jobs] == [0, 0, 1, 1]
    assert {job.config.epochs for job in line.jobs} == {"3"}


@pytest.mark.parametrize(
    ("words", "problems", "kept"),
    [
        (
            ["modle=3", "seed=x", "model=xcitt_s12", "epochs=7", "seed=2"],
            ["no option 'xcitt_s12'", "modle: no such setting", "seed=x: expected a whole number"],
            {"seed": 2, "epochs": "7"},
        ),
        (["dataset=folder", "seed=x", "seed=3"], ["seed=x", "dataset.path is needed"], {"seed": 3}),
        (["-m", "seed=1,x", "epochs=2,3"], ["seed=1,x: expected"], {"seed": 0}),
        (["~seed", "+new=1", "batch_size"], ["~seed", "new: no such", "batch_size: exp"], {}),
        (["seed=${nothing}"], ["seed"], {"seed": 0}),
    ],
)
def test_each_wrong_word_is_told_and_the_others_are_composed(
    words: list[str], problems: list[str], kept: dict[str, object]
) -> None:
    line = read_command_line("train", words)

    assert len(line.problems) == len(problems)
    for problem, start in zip(line.problems, problems, strict=True):
        assert start in problem
    for name, value in kept.items():
        assert line.jobs[0].config[name] == value


def test_a_section_that_lacks_something_is_incomplete() -> None:
    assert read_command_line("train", ["dataset=folder"]).incomplete == {"dataset"}
    assert read_command_line("train", ["model=timm", "seed=1"]).incomplete == {"model"}
    assert read_command_line("train", ["model=timm", "model.name=a"]).incomplete == set()


def test_options_of_a_further_folder_count(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model/mine.yaml").write_text("name: vit_tiny_patch16_224\npatch_px: 4\n")
    flags = ["--config-dir", str(tmp_path)]

    assert read_command_line("train", ["model=mine", *flags]).jobs[0].config.model.patch_px == 4
    line = read_command_line("train", ["model=mine", "seed=x", *flags])
    assert len(line.problems) == 1
    assert line.jobs[0].config.model.patch_px == 4


def test_a_flag_that_is_none_can_not_be_told_from_a_word() -> None:
    with pytest.raises(UsageError, match="--foo: no such flag"):
        read_command_line("train", ["--foo"])
