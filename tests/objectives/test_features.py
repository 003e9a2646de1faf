"""Feature matching against its closed form, and what it listens to."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from vitx.errors import UsageError
from vitx.objectives.features import FeatureMatching

B = 2


def pictures(px: int) -> Tensor:
    return torch.randn(B, 3, px, px, generator=torch.Generator().manual_seed(px))


def made(timm, name: str, **arguments: object) -> nn.Module:
    torch.manual_seed(0)
    model: nn.Module = timm.create_model(name, num_classes=3, **arguments)
    return model.eval()


@pytest.fixture
def vit(timm) -> nn.Module:
    return made(
        timm, "vit_tiny_patch16_224", img_size=32, patch_size=8, depth=2, embed_dim=24, num_heads=2
    )


def whitened(features: np.ndarray) -> np.ndarray:
    mean = features.mean(-1, keepdims=True)
    return (features - mean) / np.sqrt(((features - mean) ** 2).mean(-1, keepdims=True) + 1e-5)


def heard(model: nn.Module, block: str, given: Tensor) -> np.ndarray:
    found = []
    handle = model.get_submodule(block).register_forward_hook(
        lambda _module, _inputs, output: found.append(output.detach().double().numpy())
    )
    with torch.no_grad():
        model(given)
    handle.remove()
    return found[0]


def test_tokens_are_compared_with_a_map(timm, vit: nn.Module) -> None:
    teacher = made(timm, "resnet10t")
    both = pictures(32), pictures(64)
    matching = FeatureMatching(vit, teacher, {"blocks.1": "layer2"}, pictures=both)
    own, other = heard(vit, "blocks.1", both[0]), heard(teacher, "layer2", both[1])
    vit(both[0])
    teacher(both[1])

    tokens = own[:, 1:]  # [B, 16, 24], without the class token
    # layer2 gives 8 x 8 places: averaged to the student's 4 x 4.
    averaged = other.reshape(B, -1, 4, 2, 4, 2).mean((3, 5)).reshape(B, -1, 16).swapaxes(1, 2)
    project = matching.projections[0]
    projected = tokens @ project.weight.detach().double().numpy().T
    projected += project.bias.detach().double().numpy()
    expected = ((projected - whitened(averaged)) ** 2).mean()
    assert matching().item() == pytest.approx(expected, rel=1e-5)


def test_what_is_equal_has_no_distance(vit: nn.Module) -> None:
    both = pictures(32), pictures(32)
    matching = FeatureMatching(vit, vit, {"norm": "norm"}, pictures=both)
    with torch.no_grad():
        matching.projections[0].weight.copy_(torch.eye(24))
        matching.projections[0].bias.zero_()
    vit(both[0])
    assert matching().item() == pytest.approx(0, abs=1e-6)  # the last norm whitens by itself


def test_the_gradient_reaches_student_and_projection_only(timm, vit: nn.Module) -> None:
    teacher = made(timm, "resnet10t").requires_grad_(False)
    matching = FeatureMatching(
        vit, teacher, {"blocks.0": "layer3"}, pictures=(pictures(32), pictures(64))
    )
    vit(pictures(32))
    with torch.no_grad():
        teacher(pictures(64))
    matching().backward()
    assert matching.projections[0].weight.grad.abs().sum() > 0
    assert vit.blocks[0].attn.qkv.weight.grad.abs().sum() > 0
    assert vit.blocks[1].attn.qkv.weight.grad is None
    assert all(each.grad is None for each in teacher.parameters())


@pytest.mark.parametrize(
    ("name", "block", "arguments"),
    [
        ("xcit_nano_12_p8_224", "blocks.11", {}),
        ("swin_tiny_patch4_window7_224", "layers.2", {"img_size": 64, "window_size": 2}),
        ("deit_tiny_distilled_patch16_224", "blocks.3", {"img_size": 64}),
        ("resnet10t", "global_pool", {}),
        ("convnext_atto", "stages.3", {}),
    ],
)
def test_every_kind_of_model_can_be_listened_to(
    timm, vit: nn.Module, name: str, block: str, arguments: dict[str, object]
) -> None:
    teacher = made(timm, name, **arguments)
    matching = FeatureMatching(
        vit, teacher, {"blocks.1": block}, pictures=(pictures(32), pictures(64))
    )
    width = heard(teacher, block, pictures(64)).shape
    vit(pictures(32))
    teacher(pictures(64))
    assert matching.projections[0].out_features in width
    assert matching().isfinite()


@pytest.mark.parametrize(
    ("own", "other", "told"),
    [
        ("blocks.7", "layer1", "the student has no block named 'blocks.7'"),
        ("blocks.1", "layer9", "the teacher has no block named 'layer9'; did you mean 'layer"),
        ("", "layer1", "no block named ''; it has patch_embed"),
        ("cls", "layer1", "no block named 'cls'"),
    ],
)
def test_what_can_not_be_listened_to_is_named(
    timm, vit: nn.Module, own: str, other: str, told: str
) -> None:
    with pytest.raises(UsageError, match="distillation.features") as caught:
        FeatureMatching(
            vit, made(timm, "resnet10t"), {own: other}, pictures=(pictures(32), pictures(64))
        )
    assert told in str(caught.value)
