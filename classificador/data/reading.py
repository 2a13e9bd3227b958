"""The pictures of class folders as they are read, all at once, and what is said of them."""

import os
import threading
from collections import Counter, defaultdict
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import psutil
import torch
from tqdm import tqdm

from classificador.constants import SIDES
from classificador.data.dataset import KEY
from classificador.data.groups import MOST
from classificador.data.pictures import (
    OTHER,
    count_pixels,
    decode_image,
    quiet,
    read_picture,
    to_tensor,
)
from classificador.device import own_cores
from classificador.errors import DataError, ImageError, printable
from classificador.portuguese import first_few, number, reason, tell

BYTES_AT_ONCE = 300_000_000  # of files read by several threads
PIXELS_AT_ONCE = 100_000_000  # decoded by several threads: each takes up to 16 bytes on the way to RGB
UNEQUAL = 10  # times the pictures of another class that a class has when it is said
MEMORY_SHARE = 0.5  # of the free memory that the pictures may take; training needs some, too


class Budget:
    """How much several threads may have in hand at a time: together `limit`, or one alone that needs more."""

    def __init__(self, limit: int):
        self.limit, self.taken, self.changed = limit, 0, threading.Condition()

    @contextmanager
    def of(self, amount: int) -> Iterator[None]:
        """Wait until there is room for so much, and keep it while the block runs."""
        with self.changed:
            self.changed.wait_for(lambda: self.taken == 0 or self.taken + amount <= self.limit)
            self.taken += amount
        try:
            yield
        finally:
            with self.changed:
                self.taken -= amount
                self.changed.notify_all()


@dataclass(eq=False)
class Picture:
    """A file in a class folder, and what was read of it."""

    path: Path
    split: str  # as its folder says, or else drawn
    name: str  # of its class
    error: ImageError | None = None  # why it could not be read; then the rest means nothing
    pixels: torch.Tensor = torch.empty(0)
    draw: float = 0.0  # in [0, 1): what its content, or its group's, decides
    is_cut: bool = False  # half of it, or more, lies outside the square
    is_small: bool = False  # it is enlarged, and holds too little to tell near copies from what is only alike
    key: str = ""  # of Origin, and so the next
    group: int = 0


def read_all(root: Path, every: list[Picture], side: int, framing: str) -> None:
    """Fill in what is in the files, or what is wrong with them. Raises DataError for more than fits the memory."""
    needed = 2 * len(every) * 3 * side * side  # twice: while they are put together
    free = psutil.virtual_memory().available
    if needed > MEMORY_SHARE * free:
        raise DataError(
            f"As {number(len(every), 0)} imagens de {root} com lado {side} não cabem na memória: pedem "
            f"{number(needed / 1e9, 1)} GB, e há {number(free / 1e9, 1)} GB livres.",
            "Use um lado menor ou menos imagens.",
        )

    files, decoded = Budget(BYTES_AT_ONCE), Budget(PIXELS_AT_ONCE)

    def read(picture: Picture) -> None:
        """One of them."""
        try:
            with files.of(os.path.getsize(picture.path)):
                content = read_picture(picture.path)
                with decoded.of(count_pixels(content)):
                    image = decode_image(content, picture.path)
                    picture.pixels = to_tensor(image, side, framing)
        except ImageError as error:
            picture.error = error
            return
        except OSError as error:  # it is gone by now
            picture.error = ImageError(f"{picture.path} não pôde ser lido: {reason(error)}.")
            return
        picture.is_small = min(image.size) < min(SIDES)
        picture.is_cut = framing == "centro" and max(image.size) >= 2 * min(image.size)
        picture.key = sha256(content).hexdigest()[:KEY]

    with quiet(), ThreadPoolExecutor(own_cores()) as pool:
        list(tqdm(pool.map(read, every), desc=f"Lendo {root}", total=len(every), unit="imagem", dynamic_ncols=True))


