import io
import struct
import subprocess
import sys
import warnings
import zlib

import numpy as np
import pytest
from PIL import Image, ImageFile

from vitx.data.decode import BadImageError, decode

LIMIT = 1_000_000


def encode(image, kind="PNG", **how):
    file = io.BytesIO()
    image.save(file, kind, **how)
    return file.getvalue()


def noise(*shape, seed=0):
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def pixels(data, channels=3, max_pixels=LIMIT):
    image = decode(data, channels=channels, max_pixels=max_pixels)
    assert image.mode == ("RGB" if channels == 3 else "L")
    return np.asarray(image).astype(int)


def png(width, height, *, depth=8, colour=0, packed=b""):
    def chunk(name, body):
        check = zlib.crc32(name + body)
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", check)

    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    start = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header)
    return start + chunk(b"IDAT", packed) + chunk(b"IEND", b"")


def over_white(colour, alpha):
    share = alpha.astype(float)[..., None] / 255
    return colour * share + 255 * (1 - share)


COLOUR = noise(12, 17, 3)
ALPHA = noise(12, 17, seed=1)
GREY = noise(12, 17, seed=2)
MINIMAL = {kind: encode(Image.fromarray(COLOUR), kind) for kind in ("JPEG", "PNG", "WEBP", "BMP")}


@pytest.mark.parametrize("kind", MINIMAL)
def test_plain_colour_is_what_pillow_reads(kind):
    data = MINIMAL[kind]
    expected = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
    assert np.array_equal(pixels(data), expected)


@pytest.mark.parametrize("kind", ["PNG", "BMP"])
def test_lossless_formats_return_the_pixels_that_went_in(kind):
    assert np.array_equal(pixels(MINIMAL[kind]), COLOUR)


def test_result_stands_alone():
    image = decode(encode(Image.fromarray(COLOUR), dpi=(72, 72)), channels=3, max_pixels=LIMIT)
    assert type(image) is Image.Image
    assert image.info == {}


def test_colour_to_grey_is_bt601_luma():
    red, green, blue = COLOUR.astype(int).transpose(2, 0, 1)
    luma = 0.299 * red + 0.587 * green + 0.114 * blue
    assert np.abs(pixels(MINIMAL["PNG"], channels=1) - luma).max() <= 0.51


def test_grey_to_colour_is_three_equal_channels():
    data = encode(Image.fromarray(GREY))
    assert np.array_equal(pixels(data), np.repeat(GREY[..., None], 3, axis=2))
    assert np.array_equal(pixels(data, channels=1), GREY)


def transparent_pictures():
    rgba = Image.fromarray(np.dstack([COLOUR, ALPHA]))
    yield "RGBA PNG", encode(rgba), over_white(COLOUR, ALPHA)
    lossless = encode(rgba, "WEBP", lossless=True, exact=True)
    yield "RGBA WebP", lossless, over_white(COLOUR, ALPHA)
    grey_alpha = Image.merge("LA", [Image.fromarray(GREY), Image.fromarray(ALPHA)])
    grey = np.repeat(GREY[..., None], 3, axis=2)
    yield "LA PNG", encode(grey_alpha), over_white(grey, ALPHA)
    key = tuple(int(value) for value in COLOUR[3, 4])
    alpha = np.where(np.equal(COLOUR, key).all(axis=2), 0, 255)
    yield (
        "RGB with tRNS",
        encode(Image.fromarray(COLOUR), transparency=key),
        over_white(COLOUR, alpha),
    )
    key = int(GREY[3, 4])
    alpha = np.where(key == GREY, 0, 255)
    yield "L with tRNS", encode(Image.fromarray(GREY), transparency=key), over_white(grey, alpha)
    palette, numbers = noise(4, 3, seed=3), GREY % 4
    image = Image.fromarray(numbers).convert("L")
    image = Image.frombytes("P", image.size, image.tobytes())
    image.putpalette(palette.tobytes())
    shares = np.array([0, 90, 255, 180], np.uint8)
    yield (
        "palette with tRNS",
        encode(image, transparency=shares.tobytes()),
        over_white(palette[numbers], shares[numbers]),
    )
    yield "palette", encode(image), palette[numbers].astype(float)
    yield "palette BMP", encode(image, "BMP"), palette[numbers].astype(float)


