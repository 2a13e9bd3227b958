"""The command line: what it says, where it says it, and the exit codes."""

import csv
import errno
import io
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from unittest.mock import Mock

import pytest
import torch
from PIL import Image

from classificador.apps import cli, predict, sorting
from classificador.errors import WriteError
from classificador.files.model_file import read_checkpoint, save_checkpoint
from classificador.network.cnn import CNN, make_network
from classificador.network.model_info import describe_checkpoint
from conftest import INFO, ROOT, stopped_when_written, write_pictures

COMMANDS = "treinar professor caderno avaliar prever comparar exportar pagina ficha avulso dados exemplo diagnostico"


def main(*arguments) -> int:
    """The exit code of a command, also where argparse ends it."""
    try:
        return cli.main([str(argument) for argument in arguments])
    except SystemExit as end:
        return end.code


def result_of(capsys, *arguments, code: int = 0) -> dict:
    """What a command gives with --json."""
    capsys.readouterr()
    assert main(*arguments, "--json") == code
    return json.loads(capsys.readouterr().out)


@pytest.fixture(scope="module")
def model_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "best_model.pth"
    save_checkpoint(path, make_network(CNN, channels=(4, 8), hidden=16), INFO)
    return path


def test_help_explains_in_portuguese_and_imports_nothing_heavy():
    code = "import sys; from classificador.apps import cli\n"
    code += "for name in sys.argv[1:]:\n try: cli.main([name, '--help'])\n except SystemExit: pass\n"
    code += "sys.exit('torch' in sys.modules or 'nbformat' in sys.modules)"
    ran = subprocess.run([sys.executable, "-c", code, *COMMANDS.split()], cwd=ROOT, capture_output=True, text=True)
    assert ran.returncode == 0
    texts = ran.stdout.split("uso: ")[1:]
    assert len(texts) == len(COMMANDS.split())
    assert all("mostra esta ajuda e sai" in text and "opções:" in text for text in texts)
    assert not any(word in ran.stdout for word in ("usage", "options", "positional", "show this"))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["treinar", "--lr", "alto"], "erro: --lr: valor inválido: 'alto'. Veja --help."),
        (["exportar", "--formato", "pt2"], "--formato: 'pt2' não existe; use um destes: "),
        (["treinar", "--lr"], "--lr: falta o valor."),
        (["treinar", "--json=1"], "--json: não aceita o valor '1'."),
        (["treinar", "--nada"], "argumento desconhecido: --nada."),
        (["treinar", "--dado=x"], "argumento desconhecido: --dado=x (seria --dados?)."),
        (["avaliar", "--mod", "x"], "argumento desconhecido: --mod x (seria --modelo?)."),
        (["voar"], "comando: 'voar' não existe; use um destes: "),
        ([], "falta dizer: comando."),
    ],
)
def test_bad_usage_is_exit_code_two_in_portuguese(arguments, words, capsys):
    assert main(*arguments) == 2
    error = capsys.readouterr().err
    assert words in error and error.startswith("uso: ")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["treinar", "--epocas", "0"], ["--epocas: "]),
        (["treinar", "--dados", ROOT / "pyproject.toml"], ["pyproject.toml"]),
        (["dados", "--fonte", "nada.tar.gz"], ["nada.tar.gz"]),
        (["dados", "--fonte", "~ninguem-assim/x"], ["não existe"]),
    ],
)
def test_bad_input_is_one_line_and_exit_code_one(arguments, words, capsys, cifar10):
    assert main(*arguments) == 1
    error = capsys.readouterr().err
    assert error.startswith("erro: ") and error.count("\n") == 1
    assert all(word in error for word in words)


@pytest.mark.slow
def test_a_traceback_comes_only_when_asked_for_and_a_closed_output_is_no_hindrance(model_file, tmp_path):
    Image.new("RGB", (50, 40)).save(tmp_path / "a.png")
    start = f'"{sys.executable}" -m classificador prever "{tmp_path / "a.png"}" --modelo '
    ran = subprocess.run(["sh", "-c", f"{start} nada.pth --traceback"], cwd=ROOT, capture_output=True, text=True)
    assert ran.returncode == 1 and "Traceback" in ran.stderr
    assert subprocess.run(["sh", "-c", f'{start} "{model_file}" >&- 2>&-'], cwd=ROOT).returncode == 0


