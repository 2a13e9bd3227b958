"""The notebook as its users run it: whole, and its prediction section alone in a fresh kernel."""

import ast
import base64
import copy
import ctypes
import difflib
import inspect
import io
import json
import os
import random
import re
import shutil
import subprocess
import sys

import nbformat
import numpy as np
import pytest
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from PIL import Image

from benchmarks.step import multiply_adds
from classificador.apps import cli
from classificador.apps.notebook import NOTEBOOK, execute, read_notebook, save_figures, write_outputs
from classificador.data.folders import load_data
from classificador.files.model_file import load_model, read_checkpoint, save_checkpoint
from classificador.network import build, cnn, model_info
from classificador.recipes import FEW, PRESETS, make_settings
from classificador.show.summary import layer_table
from classificador.training.fit import train
from conftest import INFO, ROOT, model_of

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def committed() -> nbformat.NotebookNode:
    return nbformat.read(NOTEBOOK, as_version=4)


@pytest.fixture(scope="module")
def committed_model(tmp_path_factory):
    return load_model(model_of("Pytorch.ipynb", tmp_path_factory.mktemp("commit")))


@pytest.fixture(scope="module")
def workplace(tmp_path_factory, cifar10):
    """A copy of what a user has, to run notebooks in without touching the repository's model."""
    folder = tmp_path_factory.mktemp("projeto de ação")  # with a space and accents, as people name them
    shutil.copytree(ROOT / "classificador", folder / "classificador")
    (folder / "best_model.pth").write_bytes(model_of("Pytorch.ipynb", folder).read_bytes())
    (folder / "data").symlink_to(ROOT / "data")
    return folder


def with_parameters(notebook, channels=(8, 16), **values):
    """Insert a cell after the one tagged parameters, as papermill does; the network gets so few channels."""
    place = next(i for i, cell in enumerate(notebook.cells) if "parameters" in cell.metadata.get("tags", []))
    source = "\n".join(f"{name} = {value!r}" for name, value in values.items())
    notebook.cells.insert(place + 1, nbformat.v4.new_code_cell(source))
    edit(notebook, "class CNN", "channels=(64, 192)", f"channels={channels}")
    return notebook


def edit(notebook, start: str, *replaced: str):
    """Replace texts, given in pairs, in the cell that begins so; return the cell."""
    cell = next(cell for cell in notebook.cells if cell.source.startswith(start))
    for old, new in zip(replaced[::2], replaced[1::2], strict=True):
        assert old in cell.source
        cell.source = cell.source.replace(old, new)
    return cell


def outputs(notebook) -> str:
    """All text that the notebook's cells show."""
    return "".join(
        output.get("text", "") + output.get("data", {}).get("text/plain", "")
        for cell in notebook.cells
        for output in cell.get("outputs", [])
    )


