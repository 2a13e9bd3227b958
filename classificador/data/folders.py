"""Pictures of one's own: a folder with one folder for each class, read, scaled and split."""

import os
import random
import unicodedata
from bisect import bisect
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import torch
from scipy.cluster.hierarchy import DisjointSet

from classificador.constants import FRAMINGS, SIDES
from classificador.data import formats
from classificador.data.dataset import SPLIT_SEED, ImageData, Origin, Split, load_cifar10
from classificador.data.finding import Folder, find_classes
from classificador.data.groups import near_groups
from classificador.data.reading import Picture, read_all, tell_near_copies, tell_what_was_read
from classificador.data.zipped import as_folder
from classificador.errors import DataError
from classificador.paths import as_path
from classificador.portuguese import first_few, tell

FEW_PICTURES = 1000  # at most, of which all are learnt from: a test of 15 % of more has an interval of ± 6 points
HELD_OUT = 0.15  # of each class's pictures of more than FEW_PICTURES: for the test, and as many for the validation
LEAST = 2  # pictures of a class to learn from, beside one for each split that is drawn from them
SMALL = 40  # pictures of a class: of fewer, chance alone would give a split one or a third of them


def load_data(
    root: str | Path = "data", source: str | Path | None = None, side: int = 32, framing: str = "centro"
) -> ImageData:
    """Return the pictures in the class folders of `root`, of this side and framing as in to_tensor(), or CIFAR-10.

    CIFAR-10 it is where a `source` is given, where `root` is the default, and where it holds CIFAR-10: then as by
    load_cifar10(root, source). Nothing is written to any other folder. Raises DataError when the data cannot be used.
    """
    for what, given, known in (("lado", side, SIDES), ("enquadramento", framing, FRAMINGS)):
        if given not in known:
            *others, last = map(str, known)
            raise DataError(f"O {what} das imagens precisa ser {', '.join(others)} ou {last}; veio {given}.")
    root = as_path(root)
    if source is None and not is_for_cifar10(root):
        return load_folder(root, side, framing)
    if side != 32:
        raise DataError(f"O lado {side} vale só para imagens suas; as do CIFAR-10 têm 32.", "Use lado 32.")
    return replace(load_cifar10(root, source), framing=framing)


def is_for_cifar10(root: Path) -> bool:
    """Whether CIFAR-10 is meant by this folder, and not pictures in it, which are then mentioned.

    Raises DataError for pictures where CIFAR-10 would be brought to, and is not.
    """
    is_there = bool(formats.find(root)) or (root / formats.PARTIAL).exists()
    meant = root == Path("data") or is_there
    if meant and not is_there and root.is_dir() and not os.environ.get(formats.SOURCE_VARIABLE):
        _refuse_pictures(Folder(root))
    if meant and root.is_dir() and (unused := Folder(root).class_folders):
        tell(f"Em {root} há pastas de imagens que não se usam, por ser ali o lugar do CIFAR-10: {len(unused)}.")
    return meant


def _refuse_pictures(root: Folder) -> None:
    """Raise DataError where class folders lie in the place of CIFAR-10."""
    inner = root.folder_of_classes
    names = [folder.name for folder in root.class_folders] or ([inner.name] if inner else [])
    if not names:
        return
    place = inner.as_posix() if inner else "fotos"
    move = "" if inner else "Ponha-as em outra pasta, como fotos. "
    raise DataError(
        f"Em {root.path}, que é o lugar do CIFAR-10, há imagens suas ({first_few(names, 3)}), e não ele.",
        f'{move}Dê o caminho delas: DATA_DIR = "{place}", ou --dados {place}.',
    )


def load_folder(root: Path, side: int = 32, framing: str = "centro") -> ImageData:
    """Return the pictures of a folder of class folders, or of a ZIP of one, of this side and framing as in to_tensor().

    Labels follow the names of the classes in order. Where the folder is not split already (see find_classes), of each
    class 15 % (at least one) are for the test and as many for the validation, chosen by the file's content alone:
    pictures added later do not move the others, but in classes of fewer than SMALL. Of up to FEW_PICTURES no test is
    set apart, and some 15 % validate a training in epochs: see ImageData.few. Pictures that show nearly the same stay
    together. Classes and their counts are told, and so is what is left out.
    Raises DataError for fewer than two classes, a class with too few pictures, or more pictures than memory.
    """
    with as_folder(root) as folder:
        found = find_classes(folder)
        classes = [(split, name, paths) for split, inside in found.items() for name, paths in inside.items()]
        every = [Picture(path, split, name) for split, name, paths in classes for path in paths]
        read_all(root, every, side, framing)
        for picture in every:  # a ZIP lies elsewhere while it is read
            picture.path = root / picture.path.relative_to(folder)
    names = tuple(found["train"])
    pictures = [picture for picture in every if not picture.error]
    bad = [picture for picture in every if picture.error]
    tell_what_was_read(names, pictures, bad)
    _group(pictures)
    tell_near_copies(pictures)
    pictures.sort(key=lambda picture: (picture.name, picture.draw, picture.path.name))
    few = sum(picture.split != "test" for picture in pictures) <= FEW_PICTURES
    missing = [split for split in ("test", "val") if split not in found and not (few and split == "test")]
    _split(root, names, pictures, bad, missing)
    tested = ("train", "val") if few and "test" not in found else ("test",)
    train, val, test = (_stack(root, names, pictures, parts) for parts in (("train",), ("val",), tested))
    return ImageData(train, val, test, names, framing, few)


