"""Recipes: all compose, all rehearse, and what comes out stands beside what was published."""

import json
import math
from pathlib import Path

import pytest

from vitx.cli import main
from vitx.commands.recipe import stage_words
from vitx.config.quoting import hydra_arguments
from vitx.config.recipes import Recipe, recipes
from vitx.config.resolve import resolve
from vitx.config.schema import Scale, ScheduleKind, TrainConfig
from vitx.config.screening import screen
from vitx.config.settings import schema_of
from vitx.config.smoke import BATCH, EPOCHS, STEPS_PER_EPOCH
from vitx.config.store import compose
from vitx.config.words import split

NAMES = sorted(recipes())
XCIT = [
    f"xcit_{size}{patch}"
    for size in ("n12", "t12", "t24", "s12", "s24", "m24", "l24")
    for patch in ("", "_p8")
]


def configs(recipe: Recipe, scale: Scale) -> list[TrainConfig]:
    found = []
    for stage, words in stage_words(recipe, scale):
        parts = split(stage.verb, words)
        screen(stage.verb, parts)
        composed = compose(stage.verb, hydra_arguments(stage.verb, parts))
        found.append(resolve(composed, schema_of(stage.verb)))
    return found


@pytest.mark.parametrize("name", NAMES)
def test_every_recipe_composes_says_what_to_expect_and_where_from(name: str) -> None:
    recipe = recipes()[name]
    for config in configs(recipe, Scale.full):
        assert config.run_dir is not None
        assert f"recipes/{name}/" in config.run_dir
    assert recipe.expected is not None
    assert 50 < recipe.expected.top1 < 100
    assert recipe.expected.source
    assert recipe.expected.stage == recipe.stages[-1].name
    assert recipe.sources or name == "digits_xcit_n12"
    texts = (recipe.title, recipe.cost, recipe.expected.spread, *recipe.differences)
    assert not [text for text in texts if "{" in text or "[M]" in text]


def test_there_is_one_for_every_xcit_and_deit_plain_and_distilled() -> None:
    deit = {"deit_ti", "deit_s", "deit_b", "deit_b_384"}
    plain = {*XCIT, *deit, "deit3_s", "deit3_b"}
    distilled = {f"{name}_dist" for name in [*XCIT, *deit - {"deit_b_384"}]} | {"deit_b_dist_384"}
    assert plain | distilled <= {*NAMES}


@pytest.mark.parametrize("name", NAMES)
def test_a_rehearsal_keeps_the_meaning_of_every_setting(name: str) -> None:
    recipe = recipes()[name]
    pairs = zip(configs(recipe, Scale.full), configs(recipe, Scale.smoke), strict=True)
    for full, small in pairs:
        assert small.dataset.limit == STEPS_PER_EPOCH * BATCH
        assert small.epochs in (f"{EPOCHS}ep", f"{EPOCHS * STEPS_PER_EPOCH}st")
        peak = full.optimizer.peak_lr(full.batch_size)
        assert small.optimizer.peak_lr(small.batch_size) == pytest.approx(peak)
        for section in ("objective", "ema"):
            assert getattr(small, section) == getattr(full, section)
        for field in vars(full.augmentation):
            if field != "epoch_multiple":
                ours, theirs = (getattr(each.augmentation, field) for each in (small, full))
                assert ours == theirs, field
        for field in vars(full.optimizer):
            if field not in ("lr", "lr_batch"):
                ours, theirs = (getattr(each.optimizer, field) for each in (small, full))
                assert ours == theirs, field
        for field in ("kind", "per", "warmup_lr", "min_lr", "decay_from", "decay_rate"):
            assert getattr(small.schedule, field) == getattr(full.schedule, field), field
        for duration in (full.schedule.warmup, full.schedule.late):
            zero = duration.startswith("0")
            mine = (
                small.schedule.warmup if duration is full.schedule.warmup else small.schedule.late
            )
            assert mine.startswith("0") is zero
        assert full.schedule.kind is ScheduleKind.cosine
        for field in vars(full.model):
            if field != "weights":
                assert getattr(small.model, field) == getattr(full.model, field), field
    sizes = [each.image_px for each in configs(recipe, Scale.full)]
    rehearsed = [each.image_px for each in configs(recipe, Scale.smoke)]
    assert all(px <= 128 for px in rehearsed)
    if max(sizes) == 384 and min(sizes) == 224:
        assert max(rehearsed) > min(rehearsed)


