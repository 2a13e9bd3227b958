"""Pictures of one's own: a folder with one folder for each class, read, scaled and split."""

import os
import random
from bisect import bisect
from collections import Counter, defaultdict
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path

import psutil
import torch
from PIL import Image
from tqdm import tqdm

from classificador.constants import FRAMINGS, SIDES
from classificador.data import formats
from classificador.data.dataset import SPLIT_SEED, ImageData, Split, load_cifar10
from classificador.data.finding import Folder, find_classes
from classificador.data.pictures import decode_image, quiet, read_picture, to_tensor
from classificador.errors import DataError, ImageError
from classificador.messages import tell
from classificador.portuguese import number, reason

HELD_OUT = 0.15  # of each class's pictures: for the test, and as many for the validation
LEAST = 2  # pictures of a class to learn from, beside one for each split that is drawn from them
FEW = 40  # pictures of a class: of fewer, chance alone would give a split one or a third of them
MEMORY_SHARE = 0.5  # of the free memory that the pictures may take; training needs some, too


@dataclass(eq=False)
class Picture:
    """A file in a class folder, and what was read of it."""

    path: Path
    split: str  # as its folder says, or else drawn
    name: str  # of its class
    error: ImageError | None = None  # why it could not be read; then the rest means nothing
    pixels: torch.Tensor = torch.empty(0)
    draw: float = 0.0  # in [0, 1): what its content decides
    is_cut: bool = False  # half of it, or more, lies outside the square


def load_data(
    root: str | Path = "data", source: str | Path | None = None, side: int = 32, framing: str = "centro"
) -> ImageData:
    """Return the pictures in the class folders of `root`, of this side and framing as in to_tensor(), or CIFAR-10.

    CIFAR-10 it is where a `source` is given, where `root` is the default, and where it holds CIFAR-10: then as by
    load_cifar10(root, source). Nothing is written to any other folder. Raises DataError when the data cannot be used.
    """
    if side not in SIDES:
        *others, last = SIDES
        raise DataError(f"O lado das imagens precisa ser {', '.join(map(str, others))} ou {last}; veio {side}.")
    if framing not in FRAMINGS:
        raise DataError(f"O enquadramento precisa ser {' ou '.join(FRAMINGS)}; veio {framing}.")
    root = Path(os.path.expanduser(root))
    if source is None and not is_for_cifar10(root):
        return load_folder(root, side, framing)
    if side != 32:
        raise DataError(f"O lado {side} vale só para imagens suas; as do CIFAR-10 têm 32.", "Use lado 32.")
    return replace(load_cifar10(root, source), framing=framing)


def is_for_cifar10(root: Path) -> bool:
    """Whether CIFAR-10 is meant by this folder, and not pictures in it, which are then mentioned."""
    meant = root == Path("data") or (root.is_dir() and bool(formats.find(root) or (root / formats.PARTIAL).exists()))
    if meant and root.is_dir() and (unused := Folder(root).class_folders):
        tell(f"Em {root} há pastas de imagens que não se usam, por ser ali o lugar do CIFAR-10: {len(unused)}.")
    return meant


def load_folder(root: Path, side: int = 32, framing: str = "centro") -> ImageData:
    """Return the pictures of a folder of class folders, of this side and framing as in to_tensor().

    Labels follow the names of the classes in order. Where the folder is not split already (see find_classes), of each
    class 15 % (at least one) are for the test and as many for the validation, chosen by the file's content alone:
    pictures added later do not move the others, but in classes of fewer than FEW, and copies of one stay together.
    Classes and their counts are told, and so is what is left out.
    Raises DataError for fewer than two classes, a class with too few pictures, or more pictures than memory.
    """
    found = find_classes(root)
    names = tuple(found["train"])
    classes = [(split, name, paths) for split, inside in found.items() for name, paths in inside.items()]
    every = [Picture(path, split, name) for split, name, paths in classes for path in paths]
    _read_all(root, every, side, framing)
    pictures = [picture for picture in every if not picture.error]
    bad = [picture for picture in every if picture.error]
    _tell_what_was_read(names, pictures, bad)
    pictures.sort(key=lambda picture: (picture.name, picture.draw, picture.path.name))
    missing = [split for split in ("test", "val") if split not in found]
    least = LEAST + len(missing)
    for name in names:
        own = [picture for picture in pictures if picture.name == name and picture.split == "train"]
        if len(own) < least:
            why = next((str(file.error) for file in bad if file.name == name and file.split == "train"), "")
            problem = f"A classe {name} tem {len(own)} imagens legíveis em {root}; precisa de ao menos {least}."
            raise DataError(problem, why)
        _draw_splits(own, missing)
    train, val, test = (_stack(root, names, pictures, split) for split in ("train", "val", "test"))
    return ImageData(train, val, test, names, framing)


