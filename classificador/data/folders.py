"""Pictures of one's own: a folder with one folder for each class, read, scaled and split."""

import os
import random
from bisect import bisect
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from pathlib import Path

import psutil
import torch
from PIL import Image
from sklearn.datasets import load_digits
from tqdm import tqdm

from classificador.data import formats
from classificador.data.dataset import SPLIT_SEED, ImageData, Split, load_cifar10
from classificador.data.download import SOURCE_VARIABLE
from classificador.data.pictures import open_image, to_tensor
from classificador.errors import DataError, ImageError, brief
from classificador.portuguese import number, reason

SUFFIXES = {".png", ".jpg", ".jpeg", ".jfif", ".gif", ".webp", ".bmp", ".tif", ".tiff", ".ppm", ".pgm", ".pbm"}
SIDES = (32, 48, 64, 96)  # pixels; with more the first linear layer would dwarf the rest
HELD_OUT = 0.15  # of each class's pictures: for the test, and as many for the validation
LEAST = 4  # pictures a class needs: one for the test, one for the validation, two to learn from
MEMORY_SHARE = 0.5  # of the free memory that the pictures may take; training needs some, too


def load_data(root: str | Path = "data", source: str | Path | None = None, side: int = 32) -> ImageData:
    """Return the pictures in `root` if they lie there in class folders, scaled to side×side, or else CIFAR-10.

    CIFAR-10 comes as by load_cifar10(root, source), 32×32. Raises DataError when the data cannot be used.
    """
    if side not in SIDES:
        raise DataError(
            f"O lado das imagens precisa ser {', '.join(map(str, SIDES[:-1]))} ou {SIDES[-1]}; veio {side}."
        )
    root = Path(os.path.expanduser(root))
    if source is None and _is_own(root):
        return load_folder(root, side)
    if side != 32:
        raise DataError(f"O lado {side} vale só para imagens suas; as do CIFAR-10 têm 32. Use lado 32.")
    return load_cifar10(root, source)


def load_folder(root: Path, side: int = 32) -> ImageData:
    """Return the pictures of a folder of class folders, cut square and scaled to side×side.

    A class is named after its folder; labels follow the names in order. Of each class 15 % (at least one) are for the
    test and as many for the validation, chosen by the file's name alone: pictures added later do not move the others,
    except in classes of a few. Pictures that cannot be read, files of other kinds and folders inside the class folders
    are counted and named.
    Raises DataError for fewer than two classes, a class with too few pictures, or more pictures than memory.
    """
    files = {folder.name: pictures(folder) for folder in _folders(root)}
    files = {name: paths for name, paths in files.items() if paths}
    if len(files) < 2:
        raise DataError(f"{root} precisa de pelo menos duas pastas com imagens, uma por classe; há {len(files)}.")
    for name in files:
        if not name.isprintable() or len(name) >= 200:
            raise DataError(f"A pasta {brief(name)} de {root} tem um nome que não se pode guardar. Mude-o.")
    _check_memory(root, sum(map(len, files.values())), side)
    _tell_left_out(root, files)
    parts: tuple[list, list, list] = ([], [], [])
    bad: list[str] = []
    with tqdm(total=sum(map(len, files.values())), desc=f"Lendo {root}", unit="imagem", dynamic_ncols=True) as bar:
        for label, (name, paths) in enumerate(files.items()):
            draws, images = _read(paths, side, bad, bar)
            if len(images) < LEAST:
                raise DataError(
                    f"A classe {name} tem {len(images)} imagens legíveis em {root / name}; precisa de ao menos {LEAST}."
                )
            # By the place of each draw between 0 and 1; of few pictures at least one each, and two to learn from.
            test = min(max(1, bisect(draws, HELD_OUT)), len(images) - 3)
            val = min(max(test + 1, bisect(draws, 2 * HELD_OUT)), len(images) - 2)
            for part, chosen in zip(parts, (images[val:], images[test:val], images[:test]), strict=True):
                part += [(image, label) for image in chosen]
    if bad:
        more = f" e mais {len(bad) - 3}" if len(bad) > 3 else ""
        print(f"Arquivos que não puderam ser lidos e ficaram de fora: {number(len(bad), 0)}. {' '.join(bad[:3])}{more}")
    for part in parts:
        random.Random(SPLIT_SEED).shuffle(part)  # the first layer is computed from the first images: of all classes
    return ImageData(_stack(parts[0]), _stack(parts[1]), _stack(parts[2]), tuple(files))


