"""What a student can be, what it learns besides, and where a teacher can come from."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.commands.distilling import distil, planned
from tests.train.tiny import LOADERS_FORK, TINY, evaluate, newest, read, rows, total, train
from vitx.cli import main
from vitx.errors import Preempted, UsageError
from vitx.models.of_run import picture_format

pytestmark = [*LOADERS_FORK, pytest.mark.usefixtures("own_runs")]

WITH_TOKEN = "model.variant.distillation_token=true"  # noqa: S105 (of a transformer)
HEADS = ("mean_logits", "mean_softmax", "class_head", "distill_head")


def test_each_head_and_fusion_is_told_apart(words: tuple[str, ...], tmp_path: Path) -> None:
    words = (*words, WITH_TOKEN, "epochs=3ep", "model.drop_path=0", "optimizer.lr=1e-3")
    distil(*words, f"run_dir={tmp_path / 'run'}")
    result = read(tmp_path / "run/result.json")
    assert tuple(result["heads"]) == HEADS
    assert result["heads"]["mean_logits"]["loss"] == result["loss"]
    assert len({each["loss"] for each in result["heads"].values()}) == len(HEADS)
    assert set(result["model"]["heads"]) == set(result["ema"]["heads"])
    row = rows(tmp_path / "run")[-1]
    for head in HEADS:
        assert row[f"val_ema/{head}/top1"] == result["heads"][head]["top1"]

    for head in HEADS:
        evaluate(f"run={tmp_path / 'run'}", f"head={head}")
        scored = read(tmp_path / f"run/eval/val-{head}.json")
        assert scored["head"] == head
        for name in ("top1", "top5", "loss", "count"):
            assert scored[name] == result["heads"][head][name]


def test_the_head_that_counts_can_be_chosen(words: tuple[str, ...], tmp_path: Path) -> None:
    chosen = (*words, WITH_TOKEN, "epochs=1ep", "evaluation.head=class_head")
    distil(*chosen, f"run_dir={tmp_path / 'run'}")
    result = read(tmp_path / "run/result.json")
    assert result["loss"] == result["heads"]["class_head"]["loss"]
    assert result["loss"] != result["heads"]["mean_logits"]["loss"]
    with pytest.raises(Preempted):
        distil(*chosen, "epochs=2ep", "stop_at=7st", f"run_dir={tmp_path / 'parts'}")
    distil(f"resume={tmp_path / 'parts'}")
    assert "heads" in read(tmp_path / "parts/result.json")


def test_a_run_that_was_trained_plainly_is_distilled_further(
    words: tuple[str, ...], tmp_path: Path
) -> None:
    plain = tuple(word for word in words if not word.startswith("teacher"))
    train(*plain, "epochs=1ep", f"run_dir={tmp_path / 'plain'}")
    start = f"model.weights={tmp_path / 'plain'}"
    distil(*words, start, "epochs=1st", f"run_dir={tmp_path / 'single'}")
    assert read(tmp_path / "single/run.json")["weights"]["loaded"] > 0

    still = ("optimizer.lr=1e-30", "schedule.min_lr=0", "ema.decay=null")
    distil(*words, start, WITH_TOKEN, *still, "epochs=1st", f"run_dir={tmp_path / 'token'}")
    before = load_file(newest(tmp_path / "plain") / "ema.safetensors")
    after = load_file(newest(tmp_path / "token") / "model.safetensors")
    assert torch.equal(after["dist_token"], before["cls_token"])
    assert torch.equal(after["head_dist.weight"], before["head.weight"])
    assert torch.equal(after["pos_embed"][:, 0], before["pos_embed"][:, 0])
    assert torch.equal(after["pos_embed"][:, 1:], before["pos_embed"])
    assert "a copy of the class token" in (tmp_path / "token/log.txt").read_text()


FEATURES = "distillation.features={blocks.0: layer2, blocks.1: layer4}"


def test_features_are_matched_saved_and_resumed(words: tuple[str, ...], tmp_path: Path) -> None:
    distil(*words, FEATURES, f"run_dir={tmp_path / 'whole'}")
    with pytest.raises(Preempted):
        distil(*words, FEATURES, "stop_at=5st", f"run_dir={tmp_path / 'parts'}")
    distil(f"resume={tmp_path / 'parts'}")
    assert total(tmp_path / "parts") == total(tmp_path / "whole")

    losses = [row["train/feature_loss"] for row in rows(tmp_path / "whole")]
    assert losses[-1] < losses[0]
    helper = load_file(newest(tmp_path / "whole") / "helper.safetensors")
    assert {name: tuple(each.shape) for name, each in helper.items()} == {
        "projections.0.weight": (128, 24),
        "projections.0.bias": (128,),
        "projections.1.weight": (512, 24),
        "projections.1.bias": (512,),
    }
    # The student itself is a plain model that anybody can load.
    evaluate(f"run={tmp_path / 'whole'}")
    assert (
        read(tmp_path / "whole/eval/val.json")["loss"]
        == read(tmp_path / "whole/result.json")["loss"]
    )


def test_a_block_that_is_not_there_is_named(words: tuple[str, ...], tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="the teacher has no block named 'layer9'"):
        distil(*words, "distillation.features={blocks.0: layer9}", f"run_dir={tmp_path / 'run'}")
    assert not (tmp_path / "run").exists()


def test_blocks_are_looked_at_before_the_teacher_is_trained(pictures: Path, tmp_path: Path) -> None:
    untrained = ("teacher=timm", "teacher.name=resnet10t", f"dataset.path={pictures}")
    for pair, told in (
        ("blocks.7: layer1", "the student has no block named 'blocks.7'"),
        ("blocks.0.attn.attn_drop: layer1", "is not called in a pass"),
    ):
        with pytest.raises(UsageError, match=told):
            distil(*TINY, *untrained, f"distillation.features={{{pair}}}", "epochs=1st")
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("value", ["null", "[null]", "[resnet18]", "[{nmae: resnet18}]"])
def test_further_teachers_that_are_none(value: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["distill", f"teacher.also={value}"]) == 2
    said = capsys.readouterr().err
    assert "teacher.also" in said or "nmae: no such setting" in said
    assert "bug" not in said


def test_one_head_is_not_chosen_from(words: tuple[str, ...], tmp_path: Path) -> None:
    distil(*words, "epochs=1st", f"run_dir={tmp_path / 'run'}")
    with pytest.raises(UsageError, match="head=class_head: this model has one head"):
        evaluate(f"run={tmp_path / 'run'}", "head=class_head")


def repository(teacher: Path, **card: object) -> dict[str, bytes]:
    files = {
        "config.json": json.dumps(card).encode(),
        "model.safetensors": (newest(teacher) / "model.safetensors").read_bytes(),
    }
    return {f"/org/name/resolve/main/{name}": content for name, content in files.items()}


CARD = {
    "architecture": "resnet10t",
    "num_classes": 3,
    "pretrained_cfg": {"mean": [0.1, 0.2, 0.3], "std": [0.5, 0.5, 0.4], "input_size": [3, 40, 40]},
}
HUB = ("teacher=run", "teacher.weights=hf-hub:org/name")


def test_a_repository_says_what_it_holds(
    words: tuple[str, ...], teacher: Path, tmp_path: Path, hub
) -> None:
    hub(repository(teacher, **CARD, label_names=["ape", "bee", "cow"]))
    plan = planned(*words, *HUB)
    assert plan.config.model.name == "resnet10t"
    picture = picture_format(plan.config)
    assert (picture.image_px, picture.mean, picture.std) == (40, (0.1, 0.2, 0.3), (0.5, 0.5, 0.4))
    distil(*words, *HUB, "epochs=1st", f"run_dir={tmp_path / 'run'}")
    assert read(tmp_path / "run/run.json")["teachers"][0]["origin"] == "hf-hub:org/name"


def test_what_a_repository_says_of_its_patches_is_taken(
    words: tuple[str, ...], teacher: Path, hub
) -> None:
    own = {"patch_size": 8, "img_size": 32, "num_classes": 3, "depth": 2}
    card = {**CARD, "architecture": "vit_tiny_patch16_224", "model_args": own}
    hub(repository(teacher, **card))
    model = planned(*words, *HUB).config.model
    assert (model.name, model.patch_px, model.args) == ("vit_tiny_patch16_224", 8, {"depth": 2})


def test_a_repository_of_another_order(words: tuple[str, ...], teacher: Path, hub) -> None:
    hub(repository(teacher, **CARD, label_names=["cow", "bee", "ape"]))
    with pytest.raises(UsageError, match="another order: class 0 is 'cow', in the dataset 'ape'"):
        planned(*words, *HUB)


def test_a_repository_of_other_classes(words: tuple[str, ...], teacher: Path, hub) -> None:
    hub(repository(teacher, **{**CARD, "num_classes": 7}))
    plan = planned(*words, *HUB)
    assert plan.file is None
    assert "is for 7 classes, the dataset has 3; it begins from hf-hub:org/name" in plan.why


def test_a_repository_without_a_word_needs_a_name(
    words: tuple[str, ...], teacher: Path, hub
) -> None:
    hub({name: each for name, each in repository(teacher).items() if "config" not in name})
    with pytest.raises(UsageError, match=r"teacher.name is needed: hf-hub:org/name does not say"):
        planned(*words, *HUB)
    assert planned(*words, *HUB, "teacher.name=resnet10t").file is not None


def test_a_weight_file_teaches_too(words: tuple[str, ...], teacher: Path, tmp_path: Path) -> None:
    file = tmp_path / "own.safetensors"
    save_file(load_file(newest(teacher) / "model.safetensors"), file)
    of_file = ("teacher=run", f"teacher.weights={file}", "teacher.name=resnet10t")
    distil(*words, *of_file, "epochs=1st", f"run_dir={tmp_path / 'run'}")
    headless = {name: each for name, each in load_file(file).items() if not name.startswith("fc.")}
    save_file(headless, file)
    with pytest.raises(UsageError, match="a teacher needs its head; the file has none"):
        distil(*words, *of_file, "epochs=1st", f"run_dir={tmp_path / 'other'}")
