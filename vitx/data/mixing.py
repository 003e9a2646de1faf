"""Mixup and cutmix of a batch, drawn from (seed, step, micro-batch)."""

from __future__ import annotations

from vitx.config.schema import AugmentationConfig
from vitx.records import Batch
from vitx.runtime.seeds import derive, set_random_state
from vitx.runtime.torchvision_ops import declare_missing_ops


class Mixing:
    """timm's Mixup (mixup, arXiv 1710.09412; cutmix, arXiv 1905.04899) with our randomness.

    Where it is on, [B] class numbers become [B, C] class probabilities with label smoothing
    worked in; where it is off, a batch passes unchanged.
    """

    def __init__(self, config: AugmentationConfig, *, num_classes: int, seed: int) -> None:
        self._seed = seed
        self._mixup = None
        if config.mixup > 0 or config.cutmix > 0:
            declare_missing_ops()
            from timm.data import Mixup

            self._mixup = Mixup(
                mixup_alpha=config.mixup,
                cutmix_alpha=config.cutmix,
                prob=config.mix_prob,
                switch_prob=config.mix_switch_prob,
                mode=config.mix_mode,
                label_smoothing=config.label_smoothing,
                num_classes=num_classes,
            )

    def __call__(self, batch: Batch, step: int, micro: int) -> Batch:
        """Return the batch mixed as step `step`, forward pass `micro` has it."""
        if self._mixup is None:
            return batch
        set_random_state(derive("mix", self._seed, step, micro))
        images, targets = self._mixup(batch.images, batch.targets)
        return Batch(images=images, targets=targets, indices=batch.indices)
