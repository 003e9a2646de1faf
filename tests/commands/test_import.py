"""`vitx import` and `model.weights` as they are typed."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.train.tiny import TINY, newest, read, train, write_pictures
from vitx.cli import main
from vitx.config.schema import ModelConfig
from vitx.errors import StorageError
from vitx.models.build import Fit, build_model, normalisation
from vitx.models.origin import as_safetensors, download

SMALL = {"embed_dim": 24, "depth": 2, "num_heads": 3}


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("VITX_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_pictures(tmp_path_factory.mktemp("pictures"))


def vit(*, classes: int = 1000, px: int = 224) -> torch.nn.Module:
    config = ModelConfig(name="vit_tiny_patch16_224", patch_px=8, args=SMALL)
    return build_model(config, Fit(num_classes=classes, channels=3, image_px=px))


def test_a_published_file_is_turned_and_tried(tmp_path: Path, capsys) -> None:
    config = ModelConfig(name="xcit_nano_12_p16_224")
    fit = Fit(num_classes=1000, channels=3, image_px=224)
    state = build_model(config, fit).state_dict()
    wrapped = {f"module.{name}": tensor for name, tensor in state.items()}
    torch.save({"model": wrapped, "epoch": 3}, tmp_path / "xcit.pth")
    assert main(["import", str(tmp_path / "xcit.pth"), "model=xcit_n12"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith(f"{len(state)} tensors of part model, ")
    assert "prefixes removed: module." in lines
    assert "left out: (epoch)" in lines
    assert f"in xcit_nano_12_p16_224: {len(state)} tensors fit" in lines
    written = load_file(tmp_path / "xcit.safetensors")
    assert all(torch.equal(written[name], tensor) for name, tensor in state.items())


def test_what_does_not_fit_its_model_leaves_nothing(tmp_path: Path, capsys) -> None:
    torch.save(vit().state_dict(), tmp_path / "small.pth")
    assert main(["import", str(tmp_path / "small.pth"), "model=vit_ti16"]) == 4
    assert "weights of another model" in capsys.readouterr().err
    assert [file.name for file in tmp_path.iterdir()] == ["small.pth"]


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        ([], 2, "file is needed; type vitx import FILE"),
        ([""], 2, "file: expected the name of a file"),
        (["none.pth"], 4, "none.pth: no such file"),
        (["none.pth", "to=x.pth"], 2, "expected a name that ends in .safetensors"),
        (["none.pth", "prat=model"], 2, "did you mean 'part'?"),
    ],
)
def test_mistakes(words: list[str], code: int, message: str, capsys) -> None:
    assert main(["import", *words]) == code
    assert message in capsys.readouterr().err


def test_nothing_is_overwritten(tmp_path: Path, capsys) -> None:
    torch.save(vit().state_dict(), tmp_path / "a.pth")
    (tmp_path / "a.safetensors").write_text("mine")
    assert main(["import", str(tmp_path / "a.pth")]) == 4
    assert "is there already" in capsys.readouterr().err
    assert (tmp_path / "a.safetensors").read_text() == "mine"


def test_training_starts_from_a_foreign_file(tmp_path: Path, pictures: Path, capsys) -> None:
    source = vit(classes=1000, px=32)
    torch.save({"model": source.state_dict()}, tmp_path / "source.pth")
    words = (*TINY, f"dataset.path={pictures}", "epochs=1st", "optimizer.lr=0")
    words = (*words, "schedule.min_lr=0", "schedule.warmup_lr=0")
    file = tmp_path / "source.pth"
    train(*words, f"run_dir={tmp_path / 'run'}", f"model.weights={file}")
    said = capsys.readouterr().out
    assert f"tensors of {file}" in said
    assert "new head: 1000 classes there, 3 here" in said
    assert "positions: 4 x 4 resampled to 2 x 2, bicubic" in said
    trained = load_file(newest(tmp_path / "run") / "model.safetensors")
    assert torch.equal(trained["blocks.1.mlp.fc2.weight"], source.blocks[1].mlp.fc2.weight)
    record = read(tmp_path / "run/run.json")["weights"]
    assert record["source"] == str(file)
    assert (record["loaded"], record["head"]) == (30, "1000 classes there, 3 here")


def test_a_run_of_other_classes_gives_all_but_its_head(tmp_path: Path, pictures: Path) -> None:
    words = (*TINY, "epochs=1st", f"dataset.path={pictures}")
    train(*words, f"run_dir={tmp_path / 'first'}")
    other = write_pictures(tmp_path / "pictures")
    for split in ("train", "val"):
        (other / split / "ape").rename(other / split / "zebra")  # as many, in another order
    words = (*TINY, "epochs=1st", f"dataset.path={other}")
    for name, data in (("same", pictures), ("other", other)):
        train(
            *(*TINY, "epochs=1st", f"dataset.path={data}", f"run_dir={tmp_path / name}"),
            f"model.weights={tmp_path / 'first'}",
        )
    assert read(tmp_path / "same/run.json")["weights"]["head"] == ""
    assert "in another order" in read(tmp_path / "other/run.json")["weights"]["head"]


def test_a_resumed_run_keeps_the_normalisation_of_its_tag(tmp_path: Path) -> None:
    """AugReg weights see [-1, 1], DINO's the mean and deviation of ImageNet."""
    config = ModelConfig(name="vit_base_patch16_224", weights="augreg_in1k")
    assert normalisation(config, 3) == ((0.5,) * 3, (0.5,) * 3)
    full = "timm/vit_base_patch16_224.augreg_in1k"
    config = ModelConfig(name="vit_base_patch16_224", weights=full)
    assert normalisation(config, 3) == ((0.5,) * 3, (0.5,) * 3)
    config = ModelConfig(name="vit_base_patch16_224", weights="dino")
    assert normalisation(config, 3)[0] == (0.485, 0.456, 0.406)


