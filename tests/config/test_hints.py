"""Each failure, raised by Hydra's and OmegaConf's real code, becomes one line that helps."""

from __future__ import annotations

from pathlib import Path

import pytest
from omegaconf import OmegaConf

from vitx.config.hints import explain
from vitx.config.quoting import hydra_arguments
from vitx.config.store import compose
from vitx.config.words import split


def _explained(verb: str, *typed: str, config_dir: Path | None = None) -> str:
    words = hydra_arguments(verb, split(verb, typed))
    with pytest.raises(Exception) as caught:  # noqa: B017, PT011
        config = compose(verb, words, config_dir=config_dir)
        plain = [key for key in config if key != "hydra"]
        OmegaConf.to_object(OmegaConf.masked_copy(config, plain))
    assert type(caught.value).__module__.partition(".")[0] in {"hydra", "omegaconf", "yaml"}
    line = explain(caught.value, verb, typed)
    assert "\n" not in line
    return line


@pytest.mark.parametrize(
    ("typed", "line"),
    [
        ("modle=xcit_s12", "modle: no such setting; did you mean 'model'?"),
        ("model.nmae=3", "model.nmae: no such setting; did you mean 'model.name'?"),
        ("lr=1e-3", "lr: no such setting; did you mean 'optimizer.lr'?"),
        (
            "every=3",
            "every: no such setting; did you mean 'checkpoint.every' or 'evaluation.every'"
            " or 'logger.every'?",
        ),
        ("zzz=1", "zzz: no such setting; vitx train --help all lists them"),
        ("zzz/yyy=1", "zzz/yyy: no such setting; vitx train --help all lists them"),
        ("model={a: 1}", "model.a: no such setting; did you mean"),
        (
            "model=xcitt_s12",
            "no option 'xcitt_s12' of model; did you mean 'xcit_s12' or 'xcit_t12'?"
            " vitx train --help model lists them",
        ),
        ("schedule=zzz", "no option 'zzz' of schedule; vitx train --help schedule lists them"),
        ("hydra/launcher=zzz", "no option 'zzz' of hydra/launcher; there are basic"),
        ("hydra.zzz=1", "hydra.zzz: no such setting; vitx train --cfg hydra lists them"),
        ("model@zzz=xcit_s12", "model@zzz: no such setting"),
        ("+experiment=deit_cifar10", "experiment: chosen twice; choose it once"),
        ("seed=abc", "seed=abc: expected a whole number"),
        ("seed=1.5", "seed=1.5: expected a whole number"),
        ("seed=", "seed=: expected a whole number"),
        ("seed=null", "seed=null: expected a whole number"),
        ("optimizer.lr=fast", "optimizer.lr=fast: expected a number"),
        ("dataset.workers=two", "dataset.workers=two: expected a whole number or null"),
        ("dataset.mirror=maybe", "dataset.mirror=maybe: expected one of true, false"),
        ("precision=fp8", "precision=fp8: expected one of auto, fp32, bf16, fp16"),
        ("dataset.bad_image=x", "dataset.bad_image=x: expected one of raise, skip"),
        ("augmentation.scale=3", "augmentation.scale=3: expected a list of numbers such as ["),
        ("dataset.mean=[0.5,x]", "dataset.mean=[0.5,x]: expected a list of numbers such as ["),
        ("epochs=[1,2]", "epochs=[1,2]: expected a text"),
        ("ema=3", "ema=3: ema is a section; set ema.decay, ema.warmup"),
        ("model.args=3", "model.args=3: expected entries, typed as model.args.ENTRY=VALUE"),
        ("model=timm", "model.name is needed: timm architecture"),
        ("name=a[b", "name=a[b: '[' can't stand there unquoted; type 'name=\"a[b\"'"),
        ("name=é", "name=é: 'é' can't stand there unquoted; type 'name=\"é\"'"),
        ("name='abc", "name='abc: \"'\" can't stand there unquoted; type 'name=\"abc\"'"),
        ("name=a)", "name=a): ')' can't stand there unquoted"),
        ("seed", "seed: expected setting=value"),
        ("seed=1,2", "seed=1,2: one run takes one value; add -m to run 1 and 2 one after"),
        (
            "name=a,b",
            "name=a,b: one run takes one value; add -m to run a and b one after the"
            " other, or type 'name=\"a,b\"'",
        ),
        (
            "dataset.mean=0.1,0.2",
            "dataset.mean=0.1,0.2: one run takes one value; add -m to run"
            " 0.1 and 0.2 one after the other, or type dataset.mean=[0.1,0.2]",
        ),
        ("seed=range(1,3)", "seed=range(1,3): a sweep needs -m; type vitx train -m seed=range"),
        ("name=${zzz}", "name: Interpolation key 'zzz' not found"),
    ],
)
def test_a_failure_is_explained(typed: str, line: str) -> None:
    assert _explained("train", typed).startswith(line)


@pytest.mark.parametrize("typed", ["name=a[b", "name=é", "name=a=b", "name=x(y", "name=a'b"])
def test_the_quoting_that_is_advised_works(typed: str) -> None:
    import shlex

    advice = _explained("train", typed).rpartition("; type ")[2]
    assert compose("train", shlex.split(advice)).name == typed.partition("=")[2]


def test_another_verb_has_its_own_settings() -> None:
    assert _explained("eval", "weights=x").startswith("weights=x: expected one of auto, model, ema")
    assert _explained("eval", "epochs=3").startswith("epochs: no such setting")


def test_yaml_is_explained_with_its_line(tmp_path: Path) -> None:
    file = tmp_path / "train.yaml"
    file.write_text("defaults:\n  - train_schema\n  - _self_\nseed: [1\n", encoding="utf-8")
    line = _explained("train", config_dir=tmp_path)
    assert line.startswith(f"{file}, line ")


def test_a_wrong_value_in_yaml_is_explained(tmp_path: Path) -> None:
    text = "defaults:\n  - train_schema\n  - _self_\nseed: many\n"
    (tmp_path / "train.yaml").write_text(text, encoding="utf-8")
    assert _explained("train", config_dir=tmp_path) == "seed=many: expected a whole number"


def test_an_unknown_message_keeps_its_first_line() -> None:
    assert explain(ValueError("first\nsecond"), "train", []) == "first"
    assert explain(ValueError(), "train", []) == "ValueError"