def code_tree(source: str) -> ast.Module:
    """The code without docstrings and types: English in the package, Portuguese comments in the notebook."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node):
            del node.body[0]
        if isinstance(node, ast.FunctionDef):
            node.returns = None
        if isinstance(node, ast.arg):
            node.annotation = None
    return tree


def test_the_network_cell_is_the_packages_class(committed):
    for part in (cnn.contrast, cnn.max_and_mean, cnn.CNN):
        source = inspect.getsource(part)
        start = source.split("(", 1)[0]
        cell = next(cell.source for cell in committed.cells if f"\n{start}(" in f"\n{cell.source}")
        ours = code_tree(source)
        theirs = next(node for node in code_tree(cell).body if getattr(node, "name", "") == part.__name__)
        assert ast.dump(ours.body[0]) == ast.dump(theirs), "\n".join(
            difflib.unified_diff(ast.unparse(ours).splitlines(), ast.unparse(theirs).splitlines(), "cnn.py", "caderno")
        )


def test_the_optimizer_cell_is_the_packages_call(committed):
    cell = next(cell.source for cell in committed.cells if "torch.optim.Adam(\n    model" in cell.source)
    ours = ast.unparse(ast.parse(inspect.getsource(build.make_optimizer)).body[0].body[-1].value)
    theirs = next(node for node in ast.parse(cell).body if ast.unparse(node).startswith("optimizer = "))
    assert ast.unparse(theirs.value) == ours


def test_a_users_own_classes_run_from_top_to_bottom_and_the_same_again_in_one_kernel(workplace, photos, tmp_path):
    checkpoint = tmp_path / "m.pth"
    own = {"DATA_DIR": photos, "SIDE": 48, "MIRROR": False, "CHECKPOINT": str(checkpoint), "START_FROM": "zero"}
    notebook = with_parameters(read_notebook(), EPOCHS=2, BATCH_SIZE=32, DEVICE="cpu", ROBUSTNESS=True, **own)
    once = len(notebook.cells)
    notebook.cells += copy.deepcopy(notebook.cells)
    metrics = execute(notebook, workplace)
    assert metrics["test"]["accuracy"] == 1
    assert metrics["test"]["images"] > 2
    assert load_model(checkpoint).info.classes == ("céu", "mato")
    first, second = (
        outputs(nbformat.v4.new_notebook(cells=cells)) for cells in (notebook.cells[:once], notebook.cells[once:])
    )
    assert re.search(r"treino .* tensor \(\d+, 3, 48, 48\)", first)
    assert "quase cópias do treino: 100,0% do teste" in first
    numbers = [re.findall(r"Acurácia \d.*|Época ./2: perda .*", text) for text in (first, second)]
    assert len(numbers[0]) == 3 and numbers[0] == numbers[1]


def test_papermill_runs_it_with_other_parameters(workplace, photos, tmp_path):
    parameters = {"PRESET": "completo", "EPOCHS": 1, "BATCH_SIZE": 64, "DATA_DIR": photos, "DEVICE": "cpu"}
    parameters["CHECKPOINT"] = tmp_path / "m.pth"
    options = [text for name, value in parameters.items() for text in ("-p", name, str(value))]
    command = [sys.executable, "-m", "papermill", NOTEBOOK, tmp_path / "saida.ipynb", "--cwd", workplace, *options]
    ran = subprocess.run(command, capture_output=True, text=True, encoding="utf-8")
    assert ran.returncode == 0, ran.stderr[-2000:]
    info = load_model(tmp_path / "m.pth").info
    assert (info.preset, info.epoch, info.classes) == (FEW, 1, ("céu", "mato"))
    assert "Acurácia" in outputs(nbformat.read(tmp_path / "saida.ipynb", as_version=4))


def test_the_prediction_section_runs_alone_and_gives_the_committed_numbers(
    workplace, committed, committed_model, tmp_path, monkeypatch
):
    notebook = read_notebook(only_prediction=True)
    monkeypatch.setenv("MPLBACKEND", "Agg")  # a backend that shows nothing, set for all programs
    assert "fit(" not in "".join(cell.source for cell in notebook.cells)
    metrics = execute(notebook, workplace)
    text = outputs(committed)
    assert model_info.describe_checkpoint(committed_model.info) in text
    shown = re.findall(r"Acurácia (\d+,\d+)% .*?F1 macro (\d,\d+)", text)
    ((accuracy, f1),) = ((float(figure.replace(",", ".")) for figure in figures) for figures in shown)
    assert save_figures(notebook, tmp_path) == save_figures(committed, tmp_path) - 9  # which the training shows
    assert metrics["test"]["images"] == 10_000
    # Another processor rounds otherwise; that turns a few of the 10 000 predictions at most.
    assert accuracy == pytest.approx(100 * metrics["test"]["accuracy"], abs=0.1)
    assert f1 == pytest.approx(metrics["test"]["macro_f1"], abs=0.001)
    assert f"{100 * metrics['test']['accuracy']:.2f}%".replace(".", ",") in outputs(notebook)


@pytest.mark.skipif(sys.platform != "linux", reason="takes from root the right to write anywhere, as Linux can")
def test_the_prediction_section_runs_in_a_tree_that_cannot_be_written(workplace, tmp_path):
    tree = tmp_path / "projeto"
    shutil.copytree(workplace, tree)  # the data too, not the link to them
    small = build.make_network(cnn.CNN, channels=(4, 8), hidden=16)  # not to wait for long
    save_checkpoint(tree / "best_model.pth", small, INFO)
    for path in [*tree.rglob("*"), tree]:
        path.chmod(0o555 if path.is_dir() else 0o444)
    source = "\n".join(cell.source for cell in read_notebook(only_prediction=True).cells if cell.cell_type == "code")
    source = source.replace("%matplotlib inline", "")
    check = "import os\nassert not any(os.access(path, os.W_OK) for path in ('.', 'data', 'data/cifar-10.bin'))\n"

    def obey_permissions():  # PR_CAPBSET_DROP of CAP_DAC_OVERRIDE; nothing to drop where tests do not run as root
        ctypes.CDLL(None).prctl(24, 1, 0, 0, 0)

    ran = subprocess.run(
        [sys.executable, "-c", check + source],
        cwd=tree,
        env=os.environ | {"MPLBACKEND": "agg", "HOME": os.devnull},
        preexec_fn=obey_permissions,
        capture_output=True,
        text=True,
    )
    for path in [tree, *tree.rglob("*")]:
        path.chmod(0o755)
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.count("Acurácia") == 1


@pytest.mark.parametrize("where", ["in the cell", "above it"])
def test_the_prediction_section_uses_what_its_reader_wrote(workplace, photos, tmp_path, where):
    path, own = tmp_path / "m.pth", load_data(photos)
    train(make_settings(epochs=1, batch_size=16, channels=(4, 8), hidden=8, start_from="zero"), own, path)
    notebook = read_notebook(only_prediction=True)
    if where == "above it":  # and nothing of the third name
        notebook.cells.insert(0, nbformat.v4.new_code_cell(f"CHECKPOINT, DATA_DIR = {str(path)!r}, {str(photos)!r}"))
    else:
        model, data = (f'{name} = ""' for name in ("CHECKPOINT", "DATA_DIR"))
        edit(notebook, "CHECKPOINT = ", model, f"CHECKPOINT = {str(path)!r}", data, f"DATA_DIR = {str(photos)!r}")
    assert execute(notebook, workplace)["test"]["images"] == len(own.val)  # it has learnt from the others
    assert outputs(notebook).startswith(f"Modelo: {path}. Dados: {photos}.")


def test_a_model_and_data_of_ones_own_are_what_the_command_runs_with(tmp_path, monkeypatch, capsys):
    ran = []

    def executed(notebook, run):
        kernel = {}
        for cell in notebook.cells:
            if "parameters" in cell.metadata.get("tags", []):
                exec(cell.source, kernel)
        ran.append((kernel["CHECKPOINT"], kernel["DATA_DIR"], run))
        return {"test": {"accuracy": 1.0, "macro_f1": 1.0}}

    monkeypatch.setattr("classificador.apps.notebook.execute", executed)
    monkeypatch.chdir(tmp_path)
    assert cli.main(["caderno", "--predicao", "--modelo", "não.pth"]) == 1
    assert "erro: não.pth não existe" in capsys.readouterr().err and not (tmp_path / "runs").exists()
    save_checkpoint("frutas.pth", cnn.make_network(cnn.CNN, channels=(4, 8), hidden=16), INFO)
    expected = [str(tmp_path / name) for name in ("frutas.pth", "frutas")]
    for options in ([], ["--predicao"]):
        assert cli.main(["caderno", *options, "--modelo", "frutas.pth", "--dados", "'frutas'"]) == 0
        assert [*ran[-1][:2]] == expected and (tmp_path / "runs" / ran[-1][2] / "Pytorch.ipynb").exists()


def test_on_cifar10_an_edited_network_trains_is_stopped_goes_on_and_predicts(workplace, tmp_path):
    checkpoint = str(tmp_path / "b.pth")
    small = {"channels": (4, 8), "EPOCHS": 1, "BATCH_SIZE": 1024, "DEVICE": "cpu"}
    notebook = with_parameters(read_notebook(), CHECKPOINT=checkpoint, **small)
    edit(notebook, "class CNN", "hidden=256", "hidden=24", "self.conv2", "self.segunda", "F.relu", "F.silu")
    place = next(i for i, cell in enumerate(notebook.cells) if "history = fit(" in cell.source)
    # What the stop button does, once training is under way.
    stop = """
