"""The two answers of a distillation token, and both ways to make one of them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from vitx.config.schema import Head
from vitx.models import heads

TWO = ("deit_tiny_distilled_patch16_224", "levit_128s", "pit_ti_distilled_224", "repvit_m1")
PICTURES = torch.randn(2, 3, 224, 224, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("name", [*TWO, "vit_tiny_patch16_224"])
def test_apart_they_are_what_the_model_fuses(timm, name: str) -> None:
    torch.manual_seed(0)
    model = timm.create_model(name, num_classes=5).eval()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    with torch.no_grad():
        fused = model(PICTURES)
        with heads.apart(model):
            said = model(PICTURES)
        after = model(PICTURES)
    if name in TWO:
        assert torch.equal((said[0] + said[1]) / 2, fused)
        assert not torch.equal(said[0], said[1])
    else:
        assert torch.equal(said, fused)
    assert torch.equal(after, fused)
    assert not any(each.training for each in model.modules())
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())


def test_a_failure_leaves_the_model_as_it_was(timm) -> None:
    model = timm.create_model(TWO[0], num_classes=5).train()
    model.set_distilled_training(True)
    model.head_drop.eval()
    with pytest.raises(ZeroDivisionError), heads.apart(model):
        raise ZeroDivisionError
    assert model.distilled_training
    assert model.training
    assert not model.head_drop.training


def test_the_fusions_are_means_of_logits_and_of_probabilities() -> None:
    first, second = torch.randn(2, 6, 4, generator=torch.Generator().manual_seed(1)).double()
    found = heads.answers(first, second)
    one, two = (
        np.exp(each) / np.exp(each).sum(1, keepdims=True)
        for each in (first.numpy(), second.numpy())
    )
    np.testing.assert_allclose(found[Head.mean_softmax].exp(), (one + two) / 2, rtol=1e-6)
    np.testing.assert_allclose(found[Head.mean_logits], (first + second).numpy() / 2)
    assert torch.equal(found[Head.class_head], first)
    assert torch.equal(found[Head.distill_head], second)
    assert set(found) == set(Head)


def test_the_fusions_can_disagree() -> None:
    # One head is nearly certain of 0; the other rules it out, and wavers between 1 and 2.
    first = torch.tensor([[4.0, 0.0, 0.0]])
    second = torch.tensor([[-9.0, 2.0, 1.0]])
    found = heads.answers(first, second)
    assert found[Head.mean_logits].argmax().item() == 1
    assert found[Head.mean_softmax].argmax().item() == 0


class Hands(nn.Module):
    """Not a model with heads."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return images.mean((2, 3))


def test_a_model_without_heads_is_left_alone() -> None:
    model = Hands()
    with heads.apart(model):
        assert model.training
        assert model(PICTURES).shape == (2, 3)
