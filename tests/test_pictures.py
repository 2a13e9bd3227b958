"""Pictures of every kind and size, sound, damaged and hostile: what becomes of them, or why they are refused."""

import io
import os
import struct
import tracemalloc

import numpy as np
import pytest
import torch
from PIL import Image, ImageCms
from PIL.PngImagePlugin import PngInfo
from pillow_heif import register_heif_opener

from classificador.data import pictures
from classificador.data.pictures import as_image, decode_image, open_image, to_tensor
from classificador.errors import ImageError
from png16 import part, png16

RED = (255, 0, 0)


def left_is_red(path, size=(40, 20), **options):
    """A picture whose left half is red and right half white."""
    picture = Image.new("RGB", size, "white")
    picture.paste(RED, (0, 0, size[0] // 2, size[1]))
    picture.save(path, **options)
    return path


def test_framed_whole_a_picture_is_all_there_on_white():
    picture = Image.new("RGB", (144, 48), "blue")
    picture.paste(RED, (0, 0, 48, 48))  # which its central square leaves out
    cut, whole = (to_tensor(picture, 48, framing) for framing in ("centro", "inteira"))
    assert cut.float().mean((1, 2)).tolist() == [0, 0, 255]
    assert whole[:, 24, 5].tolist() == [255, 0, 0] and whole[:, 24, 40].tolist() == [0, 0, 255]
    assert (whole[:, :16] == 255).all() and (whole[:, 32:] == 255).all()
    assert torch.equal(to_tensor(picture.rotate(90, expand=True), 48, "inteira"), whole.rot90(1, (1, 2)))


@pytest.mark.parametrize("size", [(1, 1), (1, 10_000), (10_000, 1), (33, 31)])
def test_any_shape_will_do(tmp_path, size):
    Image.new("RGB", size, RED).save(tmp_path / "a.png")
    opened = open_image(tmp_path / "a.png")
    assert (to_tensor(opened) == torch.tensor(RED)[:, None, None]).all()
    whole = to_tensor(opened, 32, "inteira")
    assert whole.shape == (3, 32, 32) and whole[1].min() == 0


def test_exif_rotation_is_applied_and_a_damaged_one_spoils_nothing(tmp_path, recwarn):
    exif = Image.Exif()
    exif[0x0112] = 3  # upside down: left and right change places
    picture = open_image(left_is_red(tmp_path / "a.jpg", exif=exif, quality=95))
    assert picture.getpixel((35, 10))[1] < 50
    assert picture.getpixel((5, 10))[1] > 200
    assert open_image(left_is_red(tmp_path / "b.jpg", exif=b"Exif\0\0II*\0\xff\xff\xff\x7f")).size == (40, 20)
    assert not recwarn


@pytest.mark.parametrize(
    ("mode", "form"),
    [("P", "PNG"), ("P", "GIF"), ("RGBA", "PNG"), ("RGBA", "WEBP"), ("CMYK", "TIFF"), ("CMYK", "JPEG"), ("RGB", "BMP")]
    + [("L", "PNG"), ("LA", "PNG"), ("1", "PNG")],
)
def test_colours_keep_their_channels_in_every_mode(tmp_path, mode, form):
    colour = (250, 120, 10) if mode not in ("L", "LA", "1") else (255, 255, 255)
    Image.new("RGB", (16, 16), colour).convert(mode).save(tmp_path / "a", form)
    assert np.abs(np.array(open_image(tmp_path / "a").getpixel((8, 8))) - colour).max() < 60


@pytest.mark.parametrize(
    ("picture", "options", "shown"),
    [
        (Image.new("RGBA", (8, 8), (0, 0, 0, 0)), {}, (255, 255, 255)),
        (Image.new("RGBA", (8, 8), (200, 0, 0, 128)), {}, (227, 127, 127)),
        (Image.new("P", (8, 8), 0), {"transparency": 0}, (255, 255, 255)),
    ],
)
def test_transparency_is_shown_on_white(tmp_path, picture, options, shown):
    picture.save(tmp_path / "a.png", **options)
    assert open_image(tmp_path / "a.png").getpixel((4, 4)) == pytest.approx(shown, abs=2)


@pytest.mark.parametrize(
    ("values", "shown"),
    [
        (np.full(64, 32768, np.uint16), (127, 127)),
        (np.linspace(200, 3800, 64).astype(np.uint16), (12, 236)),  # a camera may fill 12 of 16 bits
        (np.linspace(200, 3800, 64).astype(np.int32), (12, 236)),
        (np.linspace(-3, 5, 64).astype(np.float32), (0, 255)),
    ],
)
def test_deep_greys_are_scaled_not_clipped(tmp_path, values, shown):
    Image.fromarray(values.reshape(8, 8)).save(tmp_path / "a.tif")
    opened = open_image(tmp_path / "a.tif")
    assert opened.mode == "RGB" and opened.convert("L").getextrema() == pytest.approx(shown, abs=1)


def test_bad_files_are_refused_in_one_line(tmp_path):
    (tmp_path / "text.jpg").write_text("não sou uma imagem")
    (tmp_path / "empty.png").write_bytes(b"")
    (tmp_path / "page.eps").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n")
    Image.new("RGB", (9, 9)).save(tmp_path / "quadro.tga")  # Pillow reads it; it is not on our list
    Image.fromarray(np.full((8, 8), np.nan, np.float32)).save(tmp_path / "nan.tif")
    names = ["text.jpg", "empty.png", "page.eps", "quadro.tga", "nan.tif", "missing.png", "x" * 300, "."]
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "fila")
        names.append("fila")
    for name in names:
        with pytest.raises(ImageError) as caught:
            open_image(tmp_path / name)
        assert str(tmp_path / name) in str(caught.value)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("form", ["JPEG", "PNG", "BMP", "TIFF", "WEBP", "PPM"])
def test_a_truncated_picture_is_refused(tmp_path, form):
    Image.effect_noise((64, 64), 90).convert("RGB").save(tmp_path / "a", form)
    data = (tmp_path / "a").read_bytes()
    (tmp_path / "a").write_bytes(data[: len(data) // 2])
    with pytest.raises(ImageError, match="danificado"):
        open_image(tmp_path / "a")


def test_a_picture_with_too_many_pixels_or_bytes_is_refused_before_decoding(tmp_path, monkeypatch):
    path = left_is_red(tmp_path / "a.png")
    monkeypatch.setattr(pictures, "MAX_PIXELS", 40 * 20 - 1)
    monkeypatch.setattr(Image.Image, "load", lambda self: pytest.fail("decoded"))
    with pytest.raises(ImageError, match="40×20"):
        open_image(path)
    monkeypatch.setattr(pictures, "MAX_BYTES", path.stat().st_size - 1)
    with pytest.raises(ImageError, match="grande demais"):
        open_image(path)


def test_a_picture_cannot_ask_for_memory_it_does_not_fill(tmp_path):
    path = left_is_red(tmp_path / "a.png")
    data = path.read_bytes()
    place = data.index(b"IDAT")
    path.write_bytes(data[: place - 4] + (0xF0000000).to_bytes(4, "big") + data[place:])  # a part of 4 GB, it says
    tracemalloc.start()
    try:
        open_image(path)  # its pixels are all there
        assert tracemalloc.get_traced_memory()[1] < 10 * 2**20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("form", ["GIF", "WEBP", "PNG", "TIFF"])
def test_of_a_moving_picture_the_first_frame_counts(tmp_path, form):
    frames = [Image.new("RGB", (20, 20), colour) for colour in ("red", "blue")]
    frames[0].save(tmp_path / "a", form, save_all=True, append_images=frames[1:])
    red, _, blue = open_image(tmp_path / "a").getpixel((10, 10))
    assert red > 240
    assert blue < 15


def test_a_large_jpeg_is_decoded_smaller_and_a_progressive_one_refused(tmp_path, monkeypatch):
    left_is_red(tmp_path / "a.jpg", (800, 400))
    left_is_red(tmp_path / "b.jpg", (800, 400), progressive=True)
    monkeypatch.setattr(pictures, "MAX_PIXELS", 100_000)
    opened = open_image(tmp_path / "a.jpg")
    assert opened.size == (400, 200)
    assert opened.getpixel((50, 100))[1] < 50 and opened.getpixel((350, 100))[1] > 200
    with pytest.raises(ImageError, match="800×400 pixels, demais"):
        open_image(tmp_path / "b.jpg")


def test_much_metadata_is_no_obstacle(tmp_path):
    info = PngInfo()
    info.add_text("nota", "x" * 2_000_000, zip=True)
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    for options in ({"pnginfo": info}, {"icc_profile": profile + bytes(1_500_000)}):
        assert open_image(left_is_red(tmp_path / "a.png", **options)).getpixel((4, 4)) == RED


def test_avif_and_heic_are_read(tmp_path, monkeypatch):
    """The latter also where its package was installed since pictures were first read."""
    register_heif_opener()
    monkeypatch.setattr(pictures, "FORMATS", [name for name in pictures.FORMATS if name != "HEIF"])
    for name in ("a.avif", "a.heic"):
        Image.new("RGB", (64, 64), (0, 200, 0)).save(tmp_path / name)
        assert open_image(tmp_path / name).getpixel((8, 8))[1] > 180


def tiff(pixels: np.ndarray, planar: bool = False) -> bytes:
    """A TIFF of H×W×C numbers, uint16 or float32, in one plane or in C: colours, and a fourth that they include."""
    height, width, channels = pixels.shape
    bits, form = 8 * pixels.dtype.itemsize, 3 if pixels.dtype.kind == "f" else 1
    planes = [plane.tobytes() for plane in pixels.transpose(2, 0, 1)] if planar else [pixels.tobytes()]
    data, at = b"".join(planes), 8
    places = [at + sum(map(len, planes[:number])) for number in range(len(planes))]
    extra, tables = at + len(data), b""
    tags = {
        256: [width],
        257: [height],
        258: [bits] * channels,
        259: [1],
        262: [2],
        273: places,
        277: [channels],
        278: [height],
    }
    tags |= {279: list(map(len, planes)), 284: [2 if planar else 1], 339: [form] * channels}
    tags |= {338: [1]} if channels == 4 else {}  # transparency with which the colours are multiplied
    entries = b""
    for tag, values in sorted(tags.items()):
        packed = struct.pack(f"<{len(values)}I", *values)
        if len(values) > 1:
            place, tables = extra + len(tables), tables + packed
            packed = struct.pack("<I", place)
        entries += struct.pack("<HHI", tag, 4, len(values)) + packed
    directory = extra + len(tables)
    return (
        struct.pack("<2sHI", b"II", 42, directory) + data + tables + struct.pack("<H", len(tags)) + entries + bytes(4)
    )


def ppm16(pixels: np.ndarray) -> bytes:
    """A PPM of H×W×3 numbers, uint16."""
    return b"P6\n%d %d\n65535\n" % pixels.shape[1::-1] + pixels.astype(">u2").tobytes()


DEEP = np.linspace(0, 65535, 12 * 10 * 3).reshape(12, 10, 3).astype(np.uint16)


@pytest.mark.parametrize("content", [tiff(DEEP), png16(DEEP)], ids=["TIFF", "PNG"])
def test_sixteen_bits_a_colour_are_read_to_within_a_level(content):
    assert np.abs(np.asarray(decode_image(content, "x")).astype(int) - DEEP / 257).max() <= 1


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (tiff(DEEP, planar=True), "cores em planos separados"),
        (tiff(np.dstack([DEEP, DEEP[..., 0]])), "multiplicadas pela transparência"),
        (tiff((DEEP / 65535).astype(np.float32)), "um TIFF de um tipo que não se lê"),
        (b"PK\3\4" + bytes(60), "x não é uma imagem: é um ZIP, ou por dentro o é"),
    ],
)
def test_what_would_be_read_wrongly_is_refused_with_the_reason(content, said):
    with pytest.raises(ImageError, match=said):
        decode_image(content, "x")
    if "planos" in said:
        with pytest.raises(ImageError, match=said):
            as_image(Image.open(io.BytesIO(content)))  # the object is read no better


@pytest.mark.parametrize("shift", [0, 1, 4, 7])
@pytest.mark.parametrize("write", [tiff, png16, ppm16])
def test_colours_that_use_some_of_16_bits_are_scaled_as_greys_are(write, shift):
    """A microscope fills 12 of 16."""
    found = np.asarray(decode_image(write(DEEP >> shift), "x"))
    assert (found == (DEEP >> shift).astype(int) * 255 // (2 ** (16 - shift) - 1)).all()
    image = Image.open(io.BytesIO(write(DEEP >> shift)))
    assert all((np.asarray(as_image(image)) == found).all() for _ in range(2))  # and the object, each time
    if write is not ppm16:  # of which Pillow rounds the upper 8 bits
        assert (np.asarray(image) == DEEP >> shift + 8).all()  # which stays as Pillow has it


def test_an_object_of_a_tiff_that_pillow_has_made_dark_is_refused():
    for shift in (0, 4):
        image = Image.open(io.BytesIO(tiff(DEEP >> shift)))
        image.load()
        if not shift:
            assert np.asarray(as_image(image)).max() == 255
            continue
        with pytest.raises(ImageError, match=r"ficou escura .*Dê o caminho do arquivo\."):
            as_image(image)


@pytest.mark.parametrize("channels", [2, 4])
def test_such_colours_keep_their_transparency_and_are_turned(channels):
    pixels = np.dstack([DEEP, DEEP[..., :1]])[..., 4 - channels :] >> 4
    pixels[..., -1] = np.linspace(0, 65535, 120).reshape(12, 10)
    *light, alpha = pixels.astype(int).transpose(2, 0, 1)
    colours = np.stack(light, 2) * 255 // 4095
    expected = Image.fromarray(np.dstack([*[colours] * (3 // len(light)), alpha >> 8]).astype(np.uint8))
    white = Image.alpha_composite(Image.new("RGBA", (10, 12), "white"), expected).convert("RGB")
    assert (np.asarray(decode_image(png16(pixels), "x")) == np.asarray(white)).all()
    exif = Image.Exif()
    exif[0x0112] = 3
    content = png16(pixels)
    end = len(content) - 12  # before the last part
    turned = content[:end] + part(b"eXIf", exif.tobytes()[6:]) + content[end:]
    assert (np.asarray(decode_image(turned, "x")) == np.asarray(white)[::-1, ::-1]).all()


def test_black_is_black():
    assert np.asarray(decode_image(png16(DEEP * 0), "x")).max() == 0
