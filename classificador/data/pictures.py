"""Opening a user's own picture as what the network takes: a square uint8 RGB tensor."""

import io
import os
import stat
import threading
import warnings
from contextlib import AbstractContextManager, nullcontext, suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps, PngImagePlugin, UnidentifiedImageError

from classificador.data.deep import content_of, deep_mode, levels_up_to, scale_colours
from classificador.drives import patiently
from classificador.errors import ImageError
from classificador.paths import as_path
from classificador.portuguese import reason

# Only formats with a plain decoder: Pillow would hand EPS to an external program.
FORMATS = ["PNG", "JPEG", "GIF", "WEBP", "BMP", "TIFF", "PPM", "AVIF"]
HEIF_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")
MAX_BYTES = 400 * 2**20  # more than MAX_PIXELS take up in any of the formats, uncompressed with 16 bits a channel
MAX_PIXELS = 50_000_000  # decoded: 150 MB, and 800 at the most on the way to RGB; larger is refused before decoding
BITS_PER_SAMPLE, PLANAR_CONFIGURATION = 258, 284  # tags of TIFF
EIGHT_BITS = "Converta para 8 bits por cor, em PNG ou JPEG."
OTHER, SMALLER = "Escolha outra imagem.", "Reduza a imagem antes."
LOCK = threading.Lock()  # of FORMATS
PngImagePlugin.MAX_TEXT_CHUNK = 16 * 2**20  # bytes of one text or colour profile; Pillow's 1 MiB refuses sound pictures


def as_image(picture: Any) -> Image.Image:
    """Return a picture as decode_image() does: a file, its bytes, Pillow's image, or an array or tensor of pixels.

    Arrays are H×W or H×W×3 (or 4, the last transparency), tensors 3×H×W, both uint8. Raises ImageError for anything
    else, and as open_image() does.
    """
    if isinstance(picture, str | os.PathLike):
        return open_image(os.fsdecode(picture))
    if hasattr(picture, "read"):
        try:
            picture = picture.getvalue() if hasattr(picture, "getvalue") else picture.read()
        except (OSError, ValueError) as error:  # one that was opened as text, or is closed
            raise ImageError("O arquivo aberto não pôde ser lido.", 'Dê o caminho dele, ou open(…, "rb").') from error
    if isinstance(picture, bytes | bytearray | memoryview):
        return decode_image(bytes(picture), "A imagem")
    try:
        if isinstance(picture, torch.Tensor) and picture.dtype == torch.uint8 and picture.shape[:-2] == (3,):
            picture = picture.permute(1, 2, 0).cpu().numpy()
        if isinstance(picture, np.ndarray) and picture.dtype == np.uint8:
            picture = _of_array(picture)
        if isinstance(picture, Image.Image) and picture.width * picture.height:
            if deep_mode(picture):
                return decode_image(content_of(picture), "A imagem", picture.tell())
            _refuse_dark(picture)
            return _to_rgb(picture, "A imagem")
    except ImageError:
        raise
    except Exception as error:
        raise ImageError("A imagem está danificada, fechada ou sem pixels.", "Dê o caminho do arquivo.") from error
    details = (str(getattr(picture, name)) for name in ("shape", "dtype") if hasattr(picture, name))
    kind = " ".join([type(picture).__name__, *details])
    remedy = "Dê um arquivo, uma imagem do Pillow ou um array uint8 de altura × largura × 3, uma por vez."
    raise ImageError(f"Isto não é uma imagem: {kind}.", remedy)


def _of_array(pixels: np.ndarray) -> Any:
    """Pillow's image of grey pixels, of RGB, or of RGB with transparency; an array of another shape as it is."""
    if pixels.ndim == 3 and pixels.shape[2] == 1:
        pixels = pixels[..., 0]
    return Image.fromarray(pixels) if (pixels.ndim, *pixels.shape[2:]) in ((2,), (3, 3), (3, 4)) else pixels


def open_image(path: str | Path) -> Image.Image:
    """Return the picture of a file, as decode_image() does. Raises ImageError as it and read_picture() do."""
    path = as_path(path, ImageError)
    return decode_image(read_picture(path), path)


