"""`dados` and `exemplo`: images to learn from. Heavy imports stay inside: --help needs none of them."""

import shlex
from pathlib import Path

from classificador.apps.arguments import DATA, add_command, path_argument
from classificador.errors import DataError
from classificador.portuguese import number, reason


def add_commands(commands) -> None:
    """Add both commands."""
    text = "traz e confere o CIFAR-10, ou conta as imagens de uma pasta sua"
    add_command(commands, "dados", data_command, text, DATA)
    text = "grava números escritos à mão, para treinar classes suas"
    add = add_command(commands, "exemplo", example_command, text).add_argument
    add("pasta", metavar="PASTA", type=path_argument, help="pasta nova, em que cada classe terá a sua")


def data_command(options) -> tuple[int, dict]:
    """Bring and verify CIFAR-10; of a folder of class folders, read and count what is in it."""
    from classificador import load_cifar10, load_data

    root = Path(options.dados)
    empty = root.is_dir() and not any(root.iterdir())  # made for CIFAR-10, then
    data = (load_cifar10 if empty else load_data)(root, options.fonte)
    own = bool(data.train.origins)
    what = f"{len(data.classes)} classes em {root}" if own else "CIFAR-10 conferido"
    sizes = {name: len(getattr(data, name)) for name in ("train", "val", "test")}
    train, val, test = (number(size, 0) for size in sizes.values())
    if data.few:
        learnt = {origin.file for origin in data.train.origins}
        apart = "" if learnt & {origin.file for origin in data.test.origins} else f"; {test} de teste"
        print(f"{what}: {number(len(data.train) + len(data.val), 0)} imagens, todas para aprender{apart}")
    else:
        print(f"{what}: {train} imagens de treino, {val} de validação, {test} de teste")
    origins = [*data.train.origins, *data.val.origins, *(() if data.few else data.test.origins)]
    count, scenes = len({origin.file for origin in origins}), len({origin.group for origin in origins})
    if scenes < count:
        kinds = "As quase iguais, ou de uma pasta dentro da classe, contam como uma"
        print(f"{kinds}: são {number(scenes, 0)} diferentes.")
    return 0, sizes | {"classes": list(data.classes)} | ({"distinct": scenes} if own else {})


def example_command(options) -> tuple[int, dict]:
    """Write scikit-learn's handwritten digits (8×8 pixels) as class folders, to try one's own classes with."""
    from PIL import Image
    from sklearn.datasets import load_digits

    root, digits = Path(options.pasta), load_digits()
    try:
        root.mkdir(parents=True)
        for index, (pixels, label) in enumerate(zip(digits.images, digits.target, strict=True)):
            folder = root / str(label)
            folder.mkdir(exist_ok=True)
            Image.fromarray((255 * pixels / 16).astype("uint8")).save(folder / f"{index:04d}.png")
    except OSError as error:
        problem = f"Não é possível gravar em {root}: {reason(error)}."
        raise DataError(problem, "Dê uma pasta que ainda não existe.") from error
    count = len(digits.images)
    print(f"{count} imagens em {options.pasta}, uma pasta por classe. Agora:")
    choices = "--sem-espelho --modelo numeros.pth"
    print(f"python -m classificador treinar --dados {shlex.quote(options.pasta)} {choices}")
    return 0, {"images": count}