@pytest.mark.slow
def test_a_stopped_training_has_its_exit_code_goes_on_and_is_evaluated(toy_as_cifar10, tmp_path, capsys):
    path = tmp_path / "m.pth"
    train, resume = ["treinar", "--modelo", path], ["treinar", "--retomar", "--modelo", path]
    with stopped_when_written("m.retomar.pth", signal.SIGTERM):
        assert main(*train, "--epocas", "2", "--lote", "64", "--semente", "3") == 143
    assert "--retomar" in capsys.readouterr().out
    assert main(*resume, "--epocas", "3") == 1
    assert "erro: --epocas: 3 aqui, 2 no treino interrompido; use o mesmo valor" in capsys.readouterr().err
    history = result_of(capsys, *resume, "--epocas", "2")
    assert len(history["val_accuracy"]) == 2
    assert max(history["val_accuracy"]) == read_checkpoint(path).info.val_accuracy
    assert main(*resume) == 1
    assert "Não há treino interrompido" in capsys.readouterr().err
    assert result_of(capsys, "avaliar", "--modelo", path)["images"] == 100


@pytest.mark.slow
def test_own_classes_are_trained_evaluated_and_predicted(tmp_path, capsys, quick):
    root = write_pictures(tmp_path / "fotos", azul=(0, 0, 200), error=(0, 200, 0), vermelho=(200, 0, 0))
    data, model = ["--dados", root], ["--modelo", tmp_path / "m.pth"]
    options = ["--epocas", "4", "--lote", "8", "--lado", "48", "--sem-espelho", "--enquadrar", "inteira"]
    options += ["--partir-de", "zero"]
    assert main("treinar", *data, *options, *model) == 0
    info = read_checkpoint(tmp_path / "m.pth").info
    assert info.classes == ("azul", "error", "vermelho")
    assert (info.side, info.framing, info.settings["symmetric"]) == (48, "inteira", False)
    assert "Enquadra:    a imagem inteira" in describe_checkpoint(info)
    result = result_of(capsys, "avaliar", *data, *model)
    assert result["images"] >= 3 and result["accuracy"] == 1
    counted = result_of(capsys, "dados", *data)  # of few pictures all are the test, but of those that it learnt from
    assert counted["train"] + counted["val"] == counted["test"] == 60 and counted["val"] == result["images"]
    (prediction,) = result_of(capsys, "prever", root / "error" / "3.png", *model).values()
    assert next(iter(prediction)) == "error"
    assert main("prever", root / "error" / "1.png", "--csv", *model) == 0
    row = next(csv.reader(io.StringIO(capsys.readouterr().out.splitlines()[1]), delimiter=";"))
    assert row[1] == "error" and row[4] == "" and len(row) == 8  # the class "error" is no error


@pytest.mark.slow
def test_the_example_teaches_handwritten_digits(tmp_path, capsys):
    root, model = tmp_path / "numeros", ["--modelo", tmp_path / "m.pth"]
    assert main("exemplo", root) == 0
    assert "--dados" in capsys.readouterr().out
    assert main("exemplo", root) == 1
    assert "já existe" in capsys.readouterr().err
    assert main("treinar", "--dados", root, "--epocas", "2", "--lote", "32", "--partir-de", "zero", *model) == 0
    assert result_of(capsys, "avaliar", "--dados", root, *model)["accuracy"] > 0.9


@pytest.mark.slow
def test_a_teacher_is_trained_and_taught_from(tmp_path, monkeypatch, capsys, quick):
    monkeypatch.chdir(tmp_path)  # where the recipe looks for its teacher
    write_pictures(Path("fotos"), 8, céu="blue", mato="green")
    options = ["--dados", "fotos", "--epocas", "1", "--lote", "4", "--lado", "48", "--sem-espelho"]
    assert main("treinar", "--receita", "destilado", *options) == 1
    assert "\nerro: Falta o professor (professor.pth). Treine-o" in capsys.readouterr().err
    assert main("professor", "--modelo", "mestre.pth", *options) == 0
    assert read_checkpoint("mestre.pth").info.settings["symmetric"] is False
    assert main("treinar", "--receita", "destilado", "--professor", "mestre.pth", *options) == 0
    assert ", destilado), em " in capsys.readouterr().out
    assert result_of(capsys, "avaliar", "--dados", "fotos")["distilled"] is True


