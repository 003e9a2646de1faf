"""`vitx eval` on changed pictures, with averaged weights, with several runs, by frozen features."""

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from safetensors.torch import load_file
from sklearn.neighbors import KNeighborsClassifier
from torch import nn

from tests.train.tiny import CLASSES, LOADERS_FORK, TINY, checkpoint, evaluate, read, train
from vitx.errors import DataError, UsageError, VitxError
from vitx.evaluate.stored import load
from vitx.runs import RunDir
from vitx.runtime.torchvision_ops import declare_missing_ops

pytestmark = LOADERS_FORK

TOLD = ("index", "label", "prediction", "correct", "rank", "loss")


@pytest.fixture(scope="module")
def runs(pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("runs")
    words = (*TINY, f"dataset.path={pictures}", "checkpoint.every=3st", "checkpoint.keep=9")
    for seed in (0, 1):
        train(*words, f"seed={seed}", f"run_dir={folder / str(seed)}")
    return [folder / "0", folder / "1"]


@pytest.fixture(scope="module")
def model() -> nn.Module:
    """The architecture of the runs, made by timm alone."""
    declare_missing_ops()
    import timm

    size = {"img_size": 16, "patch_size": 8, "embed_dim": 24, "depth": 2, "num_heads": 3}
    return timm.create_model("vit_tiny_patch16_224", num_classes=3, **size).eval()


def seen(pictures: Path, split: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Pictures as a model is shown them, by Pillow alone, and their labels."""
    shown, labels = [], []
    for label, name in enumerate(CLASSES):
        for file in sorted((pictures / split / name).iterdir()):
            image = Image.open(file).resize((16, 16), Image.Resampling.BICUBIC)
            pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1)
            shown.append((pixels / 255 - 0.5) / 0.5)
            labels.append(label)
    return torch.stack(shown), torch.tensor(labels)


def table(run: Path, name: str) -> dict[str, list]:
    return pq.read_table(run / f"eval/{name}.parquet").to_pydict()


def test_what_is_kept_of_each_sample_gives_every_number(runs: list[Path]) -> None:
    evaluate(f"run={runs[0]}", "workers=0")
    found, samples = read(runs[0] / "eval/val.json"), table(runs[0], "val")

    assert samples["index"] == list(range(21))
    assert samples["name"][0] == "ape/00.png"
    assert found["top1"] == pytest.approx(100 * np.mean(samples["correct"]))
    assert samples["correct"] == [rank == 0 for rank in samples["rank"]]
    assert found["top5"] == pytest.approx(100 * np.mean(np.array(samples["rank"]) < 5))
    assert found["loss"] == pytest.approx(np.mean(samples["loss"]), rel=1e-14)
    assert found["brier"] == pytest.approx(np.mean(samples["brier"]), rel=1e-14)
    assert [each["count"] for each in found["per_class"]] == [7, 7, 7]
    for name in ("top1", "top5", "loss", "brier", "mean_per_class", "ece", "signed_ece"):
        low, high = found[f"{name}_interval"]
        assert low <= found[name] <= high, name


@pytest.mark.parametrize("words", [("batch_size=1",), ("workers=2",), ("devices=3",)])
def test_a_number_depends_on_neither_batch_nor_loaders_nor_ranks(
    words: tuple[str, ...], runs: list[Path]
) -> None:
    one = ("corruptions=[gaussian_noise]", "severities=[3]", "suite=[corrupted]")
    evaluate(f"run={runs[0]}", "workers=0", "batch_size=4", *one)
    before, digest = table(runs[0], "corrupted"), read(runs[0] / "eval/corrupted.json")["samples"]
    evaluate(f"run={runs[0]}", "workers=0", *({"batch_size=4"} - {*words}), *one, *words)

    after = table(runs[0], "corrupted")
    for name in TOLD[:-1]:
        assert after[name] == before[name], name
    assert after["loss"] == pytest.approx(before["loss"], rel=1e-5)
    if words != ("batch_size=1",):
        assert after == before
    assert read(runs[0] / "eval/corrupted.json")["samples"] == digest


def test_every_corruption_and_severity(runs: list[Path]) -> None:
    evaluate(f"run={runs[0]}", "workers=0", "suite=[corrupted]")
    found = read(runs[0] / "eval/corrupted.json")
    assert len(found["parts"]) == 75
    assert len(table(runs[0], "corrupted")["index"]) == 75 * 21
    tops = [part["top1"] for part in found["parts"]]
    assert found["top1"] == pytest.approx(np.mean(tops))
    assert found["corruptions"]["accuracy"]["value"] == pytest.approx(np.mean(tops))
    assert found["corruptions"]["mce"] is None  # AlexNet never saw these classes
    assert {part["severity"] for part in found["parts"]} == {1, 2, 3, 4, 5}


def test_results_of_several_parts_are_not_compared(runs: list[Path]) -> None:
    for run in runs:
        evaluate(f"run={run}", "workers=0", "suite=[resolution]")
    with pytest.raises(UsageError, match="suite=resolution: 4 results on the same pictures"):
        load(RunDir(runs[0]), "resolution")


def test_at_other_sizes_the_own_one_is_as_it_was(runs: list[Path]) -> None:
    evaluate(f"run={runs[0]}", "workers=0", "suite=[val,resolution]")
    parts = {part["image_px"]: part for part in read(runs[0] / "eval/resolution.json")["parts"]}
    assert sorted(parts) == [8, 16, 24, 32]
    assert parts[16]["loss"] == read(runs[0] / "eval/val.json")["loss"]


def test_the_mean_of_weights_is_that_of_their_files(
    runs: list[Path], model: nn.Module, pictures: Path
) -> None:
    evaluate(f"run={runs[0]}", "workers=0", "average=3")
    found = read(runs[0] / "eval/val-average3.json")
    assert found["members"][0]["steps"] == [6, 9, 12]

    files = [load_file(checkpoint(runs[0], n) / "model.safetensors") for n in (6, 9, 12)]
    mean = {name: torch.stack([each[name].double() for each in files]).mean(0) for name in files[0]}
    model.load_state_dict({name: value.float() for name, value in mean.items()})
    images, labels = seen(pictures, "val")
    with torch.no_grad():
        expected = F.cross_entropy(model(images), labels).item()
    assert found["loss"] == pytest.approx(expected, rel=1e-5)


def test_an_ensemble_says_the_mean_of_the_probabilities(runs: list[Path]) -> None:
    for run in runs:
        evaluate(f"run={run}", "workers=0")
    evaluate(f"run={runs[0]}", f"also=[{runs[1]}]", "workers=0")

    single = [np.exp(-np.array(table(run, "val")["loss"])) for run in runs]
    together = table(runs[0], "val-ensemble2")
    assert np.exp(-np.array(together["loss"])) == pytest.approx(np.mean(single, axis=0), rel=1e-5)


@torch.no_grad()
def features_of(model: nn.Module, images: torch.Tensor) -> np.ndarray:
    return model.forward_head(model.forward_features(images), pre_logits=True).numpy()


def test_neighbours_are_those_of_scikit_learn(
    runs: list[Path], model: nn.Module, pictures: Path
) -> None:
    evaluate(f"run={runs[0]}", "workers=0", "protocol=knn", "probe.k=[1,5]")
    evaluate(f"run={runs[0]}", "workers=0", "protocol=knn", "probe.k=[1,5]")  # of what is stored
    model.load_state_dict(load_file(checkpoint(runs[0], 12) / "model.safetensors"))
    (bank, labels), (asked, truth) = (
        (features_of(model, images), labels.numpy())
        for images, labels in (seen(pictures, split) for split in ("train", "val"))
    )
    for k in (1, 5):
        plain = KNeighborsClassifier(
            k, metric="cosine", weights=lambda d: np.exp((1 - d) / 0.07), algorithm="brute"
        ).fit(bank, labels)
        assert table(runs[0], f"val-knn{k}")["prediction"] == plain.predict(asked).tolist()
        top1 = read(runs[0] / f"eval/val-knn{k}.json")["top1"]
        assert top1 == pytest.approx(100 * plain.score(asked, truth))


@pytest.mark.parametrize("protocol", ["logistic", "sgd", "few_shot"])
def test_probes_of_frozen_features(protocol: str, runs: list[Path]) -> None:
    evaluate(
        f"run={runs[0]}", "workers=0", f"protocol={protocol}", "probe.epochs=5", "probe.shots=[3]"
    )
    name = "val-3shot" if protocol == "few_shot" else f"val-{protocol}"
    found = read(runs[0] / f"eval/{name}.json")
    assert found["top1"] > 50
    assert ("loss" in found) == (protocol != "few_shot")
    if protocol == "few_shot":
        assert [part["seed"] for part in found["parts"]] == [0, 1, 2]


@pytest.mark.parametrize(
    ("words", "kind", "says"),
    [
        (("suite=[vla]",), UsageError, "suite=vla: no such suite; did you mean 'val'"),
        (("suite=[real]",), DataError, "expected the 1000 classes of ImageNet"),
        (("suite=[corrupted]", "corruptions=[fogg]"), UsageError, "did you mean 'fog'"),
        (("suite=[corrupted]", "severities=[6]"), UsageError, "severities=6: expected 1"),
        (("suite=[resolution]", "resolutions=[20]"), UsageError, "does not take pictures of 20"),
        (("average=9",), UsageError, "has 4 checkpoints up to step 12"),
        (("protocol=knn", "average=2"), UsageError, "of one checkpoint"),
        (("protocol=knn", "devices=2"), UsageError, "type devices=1"),
        (("protocol=knn", "probe.token=class", "probe.block=7"), UsageError, "block"),
        (("suite=[]",), UsageError, "expected one name at least"),
    ],
)
def test_what_is_refused(
    words: tuple[str, ...], kind: type[VitxError], says: str, runs: list[Path]
) -> None:
    before = sorted((runs[0] / "eval").glob("*"))
    with pytest.raises(kind, match=says):
        evaluate(f"run={runs[0]}", "workers=0", *words)
    assert sorted((runs[0] / "eval").glob("*")) == before
