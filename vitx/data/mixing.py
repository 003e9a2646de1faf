"""Mixup and cutmix of a batch, drawn from (seed, step, micro-batch)."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from vitx.config.schema import AugmentationConfig
from vitx.records import Batch, Mixture
from vitx.runtime.seeds import derive, set_random_state
from vitx.runtime.torchvision_ops import declare_missing_ops


class Mixing:
    """timm's Mixup (mixup, arXiv 1710.09412; cutmix, arXiv 1905.04899) with our randomness.

    Where it is on, [B] class numbers become [B, C] class probabilities with label smoothing
    worked in; where it is off, a batch passes unchanged.

    Args:
        config: what to draw.
        num_classes: C.
        seed: the run's seed.
        keep_unmixed: batches carry the pictures they were mixed of, too.
    """

    def __init__(
        self,
        config: AugmentationConfig,
        *,
        num_classes: int,
        seed: int,
        keep_unmixed: bool = False,
    ) -> None:
        self._seed, self._keep_unmixed = seed, keep_unmixed
        self._mixup: Any = None
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
            _remember_share(self._mixup, config.mix_mode)

    def __call__(self, batch: Batch, step: int, micro: int) -> Batch:
        """Return the batch mixed as step `step`, forward pass `micro` has it."""
        if self._mixup is None:
            return batch
        unmixed = batch.images.clone() if self._keep_unmixed else None
        set_random_state(derive("mix", self._seed, step, micro))
        images, targets = self._mixup(batch.images, batch.targets)
        mixed = Mixture(share=self._mixup.share, unmixed=unmixed)
        return replace(batch, images=images, targets=targets, mixed=mixed)


def _remember_share(mixup: Any, mode: str) -> None:
    """Have timm's Mixup keep the share that it drew, which it uses for the targets and drops."""
    drawn = getattr(mixup, f"_mix_{mode}")

    def mix(images: Any) -> Any:
        mixup.share = drawn(images)
        return mixup.share

    setattr(mixup, f"_mix_{mode}", mix)