@pytest.mark.parametrize(
    ("data", "expected"),
    [pytest.param(data, expected, id=name) for name, data, expected in transparent_pictures()],
)
def test_transparency_is_composited_over_white_and_palettes_become_colours(data, expected):
    assert np.abs(pixels(data) - expected).max() <= 1
    luma = expected @ [0.299, 0.587, 0.114]
    assert np.abs(pixels(data, channels=1) - luma).max() <= 1.5


def test_cmyk_goes_by_way_of_rgb():
    data = encode(Image.fromarray(noise(16, 16, 4), "CMYK"), "JPEG", quality=95)
    rgb = Image.open(io.BytesIO(data)).convert("RGB")
    assert np.array_equal(pixels(data), np.asarray(rgb))
    assert np.array_equal(pixels(data, channels=1), np.asarray(rgb.convert("L")))


def test_16_bit_grey_is_scaled_and_rounded_not_clipped():
    wide = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    assert np.array_equal(pixels(encode(Image.fromarray(wide)), channels=1), np.rint(wide / 257))
    assert np.array_equal(
        pixels(encode(Image.fromarray(wide)))[..., 2], np.rint(wide.astype(float) / 257)
    )


def test_16_bit_grey_with_one_transparent_value():
    wide = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    expected = np.rint(wide / 257)
    expected[wide == 1234] = 255
    data = encode(Image.fromarray(wide), transparency=1234)
    assert np.array_equal(pixels(data, channels=1), expected)


def test_16_bit_colour_keeps_its_upper_8_bits():
    wide = np.random.default_rng(0).integers(0, 65536, (6, 5, 3), dtype=np.uint16)
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in wide)
    data = png(5, 6, depth=16, colour=2, packed=zlib.compress(rows))
    assert np.array_equal(pixels(data), wide >> 8)


def test_1_bit_is_black_and_white():
    bits = GREY > 127
    assert np.array_equal(pixels(encode(Image.fromarray(bits)), channels=1), bits * 255)


def test_exif_orientation_is_not_applied():
    exif = Image.Exif()
    exif[0x0112] = 6
    data = encode(Image.fromarray(COLOUR), "JPEG", exif=exif)
    assert decode(data, channels=3, max_pixels=LIMIT).size == (17, 12)


@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
def test_first_frame_of_an_animation(kind):
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "lime", "blue")]
    data = encode(frames[0], kind, save_all=True, append_images=frames[1:], lossless=True)
    assert np.array_equal(pixels(data), np.broadcast_to([255, 0, 0], (8, 8, 3)))


@pytest.mark.parametrize("size", [(1, 1), (1, 100), (500, 5)])
@pytest.mark.parametrize("kind", MINIMAL)
def test_extreme_shapes(kind, size):
    data = encode(Image.new("RGB", size, "white"), kind)
    assert decode(data, channels=3, max_pixels=LIMIT).size == size


@pytest.mark.parametrize("size", [(1, 101), (20_000, 10)])
def test_a_strip_is_refused_since_resizing_would_blow_it_up(size):
    with pytest.raises(BadImageError, match=f"{size[0]} x {size[1]} pixels, a side over 100 times"):
        decode(encode(Image.new("L", size)), channels=1, max_pixels=10**9)


@pytest.mark.parametrize("kind", ["GIF", "TIFF", "PPM", "ICO", "PCX", "TGA", "SGI", "DDS", "EPS"])
def test_other_formats_stay_shut(kind):
    data = encode(Image.fromarray(COLOUR), kind)
    with pytest.raises(BadImageError, match="no readable JPEG, PNG, WebP or BMP"):
        decode(data, channels=3, max_pixels=LIMIT)


