"""The manual page: complete, truthful, narrow enough."""

from __future__ import annotations

import pytest

from vitx.config.manual import COMMON, WIDTH, page
from vitx.config.settings import groups, settings
from vitx.config.store import SCHEMAS
from vitx.errors import UsageError


def _squeezed(text: str) -> str:
    return " ".join(text.split())


@pytest.mark.parametrize("verb", SCHEMAS)
@pytest.mark.parametrize("topic", [None, "all"])
def test_no_line_is_wider_than_the_page(verb: str, topic: str | None) -> None:
    lines = page(verb, topic).splitlines()
    assert max(len(line) for line in lines) <= WIDTH
    assert all(line == line.rstrip() for line in lines)


@pytest.mark.parametrize("verb", SCHEMAS)
def test_the_page_names_every_group_option_and_common_setting(verb: str) -> None:
    text = page(verb)
    squeezed = _squeezed(text)
    for group in groups(verb).values():
        marked = (f"{option}*" if option == group.default else option for option in group.options)
        assert f"{group.name} {' '.join(marked)}" in squeezed
    for name in COMMON[verb]:
        assert f"  {name}={settings(verb)[name].default} " in text
        assert settings(verb)[name].doc in squeezed


@pytest.mark.parametrize("verb", SCHEMAS)
def test_all_lists_every_setting_once(verb: str) -> None:
    text = page(verb, "all")
    for name, setting in settings(verb).items():
        assert text.count(f"\n  {name}=") == 1
        assert setting.doc in _squeezed(text)


def test_defaults_are_those_of_the_shipped_configuration() -> None:
    text = page("train", "all")  # the schema alone says 224, 0.0 and ???
    assert "dataset.image_px=32 " in text
    assert "augmentation.label_smoothing=0.1 " in text
    assert "model.name=xcit_nano_12_p16_224 " in text


def test_choices_and_null_are_shown() -> None:
    text = _squeezed(page("train", "all"))
    assert "precision=auto auto|fp32|bf16|fp16 " in text
    assert "dataset.mirror=false true|false " in text
    assert "ema.decay=null number or null " in text
    assert "run_dir=null path or null " in text


def test_exit_codes_are_documented() -> None:
    text = page("train")
    for code in (0, 1, 2, 3, 4, 5, 7, 8, 75, 130):
        assert f"\n  {code:>3}  " in text


def test_one_section_or_setting() -> None:
    text = page("train", "schedule")
    assert "cosine*" in text
    assert "schedule.warmup=5%" in text
    assert "optimizer" not in text
    assert page("train", "seed").startswith("  seed=0 ")


def test_an_unknown_topic_is_refused_with_a_near_match() -> None:
    with pytest.raises(UsageError, match="did you mean 'schedule'"):
        page("train", "shedule")
