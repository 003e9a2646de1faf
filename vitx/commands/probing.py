"""What a run's frozen features are good for: nearest neighbours, linear probes, few samples."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import torch
from torch import Tensor

from vitx.checkpoint.manifest import sha256_of
from vitx.commands.scoring_record import Scoring
from vitx.config.resolve import to_plain
from vitx.config.schema import EvalCrop, ProbeConfig, Protocol
from vitx.data.images import LabelledImages
from vitx.data.samples import BadRow, EvalSamples
from vitx.errors import UsageError
from vitx.evaluate.extraction import Extractor
from vitx.evaluate.feature_store import FeatureStore, identity
from vitx.evaluate.features import FeatureChoice, refuse_choice
from vitx.evaluate.judging import PLAIN, PerSample, judge
from vitx.evaluate.loop import Judged
from vitx.evaluate.probes.few_shot import few_shot
from vitx.evaluate.probes.logistic import logistic
from vitx.evaluate.probes.nearest import Neighbours, nearest
from vitx.evaluate.probes.sgd import sgd_probe
from vitx.evaluate.probes.vote import vote
from vitx.evaluate.suites.suite import Part, Suite
from vitx.models.of_run import picture_format
from vitx.paths import cache_dir

Say = Callable[[str], None]

_ROWS_AT_ONCE = 4096
_SEED = 0


@dataclass(frozen=True, kw_only=True)
class Featured:
    """Features [n, D] of the pictures of a split that could be decoded, and their [n] labels."""

    features: Tensor
    labels: Tensor
    rows: Tensor
    bad: tuple[BadRow, ...]


class Probes:
    """Answers by what the features of the training split say.

    Args:
        scoring: the model, and how it is shown pictures.
        config: which features, and how they are asked.
        protocol: k-NN, a linear probe, or few-shot.
        say: takes lines for the user.
        stop: polled between batches.
    """

    def __init__(
        self,
        scoring: Scoring,
        config: ProbeConfig,
        protocol: Protocol,
        *,
        say: Say,
        stop: Callable[[], bool],
    ) -> None:
        self._scoring, self._config, self._protocol = scoring, config, protocol
        self._say, self._stop = say, stop
        self._choice = FeatureChoice(token=config.token, block=config.block)
        if not scoring.is_plain:
            raise UsageError(
                f"protocol={protocol.name}: of one checkpoint; leave average and also out"
            )
        refuse_choice(scoring.model, self._choice)
        machine = scoring.machine
        self._extractor = Extractor(
            scoring.model,
            self._choice,
            batch_size=scoring.config.evaluation_batch,
            workers=machine.workers,
            device=machine.device,
            precision=machine.precision,
            channels_last=scoring.config.runtime.channels_last,
        )
        self._digests: dict[int, str] = {}  # many parts may show one split

    def results(self, suite: Suite) -> Iterator[tuple[Suite, list[Judged], dict[str, Any]]]:
        """Yield each result of a suite: what it is of, what was said, and further numbers.

        Raises:
            UsageError: the protocol can't answer this suite.
        """
        if any(part.image_px is not None for part in suite.parts):
            raise UsageError(f"suite={suite.name}: measured with protocol=head alone")
        asked = [self._featured(part) for part in suite.parts]
        if self._protocol is Protocol.few_shot:
            yield from self._few_shot(suite, asked)
            return
        if self._protocol is Protocol.knn:
            yield from self._neighbours(suite, asked)
            return
        scores, facts = self._classifier

        def of_rows(some: Featured, rows: Tensor) -> Tensor:
            return scores(some.features[rows].float())

        measured = [
            _judged(partial(of_rows, some), some, part)
            for some, part in zip(asked, suite.parts, strict=True)
        ]
        name = f"{suite.name}-{self._protocol.name}"
        yield dataclasses.replace(suite, name=name), measured, facts

    @cached_property
    def _weights_sha256(self) -> str:
        (file,) = self._scoring.members[0].files
        return sha256_of(file)

    @cached_property
    def _bank(self) -> Featured:
        return self._featured(Part(images=self._scoring.own().train))  # not augmented

    @cached_property
    def _classifier(self) -> tuple[Callable[[Tensor], Tensor], dict[str, Any]]:
        """What gives [Q, C] scores of [Q, D] features, and what is to be told of it."""
        classes, epochs = len(self._scoring.classes), self._config.epochs
        features, labels = self._bank.features.float(), self._bank.labels
        if self._protocol is Protocol.sgd:
            trained = sgd_probe([features], labels, num_classes=classes, seed=_SEED, epochs=epochs)
            return trained.classifier.scores, {"epochs": epochs, "lr": trained.lr}
        probe = logistic(features, labels, num_classes=classes, seed=_SEED)
        if not probe.converged:
            self._say(f"the probe has not converged in {probe.iterations} iterations")
        facts = {
            "strength": probe.strength,
            "held_out": probe.held_out,
            "converged": probe.converged,
            "iterations": probe.iterations,
        }
        return probe.classifier.scores, facts

    def _neighbours(
        self, suite: Suite, asked: Sequence[Featured]
    ) -> Iterator[tuple[Suite, list[Judged], dict[str, Any]]]:
        config, bank, classes = self._config, self._bank, len(self._scoring.classes)
        most = max(config.k)
        found = [nearest(bank.features, some.features, k=most) for some in asked]

        def shares(near: Neighbours, k: int, rows: Tensor) -> Tensor:
            some = Neighbours(
                rows=near.rows[rows], similarity=near.similarity[rows], uncertain=near.uncertain
            )
            voted = vote(
                some, bank.labels, k=k, num_classes=classes, temperature=config.temperature
            )
            return voted.log()

        for k in config.k:
            measured = [
                _judged(partial(shares, near, k), some, part)
                for near, some, part in zip(found, asked, suite.parts, strict=True)
            ]
            facts = {"k": k, "temperature": config.temperature, "bank": len(bank.labels)}
            yield dataclasses.replace(suite, name=f"{suite.name}-knn{k}"), measured, facts

    def _few_shot(
        self, suite: Suite, asked: Sequence[Featured]
    ) -> Iterator[tuple[Suite, list[Judged], dict[str, Any]]]:
        if len(suite.parts) > 1 or suite.parts[0].rules is not PLAIN:
            raise UsageError(f"suite={suite.name}: few_shot answers suites of one plain split")
        (part,), (some,), config = suite.parts, asked, self._config
        found = few_shot(
            self._bank.features.float(),
            self._bank.labels,
            some.features.float(),
            some.labels,
            num_classes=len(self._scoring.classes),
            shots=config.shots,
            seeds=range(config.seeds),
        )
        for shots, result in found.items():
            name = f"{suite.name}-{shots}shot"
            parts = [dataclasses.replace(part, place={"seed": n}) for n in range(config.seeds)]
            measured = [
                Judged(samples=PerSample.of_answers(some.rows, each), heads={}, bad=some.bad)
                for each in result.answers
            ]
            facts = {
                "shots": shots,
                "samples": result.samples,
                "top1_standard_error": result.standard_error,
            }
            yield dataclasses.replace(suite, name=name, parts=parts), measured, facts

    def _featured(self, part: Part) -> Featured:
        """Compute the features of a part, or read those that are stored."""
        scoring, images = self._scoring, part.images
        evaluator = scoring.evaluator(part)
        samples: EvalSamples = evaluator.samples
        if id(images) not in self._digests:
            self._digests[id(images)] = _digest(images)
        store = FeatureStore(
            cache_dir() / "features",
            identity(
                weights_sha256=self._weights_sha256,
                model=to_plain(scoring.config.model),
                pictures=picture_format(scoring.config),
                crop=_seen(scoring, part),
                dataset={"contents": self._digests[id(images)], "split": images.name},
                choice=self._choice,
                precision=scoring.machine.precision,
                device=scoring.machine.device.type,
            ),
            rows=len(samples),
            width=self._extractor.width(samples),
            say=self._say,
        )
        held = self._extractor.fill(
            store, samples, bad_images=evaluator.bad_images, stop=self._stop
        )
        absent = (~held.present).nonzero()[:, 0].tolist()
        return Featured(
            features=held.features[held.rows],
            labels=torch.from_numpy(images.labels.copy())[held.rows],
            rows=held.rows,
            bad=tuple(BadRow(row, "it can't be decoded") for row in absent),
        )


def _judged(scores: Callable[[Tensor], Tensor], some: Featured, part: Part) -> Judged:
    """Judge samples by [R, C] scores, or log-probabilities, of [R] of them at a time."""
    parts = [
        judge(scores(rows).double(), some.labels[rows], some.rows[rows], part.rules).as_plain()
        for rows in torch.arange(len(some.rows)).split(_ROWS_AT_ONCE)
    ]
    return Judged(samples=PerSample.joined(parts), heads={}, bad=some.bad)


def _seen(scoring: Scoring, part: Part) -> dict[str, Any]:
    crop = part.crop or scoring.crop
    ratio = scoring.config.augmentation.eval_crop_ratio if crop is EvalCrop.own else None
    return {
        "crop": crop.name,
        "ratio": ratio,
        "interpolation": scoring.config.augmentation.interpolation,
        "change": None if part.change is None else str(part.change),
    }


def _digest(images: LabelledImages) -> str:
    digest = hashlib.sha256(images.contents())
    digest.update(images.labels.tobytes())
    digest.update(images.sample())
    return digest.hexdigest()