def _read_all(root: Path, every: list[Picture], side: int, framing: str) -> None:
    """Fill in what is in the files, or what is wrong with them. Raises DataError for more than fits the memory."""
    needed = 2 * len(every) * 3 * side * side  # twice: while they are put together
    free = psutil.virtual_memory().available
    if needed > MEMORY_SHARE * free:
        raise DataError(
            f"As {number(len(every), 0)} imagens de {root} com lado {side} não cabem na memória: pedem "
            f"{number(needed / 1e9, 1)} GB, e há {number(free / 1e9, 1)} GB livres.",
            "Use um lado menor ou menos imagens.",
        )

    def read(picture: Picture) -> None:
        """One of them."""
        try:
            content = read_picture(picture.path)
            image = decode_image(content, picture.path)
        except ImageError as error:
            picture.error = error
            return
        picture.pixels = to_tensor(image, side, framing)
        picture.draw = int.from_bytes(sha256(content).digest()[:6], "big") / 2**48
        picture.is_cut = framing == "centro" and max(image.size) >= 2 * min(image.size)

    with quiet(), ThreadPoolExecutor(os.cpu_count()) as pool:
        list(tqdm(pool.map(read, every), desc=f"Lendo {root}", total=len(every), unit="imagem", dynamic_ncols=True))


def _tell_what_was_read(names: tuple[str, ...], pictures: list[Picture], bad: list[Picture]) -> None:
    """Say how many pictures each class has, which files could not be read, and how many are copies of others."""
    if cut := sum(picture.is_cut for picture in pictures):
        tell(
            f"Imagens com um lado que é o dobro do outro, ou mais: {number(cut, 0)}. Delas só conta o meio; "
            'FRAMING = "inteira" (no terminal, --enquadrar inteira) as usa inteiras.'
        )
    counts = Counter(picture.name for picture in pictures)
    tell(f"{len(names)} classes: {', '.join(f'{name} ({number(counts[name], 0)})' for name in names)}.")
    if bad:
        shown = " ".join(str(file.error) for file in bad[:3]) + (f" e mais {len(bad) - 3}" if len(bad) > 3 else "")
        tell(f"Arquivos que não puderam ser lidos e ficaram de fora: {number(len(bad), 0)}. {shown}")
    same: dict[float, list[Picture]] = defaultdict(list)  # the pictures of one content
    for picture in pictures:
        same[picture.draw].append(picture)
    if not (copies := len(pictures) - len(same)):
        return
    apart = [group for group in same.values() if len({picture.split for picture in group}) > 1]
    twice = [group for group in same.values() if len({picture.name for picture in group}) > 1]
    text = f"Cópias exatas de outras imagens: {number(copies, 0)}."
    if not apart:
        text += " Cada uma fica na parte da outra."
    for groups, where in ((apart, "parte, e por isso fáceis demais"), (twice, "classe")):
        if groups:
            example = f"{groups[0][0].path} e {groups[0][-1].path}"
            text += f" Em mais de uma {where}: {number(len(groups), 0)}, como {example}."
    tell(text)


def _draw_splits(pictures: list[Picture], missing: list[str]) -> None:
    """Let pictures of "train", those of one class in the order of their draws, serve for the splits that are missing.

    They go by the place of each draw between 0 and 1; of few pictures a split gets a tenth to a fifth, at least one.
    """
    count = len(pictures)
    draws = [picture.draw for picture in pictures]
    fewest, most = (max(1, count // 10), -(-count // 5)) if count < FEW else (1, count)
    start = 0
    for place, split in enumerate(missing, 1):
        last = min(start + most, count - LEAST - (len(missing) - place))
        cut = min(max(start + fewest, bisect(draws, place * HELD_OUT)), last)
        # Copies of one picture stay together, where that can be.
        end = next((end for end in range(cut, last + 1) if draws[end] != draws[end - 1]), cut)
        for picture in pictures[start:end]:
            picture.split = split
        start = end


def _stack(root: Path, names: tuple[str, ...], pictures: list[Picture], split: str) -> Split:
    pictures = [picture for picture in pictures if picture.split == split]
    if not pictures:
        problem = f"Não há imagens legíveis na parte {split} de {root}."
        raise DataError(problem, "Ponha algumas, ou tire a pasta dela.")
    random.Random(SPLIT_SEED).shuffle(pictures)  # the first layer is computed from the first images: of all classes
    labels = torch.tensor([names.index(picture.name) for picture in pictures])
    return Split(torch.stack([picture.pixels for picture in pictures]), labels)


def write_example(root: str | Path) -> int:
    """Write scikit-learn's handwritten digits (8×8 pixels) as a folder of class folders; return how many pictures.

    Raises DataError if `root` is there already or cannot be written.
    """
    from sklearn.datasets import load_digits  # here: takes a second to load, which no other function needs

    digits = load_digits()
    try:
        Path(root).mkdir(parents=True)
        for index, (pixels, label) in enumerate(zip(digits.images, digits.target, strict=True)):
            folder = Path(root, str(label))
            folder.mkdir(exist_ok=True)
            Image.fromarray((255 * pixels / 16).astype("uint8")).save(folder / f"{index:04d}.png")
    except OSError as error:
        problem = f"Não é possível gravar em {root}: {reason(error)}."
        raise DataError(problem, "Dê uma pasta que ainda não existe.") from error
    return len(digits.images)
