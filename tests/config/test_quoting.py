"""Paths against Hydra's own parser, its sweeper and its composition."""

from __future__ import annotations

import random
import string

import pytest
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import ChoiceSweep, QuotedString
from omegaconf import OmegaConf

from vitx.config.quoting import hydra_arguments, quote
from vitx.config.store import compose
from vitx.config.words import split

NASTY = [
    "/data/a b,c=ü",
    "plain",
    "with space",
    " leading and trailing ",
    "a=b",
    "a==b=",
    "a,b,c",
    "(round)",
    "[square]",
    "{curly: brace}",
    "it's",
    'say "hi"',
    "'",
    '"',
    "''",
    "\\",
    "\\\\",
    "a\\",
    "a\\'b",
    "a\\\\'b",
    "C:\\data\\new",
    "trailing\\\\",
    "'half",
    "half'",
    "ünïcödé",
    "数据集/训练",
    "🐈 cats",
    "null ",
    "nullable",
    "true",
    "007",
    "1e3",
    "nan",
    "-",
    "~",
    "~/data",
    "+plus",
    "@at",
    "#hash",
    "$HOME",
    "%40",
    "a:b",
    "a;b&c|d",
    "tab\there",
    "new\nline",
    "choice(a,b)",
    "glob(*)",
    "*.tar",
    "a\u00a0b",
    "\u202eright to left",
]


def _random_texts(count: int) -> list[str]:
    generator = random.Random(0)  # noqa: S311
    letters = "\\\\\\'''\"\"\",,==()[]{} \tü🐈$a/" + string.ascii_letters[:4]
    return ["".join(generator.choices(letters, k=generator.randint(1, 12))) for _ in range(count)]


def _arguments(*typed: str) -> list[str]:
    return hydra_arguments("train", split("train", typed))


def _is_left_alone(text: str) -> bool:
    return len(text) > 1 and text[0] == text[-1] and text[0] in "'\""


@pytest.mark.parametrize("mark", ["'", '"'])
@pytest.mark.parametrize("texts", [NASTY, _random_texts(400)], ids=["listed", "random"])
def test_a_quoted_text_is_read_as_it_was(texts: list[str], mark: str) -> None:
    parser = OverridesParser.create()
    for text in texts:
        override = parser.parse_override(f"dataset.path={quote(text, mark)}")
        value = override.value()
        assert value == text, text


@pytest.mark.parametrize("texts", [NASTY, _random_texts(400)], ids=["listed", "random"])
def test_a_typed_path_arrives_as_typed(texts: list[str]) -> None:
    parser = OverridesParser.create()
    for text in texts:
        if _is_left_alone(text):
            continue
        for sign in ("", "+", "++"):
            (word,) = _arguments(f"{sign}dataset.path={text}")
            assert parser.parse_override(word).value() == text


@pytest.mark.parametrize("setting", ["dataset.path", "run_dir", "resume", "model.weights"])
@pytest.mark.parametrize("text", ["/data/a b,c=ü", "it's [1] {2} (3)", "C:\\🐈\\", "1e3", "true"])
def test_a_typed_path_is_composed(setting: str, text: str) -> None:
    config = compose("train", _arguments(f"{setting}={text}"))
    assert OmegaConf.select(config, setting) == text


def test_the_path_of_a_run_is_composed() -> None:
    words = split("eval", ["run=runs/a b,c"])
    assert compose("eval", hydra_arguments("eval", words)).run == "runs/a b,c"


def test_null_and_quoted_values_stay() -> None:
    assert _arguments("run_dir=null") == ["run_dir=null"]
    assert compose("train", _arguments("run_dir=null")).run_dir is None
    for typed in ("run_dir='a b'", 'run_dir="a b"', r"run_dir='it\'s'"):
        assert _arguments(typed) == [typed]


def test_an_interpolation_in_a_path_is_resolved(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATA", "/data")
    config = compose("train", _arguments("dataset.path=${oc.env:DATA}/a b"))
    assert config.dataset.path == "/data/a b"


def test_other_settings_are_left_to_hydra() -> None:
    typed = ["name=a b", "model=xcit_s12", "augmentation.scale=[0.5,1.0]", "hydra.job.name=x"]
    assert _arguments(*typed) == typed


def test_an_entry_of_a_mapping_is_typed_like_any_setting() -> None:
    config = compose("train", _arguments("model.args.depth=2", "model.args.qkv_bias=false"))
    assert config.model.args == {"depth": 2, "qkv_bias": False}
    config = compose("train", _arguments("model.args={depth: 3}"))
    assert config.model.args == {"depth": 3}


@pytest.mark.parametrize("flag", ["-m", "--multirun", "hydra.mode=MULTIRUN"])
def test_in_a_sweep_commas_outside_quotes_separate(flag: str) -> None:
    (word, *_) = _arguments("dataset.path=/a b,'/c,d',/e=f,null", flag)
    parsed = OverridesParser.create().parse_override(word)
    sweep = parsed.value()
    assert isinstance(sweep, ChoiceSweep)
    texts = [item.text if isinstance(item, QuotedString) else item for item in sweep.list]
    assert texts == ["/a b", "/c,d", "/e=f", None]


def test_sweep_functions_stay() -> None:
    assert _arguments("-m", "dataset.path=choice(a,b)")[0] == "dataset.path=choice(a,b)"


def test_the_jobs_of_a_sweep_get_their_paths_as_typed() -> None:
    words = _arguments("-m", "dataset.path=/a b,/c=d[1],/ü", "seed=0,1")
    overrides = OverridesParser.create().parse_overrides(words[:2])
    (jobs,) = BasicSweeper.split_arguments(overrides, max_batch_size=None)
    reached = {
        (config.dataset.path, config.seed) for config in (compose("train", job) for job in jobs)
    }
    paths = ("/a b", "/c=d[1]", "/ü")
    assert reached == {(path, seed) for path in paths for seed in (0, 1)}
