"""Short names against published parameter counts and multiply-accumulates, on the meta device.

Three oracles: timm's benchmark tables (1000 classes; counted with fvcore), the metadata that
torchvision keeps beside its own weights (counted with torch), and a closed form for plain ViTs.
"""

import math
from collections.abc import Iterable
from pathlib import Path

import pytest
import torch
import yaml
from torch.utils.flop_counter import FlopCounterMode

from vitx.config.schema import ModelConfig
from vitx.models.build import Fit, build_model, count_parameters
from vitx.paths import conf_dir

# Short name, side in pixels: parameters in millions and GMACs, timm results/*.csv.
TIMM = {
    ("deit_ti", 224): (5.72, 1.26),
    ("deit_s", 224): (22.05, 4.61),
    ("deit_b", 224): (86.57, 17.58),
    ("deit_b", 384): (86.86, 55.54),
    ("deit3_s", 224): (22.06, 4.61),
    ("deit3_s", 384): (22.21, 15.52),
    ("deit3_m", 224): (38.85, 8.0),
    ("deit3_b", 224): (86.59, 17.58),
    ("deit3_l", 224): (304.37, 61.6),
    ("deit3_h", 224): (632.13, 167.4),
    ("vit_ti16", 224): (5.72, 1.26),
    ("vit_s16", 224): (22.05, 4.61),
    ("vit_s32", 224): (22.88, 1.15),
    ("vit_b8", 224): (86.58, 78.22),
    ("vit_b16", 224): (86.57, 17.58),
    ("vit_b32", 224): (88.22, 4.41),
    ("vit_l16", 224): (304.33, 61.6),
    ("vit_l32", 384): (306.63, 45.31),
    ("vit_ti16_r", 224): (6.34, 0.44),
    ("vit_ti16_r", 384): (6.36, 1.34),
    ("vit_s32_r26", 224): (36.43, 3.56),
    ("vit_b16_r50", 384): (98.95, 67.43),
    ("vit_l32_r50", 224): (328.99, 19.58),
    ("xcit_n12", 224): (3.05, 0.56),
    ("xcit_n12_p8", 224): (3.05, 2.16),
    ("xcit_t12", 224): (6.72, 1.24),
    ("xcit_t12_p8", 224): (6.71, 4.81),
    ("xcit_t24", 224): (12.12, 2.34),
    ("xcit_t24_p8", 224): (12.11, 9.21),
    ("xcit_s12", 224): (26.25, 4.82),
    ("xcit_s12", 384): (26.25, 14.14),
    ("xcit_s12_p8", 224): (26.21, 18.69),
    ("xcit_s12_p8", 384): (26.21, 54.92),
    ("xcit_s24", 224): (47.67, 9.1),
    ("xcit_s24_p8", 224): (47.63, 35.81),
    ("xcit_m24", 224): (84.40, 16.13),
    ("xcit_m24_p8", 224): (84.32, 63.53),
    ("xcit_l24", 224): (189.10, 35.86),
    ("xcit_l24_p8", 224): (188.93, 141.23),
    ("regnet", 224): (83.59, 15.96),
    ("resnet50", 224): (25.56, 4.11),
}
# Short name: torchvision's builder, and the name of the weights trained at 224 px.
TORCHVISION = {
    "resnet18": ("ResNet18", "IMAGENET1K_V1"),
    "resnet50": ("ResNet50", "IMAGENET1K_V1"),
    "resnet101": ("ResNet101", "IMAGENET1K_V1"),
    "regnet": ("RegNet_Y_16GF", "IMAGENET1K_V1"),
    "regnety_016": ("RegNet_Y_1_6GF", "IMAGENET1K_V1"),
    "vit_b16": ("ViT_B_16", "IMAGENET1K_V1"),
    "vit_b32": ("ViT_B_32", "IMAGENET1K_V1"),
    "vit_l16": ("ViT_L_16", "IMAGENET1K_V1"),
    "vit_l32": ("ViT_L_32", "IMAGENET1K_V1"),
    "vit_h14": ("ViT_H_14", "IMAGENET1K_SWAG_LINEAR_V1"),
    "swin_t": ("Swin_T", "IMAGENET1K_V1"),
    "convnext_t": ("ConvNeXt_Tiny", "IMAGENET1K_V1"),
    "efficientnet_b0": ("EfficientNet_B0", "IMAGENET1K_V1"),
}
# Plain ViTs with a patch of their own: width, patch, depth.
PLAIN = {
    "vit_ti4": (192, 4, 12),
    "vit_ti8": (192, 8, 12),
    "vit_s4": (384, 4, 12),
    "vit_s8": (384, 8, 12),
}

