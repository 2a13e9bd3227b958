"""The command line: `python -m classificador treinar | avaliar | prever | …`; --help names all commands."""

import argparse
import contextlib
import json
import os
import sys
from pathlib import Path

from classificador.apps import compare, data, diagnostics, predict, publish, train
from classificador.apps.arguments import Parser
from classificador.atomic import write_bytes
from classificador.errors import ClassificadorError, SettingsError, WriteError, printable
from classificador.paths import plain_argument
from classificador.portuguese import reason

# What all the processes that torchrun started do; anything else only the first does.
TOGETHER = (train.train_command, train.teacher_command, predict.evaluate_command)


def main(arguments: list[str] | None = None) -> int:
    """Run one command; return its exit code: 0 done, 1 failed (one line on stderr), 2 bad usage, 130 interrupted."""
    given = sys.argv[1:] if arguments is None else arguments
    known = (parser := build_parser()).every_option()
    options = parser.parse_args([plain_argument(argument, known) for argument in given])
    try:
        # With --json or --csv nothing else goes to standard output; progress and messages move to standard error.
        machine_readable = options.json or getattr(options, "csv", False)
        with contextlib.redirect_stdout(sys.stderr) if machine_readable else contextlib.nullcontext():
            file = Path(options.result_file) if getattr(options, "result_file", None) else None
            if file:
                _check_result_file(file, options.run is predict.predict_command)
            code, result = _run(options)
            if file and result is not None:
                _write_result(result, file)
    except ClassificadorError as error:
        if options.traceback:
            raise
        who = f" (processo {os.environ['RANK']})" if "RANK" in os.environ else ""
        if isinstance(error, SettingsError):
            error.field = options.parser.option_of(error.field)
        print(printable(f"erro{who}: {error}"), file=sys.stderr)
        return 1
    except ModuleNotFoundError as error:
        if not (error.name or "").startswith("classificador."):
            raise
        print("erro: Este comando pede a pasta do projeto, e não só o caderno avulso.", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("Interrompido.", file=sys.stderr)
        return 130
    if result is None:  # another of several processes has it
        return code
    if options.json:
        print(json.dumps(result, ensure_ascii=False, indent=2))
    elif machine_readable:
        print(f"\ufeff{predict.as_csv(result)}", end="")  # the mark by which Excel knows UTF-8
    return code


def build_parser() -> Parser:
    """Return the parser with all commands. What they import is imported when they run: --help needs none of it."""
    parser = Parser(
        prog="python -m classificador",
        description="Treina, avalia e usa um classificador de imagens CIFAR-10: as mesmas funções que o caderno chama.",
        epilog="Exemplo: python -m classificador treinar --receita rapido && python -m classificador avaliar",
    )
    commands = parser.add_subparsers(required=True, metavar="comando")
    for module in (train, predict, compare, publish, data, diagnostics):
        module.add_commands(commands)
    return parser


def _check_result_file(path: Path, is_of_pictures: bool) -> None:
    """Raise WriteError, before anything is done, for a file that is not for a result: a photo would be lost by it."""
    endings = (".json", ".csv") if is_of_pictures else (".json",)
    if path.suffix.lower() not in endings:
        problem = f"{path} não é nome de um resultado, que se grava em {' ou '.join(endings)}."
        raise WriteError(problem, "Dê a --saida um nome como resultado.json.")
    try:
        path.absolute().parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise WriteError(f"Não é possível gravar em {path}: {reason(error)}.", "Dê outro caminho.") from error


def _write_result(result: dict, path: Path) -> None:
    """Write a result to a file, as CSV where it is called so, with the mark by which Excel knows UTF-8, or as JSON."""
    if path.suffix.lower() == ".csv":
        data = predict.as_csv(result).encode("utf-8-sig")
    else:
        data = json.dumps(result, ensure_ascii=False, indent=2).encode()
    write_bytes(path, data)
    print(printable(f"Gravado: {path}"))


def _run(options: argparse.Namespace) -> tuple[int, dict | None]:
    """Run the command; of the processes that torchrun started only the first has a result.

    Without torchrun nothing of torch is imported here: diagnostico does without.
    """
    if "TORCHELASTIC_RUN_ID" not in os.environ:
        return options.run(options)
    if os.environ["RANK"] != "0":
        os.environ["TQDM_DISABLE"] = "1"  # which it reads when it is imported
    from classificador.processes import run_among_processes

    return run_among_processes(lambda: options.run(options), options.run in TOGETHER) or (0, None)


def run() -> None:
    """Run main() as a program and exit with its code."""
    # Windows would use a code page that lacks half of our characters. A stream that was closed is None.
    for stream in filter(None, (sys.stdout, sys.stderr)):
        stream.reconfigure(encoding="utf-8", errors="replace")
    try:
        sys.exit(main())
    except BrokenPipeError:  # the reader of our output went away, as in `… | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
