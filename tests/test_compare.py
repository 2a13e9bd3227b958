"""Runs side by side."""

import json
import shutil
from dataclasses import replace

import pytest
from PIL import Image
from test_run_folder import run

from classificador.apps.cli import main
from classificador.recipes import make_settings

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def trained(toy, tmp_path_factory):
    """Runs of one epoch and of two, the second for another file and on fewer images of other classes."""
    folder, small = tmp_path_factory.mktemp("treinos"), make_settings(channels=(4, 8), hidden=16, batch_size=64)
    run(toy, replace(small, epochs=1), folder / "a.pth")
    fewer = replace(toy.train, images=toy.train.images[:500], labels=toy.train.labels[:500])
    other = replace(toy, classes=tuple("abcdefghij"), train=fewer)
    run(other, replace(small, epochs=2), folder / "b.pth")
    return folder / "runs"


@pytest.fixture
def runs(trained, tmp_path):
    return shutil.copytree(trained, tmp_path / "runs")


def compare(*folders, figure) -> int:
    return main(["comparar", *map(str, folders), "--figura", str(figure)])


def test_runs_are_compared_side_by_side(runs, tmp_path, capsys):
    tested = json.dumps({"test": {"accuracy": 0.8125, "macro_f1": 0.8099}})
    (min(runs.iterdir()) / "metricas.json").write_text(tested)  # as `make run` leaves it
    assert compare(runs, figure=tmp_path / "c.png") == 0
    table = capsys.readouterr().out
    for shown in ("1/1", "2/2", "81,25% (0,8099)", "10 classes, 520 imagens, ", "10 classes, 500 imagens, "):
        assert shown in table
    heads = " ".join(line for line in table.splitlines() if line.startswith("O que difere")).split()
    assert {"epochs", "modelo", "dados"} <= set(heads) and "seed" not in heads  # which is the same in both
    (row,) = (line for line in table.splitlines() if "a.pth" in line)
    assert "b.pth" not in row and max(map(len, table.splitlines())) < 250
    with Image.open(tmp_path / "c.png") as drawn:
        assert drawn.size == (1000, 400)


@pytest.mark.parametrize(
    ("file", "damage"),
    [
        ("run.json", ""),
        ("run.json", "[]"),
        ("run.json", "{}"),
        ("run.json", '{"settings": {}, "metrics": 3}'),
        ("run.json", "[" * 100_000),
        ("history.csv", "a" * 200_000),
    ],
    ids=lambda text: text[:10],
)
def test_what_cannot_be_read_is_one_line_and_the_others_are_shown(runs, file, damage, tmp_path, capsys):
    damaged = min(runs.iterdir())
    (damaged / file).write_text(damage)
    assert compare(runs, figure=tmp_path / "c.png") == 0
    assert f"Ficou de fora: {damaged} não tem um run.json" in capsys.readouterr().out
    assert compare(damaged, figure=tmp_path / "c.png") == 1
    error = capsys.readouterr().err
    assert "run.json" in error and error.count("\n") == 1


def test_folders_without_runs_and_places_that_cannot_be_written_are_told(runs, tmp_path, capsys):
    assert compare(tmp_path / "nada", figure=tmp_path / "c.png") == 1
    assert compare(runs, figure=tmp_path / "não" / "há.png") == 1
    assert compare(runs, figure=tmp_path / "c.abc") == 1
    assert capsys.readouterr().err.count("erro:") == 3


def test_runs_of_one_name_stay_apart_and_none_is_shown_twice(runs, tmp_path, capsys):
    first = min(runs.iterdir())
    shutil.copytree(first, tmp_path / "other" / first.name)
    folders = [str(runs), str(runs / ".." / "runs"), str(tmp_path / "other")]
    assert main(["comparar", *folders, "--figura", str(tmp_path / "c"), "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)["runs"]
    assert [run["name"] for run in shown].count(first.name) == 2
    assert len(shown) == 3
    assert (tmp_path / "c.png").exists()
