"""`vitx predict` says what `vitx eval` says, of any pictures, and draws where a model looks."""

from __future__ import annotations

import io
import json
import os
import shutil
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from tests.train.tiny import CLASSES, LOADERS_FORK, TINY, evaluate, newest, read, train
from vitx.cli import main
from vitx.config.completion import FILES, complete

pytestmark = LOADERS_FORK


@pytest.fixture(scope="module")
def trained(pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of a DeiT with two heads, and what evaluation says of each picture, one at a time."""
    run_dir = tmp_path_factory.mktemp("trained") / "run"
    words = (*TINY, f"dataset.path={pictures}", "ema.decay=0.9", "epochs=1ep")
    train(*words, "model.variant.distillation_token=true", f"run_dir={run_dir}")
    for weights, size in (("ema", 1), ("model", 8)):
        name = f"{weights}{size}"
        evaluate(
            *(f"run={run_dir}", f"weights={weights}", f"batch_size={size}", "workers=0"),
            *("dataset=folder", f"dataset.path={pictures}", f"suite=[{name}]"),
        )
    return run_dir


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def told(capsys: pytest.CaptureFixture[str], *words: object, code: int = 0) -> list[dict]:
    """What it prints as JSON: nothing else comes out of stdout."""
    assert main(["predict", *map(str, words), "json=true"]) == code
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def said(capsys: pytest.CaptureFixture[str], *words: object, code: int = 0) -> tuple[str, str]:
    assert main(["predict", *map(str, words)]) == code
    return capsys.readouterr()


@pytest.mark.parametrize(("weights", "size"), [("ema", 1), ("model", 8)])
def test_it_says_what_an_evaluation_says(
    weights: str, size: int, trained: Path, pictures: Path, capsys
) -> None:
    table = pq.read_table(trained / f"eval/{weights}{size}.parquet").to_pydict()
    found = told(
        capsys, pictures / "val", f"run={trained}", f"weights={weights}", f"batch_size={size}"
    )
    assert len(found) == len(table["name"]) == 21
    for row, each in enumerate(found):
        assert each["file"] == str(pictures / "val" / table["name"][row])
        best = each["predictions"][0]
        assert CLASSES.index(best["class"]) == table["prediction"][row]
        assert np.float32(best["probability"]) == table["confidence"][row]  # to the last bit
        probabilities = [other["probability"] for other in each["predictions"]]
        assert sorted(probabilities, reverse=True) == probabilities
        assert sum(probabilities) == pytest.approx(1, abs=1e-12)
        assert (each["weights"], each["run"]) == (weights, str(trained))
    (digest,) = {each["sha256"] for each in found}
    folder = newest(trained)
    assert folder.name == found[0]["checkpoint"]
    assert digest == read(folder / "manifest.json")["files"][f"{weights}.safetensors"]["sha256"]


def test_a_head_is_chosen_as_in_an_evaluation(trained: Path, pictures: Path, capsys) -> None:
    picture = pictures / "val/bee/00.png"
    shares = {
        head: {
            each["class"]: each["probability"]
            for each in told(capsys, picture, f"run={trained}", *words)[0]["predictions"]
        }
        for head in ("class_head", "distill_head", "mean_softmax", "mean_logits", None)
        for words in [[f"head={head}"] if head else []]
    }
    assert shares[None] == shares["mean_logits"] != shares["class_head"]
    for name in CLASSES:
        mean = (shares["class_head"][name] + shares["distill_head"][name]) / 2
        assert shares["mean_softmax"][name] == pytest.approx(mean, abs=1e-6)


def test_the_table(trained: Path, pictures: Path, capsys) -> None:
    picture = pictures / "val/bee/00.png"
    (best, second, _) = told(capsys, picture, f"run={trained}")[0]["predictions"]
    out, _ = said(capsys, picture, f"run={trained}", "top=2")
    lines = out.splitlines()
    assert lines[0].endswith("/checkpoints/step-00000006, weights ema")
    cells = [f"{each['class']} {100 * each['probability']:6.2f} %" for each in (best, second)]
    assert lines[1:] == ["  ".join([str(picture), *cells])]


def test_folders_are_searched_in_an_order_of_their_own(
    trained: Path, pictures: Path, capsys
) -> None:
    one = pictures / "val/ape/00.png"
    for name in ("b/z.png", "b/a/y.PNG", "a.png", ".hidden.png", "b/.h/x.png", "old.attention.png"):
        path = Path("photos") / name
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(one, path)
    Path("photos/notes.txt").write_text("no picture")
    shutil.copy(one, "without extension")
    found = told(capsys, "without extension", "photos", one, f"run={trained}")
    inside = ["photos/a.png", "photos/b/a/y.PNG", "photos/b/z.png"]
    assert [each["file"] for each in found] == ["without extension", *inside, str(one)]
    out, _ = said(capsys, "photos", f"run={trained}")
    assert "1 files below photos are no pictures: 1 .txt" in out


def test_a_bad_picture_is_named_and_the_others_go_on(trained: Path, pictures: Path, capsys) -> None:
    good = [pictures / "val/ape/00.png", pictures / "val/cow/01.png"]
    whole = good[0].read_bytes()
    Path("cut.png").write_bytes(whole[: len(whole) // 2])
    Path("text.png").write_text("no picture")
    words = (good[0], "cut.png", "text.png", good[1], f"run={trained}")
    for size in (1, 2, 8):
        found = told(capsys, *words, f"batch_size={size}", code=3)
        assert ["error" in each for each in found] == [False, True, True, False]
        assert "truncated PNG" in found[1]["error"]
        assert found[2]["error"].startswith("no readable JPEG, PNG, WebP or BMP")
    out, err = said(capsys, *words, code=3)
    assert "cut.png" in out
    assert "text.png" in out
    assert "can't be decoded: truncated PNG" in out
    assert "vitx predict: 2 of 4 pictures can't be decoded, the first is cut.png: trunc" in err
    assert said(capsys, "cut.png", f"run={trained}", code=3)[0].count("%") == 0


def test_a_picture_comes_by_stdin(trained: Path, pictures: Path, capsys, monkeypatch) -> None:
    picture = pictures / "val/bee/03.png"
    (expected,) = told(capsys, picture, f"run={trained}")
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(picture.read_bytes())))
    (found,) = told(capsys, "-", f"run={trained}")
    assert found == expected | {"file": "-"}


def test_a_name_with_an_equals_sign_is_a_file(trained: Path, pictures: Path, capsys) -> None:
    for name in ("hue=3.png", "top=1"):
        shutil.copy(pictures / "val/ape/00.png", name)
    found = told(capsys, "hue=3.png", "./top=1", f"run={trained}", "top=2")
    assert [each["file"] for each in found] == ["hue=3.png", "./top=1"]
    assert [len(each["predictions"]) for each in found] == [2, 2]


def test_names_are_printed_not_obeyed(trained: Path, pictures: Path, capsys) -> None:
    name = "a\x1b[2J\n\x7f\u202e.png"
    shutil.copy(pictures / "val/ape/00.png", name)
    Path("bad\x1b[2J.png").write_text("")
    shutil.copy(pictures / "val/ape/00.png", os.fsdecode(b"\xff.png"))
    words = (name, "bad\x1b[2J.png", os.fsdecode(b"\xff.png"), f"run={trained}")
    out, err = said(capsys, *words, code=3)
    assert not {*"\x1b\x7f\u202e"} & {*out, *err}
    assert len(out.splitlines()) == 4
    assert "a\\x1b[2J\\n\\x7f\\u202e.png" in out
    assert main(["predict", *words, "json=true"]) == 3
    out = capsys.readouterr().out
    assert out.isascii()
    assert not {*"\x1b\x7f"} & {*out}
    assert [json.loads(line)["file"] for line in out.splitlines()] == [*words[:3]]


def test_attention_is_drawn_beside_what_the_model_saw(
    trained: Path, pictures: Path, capsys
) -> None:
    Path("in/a").mkdir(parents=True)
    Path("in/b").mkdir()
    for name in ("a", "b"):
        Image.new("RGB", (40, 20), (200, 30, 10)).save(f"in/{name}/x.png")
    Image.open("in/b/x.png").crop((0, 0, 20, 20)).save("in/b/wide.png")
    found = told(capsys, "in", f"run={trained}", "attention=maps")
    files = ["x.attention.png", "wide.attention.png", "x-2.attention.png"]
    assert [each["attention"]["file"] for each in found] == [f"maps/{name}" for name in files]
    for each in found:
        told_of = each["attention"]
        assert "rollout of 2 layers, mean over heads, residual 0.5, row of the class" in str(
            told_of
        )
        assert 0 < told_of["lowest"] <= told_of["highest"] < 1
        assert len(told_of["prefix"]) == 2
        drawn = Image.open(told_of["file"])
        assert drawn.size == (2 * 224 + 8, 224)
        assert drawn.getpixel((10, 200)) == (200, 30, 10)
        assert each["sha256"] in drawn.text["Source"]
        corners = {drawn.getpixel((232 + x, y)) for x in (5, 220) for y in (5, 220)}
        assert (252, 255, 164) in corners  # the most attended of the four patches
    before = Path("maps/x.attention.png").read_bytes()
    out, _ = said(capsys, "in/a/x.png", f"run={trained}", "attention=true")
    assert out.endswith("row of the class token; written to attention\n")
    assert Path("attention/x.attention.png").read_bytes() == before


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        ([], 2, "expected pictures or folders; type vitx predict PICTURE"),
        (["none.png"], 2, "none.png: expected a picture, found nothing there"),
        (["pipe"], 2, "pipe: expected a file or a folder; - takes a pipe"),
        (["top=0", "x.png"], 2, "top=0: expected 1 or more"),
        (["batch_size=0", "x.png"], 2, "batch_size=0: expected 1 or more"),
        (["x.png", "run=nowhere"], 2, "run=nowhere: no run there"),
        (["x.png", "attention="], 2, "attention=: expected a folder"),
        (["x.png", "attention=x.png"], 4, "x.png can't be written"),
        (["x.png", "tpo=1"], 2, "tpo: no such setting; did you mean 'top'"),
        (["x.png", "--fast"], 2, "--fast: no such flag"),
        (["empty"], 3, "empty: expected pictures (.bmp .jpeg .jpg .png .webp) in it or below"),
        (["x.png", "checkpoint=3"], 4, "has no checkpoint of step 3; it has 6"),
        (["x.png", "checkpoint=first"], 2, "checkpoint=first: expected last, best or a step"),
        (["x.png", "device=tpu"], 2, "torch has no such device here"),
    ],
)
def test_mistakes_are_answered(
    words: list[str], code: int, message: str, trained: Path, pictures: Path, capsys
) -> None:
    Path("empty").mkdir()
    os.mkfifo("pipe")
    shutil.copy(pictures / "val/ape/00.png", "x.png")
    run = [] if any(word.startswith("run=") for word in words) else [f"run={trained}"]
    out, err = said(capsys, *words, *run, code=code)
    assert message in err
    assert out == ""


def test_a_model_without_attention_is_refused_before_anything(
    pictures: Path, tmp_path: Path, capsys
) -> None:
    words = [word for word in TINY if "model" not in word]
    words += ["model=timm", "model.name=resnet10t", "epochs=1st", f"dataset.path={pictures}"]
    train(*words, "dataset.image_px=32", "run_dir=cnn")
    capsys.readouterr()
    out, err = said(capsys, pictures / "val", "run=cnn", "attention=maps", code=2)
    assert (out, Path("maps").exists()) == ("", False)
    assert err == "vitx predict: ResNet has no attention map: it has no attention\n"
    assert len(told(capsys, pictures / "val", "run=cnn")) == 21


def test_a_damaged_checkpoint_is_no_answer(trained: Path, pictures: Path, capsys) -> None:
    shutil.copytree(trained, "copy")
    file = newest(Path("copy")) / "ema.safetensors"
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)
    out, err = said(capsys, pictures / "val/ape/00.png", "run=copy", code=4)
    assert (out, "is damaged: ema.safetensors" in err) == ("", True)


def test_a_head_that_is_not_there_is_refused(pictures: Path, capsys) -> None:
    train(*TINY, f"dataset.path={pictures}", "epochs=1st", "run_dir=one")
    capsys.readouterr()
    _, err = said(capsys, pictures / "val", "run=one", "head=class_head", code=2)
    assert "head=class_head: this model has one head; leave it out" in err


def test_words_are_completed_and_explained(capsys) -> None:
    assert complete(["predict", "ph"], ["predict"]) == [FILES]
    assert complete(["predict", "a.png", "to"], ["predict"]) == ["top="]
    assert complete(["predict", "json="], ["predict"]) == ["json=true", "json=false"]
    out, _ = said(capsys, "--help")
    assert "usage: vitx predict [pictures ...] [setting=value ...]" in out
    assert "attention=" in out
