"""Runs side by side."""

import json
import shutil
from dataclasses import replace

import pytest
from PIL import Image
from test_run_folder import run

from classificador.apps.cli import main


@pytest.fixture
def runs(toy, small, tmp_path):
    for epochs in (1, 2):
        run(toy, replace(small, epochs=epochs), tmp_path / "best.pth")
    return tmp_path / "runs"


def test_runs_are_compared_side_by_side(runs, tmp_path, capsys):
    figure = tmp_path / "c.png"
    assert main(["comparar", str(runs), "--figura", str(figure)]) == 0
    table = capsys.readouterr().out
    assert "1/1" in table
    assert "2/2" in table
    assert "epochs: 1, 2" in table
    assert "seed:" not in table  # the same in both
    with Image.open(figure) as drawn:
        assert drawn.size == (1000, 400)


def test_runs_on_other_data_or_for_other_files_are_told_apart(toy, small, tmp_path, capsys):
    for name, classes in (("a.pth", toy.classes), ("b.pth", tuple("abcdefghij"))):
        shorter = replace(toy.train, images=toy.train.images[:500], labels=toy.train.labels[:500])
        run(replace(toy, classes=classes, train=toy.train if name == "a.pth" else shorter), small, tmp_path / name)
    assert main(["comparar", str(tmp_path / "runs"), "--figura", str(tmp_path / "c.png")]) == 0
    table = capsys.readouterr().out
    assert "modelo: a.pth, b.pth" in table
    assert "dados: 10 classes, 520 imagens, " in table and ", 10 classes, 500 imagens, " in table


@pytest.mark.parametrize("name", ["test", "single_view"])  # the second in folders from before 2026-11-27
def test_the_test_accuracy_of_make_run_is_shown(runs, tmp_path, capsys, name):
    folder = min(runs.iterdir())
    (folder / "metricas.json").write_text(json.dumps({name: {"accuracy": 0.8125, "macro_f1": 0.8099}}))
    assert main(["comparar", str(folder), "--figura", str(tmp_path / "c.png")]) == 0
    assert "81,25% (0,8099)" in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.parametrize("damage", ["", "[]", "{}", '{"settings": {}, "metrics": 3}'])
def test_a_foreign_run_json_is_one_line(runs, damage, tmp_path, capsys):
    damaged = min(runs.iterdir())
    (damaged / "run.json").write_text(damage)
    assert main(["comparar", str(runs), "--figura", str(tmp_path / "c.png")]) == 0, "the others are shown"
    assert f"Ficou de fora: {damaged} não tem um run.json" in capsys.readouterr().out
    assert main(["comparar", str(damaged), "--figura", str(tmp_path / "c.png")]) == 1
    error = capsys.readouterr().err
    assert "run.json" in error
    assert error.count("\n") == 1


def test_folders_without_runs_and_places_that_cannot_be_written_are_told(runs, tmp_path, capsys):
    assert main(["comparar", str(tmp_path / "nada")]) == 1
    assert main(["comparar", str(runs), "--figura", str(tmp_path / "não" / "há.png")]) == 1
    assert main(["comparar", str(runs), "--figura", str(tmp_path / "c.abc")]) == 1
    assert capsys.readouterr().err.count("erro:") == 3


def test_runs_of_one_name_stay_apart_and_none_is_shown_twice(runs, tmp_path, capsys):
    (tmp_path / "other").mkdir()
    first = min(runs.iterdir())
    shutil.copytree(first, tmp_path / "other" / first.name)
    folders = [str(runs), str(runs / ".." / "runs"), str(tmp_path / "other")]
    assert main(["comparar", *folders, "--figura", str(tmp_path / "c"), "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)["runs"]
    assert [run["name"] for run in shown].count(first.name) == 2
    assert len(shown) == 3
    assert (tmp_path / "c.png").exists()


@pytest.mark.parametrize(("file", "damage"), [("history.csv", "a" * 200_000), ("run.json", "[" * 100_000)])
def test_a_file_that_is_too_much_for_its_reader_is_one_line(runs, file, damage, tmp_path, capsys):
    (min(runs.iterdir()) / file).write_text(damage)
    assert main(["comparar", str(min(runs.iterdir())), "--figura", str(tmp_path / "c.png")]) == 1
    assert capsys.readouterr().err.count("\n") == 1
