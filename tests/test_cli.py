import csv
import io
import json
import os
import shutil
import signal
import subprocess
import sys

import pytest
import torch
from PIL import Image

from classificador.apps import cli
from classificador.files.model_file import read_checkpoint, save_checkpoint
from classificador.network.cnn import CNN, make_network
from classificador.network.model_info import describe_checkpoint
from classificador.training import trainer as trainer_module
from conftest import INFO, ROOT


def run(*arguments, timeout=60):
    """The real command, as a user would start it."""
    command = [sys.executable, "-m", "classificador", *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=timeout)


@pytest.fixture(scope="module")
def model_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "best_model.pth"
    save_checkpoint(path, make_network(CNN, channels=(4, 8), hidden=16), INFO)
    return path


@pytest.fixture
def no_fetch(monkeypatch, toy):
    """The toy data in place of CIFAR-10, for commands run inside this process."""
    monkeypatch.setattr("classificador.data.folders.load_cifar10", lambda root, source: toy)


@pytest.mark.parametrize("command", ["treinar", "professor", "prever", "comparar", "exportar", "ficha", "dados"])
def test_help_explains_in_portuguese(command):
    result = run(command, "--help")
    assert result.returncode == 0
    assert result.stdout.startswith("uso: ")
    assert "mostra esta ajuda" in result.stdout


def test_help_does_not_import_torch():
    code = "import sys, classificador.apps.cli as m; m.build_parser(); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["treinar", "--receita", "lenta"], ["lenta", "rapido"]),
        (["treinar", "--epocas", "0"], ["--epocas: "]),
        (["treinar", "--lr", "-1"], ["--lr: "]),
        (["treinar", "--lote", "1"], ["--lote: ", "pelo menos 2"]),
        (["treinar", "--modelo", ROOT], [str(ROOT), "não é um arquivo comum"]),
        (["treinar", "--modelo", ""], ["não é um arquivo comum"]),
        (["treinar", "--dispositivo", "tpu"], ["--dispositivo: "]),
        (["treinar", "--dados", ROOT / "pyproject.toml"], ["pyproject.toml"]),
        (["avaliar", "--modelo", "nada.pth"], ["nada.pth", "não existe"]),
        (["avaliar", "--modelo", ROOT / "pyproject.toml"], ["pyproject.toml", "danificado"]),
        (["dados", "--fonte", "nada.tar.gz"], ["nada.tar.gz"]),
        (["prever", "foto.jpg", "--csv", "--json"], ["--csv ou --json"]),
        (["prever", "foto.jpg", "--modelo", "meu.pth"], ["meu.pth não existe", "Confira o caminho"]),
    ],
)
def test_bad_input_is_one_line_and_exit_code_one(arguments, words):
    result = run(*arguments)
    assert result.returncode == 1
    assert len(result.stderr.strip().splitlines()) == 1
    assert result.stderr.startswith("erro: ")
    assert all(word in result.stderr for word in words)


@pytest.mark.slow
def test_a_traceback_comes_only_when_asked_for():
    assert "Traceback" in run("avaliar", "--modelo", "nada.pth", "--traceback").stderr


@pytest.mark.parametrize("arguments", [["treinar", "--lr", "alto"], ["treinar", "--nada"], ["voar"], [], ["prever"]])
def test_bad_usage_is_exit_code_two_in_portuguese(arguments):
    result = run(*arguments)
    assert result.returncode == 2
    assert "erro: " in result.stderr
    assert "usage" not in result.stderr


