"""What Hydra accepts without an effect is refused before it gets there."""

from __future__ import annotations

from pathlib import Path

import pytest

from vitx.config.quoting import hydra_arguments
from vitx.config.screening import screen
from vitx.config.settings import groups
from vitx.config.store import SCHEMAS, compose
from vitx.config.words import split
from vitx.errors import UsageError


@pytest.mark.parametrize(
    ("typed", "line"),
    [
        ("+new=1", "new: no such setting"),
        ("++model.nmae=1", "model.nmae: no such setting; did you mean 'model.name'?"),
        ("~seed", "~seed: a setting always has a value"),
        ("~ema", "~ema: a setting always has a value"),
        ("~model", "~model: a group is not removed"),
        ("experiment=zzz", "no option 'zzz' of experiment"),
        ("debug=fats", "no option 'fats' of debug; did you mean 'fast'?"),
        ("debug=null", "debug=null: no debug is chosen anyway; leave it out"),
        ("model=null", "no option 'null' of model"),
        ("augmentation=[deit,zzz]", "no option 'zzz' of augmentation"),
        ("-m model=xcit_s12,zzz", "no option 'zzz' of model"),
        ("+experiment=deit_cifar10", "+experiment=deit_cifar10: type experiment=deit_cifar10"),
        (
            "dataset=folder",
            "dataset=folder: dataset.path is needed: the directory that holds"
            " train/; type dataset.path=DIR",
        ),
        ("model=timm", "model=timm: model.name is needed"),
        ("optimizer=timm", "optimizer=timm: optimizer.name is needed"),
        ("model", "model: expected setting=value, such as model="),
        ("=3", "=3: expected setting=value"),
    ],
)
def test_refused(typed: str, line: str) -> None:
    with pytest.raises(UsageError) as caught:
        screen("train", split("train", typed.split()))
    assert str(caught.value).startswith(line)


@pytest.mark.parametrize(
    "typed",
    [
        "",
        "experiment=deit_cifar10",
        "debug=fast",
        "dataset=folder dataset.path=/x",
        "dataset=folder +dataset.path=/x",
        "dataset=folder --cfg job",
        "model=timm model.name=resnet18",
        "model=timm model={name:resnet18}",
        "model={name: resnet18}",
        "augmentation=[deit,light]",
        "+model.args.depth=2",
        "~hydra.job_logging.root",
        "+hydra.job.env_set.X=1",
    ],
)
def test_accepted_and_composed(typed: str) -> None:
    words = split("train", typed.replace("{name: ", "{name:").split())
    screen("train", words)
    flags = sum(len([part for part in flag if part]) for flag in words.flags)
    arguments = hydra_arguments("train", words)
    compose("train", arguments[: len(arguments) - flags])


def test_a_section_that_is_null_needs_its_group() -> None:
    with pytest.raises(UsageError, match="choose a dataset with it: dataset=OPTION dataset.path=x"):
        screen("eval", split("eval", ["dataset.path=x"]))
    screen("eval", split("eval", ["dataset=folder", "dataset.path=x"]))


def test_options_of_a_further_folder_count(tmp_path: Path) -> None:
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment" / "mine.yaml").write_text("# @package _global_\nseed: 3\n")
    flags = ["--config-dir", str(tmp_path)]
    screen("train", split("train", ["experiment=mine", *flags]))
    with pytest.raises(UsageError, match="did you mean 'mine'"):
        screen("train", split("train", ["experiment=mien", *flags]))


@pytest.mark.parametrize("verb", SCHEMAS)
def test_every_shipped_option_is_composed_or_says_what_it_needs(verb: str) -> None:
    for group in groups(verb).values():
        for option in group.options:
            words = split(verb, [f"{group.name}={option}"])
            try:
                screen(verb, words)
            except UsageError as error:
                assert " is needed: " in str(error)  # noqa: PT017
