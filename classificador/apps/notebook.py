"""Run `Pytorch.ipynb` from a terminal as "Run All" would, and keep what it shows: `python -m classificador caderno`."""

import base64
import io
import json
import logging
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, DeadKernelError
from PIL import Image

from classificador import errors
from classificador.atomic import write_bytes
from classificador.errors import ClassificadorError, brief
from classificador.portuguese import duration, number, percent
from classificador.training.run_folder import NAME_VARIABLE, Runs

NOTEBOOK = Path(__file__).resolve().parents[2] / "Pytorch.ipynb"
PARAMETERS_TAG = "parameters"  # papermill's name
PICTURES = "](docs/"  # with which the link to a picture begins in a text
PREDICTION_TAG = "predicao"  # of the heading where the prediction section begins
# Run in the kernel after the last cell, to hand the figures over.
METRICS = """
from IPython.display import JSON, display
display(JSON({"test": report.to_dict(), "model": model.info.provenance}))
"""


class TerminalClient(NotebookClient):
    """Executes a notebook and shows in the terminal which section runs and what its cells print, progress included."""

    def process_message(self, message, cell, cell_index):
        if message["msg_type"] == "stream":
            sys.stdout.write(message["content"]["text"])
            sys.stdout.flush()
        return super().process_message(message, cell, cell_index)


def open_notebook() -> nbformat.NotebookNode:
    """Return the notebook as it is. Raises ClassificadorError where the package lies without it."""
    try:
        return nbformat.read(NOTEBOOK, as_version=4)
    except OSError as error:
        raise ClassificadorError(f"Isto se faz na pasta do projeto, e aqui não há {NOTEBOOK}.") from error


def read_notebook(only_prediction: bool = False) -> nbformat.NotebookNode:
    """Return the notebook without outputs; with only_prediction, its prediction section alone."""
    notebook = open_notebook()
    if only_prediction:
        starts = [i for i, cell in enumerate(notebook.cells) if PREDICTION_TAG in cell.metadata.get("tags", [])]
        notebook.cells = notebook.cells[starts[0] :]
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    return notebook


def execute(notebook: nbformat.NotebookNode, folder: Path = NOTEBOOK.parent, run: str = "") -> dict:
    """Execute the notebook in place, in a fresh kernel in `folder`; return the metrics of its prediction section.

    run: the name of the folder in runs/ that the training is to use, instead of one of its own.
    Raises CellExecutionError when a cell fails; the outputs up to there are in the notebook.
    """
    resources = {"metadata": {"path": str(folder)}}
    client = TerminalClient(notebook, timeout=None, resources=resources, coalesce_streams=True, record_timing=False)
    environment = os.environ | ({NAME_VARIABLE: run} if run else {})
    count = len(notebook.cells)
    notebook.cells.append(nbformat.v4.new_code_cell(METRICS))
    try:
        logging.getLogger("asyncio").setLevel(logging.CRITICAL)  # of a kernel that ends with us, in English
        # What the kernel process itself writes (its warnings, a traceback when interrupted) is not for the user.
        with client.setup_kernel(stderr=subprocess.DEVNULL, env=environment):
            for index, cell in enumerate(notebook.cells):
                if cell.cell_type == "markdown" and cell.source.startswith("#"):
                    print(f"\n[{index + 1}/{count}] {cell.source.splitlines()[0].strip('# ')}", flush=True)
                client.execute_cell(cell, index)
    finally:
        question = notebook.cells.pop()
    return question.outputs[0].data["application/json"]


def _write_to(folder: Path, notebook: nbformat.NotebookNode) -> None:
    """Write the notebook to a folder, from which the links to pictures in its texts are made to lead."""
    up = Path(os.path.relpath(NOTEBOOK.parent, folder)).as_posix()
    for cell in notebook.cells:
        cell.source = cell.source.replace(PICTURES, f"]({up}/docs/")
    nbformat.write(notebook, folder / NOTEBOOK.name)


def save_figures(notebook: nbformat.NotebookNode, folder: Path) -> int:
    """Write every PNG the notebook shows to `folder`, numbered; return how many."""
    folder.mkdir(parents=True, exist_ok=True)
    figures = [figure for cell in notebook.cells for figure in _figures(cell)]
    for count, figure in enumerate(figures, 1):
        (folder / f"{count:02d}.png").write_bytes(base64.b64decode(figure["image/png"]))
    return len(figures)