import signal

class LiveCurves(LiveCurves):
    stopped = False

    def __call__(self, history):
        super().__call__(history)
        if len(history.steps) == 3 and not LiveCurves.stopped:
            LiveCurves.stopped = True
            signal.raise_signal(signal.SIGINT)
"""
    # What the user then does: RESUME = True, and the training cell once more.
    again = notebook.cells[place].source.replace("resume=RESUME", "resume=True")
    notebook.cells.insert(place, nbformat.v4.new_code_cell(stop))
    notebook.cells.insert(place + 2, nbformat.v4.new_code_cell("print(history.interrupted, history.val_loss)"))
    notebook.cells.insert(place + 3, nbformat.v4.new_code_cell("figures.training_curves(history)"))
    notebook.cells.insert(place + 4, nbformat.v4.new_code_cell(again))
    metrics = execute(notebook, workplace)
    assert "2 []" in outputs(notebook)
    assert metrics["test"]["accuracy"] > 0.2  # one epoch; a network that learns nothing has 0.10
    saved = read_checkpoint(checkpoint)
    assert saved.info.epoch == 1  # all of it, though it was stopped
    assert saved.weights["segunda.weight"].shape[:2] == (8, 4)
    assert saved.weights["fc1.weight"].shape[0] == 24


def test_cells_executed_again_in_any_order_leave_a_true_record(workplace, photos, tmp_path):
    whole, checkpoint = with_parameters(read_notebook(), channels=(4, 8)), str(tmp_path / "b.pth")

    def cell(start: str) -> nbformat.NotebookNode:
        return edit(whole, start)

    def changed(**values) -> nbformat.NotebookNode:
        return nbformat.v4.new_code_cell("\n".join(f"{name} = {value!r}" for name, value in values.items()))

    small = {"EPOCHS": 1, "BATCH_SIZE": 256, "DEVICE": "cpu", "CHECKPOINT": checkpoint, "DATA_DIR": photos}
    build, settings, train = cell("start = find_start("), cell("import torch\n"), cell("curves =")
    optimizer = cell("criterion = nn.CrossEntropyLoss(label")
    facts = "from classificador import read_checkpoint\ninfo = read_checkpoint(CHECKPOINT).info\n"
    facts += "print([info.settings['lr'], info.settings['seed'], info.settings['network_seed'], info.earlier_epochs])"
    look = nbformat.v4.new_code_cell(facts)
    order = [cell("PRESET"), changed(**small, START_FROM="zero", LR=0.01), settings, cell("data = load_data(DATA_DIR")]
    order += [
        cell("def contrast"),
        cell("def max_and_mean"),
        cell("class CNN"),
        build,
        optimizer,
        train,
        look,
    ]  # as written
    order += [changed(LR=0.02, SEED=7), settings, train, look]  # the optimizer is the old one, the network trained
    order += [optimizer, train, look]
    order += [build, optimizer, train, look]  # a new network
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell.source) for cell in order])
    NotebookClient(notebook, resources={"metadata": {"path": str(workplace)}}).execute()
    told = re.findall(r"^\[.*\]$", outputs(notebook), re.MULTILINE)
    assert [json.loads(line) for line in told] == [
        [0.01, 42, 42, 0.0],
        [0.01, 7, 42, 1.0],
        [0.02, 7, 42, 2.0],
        [0.02, 7, 7, 0.0],
    ]


def test_the_committed_notebook_is_one_clean_run(committed):
    code = [cell for cell in committed.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    assert not any(output.output_type == "error" for cell in code for output in cell.outputs)
    assert all(set(cell.metadata) <= {"tags"} for cell in committed.cells)
    assert NOTEBOOK.stat().st_size < 1_000_000
    pictures = [output for cell in code for output in cell.outputs if "image/png" in output.get("data", {})]
    assert len(pictures) > 15 and all(len(output.metadata["image/png"]["alt"]) > 30 for output in pictures)
    assert not re.search(r"(/home/|/root/|/tmp/|/work/|[A-Z]:\\\\|0x[0-9a-f]{8})", json.dumps(committed))


def test_cells_are_short_and_code_follows_an_explanation(committed):
    for before, cell in zip(committed.cells, committed.cells[1:], strict=False):
        if cell.cell_type == "code":
            lines = cell.source.splitlines()
            assert len(lines) <= (25 if "in train_loader" in cell.source else 20)
            assert max(map(len, lines)) <= 88, "more is cut in print"
            assert before.cell_type == "markdown" or "parameters" in before.metadata.get("tags", [])
    words = [len(cell.source.split()) for cell in committed.cells if cell.cell_type == "markdown"]
    assert max(words) <= 80


def test_the_committed_training_is_a_whole_run_of_todays_rapido(committed, toy):
    recipe, text = PRESETS["rapido"], outputs(committed)
    assert f"Receita rapido: {recipe.epochs} épocas, lotes de {recipe.batch_size}\n" in text
    for epoch in range(1, recipe.epochs + 1):
        assert f"Época {epoch}/{recipe.epochs}: perda" in text
    assert layer_table(build.build(recipe, toy)) in text


def test_the_committed_model_is_small(committed_model):
    assert (ROOT / "best_model.pth").stat().st_size < 12_000_000
    forward, _ = multiply_adds(cnn.unwrap(committed_model))
    assert 2 * forward <= 120_000_000  # of an image and its mirror image


def test_a_bad_parameter_is_one_line_without_a_traceback(workplace):
    notebook = with_parameters(read_notebook(), EPOCHS=0)
    with pytest.raises(CellExecutionError):
        execute(notebook, workplace)
    error = next(o for c in notebook.cells for o in c.get("outputs", []) if o.output_type == "error")
    assert error.traceback == ["SettingsError: epochs: precisa ser um inteiro a partir de 1."]


@pytest.fixture
def own_notebook(tmp_path, monkeypatch):
    """A function that writes a notebook of these cells in place of the project's, and returns its file."""
    path = tmp_path / "Pytorch.ipynb"
    monkeypatch.setattr("classificador.apps.notebook.NOTEBOOK", path)

    def write(*cells):
        path.write_text(nbformat.writes(nbformat.v4.new_notebook(cells=list(cells))))
        return path

    return write


