"""What a user waits for around the training: `python -m benchmarks.use`.

The command line's help and `avaliar`, the notebook's prediction section from a fresh kernel to its last plot, the whole
notebook with `rapido` (both with the kernel's largest resident memory), loading the shipped weights, and saving as a
share of training. Prints a table and writes benchmarks/use.json.
"""

import contextlib
import io
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import nbformat
from torch import nn

from benchmarks import machine
from classificador import build, fit, load_cifar10, load_model, make_optimizer, make_settings
from classificador.apps.notebook import execute, read_notebook
from classificador.training import trainer
from classificador.training.record import Record
from classificador.training.run_folder import RunFolder

MEMORY = "import resource\nprint('largest resident memory:', resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"


def seconds(function: Callable, repeats: int = 1) -> float:
    """Median wall time of a call."""
    times = []
    for _ in range(repeats):
        started = time.perf_counter()
        function()
        times.append(time.perf_counter() - started)
    return statistics.median(times)


def run_notebook(only_prediction: bool) -> dict:
    """Seconds and the kernel's peak memory (MB) of the notebook, or of its last section."""
    notebook = read_notebook(only_prediction)
    with tempfile.TemporaryDirectory() as folder:
        if not only_prediction:
            cell = next(cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", []))
            cell.source += f"\nCHECKPOINT = {str(Path(folder, 'best_model.pth'))!r}"
        notebook.cells.append(nbformat.v4.new_code_cell(MEMORY))
        with contextlib.redirect_stdout(io.StringIO()):
            took = seconds(lambda: execute(notebook))
    kilobytes = int(notebook.cells[-1].outputs[0].text.split(":")[1])
    return {"seconds": took, "peak_memory_mb": kilobytes / 1024}


def saving_share(data) -> dict:
    """Milliseconds a save of the best weights and of the resume file takes in training, and both as part of it."""
    spent: dict[str, list[float]] = {"best": [], "resume": [], "record": []}

    def timed(function: Callable, name: str) -> Callable:
        return lambda *arguments: spent[name].append(seconds(lambda: function(*arguments)))

    settings = make_settings("rapido", epochs=3)
    model, criterion = build(settings, data), nn.CrossEntropyLoss(label_smoothing=settings.label_smoothing)
    watched = {(RunFolder, "save"): "best", (trainer, "save_resume_point"): "resume", (Record, "write"): "record"}
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as patches:
        for (owner, method), name in watched.items():
            patches.enter_context(mock.patch.object(owner, method, timed(getattr(owner, method), name)))
        optimizer = make_optimizer(model, settings)
        took = seconds(lambda: fit(model, data, criterion, optimizer, settings, Path(folder, "best_model.pth")))
    medians = {f"{name}_ms": 1000 * statistics.median(times) for name, times in spent.items()}
    return medians | {"share_of_training": sum(map(sum, spent.values())) / took}


def main() -> None:
    """Measure everything once and print it."""
    data = load_cifar10(machine.ROOT / "data")
    shipped = machine.ROOT / "best_model.pth"
    command = [sys.executable, "-m", "classificador", "--help"]
    evaluating = [sys.executable, "-m", "classificador", "avaliar"]
    rows: dict[str, Any] = {
        "help_seconds": seconds(lambda: subprocess.run(command, cwd=machine.ROOT, stdout=subprocess.DEVNULL), 5),
        "evaluate_seconds": seconds(lambda: subprocess.run(evaluating, cwd=machine.ROOT, stdout=subprocess.DEVNULL), 3),
        "load_ms": 1000 * seconds(lambda: load_model(shipped), 20),
        "prediction_section": run_notebook(only_prediction=True),
        "whole_notebook": run_notebook(only_prediction=False),
        "saving": saving_share(data),
    }
    print(f"\n--help                            {rows['help_seconds']:.2f} s")
    print(f"avaliar                           {rows['evaluate_seconds']:.1f} s")
    print(f"carregar best_model.pth           {rows['load_ms']:.0f} ms")
    for name, key in (("seção de predição", "prediction_section"), ("caderno inteiro", "whole_notebook")):
        print(f"{name:<33} {rows[key]['seconds']:.1f} s, memória até {rows[key]['peak_memory_mb']:.0f} MB")
    saving = rows["saving"]
    print(f"gravar os melhores pesos          {saving['best_ms']:.0f} ms; retomada {saving['resume_ms']:.0f} ms")
    print(f"registro do treino, por época     {saving['record_ms']:.0f} ms")
    print(f"gravações, parte do treino        {saving['share_of_training']:.2%}")
    machine.save("use", {"model": machine.describe_shipped(), "machine": machine.describe(), "rows": rows})


if __name__ == "__main__":
    main()
