"""Pictures of one's own: a folder with one folder for each class, read, scaled and split."""

import os
import random
from bisect import bisect
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import psutil
import torch
from PIL import Image
from sklearn.datasets import load_digits
from tqdm import tqdm

from classificador.data import formats
from classificador.data.dataset import SPLIT_SEED, ImageData, Split, load_cifar10
from classificador.data.download import is_half_fetched
from classificador.data.finding import Folder, find_classes
from classificador.data.pictures import FRAMINGS, open_image, to_tensor
from classificador.errors import DataError, ImageError
from classificador.portuguese import number, reason

SIDES = (32, 48, 64, 96)  # pixels; with more the first linear layer would dwarf the rest
HELD_OUT = 0.15  # of each class's pictures: for the test, and as many for the validation
LEAST = 2  # pictures of a class to learn from, beside one for each part that is drawn from them
FEW = 40  # pictures of a class: of fewer, chance alone would give a part one or a third of them
MEMORY_SHARE = 0.5  # of the free memory that the pictures may take; training needs some, too

# A number in [0, 1) that a file's content decides; its picture; whether one of its sides is twice the other.
Drawn = tuple[float, torch.Tensor, bool]


def load_data(
    root: str | Path = "data", source: str | Path | None = None, side: int = 32, framing: str = "centro"
) -> ImageData:
    """Return the pictures in the class folders of `root`, of this side and framing as in to_tensor(), or CIFAR-10.

    CIFAR-10 it is where a `source` is given, where `root` is the default, and where it holds CIFAR-10: then as by
    load_cifar10(root, source). Nothing is written to any other folder. Raises DataError when the data cannot be used.
    """
    if side not in SIDES:
        raise DataError(
            f"O lado das imagens precisa ser {', '.join(map(str, SIDES[:-1]))} ou {SIDES[-1]}; veio {side}."
        )
    if framing not in FRAMINGS:
        raise DataError(f"O enquadramento precisa ser {' ou '.join(FRAMINGS)}; veio {framing}.")
    root = Path(os.path.expanduser(root))
    if source is None and not is_for_cifar10(root):
        return load_folder(root, side, framing)
    if side != 32:
        raise DataError(f"O lado {side} vale só para imagens suas; as do CIFAR-10 têm 32. Use lado 32.")
    return replace(load_cifar10(root, source), framing=framing)


def is_for_cifar10(root: Path) -> bool:
    """Whether CIFAR-10 is meant by this folder, and not pictures in it, which are then mentioned."""
    meant = root == Path("data") or (root.is_dir() and bool(formats.find(root) or is_half_fetched(root)))
    if meant and root.is_dir() and (unused := Folder(root).class_folders()):
        print(f"Em {root} há pastas de imagens que não se usam, por ser ali o lugar do CIFAR-10: {len(unused)}.")
    return meant


def load_folder(root: Path, side: int = 32, framing: str = "centro") -> ImageData:
    """Return the pictures of a folder of class folders, of this side and framing as in to_tensor().

    Labels follow the names of the classes in order. Where the folder has no parts of its own (see find_classes), of
    each class 15 % (at least one) are for the test and as many for the validation, chosen by the file's content alone:
    pictures added later do not move the others, but in classes of fewer than FEW, and copies of one stay together.
    Classes and their counts are printed, and so is what is left out.
    Raises DataError for fewer than two classes, a class with too few pictures, or more pictures than memory.
    """
    found = find_classes(root)
    every = [path for classes in found.values() for paths in classes.values() for path in paths]
    _check_memory(root, len(every), side)
    read = dict(_read_all(root, every, side, framing))
    if framing == "centro" and (long := sum(not isinstance(entry, str) and entry[2] for entry in read.values())):
        print(
            f"Imagens com um lado que é o dobro do outro, ou mais: {number(long, 0)}. Delas só conta o meio; "
            'FRAMING = "inteira" (no terminal, --enquadrar inteira) as usa inteiras.'
        )
    names = tuple(found["train"])
    parts: dict[str, list] = {"train": [], "val": [], "test": []}
    for label, name in enumerate(names):
        given = {part: _readable(classes.get(name, []), read) for part, classes in found.items()}
        for part, images in _split(given, name, root, read, found["train"][name]).items():
            parts[part] += [(image, label) for image in images]
    counts = Counter(label for part in parts.values() for _, label in part)
    print(f"{len(names)} classes: {', '.join(f'{name} ({number(counts[i], 0)})' for i, name in enumerate(names))}.")
    _tell_of_files(found, read)
    for images in parts.values():
        random.Random(SPLIT_SEED).shuffle(images)  # the first layer is computed from the first images: of all classes
    train, val, test = (_stack(parts[part], part, root) for part in ("train", "val", "test"))
    return ImageData(train, val, test, names, framing)


