"""Published results against the tables they are from, written down here a second time."""

import pytest

from vitx.config.catalogue import Entry, Published, entries

# facebookresearch/deit 7e160fe, README_deit.md: crop 0.875.
DEIT = {
    ("deit_ti", "fb_in1k"): 72.2,
    ("deit_s", "fb_in1k"): 79.9,
    ("deit_b", "fb_in1k"): 81.8,
    ("deit_ti_dist", "fb_in1k"): 74.5,
    ("deit_s_dist", "fb_in1k"): 81.2,
    ("deit_b_dist", "fb_in1k"): 83.4,
    ("deit_b_384", "fb_in1k"): 82.9,
    ("deit_b_dist_384", "fb_in1k"): 85.2,
}
# README_revenge.md: on ImageNet-1k alone, and from ImageNet-21k.
DEIT3 = {
    "deit3_s": (81.4, 83.1),
    "deit3_s_384": (83.4, 84.8),
    "deit3_m": (83.0, 84.5),
    "deit3_b": (83.8, 85.7),
    "deit3_b_384": (85.0, 86.7),
    "deit3_l": (84.9, 87.0),
    "deit3_l_384": (85.8, 87.7),
    "deit3_h": (85.2, 87.2),
}
# facebookresearch/xcit 82f5291, README: 224 px, distilled, that at 384 px; patches of 16 and of 8.
XCIT = {
    "xcit_n12": ((69.9, 72.2, 75.4), (73.8, 76.3, 77.8)),
    "xcit_t12": ((77.1, 78.6, 80.9), (79.7, 81.2, 82.4)),
    "xcit_t24": ((79.4, 80.4, 82.6), (81.9, 82.6, 83.7)),
    "xcit_s12": ((82.0, 83.3, 84.7), (83.4, 84.2, 85.1)),
    "xcit_s24": ((82.6, 83.9, 85.1), (83.9, 84.9, 85.6)),
    "xcit_m24": ((82.7, 84.3, 85.4), (83.7, 85.1, 85.8)),
    "xcit_l24": ((82.9, 84.9, 85.8), (84.4, 85.4, 86.0)),
}
# google-research/vision_transformer c6de1e5, README: the weights of these three are timm's tags.
AUGREG = {"vit_s16_384": 83.73, "vit_ti16_384": 78.22, "vit_ti16_r_384": 75.40}
# ICLR poster of How Do Vision Transformers Work?, CIFAR-100, read off a figure.
CIFAR = {"alternet_50_cifar": 84.0, "preresnet_50_cifar": 82.5, "vit_ti2_hdvw": 66.5}
# Measured by timm with a crop, published squashed to a square.
SQUASHED = set(AUGREG)


def expected() -> dict[tuple[str, str], float]:
    found = dict(DEIT)
    for option, (plain, larger) in DEIT3.items():
        found |= {(option, "fb_in1k"): plain, (option, "fb_in22k_ft_in1k"): larger}
    for option, sizes in XCIT.items():
        for patch, (plain, distilled, at_384) in zip(("", "_p8"), sizes, strict=True):
            found[option + patch, "fb_in1k"] = plain
            found[option + patch, "fb_dist_in1k"] = distilled
            found[f"{option}{patch}_384", "fb_dist_in1k"] = at_384
    tag = "augreg_in21k_ft_in1k"
    return found | {(option, tag): top1 for option, top1 in AUGREG.items()}


def of_tag(entry: Entry, tag: str, *, by_authors: bool) -> list[Published]:
    return [
        each
        for each in entry.published
        if (each.tag, each.by_authors, each.image_px) == (tag, by_authors, entry.image_px)
    ]


@pytest.mark.parametrize(("option", "tag"), expected())
def test_what_the_authors_report(option: str, tag: str) -> None:
    (result,) = of_tag(entries()[option], tag, by_authors=True)
    assert result.top1 == expected()[option, tag]
    assert result.dataset == "imagenet1k"


def test_no_other_tag_has_a_number_of_its_authors() -> None:
    found = {
        (entry.option, each.tag)
        for entry in entries().values()
        for each in entry.published
        if each.by_authors and each.tag
    }
    assert found - {("vit_b16", "orig_in21k_ft_in1k")} == expected().keys()


def test_numbers_of_one_tag_agree_with_what_timm_measured() -> None:
    """A number that stands beside weights it is not of would not."""
    compared = 0
    for option, tag in expected():
        entry = entries()[option]
        for measured in of_tag(entry, tag, by_authors=False):
            most = 0.6 if option in SQUASHED else 0.25
            assert measured.top1 == pytest.approx(expected()[option, tag], abs=most), option
            compared += 1
    assert compared > 60


@pytest.mark.parametrize("option", CIFAR)
def test_results_on_other_data_do_not_pass_for_imagenet(option: str) -> None:
    (result,) = entries()[option].published
    assert (result.top1, result.dataset) == (CIFAR[option], "cifar100")
    assert entries()[option].result is None