def _split(root: Path, names: tuple[str, ...], pictures: list[Picture], bad: list[Picture], missing: list[str]) -> None:
    """Draw the missing splits. Raises DataError for a class with too few pictures to learn from."""
    least = LEAST + len(missing)
    for name in names:
        own = [picture for picture in pictures if picture.name == name and picture.split == "train"]
        if len(own) < least:
            why = next((str(file.error) for file in bad if file.name == name and file.split == "train"), "")
            problem = f"A classe {name} tem {len(own)} imagens legíveis em {root}; precisa de ao menos {least}."
            raise DataError(problem, why)
        _draw_splits(own, missing)


def _group(pictures: list[Picture]) -> None:
    """Give one group, and one draw, to pictures that show nearly the same, or lie in one folder within a class's.

    Drawings of a few pixels, such as digits of 8×8, are alike without being copies: of them only exact ones count.
    """
    sets = DisjointSet(range(len(pictures)))
    first: dict[object, int] = {}
    large = [picture for picture in pictures if not picture.is_small]
    scenes = dict(zip(map(id, large), near_groups(_pixels(large)).tolist(), strict=True))
    for index, picture in enumerate(pictures):
        home = picture.path.parent
        marks: list[object] = [scenes.get(id(picture), picture.key), picture.key]
        marks += [home] * (unicodedata.normalize("NFC", home.name) != picture.name)
        for mark in marks:
            sets.merge(index, first.setdefault(mark, index))
    for members in sets.subsets():
        key = min(pictures[index].key for index in members)
        draw = int((key if len(members) == 1 else sha256(key.encode()).hexdigest())[:12], 16) / 2**48  # in [0, 1)
        for index in members:
            pictures[index].group, pictures[index].draw = min(members), draw


def _draw_splits(pictures: list[Picture], missing: list[str]) -> None:
    """Let pictures of "train", those of one class in the order of their draws, serve for the splits that are missing.

    They go by the place of each draw between 0 and 1; of few pictures a split gets a tenth to a fifth, at least one.
    """
    count = len(pictures)
    draws = [picture.draw for picture in pictures]
    fewest, most = (max(1, count // 10), -(-count // 5)) if count < SMALL else (1, count)
    start = 0
    for place, split in enumerate(missing, 1):
        left = count - LEAST - (len(missing) - place)
        last = min(start + most, left)
        cut = min(max(start + fewest, bisect(draws, place * HELD_OUT)), last)
        # Groups stay together: the end is one of a group, or else of a picture, rather between cut and last.
        ends = [end for end in range(start + 1, left + 1) if draws[end] != draws[end - 1]]
        end = min(ends, key=lambda end: (not cut <= end <= last, abs(end - cut)), default=cut)
        for picture in pictures[start:end]:
            picture.split = split
        start = end


def _stack(root: Path, names: tuple[str, ...], pictures: list[Picture], splits: tuple[str, ...]) -> Split:
    pictures = [picture for picture in pictures if picture.split in splits]
    if not pictures:
        problem = f"Não há imagens legíveis na parte {splits[0]} de {root}."
        raise DataError(problem, "Ponha algumas, ou tire a pasta dela.")
    random.Random(SPLIT_SEED).shuffle(pictures)  # the first layer is computed from the first images: of all classes
    labels = torch.tensor([names.index(picture.name) for picture in pictures])
    origins = tuple(Origin(str(picture.path), picture.key, picture.group) for picture in pictures)
    return Split(_pixels(pictures), labels, origins)


def _pixels(pictures: list[Picture]) -> torch.Tensor:
    return torch.stack([picture.pixels for picture in pictures]) if pictures else torch.empty(0, 3, 32, 32)
