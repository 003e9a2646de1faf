"""Stored features: computed once, never trusted unseen, the same however they came to be."""

from __future__ import annotations

import io
import json
import os
import shutil
import signal
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from vitx.config.schema import AugmentationConfig, Crop, ModelConfig, Precision, Token
from vitx.data.augment import PictureFormat, build_eval_transform
from vitx.data.images import LabelledImages
from vitx.data.samples import BadImagePolicy, Decoder, EvalSamples
from vitx.errors import DataError
from vitx.evaluate import feature_store
from vitx.evaluate.extraction import Extractor
from vitx.evaluate.feature_store import FeatureStore, identity
from vitx.evaluate.features import FeatureChoice, features
from vitx.evaluate.loop import EvaluationStopped
from vitx.models.build import Fit, build_model

ROWS, D, PX = 600, 24, 8
PICTURES = PictureFormat(image_px=PX, mean=(0.5,), std=(0.25,))


class Said(list[str]):
    def __call__(self, text: str) -> None:
        self.append(text)


@pytest.fixture(autouse=True)
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feature_store, "_SHARD_BYTES", 1)  # 256 rows, the fewest


@pytest.fixture(scope="module")
def model() -> nn.Module:
    torch.manual_seed(0)
    config = ModelConfig(
        name="vit_tiny_patch16_224",
        patch_px=4,
        args={"embed_dim": D, "num_heads": 2, "depth": 2},
    )
    return build_model(config, Fit(num_classes=3, channels=1, image_px=PX))


def split(bad: set[int] = frozenset()) -> LabelledImages:
    generator, files = np.random.default_rng(0), []
    for row in range(ROWS):
        file = io.BytesIO()
        Image.fromarray(generator.integers(0, 256, (PX, PX), np.uint8)).save(file, "PNG")
        files.append(b"no picture" if row in bad else file.getvalue())
    data = datasets.Dataset.from_dict(
        {"image": [{"bytes": file, "path": None} for file in files]},
        features=datasets.Features({"image": datasets.Image()}),
    )
    return LabelledImages(name="val", data=data, image_column="image", labels=np.zeros(ROWS, int))


SPLIT = split()


def samples(images: LabelledImages = SPLIT) -> EvalSamples:
    augmentation = AugmentationConfig(crop=Crop.resize, eval_crop_ratio=1.0)
    decoder = Decoder(images=images, channels=1, max_pixels=100)
    return EvalSamples(decoder, build_eval_transform(augmentation, PICTURES))


def policy(images: LabelledImages = SPLIT, limit: int | None = None) -> BadImagePolicy:
    return BadImagePolicy(images=images, skip=limit is not None, limit=limit or 0)


def store(folder: Path, say: Said | None = None, **more: Any) -> FeatureStore:
    how: dict[str, Any] = {"rows": ROWS, "width": D} | more
    heard = Said() if say is None else say
    return FeatureStore(folder, {"weights": how.pop("weights", "a")}, say=heard, **how)


def extractor(model: nn.Module, batch_size: int = 50, **more: Any) -> Extractor:
    how: dict[str, Any] = {"workers": 0, "device": torch.device("cpu")} | more
    return Extractor(model, FeatureChoice(token=Token.mean_patch), batch_size=batch_size, **how)


