"""Who is asked, how often, and what a stored answer stands for."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.commands.distilling import configured
from tests.teaching.hired import HERE, B, C, Net, hire
from vitx.config.schema import DistillConfig
from vitx.data.mixing import Mixing
from vitx.data.sources import load_splits
from vitx.errors import StorageError
from vitx.objectives.lesson import Answer
from vitx.parts import make_plan
from vitx.records import Batch, Place
from vitx.teaching.tutor import Tutor, make_tutor


def made(
    config: DistillConfig, *, teachers: int = 1, say: Callable[[str], None] = print, **more: Any
) -> tuple[Tutor, list[Net]]:
    hired = [hire(config, number) for number in range(teachers)]
    splits = load_splits(config.dataset)
    return (
        make_tutor(hired, config, splits, HERE, say=say, **more),
        [each.model.model for each in hired],
    )


def batch(step: int = 0, *, seed: int = 0) -> Batch:
    generator = torch.Generator().manual_seed(seed)
    return Batch(
        images=torch.randn(B, 3, 4, 4, generator=generator),
        targets=torch.arange(B) % C,
        indices=torch.arange(B),
        place=Place(step, 0, step * B),
    )


def mixed(config: DistillConfig, step: int, **settings: Any) -> Batch:
    own = replace(config.augmentation, **settings)
    mixing = Mixing(own, num_classes=C, seed=0, keep_unmixed=True)
    return mixing(batch(step, seed=step), step, 0)


def test_one_is_drawn_for_each_step(words: tuple[str, ...]) -> None:
    more = ("teacher.also=[{name: resnet18},{name: resnet18}]", "teacher.combine=draw")
    tutor, nets = made(configured(*words, *more), teachers=3)
    for step in range(300):
        first, again = tutor(batch(step)), tutor(batch(step))
        assert torch.equal(first.classes, again.classes)
    asked = [net.asked for net in nets]
    assert sum(asked) == 600
    assert all(140 < count < 260 for count in asked)  # 3.7 deviations of 2 x 100


def test_together_they_are_averaged(words: tuple[str, ...]) -> None:
    config = configured(*words, "teacher.also=[{name: resnet18}]")
    tutor, nets = made(config, teachers=2)
    given = batch()
    with torch.no_grad():
        expected = torch.stack([net(given.images).softmax(1) for net in nets]).mean(0)
    torch.testing.assert_close(tutor(given).log_probabilities().exp(), expected)


@pytest.mark.parametrize("loss", ["hard", "soft"])
def test_what_was_answered_once_is_not_asked_again(loss: str, words: tuple[str, ...]) -> None:
    config = configured(*words, "teacher.cache=outputs", f"distillation={loss}")
    plain, _ = made(configured(*words, f"distillation={loss}"))
    first, (asked,) = made(config)
    lessons = [first(batch(step, seed=step)) for step in range(3)]
    assert asked.asked == 3
    first.close()
    second, (net,) = made(config)
    for step, lesson in enumerate(lessons):
        again, direct = second(batch(step, seed=step)), plain(batch(step, seed=step))
        assert torch.equal(again.classes, direct.classes)
        assert torch.equal(lesson.classes, direct.classes)
        if loss == "soft":
            assert torch.equal(again.log_probabilities(3), direct.log_probabilities(3))
            assert torch.equal(lesson.log_probabilities(3), direct.log_probabilities(3))
    assert net.asked == 0


@pytest.mark.parametrize("mode", ["batch", "pair", "elem"])
@pytest.mark.parametrize("kind", [{"mixup": 0.8, "cutmix": 0.0}, {"mixup": 0.0, "cutmix": 1.0}])
def test_mixed_answers_have_the_shares_of_the_labels(
    mode: str, kind: dict[str, float], words: tuple[str, ...]
) -> None:
    config = configured(*words, "teacher.cache=outputs", "teacher.mixed=mix", "distillation=soft")
    tutor, (net,) = made(config)
    for step in range(6):
        given = mixed(config, step, mix_mode=mode, mix_prob=0.8, label_smoothing=0.0, **kind)
        assert given.mixed is not None
        own = batch(step, seed=step).images
        assert torch.equal(given.mixed.unmixed, own)
        with torch.no_grad():
            said = Answer.of(net(own)).logits.softmax(1)
        # The targets tell the shares: of each row's own class, and of its partner's.
        one_hot = torch.eye(C)[batch().targets]
        share = torch.as_tensor(given.mixed.share, dtype=torch.float32).reshape(-1, 1)
        torch.testing.assert_close(share * one_hot + (1 - share) * one_hot.flip(0), given.targets)
        expected = share * said + (1 - share) * said.flip(0)
        torch.testing.assert_close(tutor(given).log_probabilities().exp(), expected)


def test_the_difference_of_mixing_answers_is_told_once(words: tuple[str, ...]) -> None:
    config = configured(*words, "teacher.cache=outputs", "teacher.mixed=mix")
    said: list[str] = []
    tutor, (net,) = made(config, say=said.append)
    apart, other = [], 0
    for step in range(6):
        given = mixed(config, step, mix_prob=1.0)
        lesson = tutor(given)
        if step < 4:
            with torch.no_grad():
                truth = net(given.images).log_softmax(1)
            apart += (truth.exp() * (truth - lesson.log_probabilities())).sum(1).tolist()
            other += int((truth.argmax(1) != lesson.classes).sum())
    (line,) = said
    assert f"on {4 * B} mixed pictures" in line
    assert f"for {100 * other / (4 * B):.1f} %" in line
    assert f"{sum(apart) / len(apart):.3g} nats" in line


def test_what_random_weights_say_is_not_remembered(words: tuple[str, ...], tmp_path: Path) -> None:
    config = configured(*words, "teacher.cache=outputs")
    untrained = replace(hire(config, 0), sha256="")
    splits = load_splits(config.dataset)
    tutor = make_tutor([untrained], config, splits, HERE, say=print)
    tutor(batch())
    tutor.close()
    assert not (tmp_path / "cache").exists()


def test_all_stores_have_to_fit_together(
    words: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    more = ("teacher.cache=outputs", "distillation=soft", "epochs=1000ep")
    config = configured(*words, *more, "teacher.also=[{name: resnet18}]")
    one, both = made(config)[0], made(config, teachers=2)[0]
    plan = make_plan(config, samples=48)
    needed = one.stores[0].missing_bytes(1000)

    def disk(_place: object) -> object:
        return shutil._ntuple_diskusage(0, 0, int(1.5 * needed))

    monkeypatch.setattr(shutil, "disk_usage", disk)
    one.refuse_small_disk(plan)
    with pytest.raises(StorageError, match=r"teacher.reuse_epochs=67\d fits, or point .VITX_CACHE"):
        both.refuse_small_disk(plan)


def test_a_place_that_can_not_be_written_is_said_beforehand(
    words: tuple[str, ...], tmp_path: Path
) -> None:
    config = configured(*words, "teacher.cache=outputs")
    (tmp_path / "cache").write_text("in the way")
    with pytest.raises(StorageError, match="cache"):
        made(config)[0].refuse_small_disk(make_plan(config, samples=48))


def test_two_that_are_the_same_share_a_store(words: tuple[str, ...]) -> None:
    config = configured(*words, "teacher.cache=outputs", "teacher.also=[{name: resnet10t}]")
    same = [hire(config, 0), hire(config, 0)]
    tutor = make_tutor(same, config, load_splits(config.dataset), HERE, say=print)
    tutor(batch())
    assert len(tutor.stores) == 1
    assert same[0].model.model.asked + same[1].model.model.asked == 1


def test_of_a_batch_that_was_partly_there_what_was_there_counts(words: tuple[str, ...]) -> None:
    off = ("augmentation.mixup=0", "augmentation.cutmix=0")
    config = configured(*words, *off, "teacher.cache=outputs", "distillation=soft")
    tutor, (net,) = made(config)
    whole = batch()
    half = replace(whole, images=whole.images[:4])
    first = tutor(half).log_probabilities()
    with torch.no_grad():
        net.layer.weight += 1  # as another batch size moves the last bits, but to be seen
    mixture = tutor(whole).log_probabilities()
    assert torch.equal(mixture[:4], first)
    assert torch.equal(tutor(whole).log_probabilities(), mixture)