# What the default tests look at: one of each kind, and nothing deeper than 12 blocks.
QUICK = {
    *("deit_ti", "deit_s", "deit_b", "deit3_s", "deit3_m", "deit3_b", "vit_s32", "vit_b16"),
    *("xcit_n12", "xcit_n12_p8", "xcit_t12", "xcit_s12", "xcit_s12_p8"),
    *("vit_ti16_r", "vit_s32_r26", "regnet", "resnet50", "swin_t", "convnext_t", "resnet18"),
}


def short_names() -> dict[str, Path]:
    return {file.stem: file for file in conf_dir().glob("model/*.yaml")}


def built(name: str, image_px: int) -> torch.nn.Module:
    values = yaml.safe_load(short_names()[name].read_text(encoding="utf-8"))
    with torch.device("meta"):
        fit = Fit(num_classes=1000, channels=3, image_px=image_px)
        return build_model(ModelConfig(**values), fit)


def gmacs(model: torch.nn.Module, image_px: int, **counting) -> float:
    with FlopCounterMode(display=False, **counting) as counter, torch.no_grad():
        model.eval()(torch.zeros(1, 3, image_px, image_px, device="meta"))
    # torch counts two operations for each multiply-accumulate.
    return counter.get_total_flops() / 2e9


def quick(cases: Iterable, chosen: set[str]) -> list:
    """Return the cases, those of other names than `chosen` as slow ones."""
    return [
        case if {case, case[0]} & chosen else pytest.param(case, marks=pytest.mark.slow)
        for case in cases
    ]


def fvcore_norms() -> dict:
    """What fvcore adds to matrix products and convolutions (fvcore/nn/jit_handles.py).

    Five for each element of a layer or group norm. Of a batch norm, two for each element in
    evaluation, and four in training mode without scale and shift, which is how the hybrids
    standardise the weights of their convolutions. torch counts none of these.
    """
    aten = torch.ops.aten

    def times(factor):
        return lambda shape, *_, **__: 2 * factor * math.prod(shape)

    return {
        aten.native_layer_norm: times(5),
        aten.native_group_norm: times(5),
        aten._native_batch_norm_legit_no_training: times(2),
        aten._native_batch_norm_legit: times(4),
    }


def test_every_short_name_has_a_published_figure() -> None:
    known = {name for name, _ in TIMM} | TORCHVISION.keys() | PLAIN.keys()
    assert short_names().keys() - {"timm", "vit_debug"} == known


@pytest.mark.parametrize("case", quick(TIMM, QUICK), ids=str)
def test_timm_table(case: tuple[str, int]) -> None:
    name, image_px = case
    millions, published_gmacs = TIMM[case]
    model = built(name, image_px)
    # Both figures are rounded to two decimals, and nothing more than that is allowed for.
    assert count_parameters(model) / 1e6 == pytest.approx(millions, abs=0.00501)
    counted = gmacs(model, image_px, custom_mapping=fvcore_norms())
    assert counted == pytest.approx(published_gmacs, abs=0.00501)


@pytest.mark.parametrize("name", quick(TORCHVISION, QUICK))
def test_torchvision_metadata(name: str, timm) -> None:
    import torchvision.models

    builder, weights = TORCHVISION[name]
    published = getattr(torchvision.models, f"{builder}_Weights")[weights].meta
    model = built(name, 224)
    assert count_parameters(model) == published["num_params"]
    assert gmacs(model, 224) == pytest.approx(published["_ops"], abs=0.000501)


@pytest.mark.parametrize("name", PLAIN)
def test_closed_form_of_a_vit(name: str) -> None:
    width, patch, depth = PLAIN[name]
    embedding = 3 * patch**2 * width + width + width + ((32 // patch) ** 2 + 1) * width
    block = 4 * width**2 + 4 * width + 8 * width**2 + 5 * width + 4 * width
    model = built(name, 32)
    assert count_parameters(model) == embedding + depth * block + 2 * width + 1000 * width + 1000
