"""Which of the user's files are pictures, of which class, and what is left out, which is always said."""

import os
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


class Folder:
    """What lies directly in a folder, in order, hidden names left out. Raises DataError where it cannot be read."""

    def __init__(self, path: Path):
        self.path = path
        self.name = unicodedata.normalize("NFC", path.name)  # accents composed, as Macs do not write them
        self.pictures: list[Path] = []  # files whose names end like a picture's
        self.folders: list[Path] = []
        self.others: Counter[str] = Counter()  # how many there are of each kind that is no picture
        try:
            entries = sorted(entry for entry in path.iterdir() if not entry.name.startswith("."))
        except OSError as error:
            raise DataError(f"{path} não pode ser lida: {reason(error)}.") from error
        for entry in entries:
            if os.path.isdir(entry):  # unlike Path's own, False for what cannot be entered
                self.folders.append(entry)
                self.others["pastas"] += 1
            elif entry.suffix.lower() in SUFFIXES and os.path.isfile(entry):
                self.pictures.append(entry)
            else:
                self.others[entry.suffix.lower() or "sem extensão"] += 1

    def class_folders(self) -> list["Folder"]:
        """The folders in it that hold pictures."""
        return [folder for folder in map(Folder, self.folders) if folder.pictures]


def find_classes(root: Path) -> dict[str, Classes]:
    """Return the pictures in a folder of class folders, by the part of the data they are for; "train" may be all.

    Folders called train, val or test (or treino, validação, teste) with class folders inside are the parts; where there
    are none, or only some, pictures of "train" are to be drawn for the others. A class is named after its folder.
    Says what is left out.
    Raises DataError for fewer than two classes, and for pictures that lie at another level; the message says where.
    """
    if not root.is_dir():
        raise DataError(f"{root} não existe. Corrija o caminho." if not root.exists() else f"{root} não é uma pasta.")
    parts = {folder: SPLITS.get(folder.name.lower(), "") for folder in map(Folder, Folder(root).folders)}
    used = {folder: part for folder, part in parts.items() if part or folder.pictures or folder.class_folders()}
    homes = {part: folder.path for folder, part in used.items()}
    if "train" not in homes or "" in homes:  # "": there are pictures beside the parts
        return {"train": _classes(root)}
    places = ", ".join(str(folder.path) for folder in used)
    if len(homes) < len(used):
        raise DataError(f"Das pastas {places} duas são a mesma parte da divisão. Junte-as em uma.")
    found = {part: _classes(path) for part, path in homes.items()}
    others = ", ".join(brief(folder.name) for folder in parts if folder not in used)
    print(f"A divisão é a das pastas {places}." + (f" Outras, sem imagens: {others}." if others else ""))
    _tell_loose(Folder(root))
    if unknown := sorted(set().union(*found.values()) - found["train"].keys()):
        raise DataError(f"A classe {brief(unknown[0])} não tem imagens em {homes['train']}. Ponha-as lá também.")
    return found


def _classes(root: Path) -> Classes:
    """The class folders of one folder. Raises DataError as find_classes()."""
    found: Classes = {}
    here = Folder(root)
    for folder in here.class_folders():
        if not folder.name.isprintable() or len(folder.name) >= 200:
            raise DataError(f"A pasta {brief(folder.name)} de {root} tem um nome que não se pode guardar. Mude-o.")
        found[folder.name] = sorted([*found.get(folder.name, []), *folder.pictures])
    if len(found) < 2:
        raise DataError(
            f"{root} precisa de pelo menos duas pastas com imagens, uma por classe; há {number(len(found), 0)}."
            + _place_of_classes(here)
        )
    _tell_left_out(here)
    return dict(sorted(found.items()))


def _place_of_classes(root: Folder) -> str:
    """Where the classes seem to be that a folder has not; "" if nothing tells."""
    loose, above = number(len(root.pictures), 0), root.path.absolute().parent
    if inner := next((path for path in root.folders if len(Folder(path).class_folders()) > 1), None):
        return f" As classes parecem estar em {inner}: dê esse caminho."
    if root.pictures and not root.class_folders() and len(Folder(above).class_folders()) > 1:
        return f" As {loose} imagens são de uma classe só: dê a pasta de cima, {above}."
    return f" Imagens soltas, {loose}: ponha as de cada classe em uma pasta dela." if root.pictures else ""


def _tell_left_out(root: Folder) -> None:
    """Say what lies in a folder of classes and is no picture of one, by its name or its place."""
    if empty := [folder for folder in map(Folder, root.folders) if not folder.pictures]:
        names = ", ".join(f"{brief(folder.name)} ({_most_common(folder.others) or 'vazia'})" for folder in empty[:5])
        print(f"Pastas de {root.path} sem imagens diretamente nelas, que não são classes: {len(empty)}. {names}")
    _tell_loose(root)
    homes = root.class_folders()
    if left := sum((folder.others for folder in homes), Counter()):
        suffixes = ", ".join(sorted(SUFFIXES))
        print(
            f"Dentro das classes de {root.path} só valem imagens ({suffixes}); ficaram de fora: {_most_common(left)}."
        )
    if deeper := [inner for folder in homes for inner in folder.class_folders()]:
        count = number(sum(len(folder.pictures) for folder in deeper), 0)
        print(f"Imagens em pastas dentro das classes, como {deeper[0].path}: {count}. Mova-as para a da classe.")


def _tell_loose(root: Folder) -> None:
    if root.pictures:
        loose = number(len(root.pictures), 0)
        print(f"Imagens soltas em {root.path}, que não são de nenhuma classe e ficaram de fora: {loose}.")


def find_pictures(root: str | Path) -> list[Path]:
    """Return all picture files in a folder and the folders within, in order. Raises DataError if there is none.

    Says which other files it leaves out.
    """
    found: list[Path] = []
    others: Counter[str] = Counter()
    waiting = [Path(root)]
    while waiting:
        folder = Folder(waiting.pop())
        found += folder.pictures
        others += folder.others
        waiting += [path for path in folder.folders if not path.is_symlink()]  # a link could lead in circles
    del others["pastas"]
    if not found:
        there = f", e sim {_most_common(others)}" if others else ""
        raise DataError(f"{root} não tem imagens{there}. Dê uma pasta com arquivos {', '.join(sorted(SUFFIXES))}.")
    if others:
        print(f"Em {root} ficaram de fora, por não terem nome de imagem: {_most_common(others)}.")
    return sorted(found)


def _most_common(kinds: Counter[str]) -> str:
    return ", ".join(f"{brief(kind)} ({number(count, 0)})" for kind, count in kinds.most_common(5))
