"""Writes the catalogue: parameters, multiply-accumulates and pretrained tags of every model option.

    python -m benchmarks.models

It takes some minutes; nothing is trained, and the models take no memory.
"""

from __future__ import annotations

import csv
import sys

from vitx.config.catalogue import FILES
from vitx.config.resolve import resolve
from vitx.config.schema import TrainConfig
from vitx.config.settings import options
from vitx.config.store import compose
from vitx.models.build import Fit
from vitx.models.size import measure_size

# Beginning of a model's name or its timm module, and its family, in the order of the list.
FAMILIES = {
    "vision_transformer": "ViT",
    "cifar_vit": "ViT",
    "vision_transformer_hybrid": "hybrid",
    "deit": "DeiT",
    "deit3": "DeiT III",
    "xcit": "XCiT",
    "cait": "CaiT",
    "alternet": "AlterNet",
    "preresnet": "pre-act ResNet",
    "resnet": "ResNet",
    "resnetv2": "BiT",
    "regnet": "RegNetY",
    "efficientnet": "EfficientNet",
    "convnext": "ConvNeXt",
    "swin_transformer": "Swin",
    "twins": "Twins",
    "pvt_v2": "PVTv2",
    "pit": "PiT",
    "mlp_mixer": "MLP-Mixer",
}
PLACES = {family: place for place, family in enumerate(FAMILIES.values())}


def main() -> None:
    """Measure every option and write the file."""
    rows = []
    for option in options("model"):
        if option in ("timm", "vit_debug"):
            continue
        rows.append(row(option))
        sys.stderr.write(f"{rows[-1]}\n")
    rows.sort(key=lambda each: (PLACES[each["family"]], each["macs"], each["option"]))
    with (FILES / "models.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, rows[0].keys(), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def row(option: str) -> dict[str, str | int]:
    """Measure one option as it was published: 1000 classes, 3 channels, its own size."""
    config = resolve(compose("train", [f"model={option}"]), TrainConfig).model
    size = measure_size(config, Fit(num_classes=1000, channels=3, image_px=config.image_px))
    from timm.models import get_pretrained_cfg, list_pretrained, model_entrypoint

    own = get_pretrained_cfg(config.name)
    first = own.tag if own else ""
    tags = [name.partition(".")[2] for name in list_pretrained(f"{config.name}.*")]
    plain = not (config.args or config.patch_px)
    module = model_entrypoint(config.name).__module__.rpartition(".")[2]
    return {
        "option": option,
        "family": FAMILIES.get(config.name.partition("_")[0]) or FAMILIES[module],
        "parameters": size.parameters,
        "macs": size.macs,
        "tags": " ".join(sorted(tags, key=lambda tag: (tag != first, tag)) if plain else []),
    }


if __name__ == "__main__":
    main()
