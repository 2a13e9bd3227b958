"""What a Brazilian reader reads: numbers with decimal comma; the system's errors in Portuguese; lines in passing."""

import errno
import sys
from collections.abc import Sequence

from tqdm import tqdm

SEPARATORS = str.maketrans(",.", ".,")  # from those of an English number
_REASONS = {
    errno.ENOENT: "o caminho não existe",
    errno.EEXIST: "já existe algo com esse nome",
    errno.ENOTDIR: "o caminho passa por um arquivo",
    errno.EISDIR: "é uma pasta",
    errno.EACCES: "sem permissão",
    errno.EPERM: "sem permissão",
    errno.EROFS: "o disco só permite leitura",
    errno.ENOSPC: "disco cheio",
    errno.EDQUOT: "cota de disco esgotada",
    errno.EFBIG: "o arquivo passaria do tamanho permitido",
    errno.ENAMETOOLONG: "o nome é longo demais",
    errno.ELOOP: "os links dele dão voltas",
    errno.EIO: "o disco, ou a rede até ele, falhou",
    errno.EINVAL: "o nome, ou o disco, não permite isso",
    errno.ENOTSUP: "o disco não permite isso",
    errno.EBUSY: "está em uso",
    errno.EMFILE: "há arquivos abertos demais",
    errno.ENFILE: "há arquivos abertos demais",
    errno.ENOMEM: "falta memória",
    errno.ENODEV: "o disco não está mais lá",
    errno.ENXIO: "o disco não está mais lá",
    errno.EXDEV: "fica em outro disco",
    errno.ENOTEMPTY: "a pasta não está vazia",
    errno.ETIMEDOUT: "o disco de rede não respondeu",
    errno.ENOTCONN: "o disco de rede não está conectado",
    errno.EHOSTUNREACH: "a rede não alcança o disco",
    errno.ENETUNREACH: "a rede não alcança o disco",
}
# Windows lacks these names.
_REASONS |= {
    getattr(errno, name): text
    for name, text in (("ESTALE", "o disco de rede o perdeu"), ("EHOSTDOWN", "a rede não alcança o disco"))
    if hasattr(errno, name)
}


def reason(error: Exception) -> str:
    """Return why the system refused, in a few words; an error of another kind speaks for itself."""
    return _REASONS.get(getattr(error, "errno", 0)) or getattr(error, "strerror", None) or str(error)


def number(value: float, digits: int = 2) -> str:
    """Return e.g. "1.234,50" for (1234.5, 2)."""
    return f"{value:,.{digits}f}".translate(SEPARATORS)


def percent(fraction: float, digits: int = 1) -> str:
    """Return e.g. "85,3%" for 0.853."""
    return number(100 * fraction, digits) + "%"


def first_few(items: Sequence[str], most: int) -> str:
    """Return e.g. "a, b e mais 2" for the items a to d, at most 2."""
    return ", ".join(items[:most]) + (f" e mais {len(items) - most}" if len(items) > most else "")


def shorten(text: str, most: int) -> str:
    """Return a text, a long one without its middle, so that it has `most` letters, an even number."""
    return text if len(text) <= most else f"{text[: most // 2 - 1]}…{text[-most // 2 :]}"


def duration(seconds: float) -> str:
    """Return e.g. "42 s", "2 min 23 s" or "1 h 05 min"."""
    minutes, rest = divmod(round(seconds), 60)
    if minutes >= 60:
        return f"{minutes // 60} h {minutes % 60:02d} min"
    return f"{minutes} min {rest:02d} s" if minutes else f"{number(seconds, 1)} s" if seconds < 10 else f"{rest} s"


def about(seconds: float) -> str:
    """Return roughly how long, e.g. "cerca de 40 s", "cerca de 3 min e meio" or "cerca de 3 h"."""
    if seconds < 57.5:
        return f"cerca de {max(5, 5 * round(seconds / 5))} s"
    if seconds < 5 * 60:
        minutes, half = divmod(round(seconds / 30), 2)
        return f"cerca de {minutes} min" + " e meio" * half
    return f"cerca de {round(seconds / 60)} min" if seconds < 90 * 60 else f"cerca de {round(seconds / 3600)} h"


def tell(text: str) -> None:
    """Tell the user one line, above a progress bar if there is one; the front doors direct sys.stdout."""
    tqdm.write(text)
    sys.stdout.flush()