def shards(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*.safetensors"))


class Counting:
    """Asked before each batch: how many were there, and is it time to stop."""

    def __init__(self, last: int | None = None) -> None:
        self.batches, self.last = 0, last

    def __call__(self) -> bool:
        self.batches += 1
        return self.batches == self.last


def test_features_are_those_of_the_pictures_and_computed_once(
    model: nn.Module, tmp_path: Path
) -> None:
    model.train()
    count = Counting()
    held = extractor(model).fill(store(tmp_path), samples(), bad_images=policy(), stop=count)
    assert model.training
    assert held.present.all()
    assert held.missing == []
    assert count.batches == 6 + 6 + 2  # batches of 50 in shards of 256, 256 and 88 rows
    with torch.no_grad():
        every = torch.stack([samples()[row].image for row in range(ROWS)])
        expected = features(model.eval(), every, FeatureChoice(token=Token.mean_patch))
    torch.testing.assert_close(held.features, expected, rtol=1e-5, atol=1e-6)

    again = Counting()
    stored = extractor(model).fill(store(tmp_path), samples(), bad_images=policy(), stop=again)
    assert again.batches == 0
    assert torch.equal(stored.features, held.features)


@pytest.mark.parametrize(("batch_size", "workers"), [(11, 0), (256, 0), (1000, 0), (64, 1)])
def test_batches_and_loaders_hardly_matter(
    batch_size: int, workers: int, model: nn.Module, tmp_path: Path
) -> None:
    first = extractor(model).fill(store(tmp_path / "a"), samples(), bad_images=policy())
    other = extractor(model, batch_size, workers=workers)
    found = other.fill(store(tmp_path / "b"), samples(), bad_images=policy())
    torch.testing.assert_close(found.features, first.features, rtol=1e-5, atol=1e-6)


def test_a_computation_that_is_stopped_goes_on_behind_its_last_shard(
    model: nn.Module, tmp_path: Path
) -> None:
    whole = extractor(model).fill(store(tmp_path / "whole"), samples(), bad_images=policy())
    with pytest.raises(EvaluationStopped):
        extractor(model).fill(
            store(tmp_path / "cut"), samples(), bad_images=policy(), stop=Counting(last=9)
        )
    assert len(shards(tmp_path / "cut")) == 1
    rest = Counting()
    found = extractor(model).fill(
        store(tmp_path / "cut"), samples(), bad_images=policy(), stop=rest
    )
    assert rest.batches == 6 + 2
    assert torch.equal(found.features, whole.features)


def test_a_process_that_is_killed_leaves_whole_shards_only(tmp_path: Path) -> None:
    program = f"""
        import torch, pathlib
        from vitx.evaluate import feature_store
        feature_store._SHARD_BYTES = 1
        store = feature_store.FeatureStore(
            pathlib.Path({str(tmp_path)!r}), {{"weights": "a"}}, rows={ROWS}, width={D}, say=print
        )
        print("ready", flush=True)
        while True:
            for part in store.read().missing:
                store.write(part, torch.full((len(part), {D}), 7.0), torch.ones(len(part)).bool())
            for path in store.folder.glob("*.safetensors"):
                path.unlink()
        """
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(program)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    for _ in range(20):
        said = Said()
        held = store(tmp_path, said).read()
        assert said == []  # what is there is whole
        assert set(held.features[held.present].unique().tolist()) <= {7.0}
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    process.stdout.close()
    said = Said()
    store(tmp_path, said).read()
    assert said == []


def test_pictures_that_can_not_be_decoded_have_no_features(
    model: nn.Module, tmp_path: Path
) -> None:
    bad = {0, 255, 256, 599}
    images = split(bad)
    first = Counting()
    held = extractor(model).fill(
        store(tmp_path), samples(images), bad_images=policy(images, 4), stop=first
    )
    assert set(range(ROWS)) - set(held.rows.tolist()) == bad
    # What is stored counts as what is met.
    held = extractor(model).fill(store(tmp_path), samples(images), bad_images=policy(images, 4))
    assert len(held.rows) == ROWS - 4
    with pytest.raises(DataError, match="4 pictures of val can't be decoded, more than the 3"):
        extractor(model).fill(store(tmp_path), samples(images), bad_images=policy(images, 3))
    with pytest.raises(DataError, match="as when its features were stored"):
        extractor(model).fill(store(tmp_path), samples(images), bad_images=policy(images))
    with pytest.raises(DataError, match="more than the 3"):
        extractor(model).fill(
            store(tmp_path / "new"), samples(images), bad_images=policy(images, 3)
        )


def filled(folder: Path, say: Said | None = None, **more: Any) -> FeatureStore:
    own = store(folder, say, **more)
    for part in own.read().missing:
        own.write(part, drawn(part, own.dtype), torch.ones(len(part), dtype=torch.bool))
    return own


def drawn(part: range, dtype: torch.dtype = torch.float32) -> Tensor:
    generator = torch.Generator().manual_seed(part.start)
    return torch.randn(len(part), D, generator=generator).to(dtype)


def _flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-400] ^= 1
    path.write_bytes(content)