def rehearse(name: str, folder: Path, monkeypatch, capfd, *, stages: int = 1) -> str:
    monkeypatch.setenv("VITX_RUNS", str(folder))
    assert main(["recipe", "run", name, "scale=smoke"]) == 0
    said: str = capfd.readouterr().out
    runs = sorted((folder / "recipes" / f"{name}-smoke").iterdir())
    assert len(runs) == stages
    for run in runs:
        rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
        assert rows[-1]["step"] == EPOCHS * STEPS_PER_EPOCH
        assert all(math.isfinite(row["train/loss"]) for row in rows if "train/loss" in row)
        assert math.isfinite(json.loads((run / "result.json").read_text())["loss"])
    return said


def test_a_rehearsal_ends_in_a_table(tmp_path: Path, monkeypatch, capfd) -> None:
    said = rehearse("deit_ti", tmp_path, monkeypatch, capfd)
    stage, ours, *interval, published, difference = said.splitlines()[-2].split()
    assert (stage, published, difference) == ("train", "72.20", "-")
    result = json.loads((tmp_path / "recipes/deit_ti-smoke/train/result.json").read_text())
    assert float(ours) == pytest.approx(result["model"]["top1"], abs=0.005)
    assert "a rehearsal" in said.splitlines()[-1]
    # What is done is not done again.
    assert main(["recipe", "run", "deit_ti", "scale=smoke"]) == 0
    assert "is finished" in capfd.readouterr().out


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", [name for name in NAMES if name != "deit_ti"])
def test_every_recipe_rehearses(name: str, tmp_path: Path, monkeypatch, capfd) -> None:
    rehearse(name, tmp_path, monkeypatch, capfd, stages=len(recipes()[name].stages))


def test_a_full_run_says_how_far_it_is_from_what_was_published(
    tmp_path: Path, monkeypatch, capfd
) -> None:
    monkeypatch.setenv("VITX_RUNS", str(tmp_path))
    assert main(["recipe", "run", "digits_xcit_n12", "epochs=1", "dataset.limit=64"]) == 0
    table = capfd.readouterr().out.splitlines()[-2]
    result = json.loads((tmp_path / "recipes/digits_xcit_n12/train/result.json").read_text())
    ours = result["model"]["top1"]
    assert table.split()[-2:] == ["99.44", f"{ours - 99.44:+.2f}"]


def test_a_failing_stage_ends_the_recipe_with_its_code(tmp_path: Path, monkeypatch, capfd) -> None:
    monkeypatch.setenv("VITX_RUNS", str(tmp_path))
    words = ["recipe", "run", "digits_xcit_n12", "dataset=folder", f"dataset.path={tmp_path}"]
    assert main(words) == 3
    assert "published" not in capfd.readouterr().out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "action is needed; type vitx recipe ACTION"),
        (["shwo"], "action=shwo: no such choice; did you mean 'show'?"),
        (["show"], "name is needed; type vitx recipe show NAME"),
        (["show", "deit_x"], "no recipe 'deit_x'; did you mean 'deit_"),
        (["run", "deit_s", "scale=tiny"], "scale=tiny: no such choice"),
        (["run", "deit_s", "epochz=3"], "epochz: no such setting; did you mean 'epochs'?"),
    ],
)
def test_mistakes(words: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["recipe", *words]) == 2
    assert message in capsys.readouterr().err


def test_show_has_commands_number_and_sources(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["recipe", "show", "deit_b_384"]) == 0
    text = capsys.readouterr().out
    assert "  vitx train experiment=deit model=deit_b run_dir=runs/recipes/deit_b_384/train" in text
    assert "model.weights=runs/recipes/deit_b_384/train" in text
    assert "82.9 % top-1 of stage finetune" in text
    assert "the paper says 25" in text


def test_list_has_every_recipe(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["recipe", "list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[: lines.index("")]] == list(recipes())


def test_numbers_that_the_catalogue_holds_more_than_once() -> None:
    expected = recipes()["vit_b16_384"].expected
    assert expected is not None
    assert expected.top1 == 84.53
    assert "fine-tuned again from the original" in expected.conditions