def tell_what_was_read(names: tuple[str, ...], pictures: list[Picture], bad: list[Picture]) -> None:
    """Say how many pictures each class has, which files could not be read, and how many are copies of others."""
    if cut := sum(picture.is_cut for picture in pictures):
        tell(
            f"Imagens com um lado que é o dobro do outro, ou mais: {number(cut, 0)}. Delas só conta o meio; "
            'FRAMING = "inteira" (no terminal, --enquadrar inteira) as usa inteiras.'
        )
    counts = Counter(picture.name for picture in pictures)
    tell(f"{len(names)} classes: {', '.join(f'{name} ({number(counts[name], 0)})' for name in names)}.")
    _tell_odd_classes(names, counts)
    if bad:
        tell(f"Não puderam ser lidos e ficaram de fora ({number(len(bad), 0)}):")
        for file in bad[:3]:
            tell(f"  {file.error.problem if file.error and file.error.remedy == OTHER else file.error}")
        if len(bad) > 3:
            tell(f"  e mais {number(len(bad) - 3, 0)}")
    same: dict[str, list[Picture]] = defaultdict(list)  # the pictures of one content
    for picture in pictures:
        same[picture.key].append(picture)
    if copies := len(pictures) - len(same):
        text = f"Cópias exatas de outras imagens: {number(copies, 0)}."
        if apart := [group for group in same.values() if len({(one.split, one.name) for one in group}) > 1]:
            example = printable(f"{apart[0][0].path} e {apart[0][-1].path}")
            text += f" Em mais de uma parte ou classe: {number(len(apart), 0)}, como {example}."
        tell(text)


def _tell_odd_classes(names: tuple[str, ...], counts: Counter[str]) -> None:
    """Say which classes may be one by mistake, and that some have many times the pictures of others."""
    alike: dict[str, list[str]] = defaultdict(list)
    for name in names:
        alike[" ".join(name.casefold().split())].append(name)
    for group in alike.values():
        if len(group) > 1:
            shown = ", ".join(f'"{name}"' for name in group)
            tell(f"Nomes quase iguais que contam como classes diferentes: {shown}. Se é uma só, junte as pastas.")
    rarest, commonest = min(names, key=lambda name: counts[name]), max(names, key=lambda name: counts[name])
    if counts[commonest] >= UNEQUAL * counts[rarest]:
        tell(
            f'Classes muito desiguais: "{rarest}" tem {number(counts[rarest], 0)} imagens, e "{commonest}", '
            f"{number(counts[commonest], 0)}. Pesam todas o mesmo no treino, mas de tão poucas se aprende pouco: "
            f'fotografe mais para "{rarest}".'
        )


def tell_near_copies(pictures: list[Picture]) -> None:
    """Say which pictures that show nearly the same lie in two parts that the user made; and if none were looked for."""
    parts: dict[int, set[str]] = defaultdict(set)
    for picture in pictures:
        parts[picture.group].add(picture.split)
    if apart := [group for group, splits in parts.items() if len(splits) > 1]:
        first, *_, last = sorted((one for one in pictures if one.group == apart[0]), key=lambda one: one.split)
        example = printable(f"{first.path} e {last.path}")
        tell(f"Quase iguais em mais de uma parte, o que aumenta a acurácia: {number(len(apart), 0)}, como {example}.")
    scenes: dict[str, list[int]] = defaultdict(list)
    for picture in pictures:
        scenes[picture.name].append(picture.group)
    if alone := [name for name, groups in scenes.items() if len(set(groups)) == 1 < len(groups)]:
        classes = first_few(alone, 5)
        tell(f"Quase iguais entre si são todas as imagens de {classes}: a acurácia não diz nada de outras da classe.")
    if small := sum(picture.is_small for picture in pictures):
        tell(f"Imagens de menos de {min(SIDES)} pixels, em que não se procuram quase cópias: {number(small, 0)}.")
    if len(pictures) > MOST:
        tell(f"De mais de {number(MOST, 0)} imagens não se procuram quase cópias, só cópias exatas.")
