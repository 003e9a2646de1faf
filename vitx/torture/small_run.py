"""The words of a run of a few steps on a few pictures."""

from __future__ import annotations

EPOCHS, STEPS_PER_EPOCH, BATCH = 2, 6, 8
STEPS = EPOCHS * STEPS_PER_EPOCH

TINY = (
    "dataset=folder",
    "dataset.image_px=16",
    "dataset.workers=0",
    "model=vit_ti8",
    "+model.args.embed_dim=24",
    "+model.args.depth=2",
    "+model.args.num_heads=3",
    f"epochs={EPOCHS}ep",
    f"batch_size={BATCH}",
    "logger.every=1st",
    "runtime.threads=1",
)

# Everything that draws from a random state or carries one from step to step.
EVERYTHING = (
    "augmentation=deit",  # RandAugment, erasing, repeats, mixup, cutmix, label smoothing
    "augmentation.erase_prob=0.5",
    "model.drop_path=0.3",
    "model.dropout=0.2",
    "ema.decay=0.9",
    "ema.warmup=true",
    "optimizer.clip_norm=0.5",
    "optimizer.layer_decay=0.8",
    f"runtime.micro_batch={BATCH // 2}",
)
