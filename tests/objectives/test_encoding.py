"""What is stored of an answer: exact where it claims to be, a distribution everywhere."""

from __future__ import annotations

import math

import pytest
import torch

from tests.objectives.answers import C, draw, encoding
from vitx.config.schema import Precision
from vitx.errors import UsageError
from vitx.objectives.encoding import Encoding, refuse_encoding
from vitx.objectives.lesson import Answer

CPU = torch.device("cpu")


@pytest.mark.parametrize("precision", [Precision.fp32, Precision.bf16, Precision.fp16])
def test_all_classes_come_back_as_far_as_the_precision_goes(precision: Precision) -> None:
    answer = draw(20)
    code = encoding(None, precision)
    back = code.decode(code.encode(answer), CPU)
    digits = {Precision.fp32: 0.0, Precision.bf16: 2.0**-8, Precision.fp16: 2.0**-11}[precision]
    exact = precision is Precision.fp32
    expected = answer.logits if exact else answer.logits.log_softmax(1)
    assert torch.allclose(back.logits, expected, rtol=digits, atol=0)
    assert torch.equal(back.classes, answer.classes)


@pytest.mark.parametrize("top_k", [1, 2, 5, C - 1])
def test_the_highest_come_back_and_the_rest_is_spread(top_k: int) -> None:
    answer = draw(50)
    code = encoding(top_k)
    back = code.decode(code.encode(answer), CPU).logits.double().exp()
    probabilities = answer.logits.double().softmax(1)

    assert back.sum(1).tolist() == pytest.approx([1.0] * 50, rel=1e-6)
    for row, (ours, theirs) in enumerate(zip(back, probabilities, strict=True)):
        highest = theirs.argsort(descending=True)
        assert ours[highest[:top_k]].tolist() == pytest.approx(
            theirs[highest[:top_k]].tolist(), rel=1e-5
        )
        even = (1 - theirs[highest[:top_k]].sum().item()) / (C - top_k)
        assert ours[highest[top_k:]].tolist() == pytest.approx([even] * (C - top_k), abs=1e-6), row
    assert torch.equal(code.decode(code.encode(answer), CPU).classes, answer.classes)


@pytest.mark.parametrize("precision", [Precision.fp32, Precision.bf16, Precision.fp16])
def test_the_class_is_exact_among_equals(precision: Precision) -> None:
    # So near that half precision can't tell them apart; argmax takes the lowest of equals.
    logits = torch.zeros(3, C)
    logits[0, 7], logits[1, [4, 9]], logits[2, 3] = 1e-6, 2.0, -1.0
    for top_k in (1, 2, None):
        code = encoding(top_k, precision)
        assert code.decode(code.encode(Answer.of(logits)), CPU).classes.tolist() == [7, 4, 0]


def test_a_certain_teacher_leaves_no_infinity() -> None:
    logits = torch.full((2, C), -1e4)
    logits[:, 3] = 1e4
    code = encoding(2)
    assert code.decode(code.encode(Answer.of(logits)), CPU).logits.isfinite().all()


def test_more_classes_than_int16_has() -> None:
    code = Encoding(classes=40_000, top_k=1, precision=Precision.fp16)
    answer = Answer.of(torch.eye(40_000)[[39_999, 2]])
    assert code.decode(code.encode(answer), CPU).classes.tolist() == [39_999, 2]
    assert code.place_bytes == 1 + 4 + 2


def test_logits_beyond_half_precision() -> None:
    logits = torch.tensor([[1e6, 1e6 - 3, 0.0, *[-1e6] * (C - 3)]])
    code = encoding(None, Precision.fp16)
    back = code.decode(code.encode(Answer.of(logits)), CPU).logits
    assert back[0, 0].exp().item() == pytest.approx(1 / (1 + math.exp(-3)), rel=1e-3)
    assert not back.isnan().any()


def test_what_can_not_be_stored_is_refused() -> None:
    refuse_encoding(encoding(1), hard=True)
    refuse_encoding(encoding(), hard=False)
    with pytest.raises(UsageError, match="teacher.top_k=12: expected 1 to 11"):
        refuse_encoding(encoding(12), hard=True)
    with pytest.raises(UsageError, match="top_k=1 holds no more than the class"):
        refuse_encoding(encoding(1), hard=False)