def _readable(paths: list[Path], read: dict[Path, Drawn | str]) -> list[Drawn]:
    """What was read of these files, in the order of the draw."""
    drawn = [(entry[0], path.name, entry) for path in paths if not isinstance(entry := read[path], str)]
    return [entry for _, _, entry in sorted(drawn, key=lambda triple: triple[:2])]


def _split(
    given: dict[str, list[Drawn]], name: str, root: Path, read: dict[Path, Drawn | str], paths: list[Path]
) -> dict[str, list[torch.Tensor]]:
    """The pictures of one class by part; those of "train" serve for the parts that are not given."""
    pictures, missing = given["train"], [part for part in ("test", "val") if part not in given]
    least = LEAST + len(missing)
    if len(pictures) < least:
        errors = [error for path in paths if isinstance(error := read[path], str)]
        why = f" {errors[0]}" if errors else ""
        raise DataError(
            f"A classe {name} tem {len(pictures)} imagens legíveis em {root}; precisa de ao menos {least}.{why}"
        )
    parts = {part: [image for _, image, _ in entries] for part, entries in given.items()}
    draws, start = [draw for draw, _, _ in pictures], 0
    for place, part in enumerate(missing, 1):
        # By the place of each draw between 0 and 1; of few pictures a tenth to a fifth, at least one, and two to learn.
        count = len(pictures)
        fewest, most = (count // 10, -(-count // 5)) if count < FEW else (0, count)
        most = min(count - LEAST - (len(missing) - place), start + most)
        end = cut = min(max(start + max(1, fewest), bisect(draws, place * HELD_OUT)), most)
        while end < most and draws[end] == draws[end - 1]:  # copies of one picture stay together, where that can be
            end += 1
        end = end if draws[end] != draws[end - 1] else cut
        parts[part], start = [image for _, image, _ in pictures[start:end]], end
    parts["train"] = [image for _, image, _ in pictures[start:]]
    return parts


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


def _read_all(root: Path, paths: list[Path], side: int, framing: str) -> Iterator[tuple[Path, Drawn | str]]:
    """Yield each file with what was read of it, or what is wrong with it."""

    def read(path: Path) -> Drawn | str:
        """One of them."""
        try:
            image = open_image(path)
            draw = int.from_bytes(sha256(path.read_bytes()).digest()[:4], "big") / 2**32
            return draw, to_tensor(image, side, framing), max(image.size) >= 2 * min(image.size)
        except ImageError as error:
            return str(error)
        except OSError as error:
            return f"{path} não pôde ser lido: {reason(error)}."

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        results = pool.map(read, paths)
        look = {"desc": f"Lendo {root}", "unit": "imagem", "dynamic_ncols": True}
        yield from zip(paths, tqdm(results, total=len(paths), **look), strict=True)


def _tell_of_files(found: dict[str, dict[str, list[Path]]], read: dict[Path, Drawn | str]) -> None:
    """Say which files could not be read, and how many are copies of others."""
    bad = [error for error in read.values() if isinstance(error, str)]
    if bad:
        more = f" e mais {len(bad) - 3}" if len(bad) > 3 else ""
        print(f"Arquivos que não puderam ser lidos e ficaram de fora: {number(len(bad), 0)}. {' '.join(bad[:3])}{more}")
    homes: dict[float, list[tuple[str, str, Path]]] = {}  # of each content: part, class and file
    for part, classes in found.items():
        for name, paths in classes.items():
            for path in paths:
                if not isinstance(entry := read[path], str):
                    homes.setdefault(entry[0], []).append((part, name, path))
    if not (copies := sum(len(files) - 1 for files in homes.values())):
        return
    texts = [f"Cópias exatas de outras imagens: {number(copies, 0)}."]
    apart = [files for files in homes.values() if len({part for part, _, _ in files}) > 1]
    twice = [files for files in homes.values() if len({name for _, name, _ in files}) > 1]
    if not apart:
        texts.append("Cada uma fica na parte da outra.")
    for groups, text in ((apart, "Em mais de uma parte, e por isso fáceis demais"), (twice, "Em mais de uma classe")):
        if groups:
            texts.append(f"{text}: {number(len(groups), 0)}, como {groups[0][0][2]} e {groups[0][-1][2]}.")
    print(" ".join(texts))


def _check_memory(root: Path, count: int, side: int) -> None:
    needed, free = 2 * count * 3 * side * side, psutil.virtual_memory().available  # twice: while they are put together
    if needed > MEMORY_SHARE * free:
        raise DataError(
            f"As {number(count, 0)} imagens de {root} com lado {side} não cabem na memória: pedem "
            f"{number(needed / 1e9, 1)} GB, e há {number(free / 1e9, 1)} GB livres. Use um lado menor ou menos imagens."
        )


def _stack(part: list[tuple[torch.Tensor, int]], name: str, root: Path) -> Split:
    if not part:
        raise DataError(f"Não há imagens legíveis na parte {name} de {root}. Ponha algumas, ou tire a pasta dela.")
    images, labels = zip(*part, strict=True)
    return Split(torch.stack(images), torch.tensor(labels))
