"""The common corruptions of ImageNet-C, CIFAR-C and Tiny ImageNet-C, made on the fly.

Source: D. Hendrycks, T. Dietterich, Benchmarking Neural Network Robustness to Common Corruptions
and Perturbations, ICLR 2019 (arXiv 1903.12261), and the programs that made the published files,
`create_c/make_{imagenet,tinyimagenet,cifar}_c.py` in `hendrycks/robustness`. Levels and procedures
are theirs, down to what looks like a slip but is in the published pictures; each function says
where it departs. Random draws are vitx's own, so that a picture differs from the published one
as two draws differ.

Three things decide whether numbers can be held against published ones:

- The published programs corrupt what the model sees: pictures already resized and cropped to 224,
  64 or 32 pixels. Levels in pixels are not scaled to other sizes.
- The files of ImageNet-C and Tiny ImageNet-C were saved as JPEG of quality 85, which takes away
  some of the noise; those of CIFAR-C were not. `saved=True` does the same.
- The authors ask for results on the files rather than on corruptions made in memory.
"""

from vitx.evaluate.corruptions.applying import Corruptor, corrupt, corruptor
from vitx.evaluate.corruptions.levels import Levels, levels_for
from vitx.evaluate.corruptions.table import (
    COMMON,
    CORRUPTIONS,
    SEVERITIES,
    VALIDATION,
    Corruption,
    Group,
)

__all__ = [
    "COMMON",
    "CORRUPTIONS",
    "SEVERITIES",
    "VALIDATION",
    "Corruption",
    "Corruptor",
    "Group",
    "Levels",
    "corrupt",
    "corruptor",
    "levels_for",
]
