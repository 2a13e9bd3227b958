"""Which of the user's files are pictures, of which class, and what is left out, which is always said."""

import os
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path

from classificador.drives import patiently
from classificador.errors import DataError, brief
from classificador.portuguese import first_few, number, reason, tell

SUFFIXES = {".png", ".jpg", ".jpeg", ".jfif", ".gif", ".webp", ".bmp", ".tif", ".tiff", ".ppm", ".pgm", ".pbm"}
SUFFIXES |= {".avif", ".heic", ".heif", ".mpo"}
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
        if path.is_file():
            raise DataError(f"{path} é um arquivo, e não uma pasta, nem um ZIP dela.", "Dê a pasta das classes.")
        try:
            entries = sorted(entry for entry in patiently(lambda: list(path.iterdir())) if entry.name[0] != ".")
        except OSError as error:
            raise DataError(f"{path} não pode ser lida: {reason(error)}.", "Confira o caminho.") from error
        for entry in entries:
            if os.path.isdir(entry):  # unlike Path's own, False for what cannot be entered
                self.folder_paths.append(entry)
            elif entry.suffix.lower() in SUFFIXES and os.path.isfile(entry):
                self.pictures.append(entry)
            else:
                self.others[entry.suffix.lower() or "sem extensão"] += 1

    @cached_property
    def folders(self) -> list["Folder"]:
        """The folders in it, each listed once, when first asked for."""
        return [Folder(path) for path in self.folder_paths]

    def walk(self) -> Iterator["Folder"]:
        """It and the folders within it, also by links, each once, and none that it lies in: links lead in circles."""
        home = self.path.resolve()
        seen, waiting = {home, *home.parents}, [self]
        while waiting:
            folder = waiting.pop(0)
            yield folder
            for inner in folder.folders:
                if (place := inner.path.resolve()) not in seen:
                    seen.add(place)
                    waiting.append(inner)

    @property
    def class_folders(self) -> list["Folder"]:
        """The folders in it that hold pictures."""
        return [folder for folder in self.folders if folder.pictures]

    @property
    def folder_of_classes(self) -> Path | None:
        """The first folder in it that seems to hold folders of classes."""
        return next((folder.path for folder in self.folders if len(folder.class_folders) > 1), None)


def find_classes(root: Path) -> dict[str, Classes]:
    """Return the pictures in a folder of class folders, by the split they are for; "train" may be all.

    Folders called train, val or test (or treino, validação, teste) with class folders inside are the splits; where
    there are none, or only some, pictures of "train" are to be drawn for the others. A class is named after its folder.
    Says what is left out.
    Raises DataError for fewer than two classes, and for pictures that lie at another level; the message says where.
    """
    top = Folder(root)
    splits = {folder: SPLITS.get(folder.name.lower(), "") for folder in top.folders}
    used = [folder for folder, split in splits.items() if split or folder.pictures or folder.class_folders]
    homes = {splits[folder]: folder for folder in used}
    apart = {split: folder for split, folder in homes.items() if split and not folder.pictures}
    if "train" not in apart and "" in homes and apart:  # the class folders lie beside a test folder
        found = {"train": _classes(top, list(apart.values()))}
        return _with_parts(found, {split: _classes(folder) for split, folder in apart.items()}, top.path)
    if "train" not in homes or "" in homes:  # "": there are pictures beside the splits
        return {"train": _classes(top)}
    places = ", ".join(str(folder.path) for folder in used)
    if len(homes) < len(used):
        raise DataError(f"Das pastas {places} duas são a mesma parte da divisão.", "Junte-as em uma.")
    found = {split: _classes(folder) for split, folder in homes.items()}
    tell(f"A divisão é a das pastas {places}.")
    _tell_left_out(top, used, [])
    train = {"train": found.pop("train")}
    return _with_parts(train, found, homes["train"].path)


def _with_parts(train: dict[str, Classes], parts: dict[str, Classes], where: Path) -> dict[str, Classes]:
    """Both together. Raises DataError for a class that has no pictures to learn from; where: they would lie."""
    if unknown := sorted(set().union(*parts.values()) - train["train"].keys()):
        raise DataError(f"A classe {brief(unknown[0])} não tem imagens em {where}.", "Ponha-as lá também.")
    return train | parts