def write_example(root: str | Path) -> int:
    """Write scikit-learn's handwritten digits (8×8 pixels) as a folder of class folders; return how many pictures.

    Raises DataError if `root` is there already or cannot be written.
    """
    digits = load_digits()
    try:
        Path(root).mkdir(parents=True)
        for number, (pixels, label) in enumerate(zip(digits.images, digits.target, strict=True)):
            folder = Path(root, str(label))
            folder.mkdir(exist_ok=True)
            Image.fromarray((255 * pixels / 16).astype("uint8")).save(folder / f"{number:04d}.png")
    except OSError as error:
        raise DataError(
            f"Não é possível gravar em {root}: {reason(error)}. Dê uma pasta que ainda não existe."
        ) from error
    return len(digits.images)


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
        found += (chosen := pictures(folder))
        others.update(_kind(path) for path in set(_entries(folder)).difference(chosen) if not path.is_dir())
        waiting += [inner for inner in _folders(folder) if not inner.is_symlink()]  # a link could lead in circles
    if not found:
        there = f", e sim {_most_common(others)}" if others else ""
        raise DataError(f"{root} não tem imagens{there}. Dê uma pasta com arquivos {', '.join(sorted(SUFFIXES))}.")
    if others:
        print(f"Em {root} ficaram de fora, por não terem nome de imagem: {_most_common(others)}.")
    return sorted(found)


def has_class_folders(root: Path) -> bool:
    """Whether a folder holds folders with pictures. Raises DataError for one that cannot be read."""
    return any(map(pictures, _folders(root) if root.is_dir() else []))


def _is_own(root: Path) -> bool:
    """Whether `root` is a folder of class folders rather than the place of CIFAR-10.

    Raises DataError when it can be neither: a mistyped path, or pictures that lie elsewhere than in class folders.
    """
    if has_class_folders(root):
        return True
    fresh = root == Path("data") or (root.is_dir() and all(path.suffix == ".part" for path in _entries(root)))
    if fresh or formats.find(root) or os.environ.get(SOURCE_VARIABLE):
        return False
    what = "tem pastas de imagens, uma por classe, nem o CIFAR-10" if root.exists() else "existe"
    raise DataError(
        f"{root} não {what}. Corrija o caminho; ou, para o CIFAR-10: python -m classificador dados --dados PASTA."
    )


def _entries(folder: Path) -> list[Path]:
    """What a folder holds, in order, hidden names left out."""
    try:
        return sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    except OSError as error:
        raise DataError(f"{folder} não pode ser lida: {reason(error)}.") from error


def _folders(root: Path) -> list[Path]:
    return [path for path in _entries(root) if path.is_dir()]


def _read(paths: list[Path], side: int, bad: list[str], bar: tqdm) -> tuple[list[float], list[torch.Tensor]]:
    """A class's readable pictures with the number drawn for each from its name, smallest first; errors go to `bad`."""

    def read(path: Path) -> torch.Tensor | str:
        try:
            return to_tensor(open_image(path), side)
        except ImageError as error:
            return str(error)

    drawn = sorted((_draw(path.name), path) for path in paths)
    draws, images = [], []
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for (draw, _), result in zip(drawn, pool.map(read, (path for _, path in drawn)), strict=True):
            if isinstance(result, str):
                bad.append(result)
            else:
                draws.append(draw)
                images.append(result)
            bar.update()
    return draws, images


def _draw(name: str) -> float:
    """A number in [0, 1) that the name alone decides."""
    return int.from_bytes(sha256(os.fsencode(name)).digest()[:4], "big") / 2**32


def _tell_left_out(root: Path, files: dict[str, list[Path]]) -> None:
    """Say what lies in the class folders and is no picture by its name."""
    left = Counter(
        _kind(path) for name, paths in files.items() for path in set(_entries(root / name)).difference(paths)
    )
    if left:
        print(
            f"Dentro das classes de {root} só valem imagens ({', '.join(sorted(SUFFIXES))}); ficaram de fora: "
            f"{_most_common(left)}."
        )


def _kind(path: Path) -> str:
    return "pastas" if path.is_dir() else path.suffix.lower() or "sem extensão"


def _most_common(kinds: Counter) -> str:
    return ", ".join(f"{brief(kind)} ({number(count, 0)})" for kind, count in kinds.most_common(5))


def _check_memory(root: Path, count: int, side: int) -> None:
    needed, free = 2 * count * 3 * side * side, psutil.virtual_memory().available  # twice: while they are put together
    if needed > MEMORY_SHARE * free:
        raise DataError(
            f"As {number(count, 0)} imagens de {root} com lado {side} não cabem na memória: pedem "
            f"{number(needed / 1e9, 1)} GB, e há {number(free / 1e9, 1)} GB livres. Use um lado menor ou menos imagens."
        )


def _stack(part: list[tuple[torch.Tensor, int]]) -> Split:
    images, labels = zip(*part, strict=True)
    return Split(torch.stack(images), torch.tensor(labels))
