"""`vitx eval` says what training recorded, and both say what timm and torch say."""

import signal
import time
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from safetensors.torch import load_file

from tests.train.programs import Programs, held
from tests.train.tiny import (
    CLASSES,
    EVERYTHING,
    LOADERS_FORK,
    TINY,
    checkpoint,
    evaluate,
    newest,
    read,
    rows,
    train,
)
from vitx.errors import StorageError, UsageError, VitxError
from vitx.runtime.torchvision_ops import declare_missing_ops

pytestmark = LOADERS_FORK

EXACT = ("top1", "top5", "loss", "count", "skipped", "top1_interval")


@pytest.fixture(scope="module")
def trained(pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run_dir = tmp_path_factory.mktemp("trained") / "run"
    words = (*TINY, *EVERYTHING, f"dataset.path={pictures}", "evaluation.every=3st")
    train(*words, f"run_dir={run_dir}", "checkpoint.every=3st", "checkpoint.keep=5")
    return run_dir


@pytest.mark.parametrize(
    ("number", "code", "devices"),
    [
        (signal.SIGTERM, 75, 1),
        (signal.SIGINT, 130, 2),
        pytest.param(signal.SIGINT, 130, 1, marks=pytest.mark.slow),
        pytest.param(signal.SIGUSR1, 75, 2, marks=pytest.mark.slow),
    ],
)
def test_asked_to_stop_it_writes_nothing(
    number: int,
    code: int,
    devices: int,
    trained: Path,
    pictures: Path,
    vitx: Programs,
) -> None:
    words = (f"run={trained}", f"devices={devices}", "suite=[stopped]", "batch_size=4")
    with held(pictures / "val/cow/06.png") as somebody_waits:
        program = vitx("eval", *words, "dataset=folder", f"dataset.path={pictures}")
        program.reaches(somebody_waits, what="a picture")
        program.signal(number)
        time.sleep(0.3)
    assert program.wait() == code, program.text

    name = signal.Signals(number).name
    end = f"vitx eval: stopped by {name} in suite stopped; nothing of it was written"
    assert program.last_line == end
    assert "Traceback" not in program.text
    assert [file for file in (trained / "eval").glob("*") if "stopped" in file.name] == []
    assert program.session() == set()


def measured(run_dir: Path, *words: str) -> dict:
    evaluate(f"run={run_dir}", *words)
    return read(run_dir / "eval/val.json")


@pytest.mark.parametrize(
    ("weights", "kind", "workers"),
    [("auto", "ema", 0), ("ema", "ema", 0), ("model", "model", 0), ("model", "model", 2)],
)
def test_it_repeats_the_recorded_numbers(
    weights: str, kind: str, workers: int, trained: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = measured(trained, f"weights={weights}", f"workers={workers}")

    recorded = read(trained / "result.json")[kind]
    assert {name: found[name] for name in EXACT} == {name: recorded[name] for name in EXACT}
    assert (found["step"], found["weights"], found["suite"]) == (12, kind, "val")
    assert "exactly what training recorded" in capsys.readouterr().out


@pytest.mark.parametrize("step", [3, 6, 9, 12])
def test_it_repeats_every_row_of_metrics(step: int, trained: Path) -> None:
    (row,) = (row for row in rows(trained) if row["step"] == step)
    for weights, prefix in (("model", "val"), ("ema", "val_ema")):
        found = measured(trained, f"checkpoint={step}", f"weights={weights}", "workers=0")
        for name in ("top1", "top5", "loss"):
            assert found[name] == row[f"{prefix}/{name}"]


def test_the_best_is_the_first_of_the_highest(trained: Path) -> None:
    top1 = {row["step"]: row["val_ema/top1"] for row in rows(trained) if "val/top1" in row}
    best = max(top1, key=lambda step: (top1[step], -step))

    found = measured(trained, "checkpoint=best", "workers=0")

    assert (found["step"], found["top1"]) == (best, top1[best])


@pytest.mark.parametrize("batch_size", [1, 4, 21, 1000])
def test_counts_do_not_depend_on_the_batch(batch_size: int, trained: Path) -> None:
    recorded = read(trained / "result.json")

    found = measured(trained, f"batch_size={batch_size}", "workers=0")

    for name in ("top1", "top5", "count"):
        assert found[name] == recorded[name]
    assert found["loss"] == pytest.approx(recorded["loss"], rel=1e-6)


def test_timm_and_torch_agree(trained: Path, pictures: Path) -> None:
    declare_missing_ops()
    import timm

    size = {"img_size": 16, "patch_size": 8, "embed_dim": 24, "depth": 2, "num_heads": 3}
    model = timm.create_model("vit_tiny_patch16_224", num_classes=3, **size).eval()
    model.load_state_dict(load_file(newest(trained) / "ema.safetensors"))
    files = [
        (file, n)
        for n, c in enumerate(CLASSES)
        for file in sorted((pictures / "val" / c).iterdir())
    ]
    logits, labels = [], torch.tensor([label for _, label in files])
    for file, _ in files:
        # Resize to 16 / 0.875, rounded down as timm does, and cut out the middle.
        image = Image.open(file).resize((18, 18), Image.Resampling.BICUBIC).crop((1, 1, 17, 17))
        pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1) / 255
        with torch.no_grad():
            logits.append(model((pixels[None] - 0.5) / 0.5))
    scores = torch.cat(logits)

    evaluate(f"run={trained}", "workers=0")

    found = read(trained / "eval/val.json")
    samples = pq.read_table(trained / "eval/val.parquet").to_pydict()
    assert found["loss"] == pytest.approx(F.cross_entropy(scores, labels).item(), rel=1e-5)
    assert found["top1"] == pytest.approx(100 * (scores.argmax(1) == labels).float().mean().item())
    assert samples["index"] == list(range(21))
    assert samples["label"] == labels.tolist()
    assert samples["prediction"] == scores.argmax(1).tolist()
    assert samples["confidence"] == pytest.approx(scores.softmax(1).amax(1).tolist(), rel=1e-4)


def test_the_program_finds_the_newest_run(
    trained: Path, pictures: Path, vitx: Programs, tmp_path: Path
) -> None:
    for seed in (0, 1):
        words = (*TINY, f"dataset.path={pictures}", "epochs=2st", f"seed={seed}")
        train(*words, f"run_dir={tmp_path}/runs/{'ba'[seed]}")

    said = vitx.done("eval", "workers=0")

    assert "exactly what training recorded" in said
    assert not (tmp_path / "runs/b/eval").exists()
    found = read(tmp_path / "runs/a/eval/val.json")
    assert found["loss"] == read(tmp_path / "runs/a/result.json")["loss"]


def test_another_suite_of_the_same_classes(trained: Path, pictures: Path, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    (tmp_path / "other/val").symlink_to(pictures / "train")
    evaluate(
        f"run={trained}", "dataset=folder", f"dataset.path={tmp_path / 'other'}", "suite=[seen]"
    )

    assert read(trained / "eval/seen.json")["count"] == 48
    assert pq.read_metadata(trained / "eval/seen.parquet").num_rows == 48


@pytest.mark.parametrize(
    ("typed", "kind", "says"),
    [
        ("checkpoint=7", StorageError, "no checkpoint of step 7; it has 3, 6, 9, 12"),
        ("checkpoint=frist", UsageError, "expected last, best or a step number"),
        ("dataset=digits", UsageError, "suite=NAME of your own is needed"),
        ("suite=['../../x']", UsageError, "no such suite"),
    ],
)
def test_what_cannot_be_measured(
    typed: str, kind: type[VitxError], says: str, trained: Path
) -> None:
    with pytest.raises(kind, match=says):
        evaluate(f"run={trained}", typed)


def test_an_average_that_was_not_kept(pictures: Path, tmp_path: Path) -> None:
    train(*TINY, f"dataset.path={pictures}", "epochs=1st", f"run_dir={tmp_path / 'run'}")

    with pytest.raises(UsageError, match="kept no average"):
        evaluate(f"run={tmp_path / 'run'}", "weights=ema")


def test_a_damaged_checkpoint_is_not_measured(pictures: Path, tmp_path: Path) -> None:
    run_dir = tmp_path / "run"
    train(*TINY, f"dataset.path={pictures}", "epochs=1st", f"run_dir={run_dir}")
    with (checkpoint(run_dir, 1) / "model.safetensors").open("r+b") as file:
        file.seek(-1, 2)
        file.write(b"\x7f")

    with pytest.raises(StorageError, match="model.safetensors has other content"):
        evaluate(f"run={run_dir}")

    assert not (run_dir / "eval").exists()
