"""The notebook as one file that needs no package beside it, for Colab, Kaggle, or to send to somebody."""

import base64
import io
import re
import tarfile
import textwrap
import tomllib
from hashlib import sha256
from pathlib import Path

import nbformat

from classificador.apps.notebook import NOTEBOOK, PREDICTION_TAG, open_notebook

PACKAGE = Path(__file__).resolve().parents[1]
PACKAGE_TAG = "pacote"  # of the cell that asks for the package, whose place the one that brings it takes
LEFT_OUT = {"jupyter", "nbclient", "nbformat"}  # only the terminal needs them
SUFFIXES = (".py", ".md", ".json", ".typed")
# Files of commands for which one needs the project's folder: cli.py tells.
OF_THE_PROJECT = re.compile(r"notebook\.py|standalone\.py|page.*")
REMEDY = "Abra o caderno na pasta do projeto, ou use o avulso"  # in the ordinary notebook
IMPORTED_AS = {"scikit-learn": "sklearn", "pillow": "PIL"}
CARRIER = """\
# @title O pacote `classificador`: execute esta célula antes das outras
import base64, importlib.util, io, os, subprocess, sys, tarfile, tempfile

NEEDED = <needed>


def stop(text):
    error = RuntimeError(text)
    error._render_traceback_ = lambda: [text]  # uma linha, em vez de muitas
    raise error


if sys.version_info < (3, 11):
    stop("Este caderno pede Python 3.11 ou mais novo.")
if "<name>" not in os.environ.get("PYTHONPATH", ""):  # senão, uma célula como esta já foi executada
    folder = tempfile.mkdtemp(prefix="<name>-")
    with tarfile.open(fileobj=io.BytesIO(base64.b85decode('''\\
<data>
'''.replace("\\n", "").replace(":", ""))), mode="r:bz2") as archive:
        archive.extractall(folder, **({"filter": "data"} if hasattr(tarfile, "data_filter") else {}))
    sys.path.insert(0, folder)
    os.environ["PYTHONPATH"] = os.pathsep.join([folder, os.environ.get("PYTHONPATH", "")])  # para !python -m

missing = [package for module, package in NEEDED.items() if importlib.util.find_spec(module) is None]
if importlib.util.find_spec("torch"):  # a torchvision would bring another torch
    missing = [package for package in missing if not package.startswith("torchvision")]
if missing:
    print("Instalando, o que pode demorar:", *missing)
    command = [sys.executable, "-m", "pip", "install", "--quiet", *missing]
    if subprocess.run(command).returncode:
        line = " ".join(command)
        stop(f"A instalação falhou (no Kaggle, ligue Settings, Internet). No terminal: {line}; depois, esta célula.")
    importlib.invalidate_caches()
    if "anywidget" in missing:
        print("Se o quadro de fotos não aparecer no fim, recarregue a página.")
import torch
if tuple(map(int, torch.__version__.split(".")[:2])) < (2, 8):
    stop(f"O torch daqui, {torch.__version__}, é antigo demais: este caderno pede 2.8 ou mais novo.")
"""


def make_standalone() -> nbformat.NotebookNode:
    """Return the notebook with the package inside, at its beginning and at that of the prediction section.

    Raises ClassificadorError where the package lies without the project's other files.
    """
    notebook = open_notebook()
    project = tomllib.loads(NOTEBOOK.with_name("pyproject.toml").read_text(encoding="utf-8"))
    hidden = {"cellView": "form", "jupyter": {"source_hidden": True}}  # for Colab, and for JupyterLab
    cells = []
    for cell in notebook.cells:
        tags = cell.metadata.get("tags", [])
        cell.source = cell.source.replace(REMEDY, "Execute a célula de cima, que o traz")
        cell.source = re.sub(r"\]\((docs/[^)]*\.png)\)", _inline, cell.source)
        if PACKAGE_TAG not in tags:
            cells.append(cell)
        if {PACKAGE_TAG, PREDICTION_TAG} & set(tags):
            cells.append(nbformat.v4.new_code_cell(_carrier(project["project"]["dependencies"]), metadata=hidden))
    notebook.cells = cells
    for number, cell in enumerate(cells):
        cell["id"] = f"celula-{number}"  # the same file every time
    return notebook


def _inline(link: re.Match) -> str:
    """A link to a picture, with the picture in it."""
    picture = base64.b64encode(NOTEBOOK.parent.joinpath(link[1]).read_bytes()).decode()
    return f"](data:image/png;base64,{picture})"


def _carrier(dependencies: list[str]) -> str:
    """The source of the cell that brings the package."""
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w:bz2") as tar:  # smaller than xz, of texts
        for file in sorted(PACKAGE.rglob("*")):
            if file.suffix in SUFFIXES and not OF_THE_PROJECT.fullmatch(file.name):
                entry = tarfile.TarInfo(file.relative_to(PACKAGE.parent).as_posix())
                entry.size = file.stat().st_size
                with file.open("rb") as content:
                    tar.addfile(entry, content)
    names = {re.split("[<>=!~]", requirement)[0]: requirement for requirement in dependencies}
    needed = {IMPORTED_AS.get(name, name): names[name] for name in names if name not in LEFT_OUT}
    data = archive.getvalue()
    lines = textwrap.wrap(base64.b85encode(data).decode(), 120)
    name = f"classificador-{sha256(data).hexdigest()[:8]}"
    source = CARRIER.replace("<needed>", repr(needed)).replace("<name>", name)
    # The colons, which the code has not, because Jupyter takes ">>>" off a line that begins with it, as at a prompt.
    return source.replace("<data>", "\n".join(f":{line}" for line in lines)).rstrip()
