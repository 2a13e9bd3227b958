"""Files for others: `exportar`, `pagina`, `ficha`, `avulso`. Heavy imports stay inside: --help needs none of them."""

import webbrowser
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path

from classificador.apps.arguments import DATA, MODEL, add_command, path_argument
from classificador.apps.predict import model_and_data
from classificador.errors import DataError
from classificador.portuguese import number

OTHER_NAME = "Dê outro nome com --saida."
# By format, how the name of an exported file ends.
ENDINGS = {"onnx": ".onnx", "pesos": ".pesos.pth", "safetensors": ".safetensors"}


def add_commands(commands) -> None:
    """Add the four commands."""
    text = "grava o modelo para outros programas, e o confere"
    add = add_command(commands, "exportar", export_command, text, DATA, MODEL).add_argument
    add("--formato", default="onnx", choices=ENDINGS, help="(padrão: %(default)s)")
    add("--saida", metavar="ARQUIVO", type=path_argument, help="(padrão: o nome de --modelo com o final do formato)")

    text = "grava uma página que classifica fotos em qualquer navegador, sem instalar nada, e a confere"
    add = add_command(commands, "pagina", page_command, text, DATA, MODEL).add_argument
    add("--abrir", action="store_true", help="e a abre no navegador")
    add("--titulo", default="", help="o título da página (padrão: as classes)")
    add("--autor", default="", help="quem a fez, para constar nela")
    text = "põe nela imagens suas, para experimentar e para o jogo: quem a receber as verá"
    add("--exemplos", action="store_true", help=text)
    add("--saida", metavar="ARQUIVO", type=path_argument, help="(padrão: o nome de --modelo, em dist, com .html)")

    text = "grava a ficha do modelo (model card), em português e inglês"
    add = add_command(commands, "ficha", card_command, text, DATA, MODEL).add_argument
    text = "onde gravá-la (padrão: a pasta do modelo; para best_model.pth, docs)"
    add("--saida", metavar="PASTA", type=path_argument, help=text)

    text = "grava o caderno com o pacote dentro, para o Colab, o Kaggle ou outra pasta"
    add = add_command(commands, "avulso", standalone_command, text).add_argument
    text = "onde gravá-lo (padrão: %(default)s)"
    add("--saida", metavar="ARQUIVO", type=path_argument, default="dist/Pytorch.ipynb", help=text)


def export_command(options) -> tuple[int, dict]:
    """Write the model in another format, once the file gave the same answers on test images."""
    from classificador.apps.export import export_model

    def write(model, data, path: Path) -> float:
        return export_model(model, data.test.images, path, options.formato)

    return _write_checked(options, write, ENDINGS[options.formato], Path(options.modelo).parent)


def page_command(options) -> tuple[int, dict]:
    """Write the model as a web page, checked in the same way; and open it, if asked to."""
    from classificador.apps.page import Wishes, write_page

    wishes = Wishes(options.titulo, options.autor, options.exemplos)
    code, result = _write_checked(options, partial(write_page, wishes=wishes), ".html", Path("dist"))
    path = Path(result["file"])
    shown = " Leva imagens suas, que quem o receber verá." if options.exemplos else ""
    size = number(path.stat().st_size / 1e6, 1)
    print(f"Um arquivo de {size} MB: abra-o em um navegador, ou envie-o a alguém.{shown}")
    if options.abrir and not webbrowser.open(path.resolve().as_uri()):
        print("Nenhum navegador respondeu.")
    return code, result


def _write_checked(options, write: Callable, ending: str, folder: Path) -> tuple[int, dict]:
    """Call write(model, data, path), which checks the model's file, writes it and returns the largest difference.

    ending, folder: of the file, where --saida does not say.
    """
    from classificador.apps.export import CHECKED
    from classificador.network.model_info import info_of, take_classes

    model, data = model_and_data(options)
    take_classes(model, data.classes)
    if set(data.classes) != set(info_of(model).classes):
        problem = f"As imagens de {options.dados} não são das classes de {options.modelo}."
        raise DataError(problem, "Dê o modelo delas com --modelo, ou as imagens dele com --dados.")
    place = Path(options.saida or folder / f"{Path(options.modelo).stem}{ending}")
    if place.exists() and place.samefile(options.modelo):
        raise DataError(f"{place} é o próprio modelo, que se perderia.", OTHER_NAME)
    path = _target(place, ending)
    count = min(CHECKED, len(data.test))
    print(f"Conferindo em {count} imagens…")
    difference = write(model, data, path)
    largest = f"{difference:.1e}".replace(".", ",")
    print(f"{path}: as mesmas probabilidades, com diferença de no máximo {largest}")
    return 0, {"file": str(path), "images": count, "largest_difference": difference}


def _target(place: str | Path, ending: str) -> Path:
    """The path of a file to write; its folder is made. Raises DataError where another kind of file would be lost."""
    path = Path(place)
    if path.is_dir():
        raise DataError(f"{path} é uma pasta.", f"Dê a --saida o nome de um arquivo {ending}.")
    if path.exists() and not path.name.lower().endswith(ending):
        raise DataError(f"{path} existe, e não termina em {ending}: o que há nele se perderia.", OTHER_NAME)
    if path.suffix.lower() != (suffix := Path(f"x{ending}").suffix):
        raise DataError(f"{path} não termina em {suffix}.", "Dê a --saida um nome assim.")
    with suppress(OSError):  # that the file cannot be written either tells
        path.parent.mkdir(parents=True, exist_ok=True)
    return path


def card_command(options) -> tuple[int, dict]:
    """Write the model card, in both languages."""
    from classificador.apps.model_card import write_cards

    model, data = model_and_data(options)
    path = Path(options.modelo)
    folder = Path(options.saida or ("docs" if options.modelo == "best_model.pth" else path.parent))
    with suppress(OSError):  # that they cannot be written tells
        folder.mkdir(parents=True, exist_ok=True)
    files = [str(card) for card in write_cards(model, path, data, folder)]
    print(f"Gravadas: {', '.join(files)}")
    return 0, {"files": files}


def standalone_command(options) -> tuple[int, dict]:
    """Write the notebook that carries the package."""
    import nbformat

    from classificador.apps.standalone import make_standalone
    from classificador.atomic import write_bytes

    content = f"{nbformat.writes(make_standalone())}\n".encode()
    path = _target(options.saida, ".ipynb")
    write_bytes(path, content)
    print(f"{path}: o caderno com o pacote dentro. Leve este arquivo, e best_model.pth para só predizer.")
    return 0, {"file": str(path)}