def test_a_failing_cell_is_told_in_one_line_and_the_notebook_kept(own_notebook, capsys):
    path = own_notebook(nbformat.v4.new_code_cell("print('antes')\n1 / 0"))
    assert cli.main(["caderno"]) == 1
    assert "erro: ZeroDivisionError: division by zero. O caderno até aqui ficou em " in capsys.readouterr().err
    assert "antes" in outputs(nbformat.read(next((path.parent / "runs").glob("*/Pytorch.ipynb")), as_version=4))


def test_results_that_could_not_be_kept_are_told_before_the_run(own_notebook, capsys):
    path = own_notebook(nbformat.v4.new_code_cell("open('executada', 'w')"))
    (path.parent / "runs").write_text("")
    assert cli.main(["caderno"]) == 1
    assert "erro: Não é possível gravar em" in capsys.readouterr().err
    assert not (path.parent / "executada").exists()


def test_other_parameters_are_used_for_a_run_and_not_written_and_with_json_only_the_result_is_printed(
    own_notebook, monkeypatch, capsys
):
    cells = [nbformat.v4.new_code_cell('PRESET = "rapido"'), nbformat.v4.new_code_cell("print(PRESET)")]
    cells[0].metadata["tags"] = ["parameters"]
    metrics = {"test": {"accuracy": 1, "macro_f1": 1}}
    question = f"from IPython.display import JSON, display\ndisplay(JSON({metrics}))"
    monkeypatch.setattr("classificador.apps.notebook.METRICS", question)
    path = own_notebook(*cells)
    assert cli.main(["caderno", "--gravar", "--receita", "completo", "--json"]) == 0
    out, err = capsys.readouterr()
    assert json.loads(out) == metrics and "completo" in err
    written = nbformat.read(path, as_version=4)
    assert [cell.source for cell in written.cells] == [cell.source for cell in cells]
    assert outputs(written) == "completo\n"