def read_picture(path: str | Path) -> bytes:
    """Return what is in a picture's file. Raises ImageError, naming it, where it cannot be read or is too large."""
    try:
        return patiently(lambda: _read(path))
    except FileNotFoundError as error:
        raise ImageError(f"{path} não existe.", "Dê o caminho de uma imagem.") from error
    except OSError as error:
        raise ImageError(f"{path} não pôde ser lido: {reason(error)}.", "Copie o arquivo ou escolha outro.") from error


def _read(path: str | Path) -> bytes:
    found = os.stat(path)
    if not stat.S_ISREG(found.st_mode):
        raise ImageError(f"{path} não é um arquivo comum.", "Dê o caminho de uma imagem.")
    if found.st_size > MAX_BYTES:
        raise ImageError(f"{path} é grande demais ({MAX_BYTES // 2**20} MB no máximo).", SMALLER)
    with open(path, "rb") as file:
        return file.read(found.st_size)


def decode_image(content: bytes, name: str | Path, frame: int = 0) -> Image.Image:
    """Return the picture as RGB: turned as its EXIF says, transparency on white, what has 16 bits scaled.

    A JPEG of more than MAX_PIXELS is decoded at a half, a quarter or an eighth of its size. name: for the messages.
    frame: which, of an animation or a file of several pictures.
    Raises ImageError, one line with the name, when it is no sound picture of an allowed format or too large.
    """
    try:
        # From memory: a PNG of 1 kB can ask a file for 4 GB, and Python reserves them before it reads.
        with quiet(), _open(content) as image:
            if frame:
                image.seek(frame)
            width, height = image.size
            if width * height > MAX_PIXELS and image.format in ("JPEG", "MPO") and not image.info.get("progressive"):
                scale = next((scale for scale in (2, 4, 8) if width * height <= MAX_PIXELS * scale**2), 8)
                image.draft(image.mode, (width // scale, height // scale))  # (a progressive one is held whole)
            if image.width * image.height > MAX_PIXELS:
                raise ImageError(f"{name} tem {width}×{height} pixels, demais.", SMALLER)
            if deep_mode(image):
                scale_colours(image, content, FORMATS)
            return _to_rgb(image, name)
    except ImageError:
        raise
    except UnidentifiedImageError as error:
        raise _unknown(content, name) from error
    except (Image.DecompressionBombError, MemoryError) as error:
        raise ImageError(f"{name} não cabe na memória.", SMALLER) from error
    except Exception as error:  # Pillow has many ways to say that a file is damaged
        raise ImageError(f"{name} está danificado ou incompleto.", OTHER) from error


def quiet() -> AbstractContextManager[object]:
    """Ignore warnings: Pillow's, about damage that can be read past and a limit above ours.

    In the main thread alone, which does it for the threads it starts: the filters are one list for all of them, and
    two threads that exchange it at a time leave one that ignores everything.
    """
    in_main = threading.current_thread() is threading.main_thread()
    return warnings.catch_warnings(action="ignore") if in_main else nullcontext()


def _is_heif(content: bytes) -> bool:
    return content[4:8] == b"ftyp" and content[8:12] in HEIF_BRANDS


def _open(content: bytes) -> Image.Image:
    """Pillow's image of a file, not decoded yet.

    What an iPhone writes it reads where its package is by now: an extra, because few need it.
    """
    with LOCK, suppress(ImportError):
        if _is_heif(content) and "HEIF" not in FORMATS:
            from pillow_heif import register_heif_opener

            register_heif_opener()
            FORMATS.append("HEIF")
    return Image.open(io.BytesIO(content), formats=FORMATS)


def _refuse_dark(image: Image.Image) -> None:
    """Raise ImageError for colours of 16 bits that Pillow has made 8 of, where the upper 8 are nearly black."""
    deep = max(getattr(image, "tag_v2", {}).get(BITS_PER_SAMPLE, (8,))) > 8 and not getattr(image, "tile", ())
    if not (deep and image.mode in ("RGB", "RGBA")):
        return
    extrema: Any = image.convert("RGB").getextrema()
    if max(high for _, high in extrema) < 128:
        problem = "A imagem tem 16 bits por cor, e ficou escura quando o Pillow fez dela uma de 8."
        raise ImageError(problem, "Dê o caminho do arquivo.")


def _unknown(content: bytes, name: str | Path) -> ImageError:
    """The error that says what these bytes are, which Pillow takes for no picture."""
    if not content:
        return ImageError(f"{name} não tem conteúdo.", OTHER)
    if _is_heif(content):
        install = "python -m pip install pillow-heif (em uma célula, %pip install pillow-heif)"
        return ImageError(f"{name} é HEIC.", f"Para ler fotos assim: {install}.")
    if content[:4] == b"PK\3\4":
        problem = f"{name} não é uma imagem: é um ZIP, ou por dentro o é, como os de modelos e documentos."
        return ImageError(problem, "Se tem fotos, descompacte-o, e dê a pasta.")
    if content[:4] in (b"II*\0", b"MM\0*"):
        return ImageError(f"{name} é um TIFF de um tipo que não se lê, talvez de números reais.", EIGHT_BITS)
    return ImageError(f"{name} não é uma imagem {', '.join(FORMATS)}.", "Converta o arquivo ou escolha outro.")


def count_pixels(content: bytes) -> int:
    """How many pixels the picture in these bytes has; 0 where that cannot be read, as decoding will say."""
    with suppress(Exception), _open(content) as image:
        return image.width * image.height
    return 0


def to_tensor(image: Image.Image, side: int = 32, framing: str = "centro") -> torch.Tensor:
    """Return the picture as the network takes it, a uint8 tensor of 3×side×side.

    framing: "centro" takes its central square; "inteira", all of it, on a white square. It is made smaller by the mean
    of the pixels that become one, and larger by a bicubic curve.
    """
    whole = framing == "inteira"
    filled = max(image.size) if whole else min(image.size)
    method = Image.Resampling.BOX if filled > side else Image.Resampling.BICUBIC
    if whole:  # as ImageOps.pad() does, which fails where the shorter side would be less than half a pixel
        width, height = (max(1, round(length / filled * side)) for length in image.size)
        square = Image.new("RGB", (side, side), "white")
        square.paste(image.resize((width, height), method), (round((side - width) / 2), round((side - height) / 2)))
    else:
        square = ImageOps.fit(image, (side, side), method)
    return torch.from_numpy(np.array(square)).permute(2, 0, 1).contiguous()


def _to_rgb(image: Image.Image, name: str | Path) -> Image.Image:
    tags = getattr(image, "tag_v2", {})
    is_deep = max(tags.get(BITS_PER_SAMPLE, (8,))) > 8
    if is_deep and (tags.get(PLANAR_CONFIGURATION) == 2 or "RGBa;16" in str(getattr(image, "tile", ""))):
        kind = "as cores em planos separados, ou multiplicadas pela transparência"
        raise ImageError(f"{name} é um TIFF de 16 bits com {kind}: não se lê certo.", EIGHT_BITS)
    image.load()
    with suppress(Exception):  # a damaged EXIF spoils no picture
        image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I"):  # 16 or 32 bits, which Pillow's own conversion clips to white
        values = np.asarray(image)
        if values.dtype.itemsize == 2:  # of which a camera may fill 12 bits
            return Image.fromarray(levels_up_to(int(values.max()))[values]).convert("RGB")
        values = values.astype(np.int64) - min(0, int(values.min()))
        bits = max(8, int(values.max()).bit_length())
        return Image.fromarray((values * 255 // (2**bits - 1)).astype(np.uint8)).convert("RGB")
    if image.mode == "F":  # any scale: the darkest value becomes black, the lightest white
        values = np.array(image, dtype=np.float32)
        if not np.isfinite(values).all():
            raise ValueError("pixels that are no numbers")
        values -= values.min()
        values *= 255 / max(values.max(), np.finfo(np.float32).tiny * 1e6)
        return Image.fromarray(values.astype(np.uint8)).convert("RGB")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    return image.convert("RGB")
