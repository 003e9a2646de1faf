"""Names from elsewhere are printed as text, never obeyed by a terminal."""

import shutil
from pathlib import Path

import pytest
from PIL import Image

from tests.train.programs import Programs
from tests.train.tiny import TINY
from vitx.data.found import listed
from vitx.escapes import visible, visible_line

# Sets the title, clears the screen, moves up, hides, reverses: and forges a line of its own.
EVIL = "rose\x1b]0;owned\x07\x1b[2J\x1b[1A\x9b31m\x08\x7f\rtop-1 99.9 %\u202e\u2066"


@pytest.fixture
def rooted(pictures: Path, tmp_path: Path) -> Path:
    root = tmp_path / "pictures"
    shutil.copytree(pictures, root)
    for split in ("train", "val"):
        (root / split / "ape").rename(root / split / f"{EVIL}\nlily")
    (root / "train" / "bee" / f"{EVIL}.txt").write_text("no picture")
    return root


def raw(text: str) -> set[str]:
    return set(text) & set("\x1b\x07\x9b\x08\x7f\r\u202e\u2066")


def test_class_names_are_printed_escaped(rooted: Path, vitx: Programs, tmp_path: Path) -> None:
    words = (*TINY, f"dataset.path={rooted}", "epochs=1st", "run_dir=run")
    said = vitx.done("check", *words)
    assert "rose\\x1b]0;owned\\x07\\x1b[2J" in said
    assert "%\\u202e\\u2066\\nlily" in said
    said += vitx.done("train", *words)
    said += (tmp_path / "run" / "log.txt").read_text()
    assert raw(said) == set()


@pytest.mark.slow
def test_file_names_are_printed_escaped(rooted: Path, vitx: Programs) -> None:
    (rooted / "train" / "bee" / f"{EVIL}\n.png").write_bytes(b"no picture")
    words = (*TINY, f"dataset.path={rooted}", "epochs=2ep", "run_dir=run")
    said = vitx.done("train", *words, code=3) + vitx.done("check", *words, code=3)
    assert "rose\\x1b]0;owned" in said
    assert raw(said) == set()


def test_a_class_without_pictures_is_named_escaped(rooted: Path, vitx: Programs) -> None:
    (rooted / "train" / f"\x1b[2J\nvitx train: all is well{EVIL}").mkdir()
    said = vitx.done("train", *TINY, f"dataset.path={rooted}", code=3)
    assert raw(said) == set()
    assert not any(line.startswith("vitx train: all is well") for line in said.splitlines())


@pytest.mark.parametrize("text", ["plain", "ünï 日本 😀", "a\u200db", "tab\\t", "‘quoted’", "\xa0"])
def test_what_is_harmless_stays(text: str) -> None:
    assert visible(text) == visible_line(text) == text


def test_every_character_can_be_printed() -> None:
    everything = "".join(map(chr, range(0x110000)))
    line = visible_line(everything)
    line.encode()  # no lone surrogates
    assert not raw(line)
    assert "\n" not in line and len(line.splitlines()) == 1
    assert visible("a\nb") == "a\nb"
    assert listed(["a\nb", "\x1b"]) == "a\\nb, \\x1b"


def test_pictures_are_not_executed_by_their_names(tmp_path: Path) -> None:
    name = tmp_path / "`touch MARK`;$(touch MARK).png"
    Image.new("RGB", (4, 4)).save(name)
    assert not (tmp_path / "MARK").exists()
