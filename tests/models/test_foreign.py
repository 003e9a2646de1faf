"""Foreign weight files: what is in them is never run, and what is wrong with them is said."""

import argparse
import collections
import io
import json
import os
import pickle
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from vitx.errors import StorageError
from vitx.models import foreign_reader
from vitx.models.foreign import import_weights

TENSORS = {"a.weight": torch.arange(12.0).view(3, 4), "a.bias": torch.ones(3, dtype=torch.half)}


class Runs:
    """Unpickled in earnest, this leaves a file behind."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self):
        return os.system, (f"touch {self.mark}",)


def saved(folder: Path, what: object, **how) -> Path:
    torch.save(what, folder / "file.pth", **how)
    return folder / "file.pth"


def imported(file: Path, **how):
    to = file.parent / "out.safetensors"
    found = import_weights(file, to, **how)
    return found, load_file(to)


def refusal(file: Path, **how) -> str:
    """Return the line of the refusal, after a look that nothing was left behind."""
    before = sorted(file.parent.iterdir())
    with pytest.raises(StorageError) as caught:
        import_weights(file, file.parent / "out.safetensors", **how)
    assert sorted(file.parent.iterdir()) == before
    line = str(caught.value)
    assert "\n" not in line
    assert len(line) < 400
    return line


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
def test_values_and_types_are_kept(zipped: bool, tmp_path: Path) -> None:
    file = saved(tmp_path, TENSORS, _use_new_zipfile_serialization=zipped)
    found, tensors = imported(file)
    assert tensors.keys() == TENSORS.keys()
    for name, tensor in TENSORS.items():
        assert tensors[name].dtype is tensor.dtype
        assert torch.equal(tensors[name], tensor)
    assert (found.tensors, found.parameters, found.part) == (2, 15, "")


def test_a_training_checkpoint_of_deit_or_xcit(tmp_path: Path) -> None:
    """Theirs hold model, optimizer, scheduler, epoch and the arguments of the script."""
    checkpoint = {
        "model": collections.OrderedDict(TENSORS),
        "optimizer": {"state": {0: {"step": 1, "exp_avg": torch.zeros(2)}}},
        "epoch": 299,
        "args": argparse.Namespace(lr=5e-4, output_dir="x"),
    }
    found, tensors = imported(saved(tmp_path, checkpoint))
    assert tensors.keys() == TENSORS.keys()
    assert found.part == "model"
    assert found.left_out == ("(optimizer)", "(epoch)", "(args)")


def test_a_full_dino_checkpoint(tmp_path: Path) -> None:
    """Its teacher has `backbone.` before the names and a projection head beside them."""
    half = {f"backbone.{name}": tensor for name, tensor in TENSORS.items()}
    half["head.mlp.0.weight"] = torch.ones(2)
    wrapped = {f"module.{name}": tensor for name, tensor in half.items()}
    file = saved(tmp_path, {"student": wrapped, "teacher": half, "epoch": 3})
    assert "holds weights more than once (student, teacher)" in refusal(file)
    assert "has no part model with tensors; there is student, teacher" in refusal(
        file, part="model"
    )
    found, tensors = imported(file, part="student")
    assert tensors.keys() == TENSORS.keys()
    assert found.removed == ("module.", "backbone.")
    assert found.left_out == ("(teacher)", "(epoch)", "head.mlp.0.weight")


def test_a_compiled_model(tmp_path: Path) -> None:
    wrapped = {f"module._orig_mod.{name}": tensor for name, tensor in TENSORS.items()}
    found, tensors = imported(saved(tmp_path, {"state_dict": wrapped}))
    assert tensors.keys() == TENSORS.keys()
    assert found.removed == ("module.", "_orig_mod.")


def test_a_prefix_of_some_names_only_stays(tmp_path: Path) -> None:
    _, tensors = imported(saved(tmp_path, {"module.a": torch.ones(1), "b": torch.ones(1)}))
    assert tensors.keys() == {"module.a", "b"}


def test_shared_and_strided_tensors_are_written_out(tmp_path: Path) -> None:
    base = torch.arange(6.0).view(2, 3)
    _, tensors = imported(saved(tmp_path, {"a": base, "b": base.T, "c": base[1]}))
    assert torch.equal(tensors["b"], base.T)
    assert torch.equal(tensors["c"], base[1])


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
def test_code_is_refused_and_not_run(zipped: bool, tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    payload = {"model": TENSORS, "more": Runs(mark)}
    file = saved(tmp_path, payload, _use_new_zipfile_serialization=zipped)
    assert "system, which is code to run" in refusal(file)
    assert not mark.exists()
    torch.load(file, weights_only=False)
    assert mark.exists(), "the file would have done nothing anyway"


def test_a_bare_pickle_is_refused_and_not_run(tmp_path: Path) -> None:
    file = tmp_path / "file.pth"
    file.write_bytes(pickle.dumps(Runs(tmp_path / "mark")))
    assert "is no file of torch.save" in refusal(file)
    assert not (tmp_path / "mark").exists()


def test_a_bomb_is_not_unpacked(tmp_path: Path) -> None:
    file = tmp_path / "file.pth"
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", bytes(1 << 28))
        archive.writestr("archive/version", "3")
    line = peak_memory_of_import(file, limit_mb=1200)
    assert "unpacks to 268,435,457 bytes" in line


def test_a_tensor_that_claims_more_than_the_file_holds(tmp_path: Path) -> None:
    file = saved(tmp_path, {"a": torch.zeros(1).expand(1 << 20, 1 << 20)})
    line = peak_memory_of_import(file, limit_mb=1200)
    assert "a says it is [1048576, 1048576], more than the file holds" in line


def test_a_file_that_asks_for_memory_is_stopped(tmp_path: Path) -> None:
    """A legacy file whose storage says it has 2^40 numbers, in some hundred bytes."""
    stream = io.BytesIO()
    torch.save({"a": torch.zeros(77)}, stream, _use_new_zipfile_serialization=False)
    small, large = b"K\x4d", b"\x8a\x06" + (1 << 40).to_bytes(6, "little")
    assert small in stream.getvalue()
    file = tmp_path / "file.pth"
    file.write_bytes(stream.getvalue().replace(small, large))
    line = peak_memory_of_import(file, limit_mb=1500)
    assert "asks for more memory than its size explains" in line


def test_a_file_that_computes_for_ever_is_stopped(tmp_path: Path, monkeypatch) -> None:
    """A key of pairs nested fifty deep: its hash takes 2^50 steps."""
    from vitx.models import foreign

    pairs = b"K\x01q\x00"
    for number in range(50):  # the last one once more, and a pair of both
        pairs += b"h" + bytes([number]) + b"\x86q" + bytes([number + 1])
    program = b"\x80\x02}" + pairs + b"K\x01s."
    file = tmp_path / "file.pth"
    with zipfile.ZipFile(saved(tmp_path, {})) as archive:
        others = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(file, "w") as archive:
        for name, content in others.items():
            archive.writestr(name, program if name.endswith("data.pkl") else content)
    script = tmp_path / "impatient.py"
    script.write_text("import vitx.models.foreign_reader as r; r._SPARE_CPU_S = 4; r.main()")
    popen = subprocess.Popen

    def impatient(words, **how):
        return popen([words[0], str(script), words[-1]], **how)

    monkeypatch.setattr(foreign.subprocess, "Popen", impatient)
    with pytest.raises(StorageError, match="takes longer to read than weights of its size do"):
        import_weights(file, tmp_path / "out.safetensors")


def test_the_reader_ends_with_its_parent(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "never")
    request = json.dumps({"file": str(tmp_path / "never"), "to": "x", "part": None, "name": None})
    script = (
        "import subprocess, sys, time\n"
        "child = subprocess.Popen([sys.executable, '-m', 'vitx.models.foreign_reader', "
        "sys.argv[1]])\n"
        "time.sleep(3); print(child.pid, flush=True); time.sleep(100)\n"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", script, request], stdout=subprocess.PIPE, text=True
    )
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    assert Path(f"/proc/{child}").exists()
    parent.kill()
    parent.wait()
    parent.stdout.close()
    deadline = time.monotonic() + 20
    while Path(f"/proc/{child}").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not Path(f"/proc/{child}").exists()


def test_what_is_left_out_is_printable_and_short(tmp_path: Path) -> None:
    weird = {"\x1b[2Jgone": 1, "x" * 10_000_000: 2, ("a",) * 1000: 3, **dict.fromkeys(range(50))}
    found, _ = imported(saved(tmp_path, TENSORS | weird))
    assert found.left_out[0] == "?[2Jgone"
    assert found.left_out[1] == "x" * 80 + "..."
    assert found.left_out[2] == "<tuple>"
    assert len(found.left_out) + found.more_left_out == len(weird)
    assert sum(map(len, found.left_out)) < 2000


def test_parts_by_other_names_and_one_deeper(tmp_path: Path) -> None:
    for content, part in (
        ({"net": TENSORS}, "net"),
        ({"model": {"state_dict": TENSORS}}, "model.state_dict"),
    ):
        assert imported(saved(tmp_path, content))[0].part == part
        (tmp_path / "out.safetensors").unlink()
    nothing = saved(tmp_path, {"epoch": 1, "args": {"lr": 1}})
    assert "holds no tensor by name; it has epoch, args" in refusal(nothing)


def test_a_foreign_safetensors_file_loses_its_prefixes(tmp_path: Path) -> None:
    wrapped = {f"module.{name}": tensor for name, tensor in TENSORS.items()}
    save_file(wrapped, tmp_path / "file.pth")
    assert imported(tmp_path / "file.pth")[1].keys() == TENSORS.keys()


def test_nothing_is_overwritten_even_if_it_comes_meanwhile(tmp_path: Path, monkeypatch) -> None:
    from vitx.models import foreign

    ask, to = foreign._ask_reader, tmp_path / "out.safetensors"

    def slow(file: Path, request: dict) -> dict:
        answer = ask(file, request)
        to.write_text("mine")
        return answer

    monkeypatch.setattr(foreign, "_ask_reader", slow)
    file = saved(tmp_path, TENSORS)
    with pytest.raises(StorageError, match="is there already"):
        import_weights(file, to)
    assert to.read_text() == "mine"
    assert sorted(tmp_path.iterdir()) == [file, to]


def test_a_file_that_changes_meanwhile_is_not_taken(tmp_path: Path, monkeypatch) -> None:
    from vitx.models import foreign

    ask, file = foreign._ask_reader, saved(tmp_path, TENSORS)

    def slow(path: Path, request: dict) -> dict:
        answer = ask(path, request)
        torch.save({"b": torch.ones(9)}, file)
        return answer

    monkeypatch.setattr(foreign, "_ask_reader", slow)
    with pytest.raises(StorageError, match="changed while it was read"):
        import_weights(file, tmp_path / "out.safetensors")
    assert list(tmp_path.iterdir()) == [file]


@pytest.mark.parametrize("to", ["file.pth/out.safetensors", "none.safetensors"])
def test_what_can_not_be_written(to: str, tmp_path: Path, monkeypatch) -> None:
    file = saved(tmp_path, TENSORS)
    if to.startswith("none"):
        monkeypatch.setattr(os, "link", lambda *_: (_ for _ in ()).throw(OSError("no links")))
    with pytest.raises(StorageError, match="can't be written"):
        import_weights(file, tmp_path / to)
    assert list(tmp_path.iterdir()) == [file]


def test_what_is_no_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path, what in ((tmp_path, "a directory"), (tmp_path / "pipe", "no regular file")):
        with pytest.raises(StorageError, match=what):
            import_weights(path, tmp_path / "out.safetensors")


def peak_memory_of_import(file: Path, *, limit_mb: int) -> str:
    """Return the refusal, after a look at the memory that parent and child took at most."""
    script = (
        "import resource, sys; from pathlib import Path\n"
        "from vitx.errors import StorageError\n"
        "from vitx.models.foreign import import_weights\n"
        "try: import_weights(Path(sys.argv[1]), Path(sys.argv[1] + '.safetensors'))\n"
        "except StorageError as error: print(error)\n"
        "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss // 1024)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(file)], capture_output=True, text=True, timeout=100
    )
    line, used_mb = done.stdout.splitlines()
    assert int(used_mb) < limit_mb
    return line


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ({"a": torch.tensor([1.0, float("nan")])}, "a has values that are not finite"),
        ({"a": torch.tensor([float("inf")], dtype=torch.half)}, "a has values that are not finite"),
        ({"a\nb": torch.ones(1)}, "which is no name of a parameter"),
        ({"../../a": torch.ones(1)}, "which is no name of a parameter"),
        ({"a" * 400: torch.ones(1)}, "which is no name of a parameter"),
        ({"__metadata__": torch.ones(1)}, "which is no name of a parameter"),
        ({"a": torch.ones(2).to(torch.float8_e4m3fn)}, "a is of torch.float8_e4m3fn"),
        ({"a": torch.ones(2).to_sparse()}, "a is no plain tensor"),
        ({"a": torch.ones(2, dtype=torch.complex64)}, "a is of torch.complex64"),
        ({"a": 3, "b": "text"}, "holds no tensor by name"),
        ([torch.ones(2)], "holds a list"),
        (torch.ones(2), "holds a Tensor"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_bad_tensors_are_named(what: object, message: str, tmp_path: Path, monkeypatch) -> None:
    # The reader itself, without its limits: a process for each would take a minute.
    monkeypatch.setattr(foreign_reader, "_limit", lambda _: None)
    file, to = saved(tmp_path, what), tmp_path / "out.safetensors"
    request = {"file": str(file), "to": str(to), "part": None, "name": None}
    assert message in foreign_reader.answer(request)["error"]
    assert not to.exists()


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"\x80\x02.", bytes(500)])
def test_damaged_files(content: bytes, tmp_path: Path) -> None:
    file = tmp_path / "file.pth"
    file.write_bytes(content)
    assert str(file) in refusal(file)


def test_a_cut_off_file(tmp_path: Path) -> None:
    file = saved(tmp_path, {"a": torch.randn(1000)})
    file.write_bytes(file.read_bytes()[:-900])
    refusal(file)


def test_no_file(tmp_path: Path) -> None:
    assert "no such file" in refusal(tmp_path / "file.pth")


def test_an_augreg_file_is_converted_as_timm_does(tmp_path: Path, timm) -> None:
    arrays = jax_arrays(timm)
    np.savez(tmp_path / "file.npz", **arrays)
    file = tmp_path / "file.npz"
    assert "say which model it is" in refusal(file)
    found, tensors = imported(file, name="vit_tiny_patch16_224")
    model = timm.create_model("vit_tiny_patch16_224", num_classes=5)
    model.load_pretrained(str(file))
    assert tensors.keys() == model.state_dict().keys()
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensors[name], tensor), name
    kernel = arrays["Transformer/encoderblock_3/MlpBlock_3/Dense_0/kernel"]
    assert np.array_equal(tensors["blocks.3.mlp.fc1.weight"].numpy(), kernel.T)
    assert found.tensors == len(tensors)


def jax_arrays(timm) -> dict[str, np.ndarray]:
    """Return arrays by the names and shapes of google-research/vision_transformer's ViT-Ti/16."""
    draw = np.random.default_rng(0)
    width, heads, depth = 192, 3, 12
    shapes: dict[str, tuple[int, ...]] = {
        "cls": (1, 1, width),
        "embedding/kernel": (16, 16, 3, width),
        "embedding/bias": (width,),
        "Transformer/posembed_input/pos_embedding": (1, 197, width),
        "Transformer/encoder_norm/scale": (width,),
        "Transformer/encoder_norm/bias": (width,),
        "head/kernel": (width, 5),
        "head/bias": (5,),
    }
    for block in range(depth):
        under = f"Transformer/encoderblock_{block}"
        attention = f"{under}/MultiHeadDotProductAttention_1"
        for kind in ("query", "key", "value"):
            shapes[f"{attention}/{kind}/kernel"] = (width, heads, width // heads)
            shapes[f"{attention}/{kind}/bias"] = (heads, width // heads)
        shapes[f"{attention}/out/kernel"] = (heads, width // heads, width)
        shapes[f"{attention}/out/bias"] = (width,)
        for norm in ("LayerNorm_0", "LayerNorm_2"):
            shapes[f"{under}/{norm}/scale"] = shapes[f"{under}/{norm}/bias"] = (width,)
        for dense, (into, out) in enumerate([(width, 4 * width), (4 * width, width)]):
            shapes[f"{under}/MlpBlock_3/Dense_{dense}/kernel"] = (into, out)
            shapes[f"{under}/MlpBlock_3/Dense_{dense}/bias"] = (out,)
    return {name: draw.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}


def test_an_npz_with_objects_is_refused_and_not_run(tmp_path: Path) -> None:
    objects = np.array([Runs(tmp_path / "mark")], dtype=object)
    np.savez(tmp_path / "file.npz", **{"pos_embedding": objects})
    refusal(tmp_path / "file.npz", name="vit_tiny_patch16_224")
    assert not (tmp_path / "mark").exists()
