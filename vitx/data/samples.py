"""Samples as tensors: what a loader worker does for one key."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

from vitx.data.augment import EvalTransform, Transform
from vitx.data.decode import MODES, BadImageError, decode
from vitx.data.sources import LabelledImages
from vitx.errors import DataError
from vitx.records import SampleKey
from vitx.runtime.seeds import derive, set_random_state

# So many bad pictures in a row are no accident; the place stays empty and the run ends.
_REPLACEMENTS = 64


class BadRow(NamedTuple):
    """A row that can't be decoded, and why."""

    row: int
    reason: str


class Sample(NamedTuple):
    """One picture: [C, H, W] float, its label, its row, and the bad rows it stands for.

    Where nothing could be decoded the picture is an empty tensor.
    """

    image: Tensor
    label: int
    row: int
    bad: tuple[BadRow, ...]


class RawBatch(NamedTuple):
    """A collated batch on the CPU: [B, C, H, W], [B], [B], and the bad rows met on the way."""

    images: Tensor
    labels: Tensor
    indices: Tensor
    bad: tuple[BadRow, ...]


@dataclass(frozen=True, kw_only=True)
class Decoder:
    """Decodes rows of a split by the rules of the configuration."""

    images: LabelledImages
    channels: int
    max_pixels: int

    def __call__(self, row: int, transform: Transform) -> Tensor:
        """Return a row as a [C, H, W] tensor; raises BadImageError."""
        encoded = self.images.encoded(row)
        return transform(decode(encoded, channels=self.channels, max_pixels=self.max_pixels))


@dataclass(frozen=True, kw_only=True)
class BadImagePolicy:
    """What the parent of the loader processes does about bad rows.

    Attributes:
        images: the split, to name rows of.
        skip: count them and go on, rather than end the run at the first.
        limit: most of them.
    """

    images: LabelledImages
    skip: bool
    limit: int

    def check(self, bad: Sequence[BadRow], known: set[int]) -> None:
        """Take note of bad rows.

        Args:
            bad: rows just met.
            known: rows met so far; grows.

        Raises:
            DataError: there may be none, or not so many.
        """
        for row, reason in bad:
            known.add(row)
            if not self.skip:
                raise DataError(
                    f"{self.images.describe(row)} can't be decoded: {reason}; "
                    "go on with dataset.bad_image=skip, or mend it and begin again"
                )
        if len(known) > self.limit:
            raise DataError(
                f"{len(known)} pictures of {self.images.name} can't be decoded, more than the "
                f"{self.limit} that dataset.bad_image_limit allows; the last one is "
                f"{self.images.describe(bad[-1].row)}: {bad[-1].reason}"
            )


class TrainSamples(Dataset[Sample]):
    """Augmented training samples: a pure function of (seed, epoch, row, repeat)."""

    def __init__(self, decoder: Decoder, transform: Transform, *, seed: int) -> None:
        self.decoder, self.transform, self.seed = decoder, transform, seed

    def __getitem__(self, key: SampleKey) -> Sample:
        """Return the sample of a key; a bad picture's place is taken by one drawn from the key."""
        bad: list[BadRow] = []
        row = key.row
        while len(bad) < _REPLACEMENTS:
            set_random_state(derive("augment", self.seed, key.epoch, row, key.repeat))
            try:
                image = self.decoder(row, self.transform)
            except BadImageError as reason:
                bad.append(BadRow(row, str(reason)))
                draw = derive("replace", self.seed, key.epoch, key.row, key.repeat, len(bad))
                row = draw % len(self.decoder.images)
                continue
            return Sample(image, int(self.decoder.images.labels[row]), row, tuple(bad))
        return Sample(torch.empty(0), -1, key.row, tuple(bad))


class EvalSamples(Dataset[Sample]):
    """Samples of a split in order, not augmented, none in place of a bad one.

    Args:
        decoder: of the split.
        transform: makes a picture what the model is shown.
        change: done to what would be shown, given its row too.
    """

    def __init__(
        self,
        decoder: Decoder,
        transform: EvalTransform,
        change: Callable[[Image.Image, int], Image.Image] | None = None,
    ) -> None:
        self.decoder, self.transform, self.change = decoder, transform, change

    def __len__(self) -> int:
        return len(self.decoder.images)

    def __getitem__(self, row: int) -> Sample:
        """Return a row."""
        label = int(self.decoder.images.labels[row])
        change = self.change
        changed = None if change is None else lambda seen: change(seen, row)
        try:
            image = self.decoder(row, lambda picture: self.transform(picture, changed))
        except BadImageError as reason:
            return Sample(torch.empty(0), label, row, (BadRow(row, str(reason)),))
        return Sample(image, label, row, ())

    def blank(self) -> Tensor:
        """Return what a black picture becomes, [C, H, W]."""
        return self.transform(Image.new(MODES[self.decoder.channels], (1, 1)))


def collate(samples: list[Sample]) -> RawBatch:
    """Stack samples; those without a picture are left out and stay in `bad`."""
    good = [sample for sample in samples if sample.image.numel()]
    return RawBatch(
        torch.stack([sample.image for sample in good]) if good else torch.empty(0),
        torch.tensor([sample.label for sample in good], dtype=torch.int64),
        torch.tensor([sample.row for sample in good], dtype=torch.int64),
        tuple(bad for sample in samples for bad in sample.bad),
    )
