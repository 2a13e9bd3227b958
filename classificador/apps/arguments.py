"""argparse in Portuguese, and the options that several commands share."""

import argparse
import re
import sys
from collections.abc import Callable
from difflib import get_close_matches
from typing import Any, NoReturn

from classificador.errors import DataError
from classificador.paths import as_path

# What argparse says of wrong usage, as regular expressions, and the same in Portuguese; applied one after the other.
ERRORS = {
    "^unrecognized arguments: (.*)": r"argumento desconhecido: \1.",
    "^the following arguments are required: (.*)": r"falta dizer: \1.",
    "^argument (.*?: .*)": r"\1.",
    r"invalid \w+ value: ": "valor inválido: ",
    r"invalid choice: (.*) \(choose from (.*)\)": r"\1 não existe; use um destes: \2",
    "ignored explicit argument ": "não aceita o valor ",
    "expected one argument": "falta o valor",
}


class Formatter(argparse.HelpFormatter):
    """Begins the usage with a Portuguese word."""

    def add_usage(self, usage, actions, groups, prefix="uso: "):
        super().add_usage(usage, actions, groups, prefix)


class Parser(argparse.ArgumentParser):
    """An ArgumentParser whose help and errors are Portuguese."""

    def __init__(self, *, parents=(), **options):
        options |= {"add_help": False, "allow_abbrev": False, "formatter_class": Formatter}
        super().__init__(parents=[HELP, *parents], **options)
        self._positionals.title, self._optionals.title = "argumentos", "opções"

    def error(self, message: str) -> NoReturn:
        """Say what is wrong with the arguments, and exit with code 2."""
        for english, portuguese in ERRORS.items():
            message = re.sub(english, portuguese, message)
        if given := re.search(r"^argumento desconhecido: -+([^\s=]+)", message):
            names = {option.lstrip("-"): option for option in sorted(self.every_option())}
            near = [name for name in names if name.startswith(given[1])] or get_close_matches(given[1], names, 1, 0.75)
            message = message.rstrip(".") + (f" (seria {names[near[0]]}?)" if near else "")
        self.print_usage(sys.stderr)
        self.exit(2, f"{self.prog}: erro: {message.rstrip('.')}. Veja --help.\n")

    def every_option(self) -> set[str]:
        """Return the options of all its commands, as they are written."""
        commands = (action.choices for action in self._actions if isinstance(action, argparse._SubParsersAction))
        return {name for parsers in commands for one in parsers.values() for name in one._option_string_actions}

    def option_of(self, field: str) -> str:
        """Return the option whose value goes into a field of Settings; the field itself where none does."""
        return next((action.option_strings[0] for action in self._actions if action.dest == field), field)


def add_command(commands: Any, name: str, run: Callable, text: str, *parents: argparse.ArgumentParser) -> Parser:
    """Add a command; return its parser, which has the options of `parents` and those that all commands have.

    commands: of add_subparsers(). run: gets the options, and returns the exit code and the result, a dict.
    text: what the command does.
    """
    description = f"{text[0].upper()}{text[1:]}."
    parser = commands.add_parser(name, help=text, description=description, parents=[OUTPUT, *parents])
    parser.set_defaults(run=run, parser=parser)
    return parser


def path_argument(text: str) -> str:
    """Return the path that an argument means, as as_path() does; argparse tells its errors."""
    try:
        return str(as_path(text))
    except DataError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


HELP, OUTPUT, DATA, MODEL, RESULT = (argparse.ArgumentParser(add_help=False) for _ in range(5))
HELP.add_argument("-h", "--help", action="help", help="mostra esta ajuda e sai")
OUTPUT.add_argument("--json", action="store_true", help="resultado em JSON na saída padrão, para outro programa ler")
OUTPUT.add_argument("--traceback", action="store_true", help="em caso de erro, mostra onde no código ele surgiu")
DATA.add_argument(
    "--dados",
    metavar="PASTA",
    type=path_argument,
    default="data",
    help="o lugar do CIFAR-10, ou uma pasta ou um ZIP com uma pasta de imagens para cada classe (padrão: %(default)s)",
)
DATA.add_argument(
    "--fonte",
    metavar="CAMINHO",
    type=path_argument,
    help="pasta ou arquivo seu com o CIFAR-10, sem usar a rede (padrão: a variável CLASSIFICADOR_DADOS)",
)
text = "grava o resultado neste arquivo: JSON ou, de prever, também CSV (no PowerShell, em vez de >)"
RESULT.add_argument("--saida", metavar="ARQUIVO", type=path_argument, dest="result_file", help=text)
MODEL.add_argument(
    "--modelo", metavar="ARQUIVO", type=path_argument, default="best_model.pth", help="os pesos (padrão: %(default)s)"
)
