"""Weights go into a model whole and exact, or not at all."""

import re
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from vitx.config.schema import ModelConfig
from vitx.errors import StorageError
from vitx.models.build import Fit, build_model
from vitx.models.weights import load_weights

SMALL = ModelConfig(
    name="vit_tiny_patch16_224", patch_px=8, args={"depth": 1, "embed_dim": 24, "num_heads": 2}
)


def vit(*, classes: int = 5, px: int = 32) -> torch.nn.Module:
    return build_model(SMALL, Fit(num_classes=classes, channels=3, image_px=px))


def cnn() -> torch.nn.Module:
    """Return a model with buffers."""
    narrow = {"layers": [1, 1, 1, 1], "channels": [8, 8, 8, 8]}
    return build_model(
        ModelConfig(name="resnet18", args=narrow), Fit(num_classes=5, channels=3, image_px=32)
    )


def saved(tensors: dict[str, torch.Tensor], folder: Path) -> Path:
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, folder / "w.st")
    return folder / "w.st"


def refusal(model: torch.nn.Module, path: Path) -> str:
    """Return the line of the refusal, after a look that nothing was loaded."""
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with pytest.raises(StorageError) as caught:
        load_weights(model, path)
    assert all(torch.equal(before[name], now) for name, now in model.state_dict().items())
    line = str(caught.value)
    assert line.startswith(str(path))
    assert "\n" not in line
    return line


def test_loaded_bit_for_bit_with_buffers(tmp_path: Path) -> None:
    model = cnn()
    wanted = {
        name: torch.randn_like(tensor) if tensor.is_floating_point() else tensor + 7
        for name, tensor in model.state_dict().items()
    }
    identities = [id(parameter) for parameter in model.parameters()]
    load_weights(model, saved(wanted, tmp_path))
    assert all(torch.equal(wanted[name], now) for name, now in model.state_dict().items())
    assert identities == [id(parameter) for parameter in model.parameters()]
    assert all(each.requires_grad and each.grad is None for each in model.parameters())


def test_half_precision_is_widened(tmp_path: Path) -> None:
    model = vit()
    half = {name: tensor.half() for name, tensor in model.state_dict().items()}
    load_weights(model, saved(half, tmp_path))
    for name, tensor in model.state_dict().items():
        assert tensor.dtype is torch.float32
        assert torch.equal(tensor, half[name].float())


def test_other_classes(tmp_path: Path) -> None:
    line = refusal(vit(classes=5), saved(vit(classes=1000).state_dict(), tmp_path))
    assert "its head has 1000 classes, the model has 5" in line


def test_other_size(tmp_path: Path) -> None:
    line = refusal(vit(px=32), saved(vit(px=64).state_dict(), tmp_path))
    assert "1 tensors of other shape (pos_embed is [1, 65, 24], expected [1, 17, 24])" in line


def test_missing_and_left_over(tmp_path: Path) -> None:
    tensors = vit().state_dict()
    removed = list(tensors)[1:6]
    for name in removed:
        tensors.pop(name)
    tensors["head.zzz"] = torch.zeros(1)
    line = refusal(vit(), saved(tensors, tmp_path))
    missing, extra = re.findall(r"(\d+) tensors [a-z ]+ \(([^)]*)\)", line)
    assert missing == ("5", ", ".join([*sorted(removed)[:3], "..."]))
    assert extra == ("1", "head.zzz")


def test_another_architecture(tmp_path: Path) -> None:
    line = refusal(vit(), saved(cnn().state_dict(), tmp_path))
    assert "weights of another model: " in line
    assert " missing (" in line
    assert " left over (" in line


@pytest.mark.parametrize(
    "content",
    [b"", b"zz", b"\xff" * 4096, b"\x08\0\0\0\0\0\0\0{}      "],
    ids=["empty", "short", "absurd header length", "no tensors"],
)
def test_not_safetensors(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    path.write_bytes(content)
    refusal(vit(), path)


def test_a_pickle_is_not_opened(tmp_path: Path) -> None:
    torch.save(vit().state_dict(), tmp_path / "w.safetensors")
    assert "can't be read as safetensors" in refusal(vit(), tmp_path / "w.safetensors")


def test_truncated(tmp_path: Path) -> None:
    path = saved(vit().state_dict(), tmp_path)
    path.write_bytes(path.read_bytes()[:-1])
    assert "can't be read as safetensors" in refusal(vit(), path)


def test_no_such_file_and_a_folder(tmp_path: Path) -> None:
    refusal(vit(), tmp_path / "none.safetensors")
    refusal(vit(), tmp_path)


def test_a_head_without_a_shape(tmp_path: Path) -> None:
    tensors = vit().state_dict()
    tensors["head.bias"] = torch.zeros(())
    refusal(vit(), saved(tensors, tmp_path))
