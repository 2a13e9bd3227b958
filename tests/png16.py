"""A PNG of 16 bits, which Pillow reads and, but for greys, does not write."""

import struct
import zlib

import numpy as np


def part(kind: bytes, data: bytes) -> bytes:
    """A part of a PNG file."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png16(pixels: np.ndarray) -> bytes:
    """A PNG of H×W×C numbers, uint16. C is 1 for greys and 3 for colours, and one more with transparency."""
    height, width, channels = pixels.shape
    lines = pixels.astype(">u2").reshape(height, -1).view(np.uint8)
    lines[:, 2 * channels :] -= lines[:, : -2 * channels].copy()  # as the first filter has it
    rows = b"".join(b"\1" + line.tobytes() for line in lines)
    head = struct.pack(">IIBBBBB", width, height, 16, {1: 0, 2: 4, 3: 2, 4: 6}[channels], 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + part(b"IHDR", head) + part(b"IDAT", zlib.compress(rows)) + part(b"IEND", b"")