def _truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-10])


def _empty(path: Path) -> None:
    path.write_bytes(b"")


def _of_other_rows(path: Path) -> None:
    shutil.copy(shards(path.parent)[0], path)


def _of_another(path: Path) -> None:
    shutil.copy(filled(path.parents[1], weights="b").folder / path.name, path)


def _of_other_shape(path: Path) -> None:
    save_file({**load_file(path), "features": torch.zeros(3, D)}, path)


@pytest.mark.parametrize(
    "spoil", [_flip, _truncate, _empty, _of_other_rows, _of_another, _of_other_shape]
)
def test_a_shard_that_can_not_be_trusted_is_named_and_made_again(
    spoil: Any, tmp_path: Path
) -> None:
    own = filled(tmp_path)
    whole = own.read().features
    path = shards(own.folder)[1]
    spoil(path)
    said = Said()
    again = store(tmp_path, said)
    held = again.read()
    assert held.missing == [range(256, 512)]
    assert not held.present[256:512].any() and held.present.sum() == ROWS - 256
    assert again.missing_bytes(held) == 256 * (4 * D + 1)
    (line,) = said
    assert str(path) in line and "its features are computed again" in line
    filled(tmp_path)
    assert torch.equal(store(tmp_path, said).read().features, whole)
    assert len(said) == 1


def test_what_is_there_stays(tmp_path: Path) -> None:
    own = store(tmp_path)
    part = own.read().missing[0]
    filled(tmp_path)  # somebody else was faster
    kept, present = own.write(part, torch.zeros(256, D), torch.zeros(256, dtype=torch.bool))
    assert torch.equal(kept, drawn(part))
    assert present.all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_features_are_stored_in_half(dtype: torch.dtype, tmp_path: Path) -> None:
    held = filled(tmp_path, dtype=dtype).read()
    assert held.features.dtype is dtype
    assert torch.equal(held.features[:256], drawn(range(256)).to(dtype))
    assert store(tmp_path).read().missing  # another store


def test_a_full_disk_is_told_of_once_and_ends_nothing(
    model: nn.Module, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(feature_store, "write_shard", full)
    said = Said()
    held = extractor(model).fill(store(tmp_path, said), samples(), bad_images=policy())
    assert held.present.all() and held.features.abs().sum(1).min() > 0
    (line,) = said
    assert "features are not stored any more" in line and "the disk is full" in line


def test_a_rehearsal_writes_nothing(tmp_path: Path) -> None:
    filled(tmp_path, read_only=True)
    assert not [*tmp_path.iterdir()]


def test_everything_that_decides_a_feature_is_in_its_identity(tmp_path: Path) -> None:
    plain: dict[str, Any] = {
        "weights_sha256": "0",
        "model": {"name": "vit"},
        "pictures": PICTURES,
        "crop": {"ratio": 0.9},
        "dataset": {"fingerprint": "f", "split": "val"},
        "choice": FeatureChoice(),
        "precision": Precision.fp32,
        "device": "cpu",
    }
    others: dict[str, Any] = {
        "weights_sha256": "1",
        "model": {"name": "deit"},
        "pictures": PictureFormat(image_px=9, mean=(0.5,), std=(0.25,)),
        "crop": {"ratio": 1.0},
        "dataset": {"fingerprint": "f", "split": "train"},
        "choice": FeatureChoice(token=Token.mean_patch, block=-1),
        "precision": Precision.bf16,
        "device": "cuda",
    }

    def folder(**what: Any) -> Path:
        return FeatureStore(tmp_path, identity(**what), rows=5, width=D, say=Said()).folder

    assert folder(**plain) == folder(**plain)
    every = {folder(**(plain | {name: other})) for name, other in others.items()}
    assert len(every | {folder(**plain)}) == len(others) + 1
    told = json.loads((filled(tmp_path).folder / "identity.json").read_text())
    assert told["weights"] == "a" and told["stored"] == "float32"
