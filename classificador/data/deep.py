"""Colours of 16 bits, of which Pillow gives the upper 8: made as light as greys are, by the bits that are in use."""

import io
import re
from collections.abc import Iterator
from typing import Any

import numpy as np
from PIL import Image

DEEP = re.compile("(RGB|RGBA|RGBX|LA);16[LBN]")  # not "RGBa", which is multiplied with its transparency
ROWS = 256  # of pixels, scaled at a time
Box = tuple[int, int, int, int]


def deep_mode(image: Image.Image) -> str:
    """Return Pillow's name for such colours in a file that it has not decoded yet; "" for any others."""
    for tile in getattr(image, "tile", [])[:1]:
        mode = str(tile.args if isinstance(tile.args, str) or not tile.args else tile.args[0])
        if DEEP.fullmatch(mode):
            return mode
        if tile.codec_name == "ppm" and tile.args == ("RGB", 65535):
            return "RGB;16B"
    return ""


def content_of(image: Any) -> bytes:
    """Return the bytes of the file of an image that is not decoded yet."""
    place = image.fp.tell()
    image.fp.seek(0)
    content = bytes(image.fp.read())
    image.fp.seek(place)
    return content


def scale_colours(image: Image.Image, content: bytes, formats: list[str]) -> None:
    """Scale the colours of an image in place: white is the largest number of as many bits as the largest in use.

    content: of its file, which is decoded twice, once for each byte of a colour. Transparency keeps its upper one.
    """
    mode = deep_mode(image)
    swapped = mode[:-1] + ("L" if mode.endswith("B") else "B")  # N is the machine's order, L with all that are in use
    with Image.open(io.BytesIO(content), formats=formats) as lower:
        if frame := image.tell():
            lower.seek(frame)
        _decode_as(image, mode)
        _decode_as(lower, "RGBA" if mode == "LA;16B" else swapped)  # RGBA: each of the four bytes as a colour
        place = slice(1, 2) if mode == "LA;16B" else slice(3)

        def strips() -> Iterator[tuple[Box, np.ndarray, np.ndarray]]:
            for top in range(0, image.height, ROWS):
                box = (0, top, image.width, min(image.height, top + ROWS))
                pixels, others = np.array(image.crop(box)), np.asarray(lower.crop(box))
                yield box, pixels, pixels[..., :3].astype(np.uint16) << 8 | others[..., place]

        levels = levels_up_to(max(int(values.max()) for _, _, values in strips()))
        for box, pixels, values in strips():
            pixels[..., :3] = levels[values]
            image.paste(Image.fromarray(pixels), box)
    image.info.pop("transparency", None)  # a colour of 16 bits, which is none of these


def _decode_as(image: Any, mode: str) -> None:
    """Have Pillow decode a file as if its colours were of another kind: the bytes in the other order, for one."""
    tiles = []
    for tile in image.tile:
        whole = {"codec_name": "raw", "args": (mode, 0, 1)} if tile.codec_name == "ppm" else {}
        args = mode if isinstance(tile.args, str) else (mode, *tile.args[1:])
        tiles.append(tile._replace(**{"args": args} | whole))
    image.tile = tiles


def levels_up_to(most: int) -> np.ndarray:
    """Return a table of the 256 levels that numbers up to `most` become, of as many bits as that has."""
    bits = max(8, most.bit_length())
    return (np.arange(2**bits) * 255 // (2**bits - 1)).astype(np.uint8)
