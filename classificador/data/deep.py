"""Colours of 16 bits, of which Pillow gives the upper 8: made as light as greys are, by the bits that are in use."""

import io
import re
from collections.abc import Iterator
from typing import Any

import numpy as np
from PIL import Image

ROWS = 256  # of pixels, scaled at a time
Box = tuple[int, int, int, int]


def deep_mode(image: Image.Image) -> str:
    """Return Pillow's name for such colours in a file that it has not decoded yet; "" for any others."""
    args = next((tile[3] for tile in getattr(image, "tile", [])), "")
    mode = str(args if isinstance(args, str) or not args else args[0])
    return mode if re.fullmatch("(RGB|RGBA|RGBX|LA);16[LBN]", mode) else ""


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
    with Image.open(io.BytesIO(content), formats=formats) as lower:
        place = slice(1, 2) if deep_mode(lower) == "LA;16B" else slice(3)
        _swap_bytes(lower)

        def strips() -> Iterator[tuple[Box, np.ndarray, np.ndarray]]:
            for top in range(0, image.height, ROWS):
                box = (0, top, image.width, min(image.height, top + ROWS))
                pixels, others = np.array(image.crop(box)), np.asarray(lower.crop(box))
                yield box, pixels, pixels[..., :3].astype(np.uint16) << 8 | others[..., place]

        bits = max(8, max(int(values.max()) for _, _, values in strips()).bit_length())
        levels = (np.arange(2**bits) * 255 // (2**bits - 1)).astype(np.uint8)
        for box, pixels, values in strips():
            pixels[..., :3] = levels[values]
            image.paste(Image.fromarray(pixels), box)


def _swap_bytes(image: Any) -> None:
    """Have Pillow take the lower of two bytes for the upper: by the name of the colours in the other order."""
    mode = deep_mode(image)  # N is the order of the machine, L with all that are in use
    other = "RGBA" if mode == "LA;16B" else mode[:-1] + ("L" if mode.endswith("B") else "B")  # RGBA: each byte a colour
    arguments = [other if isinstance(tile.args, str) else (other, *tile.args[1:]) for tile in image.tile]
    image.tile = [tile._replace(args=args) for tile, args in zip(image.tile, arguments, strict=True)]