def test_folders_are_predicted_picture_by_picture_and_what_else_they_hold_is_told(model_file, tmp_path, capsys):
    folder, model = tmp_path / "fotos", ["--modelo", model_file]
    for name in ("b.png", "a.jpg", "dentro/c.png"):
        (folder / name).parent.mkdir(exist_ok=True)
        Image.new("RGB", (50, 40), "red").save(folder / name)
    for name in ("dentro/ruim.png", "notas.txt", "b.MOV", "c.mov", "d"):
        (folder / name).write_text("texto")
    (folder / "dentro" / "volta").symlink_to(folder)
    (tmp_path / "vazia").mkdir()
    names = [str(folder / name) for name in ("a.jpg", "b.png", "dentro/c.png", "dentro/ruim.png")]
    results = result_of(capsys, "prever", folder, *model, code=1)
    assert list(results) == names and len(results[names[0]]) == 10 and "ruim.png" in results[names[3]]["error"]
    assert main("prever", folder, tmp_path / "vazia", *model, "--csv") == 1
    out, err = capsys.readouterr()
    assert out.startswith("\ufeffarquivo;")
    assert all(words in err for words in ("ruim.png", "não tem imagens", ".mov (2)", "sem extensão (1)", "a.jpg: "))
    rows = list(csv.DictReader(io.StringIO(out.removeprefix("\ufeff")), delimiter=";"))
    assert [row["arquivo"] for row in rows] == [*names, str(tmp_path / "vazia")]
    for row in rows[:3]:
        probabilities = {name: float(row[name].replace(",", ".")) for name in INFO["classes"]}
        assert probabilities == pytest.approx(results[row["arquivo"]], abs=1e-4)
        assert row[row["classe"]] == row["probabilidade"] and len(row["probabilidade"]) == len("0,1234")
        assert row["duvidosa"] == "não"
    assert "danificado" in rows[3]["erro"] or "não é uma imagem" in rows[3]["erro"]


def test_answers_in_doubt_are_marked_in_a_table_and_in_json(model_file, tmp_path, capsys, monkeypatch):
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    monkeypatch.setattr("classificador.results.predict.is_doubtful", lambda model, answer: True)
    (answer,) = result_of(capsys, "prever", tmp_path / "a.png", "--modelo", model_file).values()
    assert answer.pop("doubtful") is True and sum(answer.values()) == pytest.approx(1)
    for answer, row in (
        ({"doubtful": True, "Gato": 0.4}, "Gato;0,4000;sim"),
        ({"doubtful": 0.9, "Gato": 0.1}, "doubtful;0,9000;não"),  # a class of this name
    ):
        assert row in predict.as_csv({"a.png": answer})


@pytest.mark.skipif(os.name == "nt", reason="Windows allows no such names")
def test_a_file_name_cannot_write_to_the_terminal(model_file, tmp_path, capsys):
    Image.new("RGB", (50, 40)).save(tmp_path / "boa\n\x1b[31m.png")
    (tmp_path / "má\n\x1b[31m.png").write_text("texto")
    assert main("prever", tmp_path, "--modelo", model_file) == 1
    out, err = capsys.readouterr()
    assert r"boa\n\x1b[31m.png" in out and r"má\n\x1b[31m.png" in err
    assert "\x1b" not in out + err and (out + err).count("\n") == 2


def test_names_of_invalid_bytes_are_all_there_and_none_is_a_formula(model_file, tmp_path, capsys, monkeypatch):
    Image.new("RGB", (8, 8)).save(tmp_path / "=1+1.png")
    names = ["=1+1.png", *(os.fsdecode(b"caf" + byte + b".png") for byte in (b"\xe9", b"\xea"))]
    monkeypatch.chdir(tmp_path)
    for name in names[1:]:
        shutil.copy(names[0], name)
    shown = ["=1+1.png", r"caf\udce9.png", r"caf\udcea.png"]
    assert list(result_of(capsys, "prever", *names, "--modelo", model_file)) == shown
    assert main("prever", *names, "--modelo", model_file, "--csv") == 0
    rows = csv.DictReader(io.StringIO(capsys.readouterr().out.removeprefix("\ufeff")), delimiter=";")
    assert [row["arquivo"] for row in rows] == [f"'{shown[0]}", *shown[1:]]