def test_train_then_evaluate_in_json(no_fetch, tmp_path, capsys):
    path = str(tmp_path / "best_model.pth")
    assert cli.main(["treinar", "--json", "--epocas", "1", "--lote", "64", "--modelo", path]) == 0
    history = json.loads(capsys.readouterr().out)
    assert history["val_accuracy"] == [read_checkpoint(path).info.val_accuracy]
    assert cli.main(["avaliar", "--json", "--modelo", path]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["images"] == 100


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_stopped_training_has_its_exit_code_and_goes_on(no_fetch, tmp_path, monkeypatch, capsys, number, code):
    path, save = str(tmp_path / "m.pth"), trainer_module.save_point
    command = ["treinar", "--epocas", "2", "--lote", "64", "--semente", "3", "--modelo", path]
    with monkeypatch.context() as patch:
        patch.setattr(trainer_module, "save_point", lambda *state: (save(*state), signal.raise_signal(number)))
        assert cli.main(command) == code
    assert "--retomar" in capsys.readouterr().out
    assert cli.main(["treinar", "--retomar", "--epocas", "3", "--modelo", path]) == 1
    assert "erro: --epocas: 3 aqui, 2 no treino interrompido" in capsys.readouterr().err
    assert cli.main(["treinar", "--retomar", "--json", "--modelo", path]) == 0
    assert len(json.loads(capsys.readouterr().out)["val_accuracy"]) == 2
    assert cli.main(["treinar", "--retomar", "--modelo", path]) == 1
    assert "Não há treino interrompido" in capsys.readouterr().err


def test_predict_goes_on_after_a_bad_picture(model_file, tmp_path, capsys):
    Image.new("RGB", (50, 40), "red").save(tmp_path / "boa.png")
    (tmp_path / "ruim.png").write_text("texto")
    paths = [str(tmp_path / name) for name in ("ruim.png", "boa.png")]
    assert cli.main(["prever", *paths, "--modelo", str(model_file), "--json"]) == 1
    out, err = capsys.readouterr()
    result = json.loads(out)
    assert len(result[paths[1]]) == 10
    assert "ruim.png" in err
    assert "ruim.png" in result[paths[0]]["error"]


def test_folders_are_predicted_picture_by_picture_into_csv(model_file, tmp_path, capsys):
    for name in ("b.png", "a.jpg", "dentro/c.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.new("RGB", (50, 40), "red").save(tmp_path / name)
    (tmp_path / "dentro" / "ruim.png").write_text("texto")
    (tmp_path / "notas.txt").write_text("texto")
    (tmp_path / "dentro" / "volta").symlink_to(tmp_path)
    assert cli.main(["prever", str(tmp_path), "--modelo", str(model_file), "--csv"]) == 1
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    names = [str(tmp_path / name) for name in ("a.jpg", "b.png", "dentro/c.png", "dentro/ruim.png")]
    assert [row["arquivo"] for row in rows] == names
    for row in rows[:3]:
        probabilities = {name: float(row[name]) for name in INFO["classes"]}
        assert len(probabilities) == 10
        assert probabilities[row["classe"]] == max(probabilities.values()) == float(row["probabilidade"])
    assert "danificado" in rows[3]["erro"] or "não é uma imagem" in rows[3]["erro"]


def test_a_folder_without_pictures_is_told(model_file, tmp_path, capsys):
    empty = tmp_path / "vazia"
    empty.mkdir()
    assert cli.main(["prever", str(empty), "--modelo", str(model_file)]) == 1
    assert "não tem imagens" in capsys.readouterr().err
    Image.new("RGB", (50, 40)).save(tmp_path / "a.png")
    assert cli.main(["prever", str(empty), str(tmp_path / "a.png"), "--modelo", str(model_file)]) == 1
    assert "a.png: " in capsys.readouterr().out


@pytest.mark.skipif(os.name == "nt", reason="Windows allows no such names")
def test_a_file_name_cannot_write_to_the_terminal(model_file, tmp_path, capsys):
    Image.new("RGB", (50, 40)).save(tmp_path / "boa\n\x1b[31m.png")
    (tmp_path / "má\n\x1b[31m.png").write_text("texto")
    assert cli.main(["prever", str(tmp_path), "--modelo", str(model_file)]) == 1
    out, err = capsys.readouterr()
    assert r"boa\n\x1b[31m.png" in out and r"má\n\x1b[31m.png" in err
    assert "\x1b" not in out + err and (out + err).count("\n") == 2


def test_a_home_of_nobody_and_an_abbreviated_option_are_told(capsys, tmp_path):
    assert cli.main(["dados", "--fonte", "~ninguem-assim/x"]) == 1
    assert "não existe" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        cli.main(["avaliar", "--mod", "x"])
    assert "argumento desconhecido" in capsys.readouterr().err


@pytest.mark.slow
def test_closed_output_is_no_hindrance(model_file, tmp_path):
    Image.new("RGB", (50, 40)).save(tmp_path / "a.png")
    command = f'"{sys.executable}" -m classificador prever "{tmp_path / "a.png"}" --modelo "{model_file}" >&- 2>&-'
    assert subprocess.run(["sh", "-c", command], cwd=ROOT).returncode == 0


@pytest.mark.slow
def test_own_classes_are_trained_evaluated_and_predicted(tmp_path, capsys):
    for name, colour in (("azul", (0, 0, 200)), ("verde", (0, 200, 0)), ("vermelho", (200, 0, 0))):
        (tmp_path / "fotos" / name).mkdir(parents=True)
        for number in range(20):
            Image.new("RGB", (60, 50), colour).save(tmp_path / "fotos" / name / f"{number}.png")
    data, path = ["--dados", str(tmp_path / "fotos")], str(tmp_path / "m.pth")
    options = ["--epocas", "4", "--lote", "8", "--lado", "48", "--sem-espelho", "--enquadrar", "inteira"]
    assert cli.main(["treinar", *data, *options, "--modelo", path]) == 0
    info = read_checkpoint(path).info
    assert info.classes == ("azul", "verde", "vermelho")
    assert (info.side, info.framing) == (48, "inteira")
    assert "Enquadra:    a imagem inteira" in describe_checkpoint(info)
    assert info.settings["symmetric"] is False
    capsys.readouterr()
    assert cli.main(["avaliar", *data, "--json", "--modelo", path]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["images"] >= 3 and result["accuracy"] == 1
    assert cli.main(["dados", *data, "--json"]) == 0
    counted = json.loads(capsys.readouterr().out)
    assert counted["train"] + counted["val"] + counted["test"] == 60 and counted["test"] == result["images"]
    assert cli.main(["prever", str(tmp_path / "fotos" / "verde" / "3.png"), "--json", "--modelo", path]) == 0
    prediction = json.loads(capsys.readouterr().out)
    assert next(iter(next(iter(prediction.values())))) == "verde"


@pytest.mark.slow
def test_an_interrupted_training_on_own_classes_goes_on(tmp_path, monkeypatch, capsys):
    for name, colour in (("azul", (0, 0, 200)), ("error", (0, 200, 0))):
        (tmp_path / "fotos" / name).mkdir(parents=True)
        for number in range(20):
            Image.new("RGB", (60, 50), colour).save(tmp_path / "fotos" / name / f"{number}.png")
    data, path, save = (
        ["--dados", str(tmp_path / "fotos"), "--lado", "48"],
        str(tmp_path / "m.pth"),
        trainer_module.save_point,
    )
    with monkeypatch.context() as patch:
        patch.setattr(trainer_module, "save_point", lambda *state: (save(*state), signal.raise_signal(signal.SIGINT)))
        assert cli.main(["treinar", *data, "--epocas", "2", "--lote", "8", "--modelo", path]) == 130
    assert cli.main(["treinar", *data[:2], "--retomar", "--modelo", path]) == 1
    assert "não serve para retomar" in capsys.readouterr().err
    assert cli.main(["treinar", "--dados", str(ROOT / "data"), "--retomar", "--modelo", path]) == 1
    assert "outras classes (azul, error). Dê as imagens dele com --dados" in capsys.readouterr().err
    assert cli.main(["treinar", *data, "--retomar", "--modelo", path]) == 0
    picture = str(tmp_path / "fotos" / "error" / "1.png")
    capsys.readouterr()
    assert cli.main(["prever", picture, "--csv", "--modelo", path]) == 0
    row = next(csv.reader(io.StringIO(capsys.readouterr().out.splitlines()[1])))
    assert row[1] in ("azul", "error") and row[3] == "" and len(row) == 6


@pytest.mark.slow
def test_the_example_teaches_handwritten_digits(tmp_path, capsys):
    root, path = str(tmp_path / "numeros"), str(tmp_path / "m.pth")
    assert cli.main(["exemplo", root]) == 0
    assert "--dados" in capsys.readouterr().out
    assert cli.main(["exemplo", root]) == 1
    assert "já existe" in capsys.readouterr().err
    options = ["--epocas", "3", "--lote", "32", "--sem-espelho", "--modelo", path]
    assert cli.main(["treinar", "--dados", root, *options]) == 0
    capsys.readouterr()
    assert cli.main(["avaliar", "--dados", root, "--json", "--modelo", path]) == 0
    assert json.loads(capsys.readouterr().out)["accuracy"] > 0.9


def test_a_teacher_is_trained_and_taught_from(tmp_path, monkeypatch, capsys):
    for name, colour in (("céu", "blue"), ("mato", "green")):
        (tmp_path / "fotos" / name).mkdir(parents=True)
        for number in range(8):
            Image.new("RGB", (40, 40), colour).save(tmp_path / "fotos" / name / f"{number}.png")
    monkeypatch.chdir(tmp_path)  # where the recipe looks for its teacher
    monkeypatch.setattr("classificador.training.batches.SHOWN", 1)  # a thousand pictures are many for the teacher
    options = ["--dados", "fotos", "--epocas", "1", "--lote", "4", "--lado", "48", "--sem-espelho"]
    assert cli.main(["treinar", "--receita", "destilado", *options]) == 1
    assert "\nerro: Falta o professor (professor.pth). Treine-o" in capsys.readouterr().err
    assert cli.main(["professor", "--modelo", "mestre.pth", *options]) == 0
    assert read_checkpoint("mestre.pth").info.settings["symmetric"] is False
    assert cli.main(["treinar", "--receita", "destilado", "--professor", "mestre.pth", *options]) == 0
    assert ", destilado), em " in capsys.readouterr().out
    assert cli.main(["avaliar", "--dados", "fotos", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["distilled"] is True
    assert cli.main(["professor", "--retomar"]) == 1
    assert "Não há treino interrompido" in capsys.readouterr().err


def test_diagnosis_names_what_is_wrong(tmp_path, capsys):
    nothing = str(tmp_path / "nada.pth")
    assert cli.main(["diagnostico", "--json", "--dados", str(tmp_path), "--modelo", nothing]) == 1
    rows = json.loads(capsys.readouterr().out)
    assert rows["torch"]["value"] == torch.__version__.split("+")[0]
    assert rows["torch"]["problem"] == ""
    assert "classificador dados" in rows["dados"]["problem"]
    assert "não existe" in rows["modelo"]["problem"]


def test_diagnosis_of_a_sound_installation_is_exit_code_zero(cifar10, model_file, capsys):
    assert cli.main(["diagnostico", "--dados", str(ROOT / "data"), "--modelo", str(model_file)]) == 0
    assert "✗" not in capsys.readouterr().out


def test_what_a_folder_holds_besides_pictures_is_told(tmp_path, capsys):
    Image.new("RGB", (40, 40)).save(tmp_path / "a.png")
    for name in ("b.MOV", "c.mov", "d"):
        (tmp_path / name).write_text("")
    assert cli.main(["prever", str(tmp_path), "--modelo", str(ROOT / "best_model.pth")]) == 0
    out = capsys.readouterr().out
    assert ".mov (2)" in out and "sem extensão (1)" in out and "a.png: " in out


def test_a_quoted_pattern_is_expanded_and_a_name_in_brackets_is_a_name(model_file, tmp_path, capsys):
    for name in ("a.png", "b.png", "[1].png"):
        Image.new("RGB", (8, 8)).save(tmp_path / name)
    model = ["--modelo", str(model_file), "--json"]
    assert cli.main(["prever", str(tmp_path / "[ab].png"), str(tmp_path / "[1].png"), *model]) == 0
    found = json.loads(capsys.readouterr().out)
    assert list(found) == [str(tmp_path / name) for name in ("a.png", "b.png", "[1].png")]
    assert cli.main(["prever", str(tmp_path / "*.jpg"), *model]) == 1
    assert "*.jpg não existe" in capsys.readouterr().err


def test_interrupted_prever_gives_what_it_has(model_file, tmp_path, capsys, monkeypatch):
    def interrupt(model, path):
        if path.endswith("b.png"):
            raise KeyboardInterrupt
        return {"Gato": 1.0}

    for name in ("a.png", "b.png"):
        Image.new("RGB", (8, 8)).save(tmp_path / name)
    monkeypatch.setattr("classificador.results.predict.predict_image", interrupt)
    assert cli.main(["prever", str(tmp_path), "--modelo", str(model_file), "--json"]) == 130
    out, err = capsys.readouterr()
    assert json.loads(out) == {str(tmp_path / "a.png"): {"Gato": 1.0}}
    assert "Interrompido depois de 1 imagens" in err


def test_names_of_invalid_bytes_are_all_there_and_none_is_a_formula(model_file, tmp_path, capsys, monkeypatch):
    Image.new("RGB", (8, 8)).save(tmp_path / "=1+1.png")
    for byte in (b"\xe9", b"\xea"):
        shutil.copy(tmp_path / "=1+1.png", os.fsencode(tmp_path) + b"/caf" + byte + b".png")
    monkeypatch.chdir(tmp_path)
    names = ["=1+1.png", *(os.fsdecode(b"caf" + byte + b".png") for byte in (b"\xe9", b"\xea"))]
    for form in ("--json", "--csv"):
        assert cli.main(["prever", *names, "--modelo", str(model_file), form]) == 0
        out = capsys.readouterr().out
        if form == "--json":
            assert list(json.loads(out)) == ["=1+1.png", r"caf\udce9.png", r"caf\udcea.png"]
        else:
            rows = list(csv.DictReader(io.StringIO(out)))
            assert [row["arquivo"] for row in rows] == ["'=1+1.png", r"caf\udce9.png", r"caf\udcea.png"]