def test_the_prediction_sections_outputs_are_written_beside_the_trainings_figures_with_fewer_colours(own_notebook):
    small = Image.frombytes("RGB", (40, 40), random.Random(0).randbytes(3 * 40 * 40))
    noisy = small.resize((320, 320), Image.Resampling.NEAREST)
    file = io.BytesIO()
    noisy.save(file, "PNG")
    shown = base64.b64encode(file.getvalue()).decode()
    cells = [nbformat.v4.new_code_cell(source) for source in ("print('treino')", "'novo'")]
    cells[0].outputs = [nbformat.v4.new_output("stream", text="treino\n")]
    path = own_notebook(*cells)
    result = nbformat.v4.new_output("execute_result", {"text/plain": "'novo'"}, execution_count=1)
    figure = nbformat.v4.new_output("display_data", {"image/png": shown})
    write_outputs(nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("'novo'", outputs=[result, figure])]))
    written = nbformat.read(path, as_version=4)
    assert outputs(written) == "treino\n'novo'"
    assert [cell.execution_count for cell in written.cells] == [1, 2]
    assert written.cells[1].outputs[0].execution_count == 2
    found = written.cells[1].outputs[1].data["image/png"]
    small = Image.open(io.BytesIO(base64.b64decode(found))).convert("RGB")
    assert len(found) < 0.7 * len(shown)
    assert np.abs(np.asarray(small, dtype=float) - np.asarray(noisy)).mean() < 12  # of 255
