"""Pictures that are none, in a whole run: refused, named, and paid for with little memory."""

import subprocess
import sys
import zlib
from pathlib import Path

import pytest
from PIL import Image

from tests.data.test_decode import png
from tests.train.programs import ROOT, Programs
from tests.train.tiny import write_pictures
from vitx.data.decode import BadImageError, decode

# What begins as these formats do; Pillow has had flaws in the decoders of most.
OTHERS = {
    "FITS": b"SIMPLE  =                    T" + b" " * 2850,
    "PSD": b"8BPS\0\1" + bytes(60),
    "EPS": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n",
    "PDF": b"%PDF-1.7\n",
    "SVG": b"<svg xmlns='http://www.w3.org/2000/svg'/>",
    "JPEG 2000": b"\0\0\0\x0cjP  \r\n\x87\n" + bytes(40),
    "AVIF": b"\0\0\0\x1cftypavif" + bytes(40),
    "ICNS": b"icns" + bytes(40),
    "FLI": b"\0\0\0\0\x11\xaf" + bytes(140),
    "WMF": b"\xd7\xcd\xc6\x9a" + bytes(40),
    "GIF": b"GIF89a" + bytes(40),
    "TIFF": b"II*\0" + bytes(40),
    "zip": b"PK\3\4" + bytes(40),
    "pickle": b"\x80\4c__builtin__\neval\n",
    "ELF": b"\x7fELF" + bytes(60),
}


@pytest.mark.parametrize("name", OTHERS)
def test_every_other_format_is_refused_by_its_first_bytes(name: str) -> None:
    with pytest.raises(BadImageError, match="no readable JPEG, PNG, WebP or BMP"):
        decode(OTHERS[name], channels=3, max_pixels=50_000_000)


MEASURED = """
import pathlib, sys
from vitx.cli import main
def peak():
    status = pathlib.Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) // 1024
from vitx.runtime.torchvision_ops import declare_missing_ops
declare_missing_ops()
import datasets, timm.data, timm.optim, vitx.commands.session
before = peak()
print("CODE", main(sys.argv[1:]), "GROWN", peak() - before)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_bomb_in_a_dataset_costs_a_run_little(short: tuple[str, ...], tmp_path: Path) -> None:
    root = write_pictures(tmp_path / "pictures")
    press = zlib.compressobj()
    packed = b"".join(press.compress(bytes(40_001)) for _ in range(40_000)) + press.flush()
    bomb = root / "train" / "ape" / "00.png"
    bomb.write_bytes(png(40_000, 40_000, packed=packed))
    assert bomb.stat().st_size < 2_000_000  # of 1.6 GB
    words = (*short, f"dataset.path={root}", f"run_dir={tmp_path / 'run'}", "epochs=1ep")
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", MEASURED, "train", *words],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=110,
    )
    code, grown_mb = done.stdout.split("CODE ")[1].split()[::2]
    assert code == "3", done.stderr
    assert "ape/00.png" in done.stderr
    assert int(grown_mb) < 300


@pytest.mark.parametrize(("setting", "code"), [("raise", 3), ("skip", 0)])
def test_a_picture_under_a_wrong_name_does_not_open_another_decoder(
    setting: str, code: int, short: tuple[str, ...], vitx: Programs, tmp_path: Path
) -> None:
    root = write_pictures(tmp_path / "pictures")
    Image.new("RGB", (8, 8)).save(root / "train" / "ape" / "00.png", "TIFF")
    words = (f"dataset.path={root}", f"dataset.bad_image={setting}", "epochs=1ep", "run_dir=run")
    limit = () if setting == "raise" else ("dataset.bad_image_limit=0.1",)
    text = vitx.done("train", *short, *words, *limit, code=code)
    assert ("no readable JPEG" in text) == (code == 3)