def test_neither_a_path_nor_a_tag(tmp_path: Path, pictures: Path) -> None:
    with pytest.raises(StorageError, match="a tag of vit_tiny_patch16_224; did you mean 'augreg_"):
        train(
            *(*TINY, f"dataset.path={pictures}", f"run_dir={tmp_path / 'run'}"),
            "model.weights=augreg_in21k_ft_in1",
        )
    assert not (tmp_path / "run").exists()


def test_an_import_is_done_once(tmp_path: Path, cache: Path) -> None:
    torch.save({"a": torch.ones(2)}, tmp_path / "a.pth")
    first = as_safetensors(tmp_path / "a.pth", name="resnet18")
    stamp = first.stat().st_mtime_ns
    assert as_safetensors(tmp_path / "a.pth", name="resnet18") == first
    assert first.stat().st_mtime_ns == stamp
    assert first.is_relative_to(cache)


def test_a_tag_is_fetched_from_the_repository_timm_names(tmp_path: Path, hub) -> None:
    tensors = {"norm.weight": torch.ones(3)}
    save_file(tensors, tmp_path / "model.safetensors")
    place = "/timm/deit_tiny_patch16_224.fb_in1k/resolve/main/model.safetensors"
    served = hub({place: (tmp_path / "model.safetensors").read_bytes()})
    file = download("fb_in1k", name="deit_tiny_patch16_224")
    assert torch.equal(load_file(file)["norm.weight"], tensors["norm.weight"])
    assert place in served.asked


def test_a_repository_with_a_pickle_only_is_imported(tmp_path: Path, hub, cache: Path) -> None:
    torch.save({"module.a": torch.ones(3)}, tmp_path / "b.bin")
    place = "/org/name/resolve/v2/pytorch_model.bin"
    hub({place: (tmp_path / "b.bin").read_bytes()})
    file = download("hf-hub:org/name@v2", name="resnet18")
    assert file.is_relative_to(cache)
    assert load_file(file).keys() == {"a"}


def test_a_repository_without_weights(hub) -> None:
    hub({})
    with pytest.raises(StorageError, match=r"org/name has no model.safetensors and no pytorch_"):
        download("hf-hub:org/name", name="resnet18")


def test_no_network_and_nothing_in_the_cache(hub, monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub.constants as constants

    hub({})
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(StorageError, match="is not in the cache and the Hub can't be reached"):
        download("hf-hub:org/name", name="resnet18")


def test_a_hub_that_can_not_be_reached_is_tried_once(monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub
    from huggingface_hub.errors import LocalEntryNotFoundError

    tried = []

    def unreachable(repository: str, *_: object, **__: object) -> str:
        tried.append(repository)
        raise LocalEntryNotFoundError("no network")

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", unreachable)
    for _ in range(3):
        with pytest.raises(StorageError, match="the Hub can't be reached"):
            download("hf-hub:org/far-away", name="resnet18")
    assert tried == ["org/far-away"]
