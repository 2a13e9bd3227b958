"""Which of the user's files are pictures, of which class, and what is left out, which is always said."""

import unicodedata
from collections import Counter
from pathlib import Path

from classificador.errors import DataError, brief
from classificador.portuguese import number, reason

SUFFIXES = {".png", ".jpg", ".jpeg", ".jfif", ".gif", ".webp", ".bmp", ".tif", ".tiff", ".ppm", ".pgm", ".pbm"}
SUFFIXES |= {".avif", ".heic", ".heif"}
SPLITS = {"train": "train", "treino": "train", "treinamento": "train", "test": "test", "teste": "test"}
SPLITS |= dict.fromkeys(("val", "valid", "validation", "validação", "validacao"), "val")

Classes = dict[str, list[Path]]  # the pictures of each class, by its name


def find_classes(root: Path) -> dict[str, Classes]:
    """Return the pictures in a folder of class folders, by the part of the data they are for; "train" may be all.

    Folders called train, val or test (or treino, validação, teste) with class folders inside are the parts; where there
    are none, or only some, pictures of "train" are to be drawn for the others. A class is named after its folder,
    accents composed (NFC), as Macs do not write them. Says what is left out.
    Raises DataError for fewer than two classes, and for pictures that lie at another level; the message says where.
    """
    if not root.is_dir():
        raise DataError(f"{root} não existe. Corrija o caminho." if not root.exists() else f"{root} não é uma pasta.")
    every = [(SPLITS.get(_composed(folder.name).lower(), ""), folder) for folder in _folders(root)]
    named = [(part, folder) for part, folder in every if part or pictures(folder) or count_class_folders(folder)]
    inside = dict(named)
    if "train" in inside and "" not in inside:
        places = ", ".join(str(folder) for _, folder in named)
        if len(inside) < len(named):
            raise DataError(f"Das pastas {places} duas são a mesma parte da divisão. Junte-as em uma.")
        parts = {part: _classes(folder) for part, folder in named}
        others = [brief(folder.name) for part, folder in every if (part, folder) not in named]
        print(f"A divisão é a das pastas {places}." + (f" Outras, sem imagens: {', '.join(others)}." if others else ""))
        _tell_loose(root)
        if unknown := sorted({name for part in parts.values() for name in part} - set(parts["train"])):
            raise DataError(f"A classe {brief(unknown[0])} não tem imagens em {inside['train']}. Ponha-as lá também.")
        return parts
    return {"train": _classes(root)}


def _classes(root: Path) -> Classes:
    """The class folders of one folder. Raises DataError as find_classes()."""
    found: Classes = {}
    empty = []
    for folder in _folders(root):
        if not (paths := pictures(folder)):
            empty.append(folder)
            continue
        name = _composed(folder.name)
        if not name.isprintable() or len(name) >= 200:
            raise DataError(f"A pasta {brief(name)} de {root} tem um nome que não se pode guardar. Mude-o.")
        found[name] = sorted([*found.get(name, []), *paths])
    if len(found) < 2:
        _raise_with_place(root, len(found))
    _tell_left_out(root, found, empty)
    return dict(sorted(found.items()))


def _raise_with_place(root: Path, classes: int) -> None:
    """Raise the DataError for a folder of fewer than two classes, with where they seem to be."""
    loose = len(pictures(root))
    inner = next((folder for folder in _folders(root) if count_class_folders(folder) > 1), None)
    remedy = ""
    if inner:
        remedy = f" As classes parecem estar em {inner}: dê esse caminho."
    elif loose and not classes and count_class_folders(root.absolute().parent) > 1:
        remedy = f" As {number(loose, 0)} imagens são de uma classe só: dê a pasta de cima, {root.absolute().parent}."
    elif loose:
        remedy = f" Imagens soltas, {number(loose, 0)}: ponha as de cada classe em uma pasta dela."
    raise DataError(
        f"{root} precisa de pelo menos duas pastas com imagens, uma por classe; há {number(classes, 0)}.{remedy}"
    )


def _tell_left_out(root: Path, found: Classes, empty: list[Path]) -> None:
    """Say what lies in a folder of classes and is no picture of one, by its name or its place."""
    if empty:
        names = ", ".join(f"{brief(folder.name)} ({_most_common(_others(folder)) or 'vazia'})" for folder in empty[:5])
        print(f"Pastas de {root} sem imagens diretamente nelas, que não são classes: {len(empty)}. {names}")
    _tell_loose(root)
    left: Counter[str] = Counter()
    homes = sorted({path.parent for paths in found.values() for path in paths})
    for folder in homes:
        left.update(_others(folder))
    if left:
        print(
            f"Dentro das classes de {root} só valem imagens ({', '.join(sorted(SUFFIXES))}); ficaram de fora: "
            f"{_most_common(left)}."
        )
    if inner := [folder for home in homes for folder in _folders(home) if pictures(folder)]:
        count = sum(len(pictures(folder)) for folder in inner)
        print(f"Imagens em pastas dentro das classes, como {inner[0]}: {number(count, 0)}. Mova-as para a da classe.")


def _tell_loose(root: Path) -> None:
    if loose := len(pictures(root)):
        print(f"Imagens soltas em {root}, que não são de nenhuma classe e ficaram de fora: {number(loose, 0)}.")


def pictures(folder: Path) -> list[Path]:
    """Return the files directly in a folder whose names end like a picture's, hidden ones left out, in order.

    Raises DataError for a folder that cannot be read.
    """
    return [path for path in _entries(folder) if path.suffix.lower() in SUFFIXES and path.is_file()]


def find_pictures(root: str | Path) -> list[Path]:
    """Return all picture files in a folder and the folders within, in order. Raises DataError if there is none.

    Says which other files it leaves out.
    """
    found: list[Path] = []
    others: Counter[str] = Counter()
    waiting = [Path(root)]
    while waiting:
        folder = waiting.pop()
        found += pictures(folder)
        others.update({kind: count for kind, count in _others(folder).items() if kind != "pastas"})
        waiting += [inner for inner in _folders(folder) if not inner.is_symlink()]  # a link could lead in circles
    if not found:
        there = f", e sim {_most_common(others)}" if others else ""
        raise DataError(f"{root} não tem imagens{there}. Dê uma pasta com arquivos {', '.join(sorted(SUFFIXES))}.")
    if others:
        print(f"Em {root} ficaram de fora, por não terem nome de imagem: {_most_common(others)}.")
    return sorted(found)


def count_class_folders(root: Path) -> int:
    """Return how many folders with pictures a folder holds. Raises DataError for one that cannot be read."""
    return sum(bool(pictures(folder)) for folder in (_folders(root) if root.is_dir() else []))


def _entries(folder: Path) -> list[Path]:
    """What a folder holds, in order, hidden names left out."""
    try:
        return sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    except OSError as error:
        raise DataError(f"{folder} não pode ser lida: {reason(error)}.") from error


def _folders(root: Path) -> list[Path]:
    return [path for path in _entries(root) if path.is_dir()]


def _others(folder: Path) -> Counter[str]:
    """How many things of each kind lie in a folder beside its pictures."""
    rest = set(_entries(folder)).difference(pictures(folder))
    return Counter("pastas" if path.is_dir() else path.suffix.lower() or "sem extensão" for path in rest)


def _most_common(kinds: Counter) -> str:
    return ", ".join(f"{brief(kind)} ({number(count, 0)})" for kind, count in kinds.most_common(5))


def _composed(name: str) -> str:
    return unicodedata.normalize("NFC", name)
