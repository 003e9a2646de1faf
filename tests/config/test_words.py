"""Flags and overrides told apart, against Hydra's own argument parser."""

from __future__ import annotations

import pytest
from hydra._internal.utils import get_args_parser

from vitx.config.quoting import hydra_arguments
from vitx.config.words import BARE_FLAGS, FLAGS_WITH_VALUE, split
from vitx.errors import UsageError


def test_the_flags_are_those_of_hydra() -> None:
    actions = [a for a in get_args_parser()._actions if a.option_strings]
    left_out = {"--version", "--experimental-rerun", "--package", "-p", "--shell-completion", "-sc"}
    flags = {flag for action in actions for flag in action.option_strings} - left_out
    assert flags == {*FLAGS_WITH_VALUE, *BARE_FLAGS}
    for action in actions:
        for flag in set(action.option_strings) & set(FLAGS_WITH_VALUE):
            assert tuple(action.choices or ()) == FLAGS_WITH_VALUE[flag]
        if action.nargs == 0:
            assert not set(action.option_strings) & set(FLAGS_WITH_VALUE)


@pytest.mark.parametrize(
    "typed",
    [
        "seed=1 -m epochs=2",
        "-m seed=1 epochs=2",
        "--config-dir here seed=1 -m epochs=2",
        "--config-dir=here seed=1 epochs=2 --cfg job",
        "seed=1 --info epochs=2",
        "seed=1 --info defaults epochs=2",
    ],
)
def test_hydra_reads_flags_and_settings_in_any_order(typed: str) -> None:
    words = hydra_arguments("train", split("train", typed.split()))
    args = get_args_parser().parse_args(words)
    assert args.overrides == ["seed=1", "epochs=2"]
    assert args.multirun == ("-m" in typed)
    assert args.config_dir == ("here" if "here" in typed else None)
    assert args.cfg == ("job" if "--cfg" in typed else None)
    wanted = "defaults" if "defaults" in typed else "all"
    assert args.info == (wanted if "--info" in typed else None)


@pytest.mark.parametrize(
    ("typed", "line"),
    [
        ("--epochs 3", "--epochs: settings are typed without dashes: epochs=3"),
        ("--batch-size=8", "--batch-size: settings are typed without dashes: batch_size=8"),
        ("--model xcit_s12", "--model: settings are typed without dashes: model=xcit_s12"),
        ("--multrun", "--multrun: no such flag; did you mean '--multirun'"),
        ("-x", "-x: no such flag"),
        ("--cfg jbo", "--cfg: expected job|hydra|all, got 'jbo'; type --cfg job"),
        ("--config-dir", "--config-dir: expected a value; type --config-dir VALUE"),
        ("-m --cfg job", "--multirun and --cfg don't go together"),
        ("--resolve", "--resolve goes with --cfg"),
        ("--experimental-rerun x.pickle", "--experimental-rerun: no such flag"),
    ],
)
def test_a_wrong_flag_is_refused(typed: str, line: str) -> None:
    with pytest.raises(UsageError) as caught:
        split("train", typed.split())
    assert str(caught.value).startswith(line)