def test_a_result_is_written_to_a_file_as_its_reader_knows_it(toy_as_cifar10, model_file, tmp_path, capsys):
    Image.new("RGB", (8, 8)).save(tmp_path / "ação.png")
    for name in ("r.csv", "r.json"):
        assert main("prever", tmp_path / "ação.png", "--modelo", model_file, "--saida", tmp_path / name) == 0
    text = (tmp_path / "r.csv").read_bytes()
    assert text.startswith(b"\xef\xbb\xbfarquivo;classe;") and "ação.png".encode() in text
    assert list(json.loads((tmp_path / "r.json").read_text("utf-8"))) == [str(tmp_path / "ação.png")]
    (tmp_path / "outro.pth").write_bytes(b"x")
    for command, name, said in (
        (["avaliar"], "d.csv", "não é nome de um resultado, que se grava em .json"),
        (["prever", "x.png"], "ação.png", "que se grava em .json ou .csv"),  # as of *.png
        (["prever", "x.png"], model_file.name, "que se grava em .json ou .csv"),
        (["comparar", "runs"], "ação.png/há.json", "já existe algo com esse nome"),
        (["exportar"], "ação.png", "existe, e não termina em .onnx: o que há nele se perderia"),
        (["exportar", "--formato", "pesos"], "outro.pth", "não termina em .pesos.pth"),  # a model that was trained
        (["avulso"], "ação.png", "existe, e não termina em .ipynb"),
        (["exportar"], ".", "é uma pasta"),
    ):
        before = {path: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()}
        model = [] if command[0] in ("comparar", "avulso") else ["--modelo", model_file]
        assert main(*command, *model, "--saida", tmp_path / name) == 1
        assert said in capsys.readouterr().err
        assert before == {path: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()}


def test_pictures_are_sorted_by_copies_and_nothing_is_moved_or_written_over(model_file, tmp_path, capsys, monkeypatch):
    answers = {
        "a.png": {"Gato": 0.9, "Cão": 0.1},
        "b.png": {"../x": 0.9},
        "c.png": {"Gato": 0.2},
        "d/a.png": {"Gato": 1.0},
    }
    for number, name in enumerate(answers):
        (tmp_path / "fotos" / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8), (number, 0, 0)).save(tmp_path / "fotos" / name)
    names = {str(tmp_path / "fotos" / name): answer for name, answer in answers.items()}
    monkeypatch.setattr("classificador.results.predict.predict_image", lambda model, path: names[path])
    monkeypatch.setattr("classificador.results.predict.is_doubtful", lambda model, answer: max(answer.values()) < 0.5)
    before = {path: path.read_bytes() for path in (tmp_path / "fotos").rglob("*.png")}
    command = ["prever", tmp_path / "fotos", "--modelo", model_file, "--separar"]
    for said in ("Gato (2), _x (1), duvidosas (1)", "nenhuma. Já estavam lá: 4."):
        assert main(*command, tmp_path / "destino") == 0
        assert said in capsys.readouterr().out
        found = sorted(str(path.relative_to(tmp_path / "destino")) for path in (tmp_path / "destino").rglob("*.png"))
        assert found == ["Gato/a (2).png", "Gato/a.png", "_x/b.png", "duvidosas/c.png"]
    assert before == {path: path.read_bytes() for path in (tmp_path / "fotos").rglob("*.png")}
    patterns = (f"{tmp_path}/fot*/**/*.png", f"'{tmp_path}/fotos/**/*.png'")
    for folder in (tmp_path / "fotos", f"'{tmp_path / 'fotos'}'", *patterns):
        arguments = ["prever", folder, *command[2:]]
        assert main(*arguments, tmp_path / "fotos" / "dentro") == 1
        assert "fica dentro de" in capsys.readouterr().err and not (tmp_path / "fotos" / "dentro").exists()
    assert main(*command, model_file) == 1
    assert "já existe algo com esse nome" in capsys.readouterr().err


