"""The errors of AlexNet that corruption errors are measured by.

Source: the raw top-1 errors of torchvision's AlexNet on the files of ImageNet-C, 50,000 pictures at
each severity, published by the authors of ImageNet-C (a table linked in the README of
`hendrycks/robustness`), as `imagenetc_alexnet_error_rates_list` of timm has them; their means by
corruption are `ALEXNET_ERR` of `google-research/augmix`. On the validation set itself the same
weights have 56.522 % top-1 (torchvision, `AlexNet_Weights.IMAGENET1K_V1`).
"""

from __future__ import annotations

from collections.abc import Mapping

WRONG: Mapping[str, tuple[int, ...]] = {
    "gaussian_noise": (34_764, 41_271, 46_777, 49_069, 49_726),
    "shot_noise": (35_612, 42_554, 46_787, 49_091, 49_573),
    "impulse_noise": (39_187, 44_904, 47_435, 49_360, 49_774),
    "defocus_blur": (32_812, 36_601, 42_518, 45_682, 47_357),
    "glass_blur": (32_154, 37_527, 44_403, 45_811, 46_672),
    "motion_blur": (29_215, 35_024, 41_054, 44_875, 46_319),
    "zoom_blur": (35_004, 38_496, 40_392, 42_099, 43_599),
    "snow": (35_863, 44_196, 43_234, 45_935, 47_476),
    "frost": (30_695, 39_867, 44_395, 44_971, 46_715),
    "fog": (33_737, 38_025, 42_189, 43_630, 47_250),
    "brightness": (22_570, 24_251, 27_024, 31_083, 36_220),
    "contrast": (32_274, 38_075, 44_437, 48_880, 49_635),
    "elastic_transform": (26_298, 35_058, 27_843, 32_038, 40_277),
    "pixelate": (26_109, 27_310, 36_864, 43_546, 45_631),
    "jpeg_compression": (25_501, 27_359, 28_647, 32_729, 37_389),
}
"""Pictures of each corruption, by severity, that AlexNet gets wrong."""

CLEAN_WRONG = 21_739
"""Pictures of the validation set itself that AlexNet gets wrong."""

COUNT = 50_000
"""Pictures of each."""
