"""What a model says of pictures without a label, exactly as an evaluation would hear it."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from vitx.config.schema import Head, Precision
from vitx.models import heads
from vitx.runtime.device import autocast


class Predictor:
    """Says how likely each class is.

    Args:
        model: on its device; it is put into evaluation mode.
        device: of the model.
        precision: of the pass.
        channels_last: layout of the pictures.
        head: of a distillation token, which one counts.
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        device: torch.device,
        precision: Precision,
        channels_last: bool,
        head: Head,
    ) -> None:
        self._model, self._device, self._precision = model.eval(), device, precision
        self._format = torch.channels_last if channels_last else torch.contiguous_format
        self._head = head

    def sent(self, images: Tensor) -> Tensor:
        """Return pictures on the device, as the model takes them."""
        return images.to(self._device, memory_format=self._format)

    @torch.inference_mode()
    def __call__(self, images: Tensor) -> Tensor:
        """Return [B, classes] float64 probabilities of pictures [B, C, H, W], on the CPU.

        To the last bit those of an evaluation, where a pass has the same pictures.
        """
        with heads.apart(self._model), autocast(self._precision, self._device):
            said = self._model(self.sent(images))
        if isinstance(said, tuple):
            # On the CPU in float32, as an evaluation fuses them.
            logits = heads.answers(*(each.float().cpu() for each in said))[self._head]
        else:
            logits = said.float().cpu()
        probabilities: Tensor = logits.double().softmax(1)
        return probabilities
