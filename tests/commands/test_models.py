"""`vitx models` as it is typed: what is listed, in which order, and what is refused."""

import pytest

from vitx.cli import main


def shown(capsys: pytest.CaptureFixture[str], *words: str, code: int = 0) -> str:
    assert main(["models", *words]) == code
    captured = capsys.readouterr()
    return captured.out if code == 0 else captured.err


def listed(capsys: pytest.CaptureFixture[str], *words: str) -> list[str]:
    lines = shown(capsys, *words).splitlines()
    return [line.split()[0] for line in lines[1 : lines.index("")]]


def test_everything_is_listed_once(capsys) -> None:
    everything = listed(capsys)
    assert len(everything) == len(set(everything)) > 140
    assert everything[0].startswith("vit_")


def test_patterns_match_names_and_families(capsys) -> None:
    assert listed(capsys, "xcit_*_p8", "px=224")[0] == "xcit_n12_p8"
    assert set(listed(capsys, "deit3")) >= {"deit3_s", "deit3_h"}
    assert listed(capsys, "DeiT III") == listed(capsys, "family=deit iii")
    assert "xcit_s12" in listed(capsys, "xcit_small_12")  # a part of timm's name


def test_filters_and_orders(capsys) -> None:
    small = listed(capsys, "max_parameters=6", "max_gmacs=1.3", "min_top1=70", "sort=top1")
    assert {"deit_ti", "deit_ti_dist", "vit_ti16", "pit_ti"} <= set(small)
    assert "xcit_n12" not in small  # 69.9 %
    ascending = listed(capsys, "deit_", "sort=gmacs")
    assert listed(capsys, "deit_", "sort=gmacs", "descending=true") == ascending[::-1]
    assert ascending[0] == "deit_ti"
    assert listed(capsys, "family=DeiT", "px=384") == ["deit_b_384", "deit_b_dist_384"]


def test_a_row_says_size_and_result(capsys) -> None:
    lines = shown(capsys, "deit_ti*").splitlines()
    assert lines[1].split() == ["deit_ti", "DeiT", "5.72", "M", "1.26", "224", "72.2", "fb_in1k"]
    assert "fvcore" in lines[-3]


def test_the_result_is_of_the_weights_that_stand_first(capsys) -> None:
    rows = {line.split()[0]: line.split() for line in shown(capsys).splitlines() if line}
    assert rows["regnet"][6:8] == ["85.6*", "sw_in12k_ft_in1k,"]
    assert rows["resnet50"][6:8] == ["80.4*", "a1_in1k,"]
    assert rows["xcit_s12"][-3:] == ["82.0", "fb_in1k,", "fb_dist_in1k"]
    assert rows["alternet_50_cifar"][-1] == "-"  # known on CIFAR-100 only


def test_one_model_in_full_has_every_source(capsys) -> None:
    text = shown(capsys, "deit_b_384")
    assert "86,859,496" in text
    assert "82.90  imagenet1k, fb_in1k, 384 px, crop 0.875, the paper prints 83.1" in text
    assert "83.11  imagenet1k, fb_in1k, 384 px, crop 1" in text
    assert "facebookresearch/deit 7e160fe" in text


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["xcit_s122"], "no model matches; did you mean 'xcit_s12'"),
        (["family=XCIT2"], "did you mean 'XCiT'?"),
        (["swin_b", "px=384"], "no model named so has all that is asked for"),
        (["min_top1=nan"], "min_top1=nan: expected more than 0"),
        (["max_gmacs=-1"], "max_gmacs=-1.0: expected more than 0"),
        (["px=big"], "px=big: expected a whole number"),
        (["sort=size"], "sort=size: no such choice"),
        (["srot=px"], "srot: no such setting; did you mean 'sort'?"),
        (["deit", "xcit"], "xcit: one word too many"),
        (["--all"], "--all: no such flag"),
        (["descending=yes"], "descending=yes: expected true or false"),
    ],
)
def test_mistakes_are_answered(capsys, words: list[str], message: str) -> None:
    assert message in shown(capsys, *words, code=2)
