"""Which of the user's files are pictures, of which class, and what is left out, which is always said."""

import os
import unicodedata
from collections import Counter, defaultdict
from functools import cached_property
from pathlib import Path

from classificador.errors import DataError, brief
from classificador.messages import tell
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
        self.folder_paths: list[Path] = []
        self.others: Counter[str] = Counter()  # how many there are of each kind that is no picture
        try:
            entries = sorted(entry for entry in path.iterdir() if not entry.name.startswith("."))
        except OSError as error:
            raise DataError(f"{path} não pode ser lida: {reason(error)}.", "Confira o caminho.") from error
        for entry in entries:
            if os.path.isdir(entry):  # unlike Path's own, False for what cannot be entered
                self.folder_paths.append(entry)
                self.others["pastas"] += 1
            elif entry.suffix.lower() in SUFFIXES and os.path.isfile(entry):
                self.pictures.append(entry)
            else:
                self.others[entry.suffix.lower() or "sem extensão"] += 1

    @cached_property
    def folders(self) -> list["Folder"]:
        """The folders in it, each listed once, when first asked for."""
        return [Folder(path) for path in self.folder_paths]

    @property
    def class_folders(self) -> list["Folder"]:
        """The folders in it that hold pictures."""
        return [folder for folder in self.folders if folder.pictures]


def find_classes(root: Path) -> dict[str, Classes]:
    """Return the pictures in a folder of class folders, by the split they are for; "train" may be all.

    Folders called train, val or test (or treino, validação, teste) with class folders inside are the splits; where
    there are none, or only some, pictures of "train" are to be drawn for the others. A class is named after its folder.
    Says what is left out.
    Raises DataError for fewer than two classes, and for pictures that lie at another level; the message says where.
    """
    top = Folder(root)
    splits = {folder: SPLITS.get(folder.name.lower(), "") for folder in top.folders}
    used = {folder: split for folder, split in splits.items() if split or folder.pictures or folder.class_folders}
    homes = {split: folder for folder, split in used.items()}
    if "train" not in homes or "" in homes:  # "": there are pictures beside the splits
        return {"train": _classes(top)}
    places = ", ".join(str(folder.path) for folder in used)
    if len(homes) < len(used):
        raise DataError(f"Das pastas {places} duas são a mesma parte da divisão.", "Junte-as em uma.")
    found = {split: _classes(folder) for split, folder in homes.items()}
    others = ", ".join(brief(folder.name) for folder in splits if folder not in used)
    tell(f"A divisão é a das pastas {places}." + (f" Outras, sem imagens: {others}." if others else ""))
    _tell_loose(top)
    if unknown := sorted(set().union(*found.values()) - found["train"].keys()):
        where = homes["train"].path
        raise DataError(f"A classe {brief(unknown[0])} não tem imagens em {where}.", "Ponha-as lá também.")
    return found


def _classes(root: Folder) -> Classes:
    """The class folders of one folder. Raises DataError as find_classes()."""
    found: Classes = defaultdict(list)  # two folders are one class if only the spelling of an accent differs
    for folder in root.class_folders:
        if not folder.name.isprintable() or len(folder.name) >= 200:
            problem = f"A pasta {brief(folder.name)} de {root.path} tem um nome que não se pode guardar."
            raise DataError(problem, "Mude-o.")
        found[folder.name] += folder.pictures
    if len(found) < 2:
        need = "precisa de pelo menos duas pastas com imagens, uma por classe"
        raise DataError(f"{root.path} {need}; há {len(found)}.", _place_of_classes(root))
    _tell_left_out(root)
    return dict(sorted(found.items()))


def _place_of_classes(root: Folder) -> str:
    """Where the classes seem to be that a folder has not; "" if nothing tells."""
    if inner := next((folder.path for folder in root.folders if len(folder.class_folders) > 1), None):
        return f"As classes parecem estar em {inner}: dê esse caminho."
    if not root.pictures:
        return ""
    loose, above = number(len(root.pictures), 0), root.path.absolute().parent
    if not root.class_folders and len(Folder(above).class_folders) > 1:
        return f"As {loose} imagens são de uma classe só: dê a pasta de cima, {above}."
    return f"Imagens soltas, {loose}: ponha as de cada classe em uma pasta dela."


def _tell_left_out(root: Folder) -> None:
    """Say what lies in a folder of classes and is no picture of one, by its name or its place."""
    if empty := [folder for folder in root.folders if not folder.pictures]:
        names = ", ".join(f"{brief(folder.name)} ({_most_common(folder.others) or 'vazia'})" for folder in empty[:5])
        tell(f"Pastas de {root.path} sem imagens diretamente nelas, que não são classes: {len(empty)}. {names}")
    _tell_loose(root)
    homes = root.class_folders
    if left := sum((folder.others for folder in homes), Counter()):
        valid, found = ", ".join(sorted(SUFFIXES)), _most_common(left)
        tell(f"Dentro das classes de {root.path} só valem imagens ({valid}); ficaram de fora: {found}.")
    if deeper := [inner for folder in homes for inner in folder.class_folders]:
        count = number(sum(len(folder.pictures) for folder in deeper), 0)
        tell(f"Imagens em pastas dentro das classes, como {deeper[0].path}: {count}. Mova-as para a da classe.")


def _tell_loose(root: Folder) -> None:
    if root.pictures:
        loose = number(len(root.pictures), 0)
        tell(f"Imagens soltas em {root.path}, que não são de nenhuma classe e ficaram de fora: {loose}.")


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
        waiting += [path for path in folder.folder_paths if not path.is_symlink()]  # a link could lead in circles
    del others["pastas"]
    if not found:
        there = f", e sim {_most_common(others)}" if others else ""
        remedy = f"Dê uma pasta com arquivos {', '.join(sorted(SUFFIXES))}."
        raise DataError(f"{root} não tem imagens{there}.", remedy)
    if others:
        tell(f"Em {root} ficaram de fora, por não terem nome de imagem: {_most_common(others)}.")
    return sorted(found)


def _most_common(kinds: Counter[str]) -> str:
    return ", ".join(f"{brief(kind)} ({number(count, 0)})" for kind, count in kinds.most_common(5))
