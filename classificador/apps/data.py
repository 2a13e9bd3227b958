"""`dados` and `exemplo`: images to learn from. Heavy imports stay inside: --help needs none of them."""

import shlex
from pathlib import Path

from classificador.apps.arguments import DATA, add_command, path_argument
from classificador.portuguese import number


def add_commands(commands) -> None:
    """Add both commands."""
    text = "traz e confere o CIFAR-10, ou conta as imagens de uma pasta sua"
    add_command(commands, "dados", data_command, text, DATA)
    text = "grava números escritos à mão, para treinar classes suas"
    add = add_command(commands, "exemplo", example_command, text).add_argument
    add("pasta", metavar="PASTA", type=path_argument, help="pasta nova, em que cada classe terá a sua")


def data_command(options) -> tuple[int, dict]:
    """Bring and verify CIFAR-10; of a folder of class folders, read and count what is in it."""
    from classificador import load_cifar10
    from classificador.data.folders import is_for_cifar10, load_folder

    root = Path(options.dados)
    empty = root.is_dir() and not any(root.iterdir())  # made for CIFAR-10, then
    own = not (options.fonte or is_for_cifar10(root) or empty)
    data = load_folder(root) if own else load_cifar10(root, options.fonte)
    what = f"{len(data.classes)} classes em {root}" if own else "CIFAR-10 conferido"
    sizes = {name: len(getattr(data, name)) for name in ("train", "val", "test")}
    train, val, test = (number(size, 0) for size in sizes.values())
    if data.few:
        learnt = {origin.file for origin in data.train.origins}
        apart = "" if learnt & {origin.file for origin in data.test.origins} else f"; {test} de teste"
        print(f"{what}: {number(len(data.train) + len(data.val), 0)} imagens, de que todas servem para aprender{apart}")
    else:
        print(f"{what}: {train} imagens de treino, {val} de validação, {test} de teste")
    origins = [*data.train.origins, *data.val.origins, *(() if data.few else data.test.origins)]
    count, scenes = len({origin.file for origin in origins}), len({origin.group for origin in origins})
    if scenes < count:
        kinds = "As quase iguais, ou de uma pasta dentro da classe, contam como uma"
        print(f"{kinds}: são {number(scenes, 0)} diferentes.")
    return 0, sizes | {"classes": list(data.classes), "distinct": scenes}


def example_command(options) -> tuple[int, dict]:
    """Write a data set of class folders to try one's own classes with."""
    from classificador.data.folders import write_example

    count = write_example(options.pasta)
    print(f"{count} imagens em {options.pasta}, uma pasta por classe. Agora:")
    choices = "--sem-espelho --modelo numeros.pth"
    print(f"python -m classificador treinar --dados {shlex.quote(options.pasta)} {choices}")
    return 0, {"images": count}