def _figures(cell: nbformat.NotebookNode) -> list[dict]:
    """The outputs of a cell that are figures, each a dict whose "image/png" is base64."""
    return [output.data for output in cell.get("outputs", []) if "image/png" in output.get("data", {})]


def write_outputs(executed: nbformat.NotebookNode) -> None:
    """Write what the cells of `executed`, the notebook or its last section, show into Pytorch.ipynb.

    Figures are reduced to 256 colours: a third of the bytes, and every version of the notebook is kept.
    """
    whole = open_notebook()
    for own, cell in zip(whole.cells[-len(executed.cells) :], executed.cells, strict=True):
        if cell.cell_type == "code":
            own.outputs = cell.outputs
            for output in own.outputs:  # a widget needs its kernel; the text that stands for it is kept
                output.get("data", {}).pop("application/vnd.jupyter.widget-view+json", None)
            for figure in _figures(own):
                image, small = Image.open(io.BytesIO(base64.b64decode(figure["image/png"]))), io.BytesIO()
                image.convert("RGB").quantize(256, kmeans=3).save(small, "PNG", optimize=True)
                figure["image/png"] = base64.b64encode(small.getvalue()).decode()
    for count, cell in enumerate((cell for cell in whole.cells if cell.cell_type == "code"), 1):
        for numbered in (cell, *cell.outputs):
            if "execution_count" in numbered:
                numbered.execution_count = count
    write_bytes(NOTEBOOK, (nbformat.writes(whole).rstrip() + "\n").encode())


def run_notebook(only_prediction: bool, values: dict[str, Any], write: bool) -> dict:
    """Run the notebook, or its prediction section; leave its results under runs/, say where, and return the metrics.

    values: by the names of the notebook's parameters, in place of what it says. write: whether the outputs are also
    written into Pytorch.ipynb. Raises WriteError, before it runs anything, where the results cannot be kept, and
    ClassificadorError when a cell fails.
    """
    if only_prediction and {"PRESET", "RESUME"} & values.keys():
        raise ClassificadorError("--receita e --retomar só valem para o caderno inteiro.")
    notebook, started = read_notebook(only_prediction), time.perf_counter()
    given = "".join(f"{name} = {value!r}\n" for name, value in values.items())
    for cell in [cell for cell in notebook.cells if PARAMETERS_TAG in cell.metadata.get("tags", [])][:1]:
        # The prediction section's own cell asks what was written before it, and prints it.
        cell.source = f"{given}{cell.source}" if only_prediction else f"{cell.source}\n{given}".rstrip()
    runs = Runs(str(values.get("CHECKPOINT", NOTEBOOK.with_name("best_model.pth"))))
    interrupted = runs.interrupted() if "RESUME" in values else None
    folder = interrupted.parent if interrupted else runs.new("predicao" if only_prediction else "caderno")
    shown = os.path.relpath(folder)
    try:
        metrics = execute(notebook, run=folder.name)
    except KeyboardInterrupt:
        best = f"; se o treino já tinha uma época completa, {runs.checkpoint.name} tem o melhor até aqui"
        print(f"\nO caderno até aqui ficou em {shown}{'' if only_prediction else best}.")
        raise
    except (CellExecutionError, DeadKernelError) as error:
        failure = "O kernel do caderno morreu; talvez tenha faltado memória"
        if isinstance(error, CellExecutionError):
            failure = ("" if hasattr(errors, error.ename) else f"{error.ename}: ") + brief(error.evalue).rstrip(".")
        raise ClassificadorError(f"{failure}.", f"O caderno até aqui ficou em {shown}.") from error
    finally:
        _write_to(folder, notebook)
        figures = save_figures(notebook, folder / "figuras")
    (folder / "metricas.json").write_text(json.dumps(metrics, ensure_ascii=False, indent=2), encoding="utf-8")
    if write:
        write_outputs(notebook)
    took, test = duration(time.perf_counter() - started), metrics["test"]
    print(f"\nPronto em {took}, em {shown}: caderno, {figures} figuras, metricas.json")
    distilled = ", destilado" if test.get("distilled") else ""
    print(f"Teste: acurácia {percent(test['accuracy'], 2)}, F1 macro {number(test['macro_f1'], 4)}{distilled}")
    return metrics
