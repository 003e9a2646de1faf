"""What a checkpoint says of given pictures, batch by batch, and where it looks."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor, nn

from vitx.checkpoint.manifest import sha256_of
from vitx.commands.members import find_member
from vitx.commands.scoring import refuse_head, settings_of
from vitx.config.schema import EvalConfig, PredictConfig, TrainConfig
from vitx.data.augment import EvalTransform, build_eval_transform
from vitx.data.decode import MODES, BadImageError, decode
from vitx.data.given import DRAWN, STDIN, read_given
from vitx.data.sources import load_splits
from vitx.evaluate.attention import AttentionMap, attention_map, find_way
from vitx.evaluate.prediction import Predictor
from vitx.models.of_run import make_model, picture_format
from vitx.models.weights import load_weights
from vitx.parts import settle_machine
from vitx.runs import RunDir

_ATTENDED = 8  # pictures of a pass for attention, which takes N times N numbers a head and layer
_LONGEST = 180  # bytes of a name that another one is made of


@dataclass(frozen=True, kw_only=True)
class Seen:
    """A picture as the model is shown it: [C, H, W], and before normalisation."""

    image: Tensor
    shown: Image.Image


@dataclass(frozen=True, kw_only=True)
class Said:
    """What came of a picture.

    Attributes:
        name: as it was given.
        probabilities: [C] float64, by class number; None of a bad picture.
        reason: why it is bad; else empty.
        shown: what the model saw of it, where its attention is asked for.
        attention: of it alone, [1, H, W].
    """

    name: str
    probabilities: Tensor | None = None
    reason: str = ""
    shown: Image.Image | None = None
    attention: AttentionMap | None = None


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """A checkpoint that pictures are shown to.

    Attributes:
        run: the run.
        settings: its configuration with what predicting may change.
        checkpoint: folder of the checkpoint.
        weights: `model` or `ema`.
        sha256: of the file of the weights.
        classes: names of the classes.
        transform: from a decoded picture to what the model takes.
        model: on its device.
        predictor: says how likely each class is.
        way: how its attention becomes a map, in words; empty where nobody asks.
    """

    run: RunDir
    settings: TrainConfig
    checkpoint: Path
    weights: str
    sha256: str
    classes: tuple[str, ...]
    transform: EvalTransform
    model: nn.Module
    predictor: Predictor
    way: str

    def each(self, names: Sequence[str]) -> Iterator[Said]:
        """Yield what is said of each picture, in order; a bad one leaves a gap in its batch."""
        size = self.settings.evaluation_batch
        for start in range(0, len(names), size):
            yield from self._batch(names[start : start + size])

    def _batch(self, names: Sequence[str]) -> Iterator[Said]:
        seen = [self._see(name) for name in names]
        good = [each for each in seen if isinstance(each, Seen)]
        said = iter(self.predictor(torch.stack([each.image for each in good])) if good else ())
        maps = self._attention(good) if self.way else itertools.repeat(None)
        for name, each in zip(names, seen, strict=True):
            if isinstance(each, str):
                yield Said(name=name, reason=each)
            else:
                yield Said(
                    name=name,
                    probabilities=next(said),
                    shown=each.shown,
                    attention=next(maps),
                )

    def _see(self, name: str) -> Seen | str:
        """Return a picture, or why it is bad."""
        dataset, shown = self.settings.dataset, list[Image.Image]()

        def look(picture: Image.Image) -> Image.Image:
            shown.append(picture)
            return picture

        try:
            data = read_given(name)
            picture = decode(data, channels=dataset.channels, max_pixels=dataset.max_pixels)
            image = self.transform(picture, look)
        except BadImageError as reason:
            return str(reason)
        return Seen(image=image, shown=shown[0])

    def _attention(self, good: Sequence[Seen]) -> Iterator[AttentionMap]:
        for start in range(0, len(good), _ATTENDED):
            images = torch.stack([each.image for each in good[start : start + _ATTENDED]])
            found = attention_map(self.model, self.predictor.sent(images))
            for place in range(len(images)):
                own = slice(place, place + 1)
                yield AttentionMap(patches=found.patches[own], prefix=found.prefix[own])


def prepare(config: PredictConfig, run: RunDir, trained: TrainConfig) -> Prediction:
    """Load a checkpoint as `vitx eval` does; nothing is written.

    Args:
        config: which checkpoint, and how pictures are shown to it.
        run: the run.
        trained: its configuration.

    Returns:
        What pictures can be shown to.

    Raises:
        VitxError: a part of it can't be had, or the model has no attention map where one is asked
            for.
    """
    alike = EvalConfig(
        head=config.head,
        batch_size=config.batch_size,
        workers=0,
        device=config.device,
    )
    record = run.known_record()
    member = find_member(run, trained, checkpoint=config.checkpoint, weights=config.weights)
    settings = settings_of(alike, trained, record)
    classes = tuple(record.get("classes") or load_splits(trained.dataset).classes)
    machine = settle_machine(settings)
    model = make_model(settings, num_classes=len(classes), device=machine.device)
    (file,) = member.files
    load_weights(model, file)
    refuse_head(alike, model)
    seen = picture_format(settings)
    transform = build_eval_transform(settings.augmentation, seen, config.crop)
    predictor = Predictor(
        model,
        device=machine.device,
        precision=machine.precision,
        channels_last=settings.runtime.channels_last,
        head=settings.evaluation.head,
    )
    way = ""
    if config.attention is not None:
        blank = transform(Image.new(MODES[seen.channels], (1, 1)))[None]
        attention_map(model, predictor.sent(blank))  # refused before a picture is read
        way = find_way(model).what
    return Prediction(
        run=run,
        settings=settings,
        checkpoint=file.parent,
        weights=member.weights,
        sha256=sha256_of(file),  # a manifest from elsewhere need not name it
        classes=classes,
        transform=transform,
        model=model,
        predictor=predictor,
        way=way,
    )


def drawn_names(names: Sequence[str], folder: Path) -> list[Path]:
    """Return where the drawing of each picture goes; no two to the same place.

    >>> [path.name for path in drawn_names(["a/x.jpg", "b/x.png", "-"], Path("out"))]
    ['x.attention.png', 'x-2.attention.png', 'stdin.attention.png']
    """
    taken: set[str] = set()
    found = []
    for name in names:
        stem = "stdin" if name == STDIN else os.path.splitext(os.path.basename(name))[0]
        stem = os.fsdecode(os.fsencode(stem)[:_LONGEST])
        numbered = (stem if number == 1 else f"{stem}-{number}" for number in itertools.count(1))
        chosen = next(each for each in numbered if each not in taken)
        taken.add(chosen)
        found.append(folder / f"{chosen}{DRAWN}")
    return found
