"""`vitx compare` as it is typed, on stored results that are written here."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from sklearn.metrics import accuracy_score, confusion_matrix

from tests.commands.stored_runs import CLASSES, LABELS, right, write_run
from vitx.cli import main
from vitx.config.completion import FILES, complete

WORSE = right(*range(0, 60, 3))  # 20 of 200
BETTER = right(*range(0, 12, 3), 100)  # 5, of which 4 are those of WORSE
SMALL = "vit_small_patch16_224"


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def compared(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[str, dict[str, Any]]:
    assert main(["compare", *words]) == 0
    written: dict[str, Any] = json.loads(Path("compare.json").read_text())
    return capsys.readouterr().out, written


def refused(capsys: pytest.CaptureFixture[str], *words: str, code: int = 2) -> str:
    """Return the one line of a refusal, after which nothing is written."""
    assert main(["compare", *words]) == code
    (line,) = capsys.readouterr().err.splitlines()
    assert not Path("compare.json").exists()
    return line


def test_two_runs(capsys) -> None:
    write_run(Path("runs/a"), WORSE)
    write_run(Path("runs/b"), BETTER, model=SMALL)
    out, data = compared(capsys, "runs/a", "runs/b")
    assert "a       0    10  model    90.00 % (85.06 to 93.43)  0.2900" in out.splitlines()
    (found,) = data["comparisons"]
    assert found["top1"]["value"] == pytest.approx(7.5)
    # One against sixteen: 2 (1 + 17) / 2^17.
    assert found["p"] == pytest.approx(36 / 2**17)
    assert found["p"] == found["p_corrected"]
    apart = found["disagreement"]
    assert (apart["count"], apart["a_right"], apart["b_right"]) == (17, 1, 16)
    assert "17  94.1 / 5.9 %" in out
    assert found["says"] in out
    assert found["says"].startswith("b is better than a by 7.50 points (3.")
    assert found["loss"]["value"] == pytest.approx(-0.075 * 1.9)
    assert found["loss"]["high"] < 0
    assert [each["name"] for each in data["runs"]] == ["a", "b"]
    with Image.open("compare.png") as picture:
        assert picture.format == "PNG"
        assert picture.width > 1000


def test_each_class_is_that_of_scikit_learn(capsys) -> None:
    draw = np.random.default_rng(0)
    label = np.sort(draw.integers(0, 3, 200))  # none of the class 3
    one, two = draw.random((2, 200)) < [[0.7], [0.8]]
    for name, correct in (("a", one), ("b", two)):
        write_run(Path(name), correct, label=label)
    _, data = compared(capsys, "a", "b", "groups=false")
    said = {name: pq.read_table(f"{name}/eval/val.parquet")["prediction"] for name in "ab"}
    (found,) = data["comparisons"]
    assert found["top1"]["value"] == pytest.approx(
        100 * (accuracy_score(label, said["b"]) - accuracy_score(label, said["a"]))
    )
    recall = {}
    for name in "ab":
        matrix = confusion_matrix(label, said[name], labels=range(4))[:3]
        recall[name] = 100 * np.diag(matrix) / matrix.sum(axis=1)
    classes = found["classes"]
    assert [each["number"] for each in classes] == [0, 1, 2]
    assert [each["count"] for each in classes] == np.bincount(label).tolist()
    assert [each["a_top1"] for each in classes] == pytest.approx(recall["a"].tolist())
    assert [each["top1"]["value"] for each in classes] == pytest.approx(
        (recall["b"] - recall["a"]).tolist()
    )
    for each in classes:
        assert each["top1"]["low"] < each["top1"]["value"] < each["top1"]["high"]
        assert each["p"] <= each["p_corrected"] <= 1


def test_the_classes_that_differ_most_are_shown(capsys) -> None:
    write_run(Path("a"), right(0, 4, 8, 12, 1, 2))
    write_run(Path("b"), right(3))
    out, _ = compared(capsys, "a", "b", "groups=false")
    lines = out.splitlines()
    table = lines[lines.index("b - a, the classes that differ most") + 1 :][:5]
    assert [line.split()[0] for line in table] == ["class", "ape", "cat", "bee", "dog"]
    assert table[1].split()[1:8:2] == ["50", "%", "%", "(-0.2"]


def test_runs_that_are_right_alike_are_not_told_apart(capsys) -> None:
    write_run(Path("a"), WORSE)
    write_run(Path("b"), WORSE, model=SMALL)
    out, data = compared(capsys, "a", "b")
    (found,) = data["comparisons"]
    assert (found["p"], found["shown"]) == (1.0, False)
    assert found["top1"]["low"] < 0 < found["top1"]["high"]
    assert "no difference between a and b shown: +0.00 (-1." in out
    assert "b - a: the same in each of 4 classes" in out


def test_one_sample(capsys) -> None:
    for name, correct in (("a", [False]), ("b", [True])):
        write_run(Path(name), np.array(correct), label=LABELS[:1], model=name)
    out, data = compared(capsys, "a", "b")
    assert data["comparisons"][0]["loss"]["low"] is None
    assert "+100.00 (-" in out
    assert "-1.9000 (unknown)" in out


def test_several_are_corrected_as_one_family(capsys) -> None:
    for name, correct in (("a", WORSE), ("b", BETTER), ("c", right(3, 100))):
        write_run(Path(name), correct, model=f"{name}_net")
    out, data = compared(capsys, "a", "b", "c")
    names = [(each["a"], each["b"]) for each in data["comparisons"]]
    assert names == [("a", "b"), ("a", "c"), ("b", "c")]
    ab, ac, bc = (each["p"] for each in data["comparisons"])
    assert ac < ab < bc
    assert [each["p_corrected"] for each in data["comparisons"]] == pytest.approx(
        [2 * ab, 3 * ac, bc]
    )
    assert data["correction"]["family"] == "3 comparisons of top-1"
    assert "Corrected by Holm's method over the 3 comparisons" in out


@pytest.mark.parametrize("words", [("a", "c", "baseline=b"), ("a", "b", "c", "baseline=./b/")])
def test_a_baseline_is_what_all_are_compared_with(capsys, words: tuple[str, ...]) -> None:
    for name, correct in (("a", WORSE), ("b", BETTER), ("c", right(3, 100))):
        write_run(Path(name), correct, model=f"{name}_net")
    _, data = compared(capsys, *words)
    assert [(each["a"], each["b"]) for each in data["comparisons"]] == [("b", "a"), ("b", "c")]


def write_group(name: str, model: str, wrong: int) -> None:
    """Write three runs that differ by seed, wrong on about so many samples."""
    draw = np.random.default_rng(len(name))
    for seed in range(3):
        places = draw.choice(200, wrong + seed, replace=False)
        write_run(Path(f"runs/{name}-s{seed}"), right(*places), model=model, seed=seed)


def test_runs_that_differ_by_seed_are_a_group(capsys) -> None:
    write_group("plain", "vit_tiny_patch16_224", 60)
    write_group("mixed", SMALL, 8)
    out, data = compared(capsys, *sorted(map(str, Path("runs").iterdir())))
    assert [each["name"] for each in data["groups"]] == ["mixed-s x3", "plain-s x3"]
    assert data["groups"][0]["top1"]["mean"] == pytest.approx(100 - 4.5)
    assert data["groups"][0]["top1"]["standard_error"] == pytest.approx(0.5 / np.sqrt(3))
    (found,) = data["comparisons"]
    assert found["top1"]["value"] == pytest.approx(-26)
    assert (found["covers"], found["disagreement"]) == ("samples and seeds", None)
    assert "mixed-s x3 is better than plain-s x3 by 26.00 points" in out
    assert "mixed-s x3  0, 1, 2                95.50 +- 0.29 %  0.1855 +- 0.0055" in out
    assert "for other pictures and other seeds." in out


def test_a_single_run_beside_a_group_has_no_variance_of_seeds(capsys) -> None:
    write_group("plain", "vit_tiny_patch16_224", 60)
    write_run(Path("runs/x"), BETTER, model=SMALL)
    out, data = compared(capsys, *sorted(map(str, Path("runs").iterdir())))
    assert data["comparisons"][0]["b_seeds"] == 1
    assert "x has one seed: no seed variance known" in out


def test_what_is_no_group(capsys) -> None:
    write_run(Path("a"), WORSE, seed=0)
    write_run(Path("b"), BETTER, seed=1, numbers={"weights": "ema"})
    out, data = compared(capsys, "a", "b")
    assert data["groups"] == []
    assert "Not measured alike: weights is ema, model." in out
    write_run(Path("b"), BETTER, seed=0)  # the same seed again
    assert compared(capsys, "a", "b")[1]["groups"] == []
    write_run(Path("b"), BETTER, seed=1)
    Path("compare.json").unlink()
    assert "differ only by seed and form one group" in refused(capsys, "a", "b")
    assert compared(capsys, "a", "b", "groups=false")[1]["groups"] == []


def test_runs_of_a_sweep_are_named_by_their_folders(capsys) -> None:
    for number, (model, seed) in enumerate([("n", 0), ("n", 1), ("t", 0), ("t", 1)]):
        path = Path(f"sweep/{number}-model={model}{model}{model},seed={seed}")
        write_run(path, right(number, number + 9 * seed), model=model, seed=seed)
    _, data = compared(capsys, *sorted(map(str, Path("sweep").iterdir())))
    assert [each["name"] for each in data["groups"]] == ["model=nnn x2", "model=ttt x2"]
    os.chdir("sweep")
    _, data = compared(capsys, "0-model=nnn,seed=0", "2-model=ttt,seed=0")
    assert len(data["runs"]) == 2


def test_results_of_before_are_compared_by_their_predictions(capsys) -> None:
    write_run(Path("a"), WORSE, older=True)
    write_run(Path("b"), BETTER, model=SMALL)
    out, data = compared(capsys, "a", "b")
    assert data["comparisons"][0]["top1"]["value"] == pytest.approx(7.5)
    assert data["comparisons"][0]["loss"] is None
    assert "of those, rows and labels were compared" in out


def test_a_loss_that_is_not_finite_is_not_compared(capsys) -> None:
    write_run(Path("a"), WORSE, loss=np.where(right(7), 0.1, np.nan))
    write_run(Path("b"), BETTER, model=SMALL)
    out, data = compared(capsys, "a", "b")
    assert data["comparisons"][0]["loss"] is None
    assert "so not compared: the loss of a." in out


def test_the_same_words_write_the_same_bytes(capsys) -> None:
    draw = np.random.default_rng(0)
    for name, correct in (("a", WORSE), ("b", BETTER)):
        write_run(Path(name), correct, loss=draw.lognormal(size=200), model=name)
    seen = []
    for seed in (0, 0, 1):
        compared(capsys, "a", "b", f"seed={seed}", "level=0.9")
        data = json.loads(Path("compare.json").read_text())["comparisons"]
        seen.append((data, Path("compare.png").read_bytes()))
    assert seen[0] == seen[1]
    assert seen[0][0][0]["top1"] == seen[2][0][0]["top1"]
    assert seen[0][0][0]["loss"] != seen[2][0][0]["loss"]


def test_names_are_drawn_and_printed_not_obeyed(capsys) -> None:
    classes = ("\x1b[2Jape", "$x_{y$", *CLASSES[2:])
    for name, correct in (("a$\\frac{$", WORSE), ("日本 \x1b[1A", BETTER)):
        write_run(Path(name), correct, classes=classes, model=name[0])
    out, data = compared(capsys, "a$\\frac{$", "日本 \x1b[1A")
    assert "\x1b" not in out
    assert data["comparisons"][0]["classes"][0]["name"] == "\x1b[2Jape"


def test_a_file_of_settings_of_matplotlib_is_not_read(capsys) -> None:
    for name, correct in (("a", WORSE), ("b", BETTER)):
        write_run(Path(name), correct, model=name)
    compared(capsys, "a", "b")
    before = Path("compare.png").read_bytes()
    import matplotlib

    with matplotlib.rc_context({"text.usetex": True, "lines.linewidth": 9, "font.size": 30}):
        compared(capsys, "a", "b")
        assert matplotlib.rcParams["lines.linewidth"] == 9
    assert Path("compare.png").read_bytes() == before


def test_where_it_is_written(capsys) -> None:
    for name, correct in (("a", WORSE), ("b", BETTER)):
        write_run(Path(name), correct, model=name)
    assert main(["compare", "a", "b", "out=new/v1.2.json"]) == 0
    assert "written to new/v1.2.json and .png" in capsys.readouterr().out
    assert sorted(file.name for file in Path("new").iterdir()) == ["v1.2.json", "v1.2.png"]
    assert Path("new/v1.2.json").stat().st_mode & 0o007 == 0
    Path("file").touch()
    assert "file" in refused(capsys, "a", "b", "out=file/x", code=4)
    assert "expected the name of files" in refused(capsys, "a", "b", "out=new/")


def test_other_samples_are_refused(capsys) -> None:
    write_run(Path("a"), WORSE)
    write_run(Path("b"), right(1, rows=198), label=LABELS[:198])
    line = refused(capsys, "a", "b")
    assert "200 and 198 rows, 2 of 200 in one of them alone (row 198, 199)" in line
    assert "type vitx eval run=b" in line
    write_run(Path("b"), BETTER, index=np.arange(10, 210))
    assert "20 of 210 in one of them alone (row 0, 1, 2, ...)" in refused(capsys, "a", "b")
    label = LABELS.copy()
    label[[5, 9]] = 3
    write_run(Path("b"), BETTER, label=label)
    line = refused(capsys, "a", "b")
    assert "2 of 200 have another label (row 5: 'bee' and 'dog', row 9: 'bee' and 'dog')" in line


def test_other_names_and_digests_are_refused(capsys) -> None:
    names = [f"{row}.png" for row in range(200)]
    write_run(Path("a"), WORSE, names=names, numbers={"samples": "a" * 64})
    write_run(Path("b"), BETTER, names=[*names[:-1], "x.png"], numbers={"samples": "b" * 64})
    line = refused(capsys, "a", "b")
    assert "1 of 200 have another name (row 199: '199.png' and 'x.png')" in line
    write_run(Path("b"), BETTER, names=names, numbers={"samples": "b" * 64})
    assert "say that they were evaluated on different samples" in refused(capsys, "a", "b")


def test_rows_in_another_order_are_the_same_samples(capsys) -> None:
    write_run(Path("a"), WORSE)
    write_run(Path("b"), BETTER[::-1], index=np.arange(200)[::-1], label=LABELS[::-1], model=SMALL)
    assert compared(capsys, "a", "b")[1]["comparisons"][0]["disagreement"]["count"] == 17


def test_other_classes_are_refused(capsys) -> None:
    write_run(Path("a"), WORSE)
    write_run(Path("b"), BETTER, classes=("ape", "cat", "bee", "dog"))
    assert "2 of 4, the first number 1, 'bee' and 'cat'" in refused(capsys, "a", "b")
    write_run(Path("b"), BETTER, classes=(*CLASSES, "eel"))
    assert "a and b have different classes: 4 and 5" in refused(capsys, "a", "b")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "expected two runs or more; type vitx compare RUN RUN"),
        (["a"], "expected two runs or more"),
        (["a", "./a/"], "./a/: the same run as a; name each once"),
        (["a", "link"], "link: the same run as a"),
        (["a", "z"], "z: no run there (no config.yaml)"),
        (["a", "x/y=1"], "x/y=1: no run there"),
        (["a", "b", "suite=v2"], "a has no result 'v2', it has val; type vitx eval run=a suite=v2"),
        (["a", "b", "suite=../x"], "expected a plain file name"),
        (["a", "c"], "c has no result 'val', it has none; type vitx eval run=c"),
        (["a", "b", "baseline=z"], "z: no run there"),
        (["a", "b", "level=1"], "level=1.0: expected 0.5 or more and less than 1"),
        (["a", "b", "level=nan"], "level=nan: expected"),
        (["a", "b", "basline=a"], "basline: no such setting; did you mean 'baseline'?"),
        (["a", "b", "--all"], "--all: no such flag"),
    ],
)
def test_mistakes_are_answered(capsys, words: list[str], message: str) -> None:
    write_run(Path("a"), WORSE)
    write_run(Path("b"), BETTER)
    write_run(Path("c"), BETTER, suite="other")
    Path("c/eval/other.parquet").unlink()
    Path("link").symlink_to("a")
    assert message in refused(capsys, *words)


def test_too_many_comparisons_are_refused(capsys) -> None:
    names = [f"r{number}" for number in range(26)]
    for name in names:
        write_run(Path(name), right(1), model=name)
    assert "325 comparisons are more than" in refused(capsys, *names)


def damaged(columns: dict[str, Any]) -> None:
    pq.write_table(pa.table(columns), "b/eval/val.parquet")


def test_damaged_results_are_refused(capsys) -> None:
    write_run(Path("a"), WORSE)
    write_run(Path("b"), BETTER)
    whole = Path("b/eval/val.parquet").read_bytes()
    for cut in (b"", whole[:50], whole[:-20], b"no parquet at all"):
        Path("b/eval/val.parquet").write_bytes(cut)
        assert "b/eval/val.parquet can't be read" in refused(capsys, "a", "b", code=4)
    good: dict[str, Any] = {"index": np.arange(200), "label": LABELS, "prediction": LABELS}
    for wrong in (
        {**good, "prediction": LABELS + 0.5},
        {**good, "label": LABELS - 1},
        {**good, "prediction": LABELS + 9},
        {**good, "index": np.zeros(200, int)},
        {**good, "correct": ["yes"] * 200},
        {**good, "label": [None, *LABELS[1:].tolist()]},
        {name: values[:0] for name, values in good.items()},
        {"index": good["index"], "label": LABELS},
    ):
        damaged(wrong)
        assert "b/eval/val.parquet is not as vitx writes it" in refused(capsys, "a", "b", code=4)
    damaged(good)
    line = refused(capsys, "a", "b", code=4)
    assert "are not of the same evaluation: 200 samples, 195 right, and 200, 200 right" in line
    for text in ("{", "[]", '{"top1": 97.5}', '{"top1": "NaN", "count": 200}'):
        Path("b/eval/val.json").write_text(text)
        assert "b/eval/val.json" in refused(capsys, "a", "b", code=4)


def test_a_link_out_of_a_run_is_refused(capsys) -> None:
    write_run(Path("a"), WORSE)
    write_run(Path("b"), BETTER)
    Path("b/eval/val.json").rename("elsewhere.json")
    Path("b/eval/val.json").symlink_to(Path("elsewhere.json").absolute())
    assert "is a link that leads out of the run" in refused(capsys, "a", "b", code=4)


def test_the_words_are_completed() -> None:
    assert complete(["compare", ""], ["compare"]) == [FILES]
    assert complete(["compare", "ru"], ["compare"]) == [FILES]
    assert complete(["compare", "a", "base"], ["compare"]) == ["baseline="]
    assert complete(["compare", "a", "baseline=r"], ["compare"]) == [FILES]


def test_help(capsys) -> None:
    assert main(["compare", "--help"]) == 0
    out = capsys.readouterr().out
    assert "usage: vitx compare [runs ...] [setting=value ...]" in out
    assert "paths, typed without runs=" in out
