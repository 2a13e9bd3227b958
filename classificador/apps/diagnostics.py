"""`diagnostico`: what a bug report needs to say: versions, device, data, checkpoint, disk; what is wrong with them."""

import os
import platform
import shlex
import shutil
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from classificador.apps.arguments import DATA, MODEL, add_command
from classificador.apps.support import missing
from classificador.errors import ClassificadorError, DataError
from classificador.paths import as_path
from classificador.portuguese import number, percent

PACKAGES = ("torch", "torchvision", "numpy", "matplotlib", "scikit-learn", "pillow", "jupyter", "nbclient", "tqdm")
OLDEST_TORCH = (2, 8)  # the oldest that the project was tried on
SNAP = Path("/snap/bin")  # where Ubuntu has its browsers
LONGEST_FOLDER = 97  # letters: the longest file of the pinned packages, JupyterLab's, has 137 behind .venv
NEEDED_DISK = 1 << 30  # bytes: the archive, the cache and a run's files

Found = tuple[str, str]  # a value, and what is wrong with it; "" when all is well


def add_commands(commands) -> None:
    """Add the command."""
    text = "mostra o que um relato de problema precisa e o que está errado"
    add_command(commands, "diagnostico", diagnose_command, text, DATA, MODEL)


def diagnose_command(options) -> tuple[int, dict]:
    """Describe this machine and installation, downloading nothing; exit code 1 when something is wrong."""
    bits = 64 if sys.maxsize > 2**32 else 32
    python = (platform.python_version(), missing(sys.platform, platform.machine(), sys.version_info[:2], bits))
    found = {"sistema": (platform.platform(), ""), "python": python, "pasta": _folder(Path.cwd(), os.name, Path.home())}
    found |= {name: _package(name) for name in PACKAGES}
    if not (found["torch"][1] or found["numpy"][1]):
        data, model = _data(Path(options.dados), options.fonte), _checkpoint(options.modelo)
        found |= {"dispositivo": _device(), "dados": data, "modelo": model}
    free = shutil.disk_usage(options.dados if Path(options.dados).is_dir() else Path.cwd()).free
    problem = "" if free > NEEDED_DISK else "pouco espaço: libere pelo menos 1 GB"
    found["disco livre"] = (f"{number(free / 1e9, 1)} GB", problem)
    for name, (value, problem) in found.items():
        print(f"{'✗' if problem else '✓'} {name}: {value}" + (f" — {problem}" if problem else ""))
    wrong = any(problem for _, problem in found.values())
    return int(wrong), {name: {"value": value, "problem": problem} for name, (value, problem) in found.items()}


def _folder(path: Path, system: str, home: Path) -> Found:
    """The project's folder, which may be one that this system or its browsers do not reach.

    On Windows paths end at 260 letters, and the packages' longest files must fit in it. Browsers that snap installed
    read only what is in the home folder, and nothing in its hidden folders.
    """
    if system == "nt" and len(str(path)) > LONGEST_FOLDER:
        return str(path), f"longa demais para o Windows: mude-a para uma de até {LONGEST_FOLDER} letras"
    is_hidden = not path.is_relative_to(home) or any(part.startswith(".") for part in path.relative_to(home).parts)
    if is_hidden and any((SNAP / name).exists() for name in ("firefox", "chromium")):
        problem = "o navegador, que o snap instalou, não abre arquivos daqui: ponha o projeto na sua pasta pessoal"
        return str(path), problem
    return str(path), ""


def _package(name: str) -> Found:
    try:
        found = version(name)
    except PackageNotFoundError:
        return "não instalado", f"execute `python -m pip install {name}`"
    if name == "torch" and tuple(map(int, found.split("+")[0].split(".")[:2])) < OLDEST_TORCH:
        return found, "antigo demais: use 2.8 ou mais novo"
    return found, ""


def _device() -> Found:
    try:
        from classificador.device import choose_device, describe_device, instructions, own_cores, precision
        from classificador.gpu import unused_gpu
    except (ImportError, OSError) as error:  # OSError: on Windows, a library that torch needs is missing
        return "torch não carrega", " ".join(str(error).split())[:200]
    device, cores = choose_device(), number(os.cpu_count() or 1, 0)
    if own_cores() < (os.cpu_count() or 1):
        cores = f"{own_cores()} dos {cores}"
    found = f"{describe_device(device)}, {cores} núcleos, {instructions()}, {precision(device)}"
    return found, unused_gpu() or _second_openmp(_libraries())


def _libraries() -> set[str]:
    """The files that are loaded into this process; none where the system does not tell."""
    import psutil

    try:
        return {file.path for file in psutil.Process().memory_maps()}
    except (AttributeError, psutil.Error, OSError):
        return set()


def _second_openmp(paths: set[str]) -> str:
    """What to do where Intel's OpenMP is loaded twice, as in Anaconda: it ends the process, or makes it slow."""
    copies = [path for path in paths if "libiomp" in path]
    return "duas cópias do OpenMP da Intel (Anaconda?): use um ambiente só do projeto, com venv" * (len(copies) > 1)


def _data(root: Path, source: str | None) -> Found:
    from classificador.data import formats
    from classificador.data.folders import is_for_cifar10
    from classificador.data.formats import SOURCE_VARIABLE

    source = source or os.environ.get(SOURCE_VARIABLE)
    bring = "python -m classificador dados"
    try:
        if not source and not is_for_cifar10(root) and root.is_dir() and any(root.iterdir()):
            return f"{root}, uma pasta de classes suas; `{bring} --dados {shlex.quote(str(root))}` as conta", ""
    except DataError as error:
        return str(root), str(error)
    if not source and root.is_file():
        return f"{root}, um arquivo; `{bring} --dados {shlex.quote(str(root))}` conta as imagens de um ZIP", ""
    try:
        path = as_path(source) if source else next(iter(formats.find(root)), None)
    except DataError as error:
        return source or "", str(error)
    if path is None:
        return f"nada em {root}", f"execute `{bring}`"
    try:
        return f"{path} conferido, {number(len(formats.read(path)), 0)} imagens", ""
    except DataError as error:
        return str(path), f"{error}" + ("" if source else f" `{bring}` os traz de novo.")


def _checkpoint(path: str) -> Found:
    from classificador.files.model_file import load_model
    from classificador.network.model_info import info_of

    try:
        info = info_of(load_model(path))
    except ClassificadorError as error:
        return path, str(error)
    if not info.preset:
        return f"{path}, só pesos, de uma rede para {len(info.classes)} classes", ""
    return f"{path}, receita {info.preset}, validação {percent(info.val_accuracy, 2)}", ""