def test_what_was_answered_is_kept_where_the_copies_find_no_room(model_file, tmp_path, capsys, monkeypatch):
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    monkeypatch.setattr(sorting, "write_bytes", Mock(side_effect=WriteError("Disco cheio.")))
    command = ["prever", tmp_path / "a.png", "--modelo", model_file, "--separar", tmp_path / "destino"]
    assert main(*command, "--saida", tmp_path / "nova" / "r.json") == 1
    assert "o mesmo comando continua" in capsys.readouterr().err
    assert len(json.loads((tmp_path / "nova" / "r.json").read_text("utf-8"))) == 1


def test_sorting_tells_of_each_failure_and_leaves_no_half_copies(tmp_path, monkeypatch):
    homes = {str(tmp_path / name): name[0] for name in ("a.png", "b.png", "c.png")} | {str(tmp_path / "d.png"): ""}
    for path in homes:
        Path(path).write_bytes(bytes(10))
    (tmp_path / "a.png").unlink()
    assert sorting._folders({"duvidosas", "", "x", "X.", "x "}) == {
        "duvidosas": "duvidosas",
        "": "duvidosas (2)",
        "x ": "x",
        "x": "x (2)",
        "X.": "X (3)",
    }
    monkeypatch.setattr(sorting.shutil, "copystat", lambda *_: (_ for _ in ()).throw(PermissionError()))
    said = sorting.sort_pictures(homes, tmp_path / "to", ("a", "b", "c"))
    assert "b (1), c (1), duvidosas (1). Não puderam ser lidas: " in said and "a.png (o caminho não existe)" in said

    def full_disk(file):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full_disk)
    with pytest.raises(WriteError, match="Depois de 0 cópias, .* disco cheio"):
        sorting.sort_pictures({str(tmp_path / "b.png"): "b"}, tmp_path / "other", ("b",))
    assert list((tmp_path / "other" / "b").iterdir()) == []


def test_a_quoted_pattern_is_expanded_and_a_name_in_brackets_is_a_name(model_file, tmp_path, capsys):
    for name in ("a.png", "b.png", "[1].png"):
        Image.new("RGB", (8, 8)).save(tmp_path / name)
    model = ["--modelo", model_file]
    found = result_of(capsys, "prever", tmp_path / "[ab].png", tmp_path / "[1].png", *model)
    assert list(found) == [str(tmp_path / name) for name in ("a.png", "b.png", "[1].png")]
    assert main("prever", tmp_path / "*.jpg", *model) == 1
    assert "*.jpg não existe" in capsys.readouterr().err


def test_interrupted_prever_gives_what_it_has(model_file, tmp_path, capsys, monkeypatch):
    def interrupt(model, path):
        if path.endswith("b.png"):
            raise KeyboardInterrupt
        return {"Gato": 1.0}

    for name in ("a.png", "b.png"):
        Image.new("RGB", (8, 8)).save(tmp_path / name)
    monkeypatch.setattr("classificador.results.predict.predict_image", interrupt)
    found = result_of(capsys, "prever", tmp_path, "--modelo", model_file, code=130)
    assert found == {str(tmp_path / "a.png"): {"Gato": 1.0}}


def test_diagnosis_names_what_is_wrong_if_anything_is(cifar10, model_file, tmp_path, capsys):
    assert main("diagnostico", "--dados", ROOT / "data", "--modelo", model_file) == 0
    assert "✗" not in capsys.readouterr().out
    rows = result_of(capsys, "diagnostico", "--dados", tmp_path, "--modelo", tmp_path / "nada.pth", code=1)
    assert rows["torch"] == {"value": torch.__version__.split("+")[0], "problem": ""}
    assert "classificador dados" in rows["dados"]["problem"]
    assert "não existe" in rows["modelo"]["problem"]


def test_what_the_standalone_notebook_lacks_is_told_in_one_line(monkeypatch, tmp_path, capsys):
    monkeypatch.setitem(sys.modules, "classificador.apps.page", None)  # as if the file were not there
    assert main("pagina", "--modelo", tmp_path / "m.pth") == 1
    assert capsys.readouterr().err == "erro: Este comando pede a pasta do projeto, e não só o caderno avulso.\n"