def _classes(root: Folder, apart: Sequence[Folder] = ()) -> Classes:
    """The class folders of one folder, but for those that stand apart. Raises DataError as find_classes()."""
    found: Classes = defaultdict(list)  # two folders are one class if only the spelling of an accent differs
    homes = [folder for folder in _class_folders(root) if folder not in apart]
    for folder in homes:
        if not folder.name.isprintable() or len(folder.name) >= 200:
            problem = f"A pasta {brief(folder.name)} de {root.path} tem um nome que não se pode guardar."
            raise DataError(problem, "Mude-o.")
        found[folder.name] += [path for inside in folder.walk() for path in inside.pictures]
    if len(found) < 2:
        need = "precisa de pelo menos duas pastas com imagens, uma por classe"
        raise DataError(f"{root.path} {need}; há {len(found)}.", _place_of_classes(root))
    _tell_left_out(root, [*homes, *apart], homes)
    return dict(sorted(found.items(), key=lambda item: _natural(item[0])))


def _class_folders(root: Folder) -> list[Folder]:
    """The folders in one that stand for a class: they hold pictures, or only folders of them, such as video1, video2.

    Those hold folders of classes, perhaps, unless there are two others that hold pictures, or only the inner names have
    numbers, or all of the inner names are the same.
    """
    homes, inner = root.class_folders, [folder.name for outer in root.folders for folder in outer.class_folders]
    numbered = bool(inner) and all(re.fullmatch(r".*[^\W\d].*\d.*", name) for name in inner)
    outer = [
        folder
        for folder in root.folders
        if folder.pictures or (folder.class_folders and folder.name.lower() not in SPLITS)
    ]
    alike = len(set(inner)) == 1 < len(outer)  # gato/fotos, cachorro/fotos
    is_sure = len(homes) > 1 or ((numbered or alike) and not any(re.search(r"\d", folder.name) for folder in outer))
    return outer if is_sure else homes


def _natural(name: str) -> list[tuple[int, str]]:
    """What names are sorted by: 2 before 10."""
    parts = re.split(r"(\d+)", name)
    return [(int(part), "") if part.isdecimal() else (0, part) for part in parts]


def _place_of_classes(root: Folder) -> str:
    """Where the classes seem to be that a folder has not; "" if nothing tells."""
    if inner := root.folder_of_classes:
        return f"As classes parecem estar em {inner}: dê esse caminho."
    if not root.pictures:
        return ""
    loose, above = number(len(root.pictures), 0), root.path.absolute().parent
    if not root.class_folders and len(Folder(above).class_folders) > 1:
        return f"As {loose} imagens são de uma classe só: dê a pasta de cima, {above}."
    return f"Imagens soltas, {loose}: ponha as de cada classe em uma pasta dela."


def _tell_left_out(root: Folder, used: list[Folder], classes: list[Folder]) -> None:
    """Say what lies in a folder beside those that are used, and in those of classes beside their pictures."""
    left = [f"imagens soltas ({number(len(root.pictures), 0)})"] if root.pictures else []
    left += [f"pasta {brief(folder.name)}, sem imagens" for folder in root.folders if folder not in used]
    inside = [inner for folder in classes for inner in folder.walk()]
    again = [folder for outer in inside for folder in outer.folders if folder not in inside]
    left += [f"{brief(str(folder.path))}, pasta já lida por outro caminho" for folder in again]
    others = sum((folder.others for folder in inside), Counter())
    left += _counted(others)
    if left:
        rule = f"Só valem imagens ({', '.join(sorted(SUFFIXES))}) que estão na pasta da sua classe."
        tell(f"Ficaram de fora de {root.path}: {first_few(left, 10)}. {rule}")


def _counted(kinds: Counter[str]) -> list[str]:
    return [f"{brief(kind)} ({number(count, 0)})" for kind, count in kinds.most_common()]


def find_pictures(root: str | Path) -> list[Path]:
    """Return all picture files in a folder and the folders within, in order. Raises DataError if there is none.

    Says which other files it leaves out.
    """
    found: list[Path] = []
    others: Counter[str] = Counter()
    for folder in Folder(Path(root)).walk():
        found += folder.pictures
        others += folder.others
    left = first_few(_counted(others), 5)
    if not found:
        remedy = f"Dê uma pasta com arquivos {', '.join(sorted(SUFFIXES))}."
        raise DataError(f"{root} não tem imagens{left and f', e sim {left}'}.", remedy)
    if left:
        tell(f"Em {root} ficaram de fora, por não terem nome de imagem: {left}.")
    return sorted(found)
