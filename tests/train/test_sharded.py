"""A model in parts trains as a whole one does, and leaves the same checkpoints."""

import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from tests.train.tiny import LOADERS_FORK, TINY, evaluate, newest, read, rows, train
from vitx.config.schema import ModelConfig
from vitx.errors import Preempted
from vitx.models.build import Fit, build_model
from vitx.train.sharded import repeated_blocks

pytestmark = LOADERS_FORK

MODELS = {
    "vit": (),
    "xcit": ("model=xcit_n12", "dataset.image_px=32", "+model.args.embed_dim=32"),
}


@pytest.mark.parametrize("model", [pytest.param("vit", marks=pytest.mark.slow), "xcit"])
def test_parted_as_whole(model: str, pictures: Path, tmp_path: Path) -> None:
    words = [word for word in TINY if not (MODELS[model] and word.startswith(("model=", "+model")))]
    words += [*MODELS[model], *(["+model.args.depth=2"] if MODELS[model] else [])]
    words += [f"dataset.path={pictures}", "augmentation=light", "batch_size=16"]
    words += ["ema.decay=0.9", "optimizer.clip_norm=1", "evaluation.batch_size=4"]
    words += ["runtime.micro_batch=4", "runtime.devices=2"]
    train(*words, f"run_dir={tmp_path / 'whole'}")
    parted = (*words, f"run_dir={tmp_path / 'parted'}", "runtime.strategy=fsdp")
    with pytest.raises(Preempted):
        train(*parted, "stop_at=2st")
    train(*parted)

    for name in ("train/loss", "train/grad_norm"):
        losses = [[row[name] for row in rows(tmp_path / each)] for each in ("parted", "whole")]
        assert losses[0] == pytest.approx(losses[1], rel=1e-4)
    for file in ("model", "ema", "optimizer"):
        ours, theirs = (
            load_file(newest(tmp_path / each) / f"{file}.safetensors")
            for each in ("parted", "whole")
        )
        assert ours.keys() == theirs.keys()
        for name, tensor in ours.items():
            torch.testing.assert_close(tensor, theirs[name], rtol=1e-3, atol=2e-5)
    evaluate(f"run={tmp_path / 'parted'}")  # by one process
    recorded, measured = (read(tmp_path / f"parted/{each}.json") for each in ("result", "eval/val"))
    assert recorded["ema"]["top1"] == measured["top1"]
    assert recorded["ema"]["loss"] == pytest.approx(measured["loss"], rel=1e-6)


def test_pictures_that_can_not_be_decoded_hold_nobody_up(pictures: Path, tmp_path: Path) -> None:
    bad = Path(shutil.copytree(pictures, tmp_path / "pictures"))
    damaged = sorted((bad / "val").glob("*/*"))[:4]  # the whole first batch, of 21 pictures in all
    for file in damaged:
        file.write_bytes(file.read_bytes()[:60])
    words = (*TINY, f"dataset.path={bad}", "dataset.bad_image=skip", "dataset.bad_image_limit=0.5")
    words = (*words, "evaluation.batch_size=4", "epochs=2st", "runtime.devices=2")
    for strategy in ("ddp", "fsdp"):
        train(*words, f"run_dir={tmp_path / strategy}", f"runtime.strategy={strategy}")

    whole, parted = (read(tmp_path / strategy / "result.json") for strategy in ("ddp", "fsdp"))
    assert (parted["count"], parted["skipped"]) == (17, 4)
    assert parted["top1"] == whole["top1"]


def test_a_run_goes_on_whole_or_parted(pictures: Path, tmp_path: Path) -> None:
    words = (*TINY, f"dataset.path={pictures}", "augmentation=none", f"run_dir={tmp_path / 'run'}")
    courses = (("2", "fsdp", 4), ("1", "ddp", 7), ("2", "fsdp", 9), ("2", "ddp", None))
    for devices, strategy, stop in courses:
        now = (*words, f"runtime.devices={devices}", f"runtime.strategy={strategy}")
        if stop is None:
            train(*now)
            continue
        with pytest.raises(Preempted):
            train(*now, f"stop_at={stop}st")
    train(*words[:-1], f"run_dir={tmp_path / 'whole'}")

    losses = [[row["train/loss"] for row in rows(tmp_path / each)] for each in ("run", "whole")]
    assert losses[0] == pytest.approx(losses[1], rel=1e-3)


@pytest.mark.parametrize(
    ("name", "count"),
    [
        ("vit_tiny_patch16_224", 12),
        ("xcit_nano_12_p16_224", 12),
        ("swin_tiny_patch4_window7_224", 4),
    ],
)
def test_blocks_are_found(name: str, count: int) -> None:
    with torch.device("meta"):
        model = build_model(ModelConfig(name=name), Fit(num_classes=3, channels=3, image_px=224))
    found = list(repeated_blocks(model))

    assert len(found) >= count
    inside = sum(each.numel() for block in found for each in block.parameters())
    assert inside > 0.8 * sum(each.numel() for each in model.parameters())
    names = {id(each) for block in found for each in block.modules()}
    assert len(names) == sum(len(list(block.modules())) for block in found)  # none inside another


def test_what_has_no_rows_is_one_block() -> None:
    assert list(repeated_blocks(nn.Sequential(nn.Linear(2, 2), nn.ReLU()))) == []
