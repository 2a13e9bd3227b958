"""A ZIP of class folders, as Kaggle gives them, read as the folder that it holds."""

import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from classificador.data.finding import SUFFIXES
from classificador.data.pictures import MAX_BYTES
from classificador.errors import DataError
from classificador.paths import numbered
from classificador.portuguese import number, tell

MOST_BYTES = 8 * 2**30  # of its pictures, unpacked; Kaggle's cats and dogs have 0.8 GB
MOST_FILES = 200_000
REMEDY = "Descompacte-o, e dê a pasta."


@contextmanager
def as_folder(root: Path) -> Iterator[Path]:
    """Give the folder itself, or where `root` is a ZIP one that holds its pictures while the block runs.

    Only files with the names of pictures are unpacked, none outside that folder. A folder that holds nothing but
    another is left out. Raises DataError for a ZIP that is damaged, has a password, or whose pictures are too large.
    """
    if not (root.is_file() and zipfile.is_zipfile(root)):
        yield root
        return
    with tempfile.TemporaryDirectory() as somewhere:
        folder = Path(somewhere, root.name)  # so that messages name it
        folder.mkdir()
        try:
            _unpack(root, folder)
        except DataError:
            raise
        except Exception as error:  # damaged bytes make zip, zlib and lzma raise nearly anything
            raise DataError(f"{root} não pôde ser descompactado ({type(error).__name__}).", REMEDY) from error
        while len(inside := list(folder.iterdir())) == 1 and inside[0].is_dir():
            folder = inside[0]
        try:
            yield folder
        except DataError as error:  # which names a folder that will be gone
            there = "dê esse caminho" in error.remedy
            remedy = REMEDY if there else error.remedy.replace(str(folder), str(root))
            raise DataError(error.problem.replace(str(folder), str(root)), remedy) from error


def _unpack(root: Path, place: Path) -> None:
    with zipfile.ZipFile(root) as archive:
        files = [entry for entry in archive.infolist() if not (entry.is_dir() or _is_hidden(entry.filename))]
        entries = [entry for entry in files if Path(entry.filename).suffix.lower() in SUFFIXES]
        if others := len(files) - len(entries):
            tell(f"Em {root} ficaram de fora {number(others, 0)} arquivos que não têm nome de imagem.")
        total, most = sum(entry.file_size for entry in entries), max((e.file_size for e in entries), default=0)
        if total > MOST_BYTES or most > MAX_BYTES or len(entries) > MOST_FILES:
            raise DataError(f"{root} é grande demais para ser lido sem descompactar.", REMEDY)
        for entry in entries:
            target = place.joinpath(*_safe_parts(_name_of(entry)))
            target.parent.mkdir(parents=True, exist_ok=True)
            with open(next(path for path in numbered(target) if not path.exists()), "xb") as file:
                file.write(archive.read(entry))  # no more than file_size


def _name_of(entry: zipfile.ZipInfo) -> str:
    """The name that its archiver meant: without the mark for UTF-8 Macs write UTF-8 all the same, and Windows cp850."""
    if entry.flag_bits & 0x800:
        return entry.filename
    given = entry.filename.encode("cp437")
    try:
        return given.decode()
    except UnicodeDecodeError:
        return given.decode("cp850")


def _safe_parts(name: str) -> list[str]:
    """The parts of a name in a ZIP that lead nowhere else: no root, no drive, no folder above."""
    parts = name.replace("\\", "/").split("/")
    return [part.replace(":", "_") for part in parts if part not in ("", ".", "..")]


def _is_hidden(name: str) -> bool:
    """Whether it is a Mac's own, or hidden."""
    return any(part.startswith((".", "__MACOSX")) and part not in (".", "..") for part in Path(name).parts)
