"""A frozen model that looks at another one's pictures.

Shapes: B batch, C channels, H height, W width.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812 (the field's name for it)
from torch import Tensor, nn

from vitx.config.schema import Precision
from vitx.records import PictureFormat
from vitx.runtime.device import autocast

# ITU-R 601, as pictures are decoded.
_GREY = (0.299, 0.587, 0.114)


class Teacher(nn.Module):
    """Gives logits of pictures that were made for a student; it never changes.

    Pictures are brought to its size (bicubic, antialiased), its channels and its normalisation.

    Args:
        model: on its device; stays in evaluation mode.
        given: the pictures of the student.
        wanted: the pictures it was trained on.
        crop_ratio: share of the side that it sees, from the middle.
        precision: arithmetic of its pass, whatever surrounds it.
    """

    given_mean: Tensor
    given_std: Tensor
    wanted_mean: Tensor
    wanted_std: Tensor
    grey: Tensor

    def __init__(
        self,
        model: nn.Module,
        *,
        given: PictureFormat,
        wanted: PictureFormat,
        crop_ratio: float = 1.0,
        precision: Precision = Precision.fp32,
    ) -> None:
        super().__init__()
        self.precision = precision
        self.model = model.eval().requires_grad_(False)
        self._given, self._wanted = given, wanted
        self._side = max(1, round(given.image_px * crop_ratio))  # of what it sees
        device = next(model.parameters()).device
        for name, values in (
            ("given_mean", given.mean),
            ("given_std", given.std),
            ("wanted_mean", wanted.mean),
            ("wanted_std", wanted.std),
            ("grey", _GREY),
        ):
            tensor = torch.tensor(values, device=device).view(1, -1, 1, 1)
            self.register_buffer(name, tensor, persistent=False)

    def train(self, mode: bool = True) -> Teacher:
        """Stay in evaluation mode, whatever is asked for."""
        return super().train(False)

    @torch.no_grad()
    def forward(self, images: Tensor) -> Tensor:
        """Return [B, classes] logits of the student's [B, C, H, W] pictures."""
        with autocast(self.precision, images.device):
            logits: Tensor = self.model(self.adapt(images))
        return logits

    def adapt(self, images: Tensor) -> Tensor:
        """Return the student's pictures as the teacher was trained on them."""
        given, wanted, side = self._given, self._wanted, self._side
        if given == wanted and side == given.image_px:
            return images
        edge = (given.image_px - side) // 2
        images = images[:, :, edge : edge + side, edge : edge + side]
        images = images * self.given_std + self.given_mean
        if given.channels > wanted.channels:
            images = (images * self.grey).sum(1, keepdim=True)
        else:
            images = images.expand(-1, wanted.channels, -1, -1)
        if side != wanted.image_px:
            size = (wanted.image_px, wanted.image_px)
            images = F.interpolate(images, size, mode="bicubic", antialias=True)
        return (images - self.wanted_mean) / self.wanted_std
