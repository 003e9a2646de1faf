"""The loop against the page of torch it stands for."""

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from safetensors.torch import load_file, save_file

from tests.train.tiny import CLASSES, STEPS, STEPS_PER_EPOCH, TINY, newest, rows, train
from vitx.data.sampler import epoch_order
from vitx.runtime.seeds import derive
from vitx.runtime.torchvision_ops import declare_missing_ops

PLAIN = ("augmentation=none", "schedule=constant", "schedule.warmup=0", "evaluation.every=1ep")


def build() -> torch.nn.Module:
    declare_missing_ops()
    import timm

    return timm.create_model(
        "vit_tiny_patch16_224",
        img_size=16,
        patch_size=8,
        embed_dim=24,
        depth=2,
        num_heads=3,
        num_classes=3,
        drop_rate=0.2,
        drop_path_rate=0.3,
    )


def picture(path: Path) -> torch.Tensor:
    image = Image.open(path).resize((16, 16), Image.Resampling.BICUBIC)
    pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1).float()
    return pixels.div(255).sub(0.5).div(0.5)


def a_page_of_torch(
    folder: Path, weights: Path, *, clip_each: bool
) -> tuple[dict, dict, list[tuple[float, float]]]:
    """Return model, average, and (loss, gradient norm) of each step."""
    from timm.utils import ModelEmaV3

    files = [(file, n) for n, c in enumerate(CLASSES) for file in sorted((folder / c).iterdir())]
    model = build()
    model.load_state_dict(load_file(weights))
    decayed = [each for name, each in model.named_parameters() if each.ndim > 1 and "." in name]
    others = [each for name, each in model.named_parameters() if each.ndim <= 1 or "." not in name]
    groups = [{"params": others, "weight_decay": 0.0}, {"params": decayed, "weight_decay": 0.1}]
    optimizer = torch.optim.AdamW(groups, lr=2e-3, fused=True)
    average, measured = ModelEmaV3(model, decay=0.9), []
    for step in range(STEPS):
        epoch, first = divmod(step, STEPS_PER_EPOCH)
        order = epoch_order(48, seed=5, epoch=epoch)[8 * first : 8 * first + 8]
        losses = []
        for half in range(2):
            chosen = [files[row] for row in order[4 * half : 4 * half + 4]]
            images = torch.stack([picture(file) for file, _ in chosen])
            torch.manual_seed(derive("step", 5, step, half))
            logits = model(images)
            loss = F.cross_entropy(logits, torch.tensor([label for _, label in chosen]))
            (loss / 2).backward()
            losses.append(loss.item())
        gradients = [each.grad for each in model.parameters()]
        norm = torch.nn.utils.get_total_norm(gradients)
        if clip_each:  # as DINO's utils.clip_gradients
            for gradient in gradients:
                factor = 0.01 / (gradient.norm(2) + 1e-6)
                if factor < 1:
                    gradient.mul_(factor)
        else:
            torch.nn.utils.clip_grad_norm_(model.parameters(), 0.5)
        optimizer.step()
        optimizer.zero_grad()
        average.update(model, step=step + 1)
        measured.append((sum(losses) / 2, norm.item()))
    return model.state_dict(), average.module.state_dict(), measured


@pytest.mark.parametrize("clip_each", [False, True])
def test_the_loop_is_a_page_of_torch(clip_each: bool, pictures: Path, tmp_path: Path) -> None:
    torch.manual_seed(1)
    save_file(build().state_dict(), tmp_path / "start.safetensors")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    expected, average, measured = a_page_of_torch(
        pictures / "train", tmp_path / "start.safetensors", clip_each=clip_each
    )
    torch.set_num_threads(threads)

    train(
        *TINY,
        *PLAIN,
        f"dataset.path={pictures}",
        f"run_dir={tmp_path / 'run'}",
        f"model.weights={tmp_path / 'start.safetensors'}",
        "model.dropout=0.2",
        "model.drop_path=0.3",
        "optimizer.lr=2e-3",
        "optimizer.weight_decay=0.1",
        f"optimizer.clip_norm={0.01 if clip_each else 0.5}",
        f"optimizer.clip_each={clip_each}",
        "ema.decay=0.9",
        "runtime.micro_batch=4",
        "seed=5",
    )

    found = rows(tmp_path / "run")
    assert [(row["train/loss"], row["train/grad_norm"]) for row in found] == measured
    for name, reference in (("model", expected), ("ema", average)):
        trained = load_file(newest(tmp_path / "run") / f"{name}.safetensors")
        assert trained.keys() == reference.keys()
        for key, value in trained.items():
            assert value.equal(reference[key]), key


def test_accumulation_gives_the_gradient_of_the_whole_batch(pictures: Path, tmp_path: Path) -> None:
    words = (*TINY, *PLAIN, f"dataset.path={pictures}", "epochs=3st")
    for micro in (8, 4, 2, 1):
        train(*words, f"run_dir={tmp_path / str(micro)}", f"runtime.micro_batch={micro}")

    whole, *parts = (rows(tmp_path / str(micro)) for micro in (8, 4, 2, 1))
    for name in ("train/loss", "train/grad_norm"):
        for part in parts:
            assert [row[name] for row in part] == pytest.approx(
                [row[name] for row in whole], rel=1e-4
            )