def test_nothing_at_all():
    with pytest.raises(BadImageError, match=r"^empty \(0 bytes\)$"):
        decode(b"", channels=3, max_pixels=LIMIT)


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_half_a_file_is_called_truncated(kind):
    data = encode(Image.fromarray(noise(200, 200, 3)), kind)
    with pytest.raises(BadImageError, match=f"^truncated {kind} \\("):
        decode(data[: len(data) // 2], channels=3, max_pixels=LIMIT)


@pytest.mark.parametrize("kind", MINIMAL)
def test_damage_ends_in_a_picture_or_one_line(kind):
    data, draw = MINIMAL[kind], np.random.default_rng(0)
    damaged = [data[:length] for length in range(0, len(data), 7)]
    for _ in range(300):
        copy = bytearray(data)
        for place in draw.integers(0, min(len(data), 120), 3):
            copy[place] = draw.integers(256)
        damaged.append(bytes(copy))
    refused = 0
    for copy in damaged:
        try:
            image = decode(copy, channels=3, max_pixels=LIMIT)
        except BadImageError as reason:
            refused += 1
            assert str(reason) and "\n" not in str(reason) and len(str(reason)) < 250
        else:
            assert image.mode == "RGB"
    assert refused > 20


def test_the_limit_itself_is_allowed():
    data = encode(Image.new("L", (30, 20)))
    assert decode(data, channels=1, max_pixels=600).size == (30, 20)
    with pytest.raises(BadImageError, match=r"600 pixels \(30 x 20\), more than max_pixels=599"):
        decode(data, channels=1, max_pixels=599)


def test_too_many_pixels_are_refused_by_the_header_alone():
    # No pixel data follow these headers: decoding would fail with another reason.
    bmp = bytearray(encode(Image.new("RGB", (2, 2)), "BMP"))
    bmp[18:26] = struct.pack("<ii", 9000, 9000)
    for data in (png(9000, 9000), bytes(bmp)):
        with pytest.raises(BadImageError, match="81000000 pixels"):
            decode(data, channels=3, max_pixels=50_000_000)
    with pytest.raises(BadImageError, match="exceeds limit"):
        decode(png(65535, 65535), channels=3, max_pixels=50_000_000)


BOMB = """
import pathlib, sys
from PIL import BmpImagePlugin, JpegImagePlugin, PngImagePlugin, WebPImagePlugin
from vitx.data.decode import BadImageError, decode
data = pathlib.Path(sys.argv[1]).read_bytes()
def peak():  # not ru_maxrss, which starts at the peak of the parent
    status = pathlib.Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) // 1024
before = peak()
try:
    decode(data, channels=1, max_pixels=50_000_000)
except BadImageError as reason:
    print(peak() - before, reason)
decode(data, channels=1, max_pixels=100_000_000)
print(peak() - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_bomb_costs_no_memory(tmp_path):
    press = zlib.compressobj()
    packed = b"".join(press.compress(bytes(10_001)) for _ in range(10_000)) + press.flush()
    (tmp_path / "bomb.png").write_bytes(png(10_000, 10_000, packed=packed))
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", BOMB, str(tmp_path / "bomb.png")],
        capture_output=True,
        text=True,
        check=True,
    )
    refused, decoded = done.stdout.splitlines()
    growth_mb, reason = refused.split(" ", 1)
    assert reason == "100000000 pixels (10000 x 10000), more than max_pixels=50000000"
    assert int(growth_mb) < 50 < int(decoded)
    assert done.stderr == ""


def test_nothing_global_is_left_behind():
    def state():
        return Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES, list(warnings.filters)

    before = state()
    decode(MINIMAL["PNG"], channels=3, max_pixels=LIMIT)
    with pytest.raises(BadImageError):
        decode(png(9000, 9999), channels=3, max_pixels=LIMIT)
    assert state() == before
