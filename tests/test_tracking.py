"""What every run leaves in its folder, and the runs side by side."""

import csv
import json
import shutil
import signal
import sys
from dataclasses import replace

import pytest
from PIL import Image
from torch import nn

from classificador import tracking, training
from classificador.__main__ import main
from classificador.assemble import build, make_optimizer
from classificador.errors import DivergenceError
from classificador.model import CNN
from classificador.training import fit


def run(toy, settings, path, resume=False):
    model = build(settings, toy, CNN)
    return fit(model, toy, nn.CrossEntropyLoss(), make_optimizer(model, settings), settings, path, resume=resume)


def record(folder):
    return json.loads((folder / "run.json").read_text())


def test_a_run_leaves_its_history_settings_versions_data_and_metrics(toy, small, tmp_path):
    history = run(toy, small, tmp_path / "best.pth")
    (folder,) = (tmp_path / "runs").iterdir()
    with (folder / "history.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [float(row["val_loss"]) for row in rows] == history.val_loss
    facts = record(folder)
    assert facts["status"] == "finished"
    assert facts["settings"] == facts["settings"] | small.to_dict() | {"label_smoothing": 0.0}  # what run() trains with
    assert facts["versions"]["torch"].startswith("2.")
    assert facts["data"]["train"] == 520
    assert facts["metrics"]["val_accuracy"] == max(history.val_accuracy)
    assert facts["git_commit"] is None or len(facts["git_commit"].removesuffix("-dirty")) == 40


def test_other_images_have_another_check_sum(toy, small, tmp_path):
    (tmp_path / "a").mkdir()
    run(toy, small, tmp_path / "a" / "best.pth")
    changed = replace(toy, val=replace(toy.val, images=toy.val.images.flip(3)))
    (tmp_path / "b").mkdir()
    run(changed, small, tmp_path / "b" / "best.pth")
    sums = [record(next((tmp_path / name / "runs").iterdir()))["data"]["crc32"] for name in "ab"]
    assert sums[0] != sums[1]


def test_an_interrupted_run_is_told_and_goes_on_in_its_folder(toy, small, tmp_path, monkeypatch):
    save = training.save_state
    with monkeypatch.context() as patch:
        patch.setattr(training, "save_state", lambda *state: (save(*state), signal.raise_signal(signal.SIGINT)))
        run(toy, small, tmp_path / "best.pth")
    (folder,) = (tmp_path / "runs").iterdir()
    assert record(folder)["status"] == "interrupted"
    assert record(folder)["metrics"]["epochs"] == 1
    run(toy, small, tmp_path / "best.pth", resume=True)
    assert list((tmp_path / "runs").iterdir()) == [folder]
    assert record(folder)["status"] == "finished"
    assert len((folder / "history.csv").read_text().splitlines()) == 3


def test_a_diverged_run_is_told(toy, small, tmp_path):
    with pytest.raises(DivergenceError):
        run(toy, replace(small, lr=1e30), tmp_path / "best.pth")
    assert record(next((tmp_path / "runs").iterdir()))["status"] == "failed"


def test_a_record_that_cannot_be_written_does_not_end_the_training(toy, small, tmp_path, capsys):
    (tmp_path / "runs").write_text("a file")
    assert len(run(toy, small, tmp_path / "best.pth").val_loss) == 2
    assert capsys.readouterr().out.count("mas sem registro") == 1


def test_make_runs_folder_is_used_where_it_is_given(toy, small, tmp_path, monkeypatch):
    monkeypatch.setenv(tracking.FOLDER_VARIABLE, str(tmp_path / "given"))
    run(toy, small, tmp_path / "best.pth")
    assert record(tmp_path / "given")["status"] == "finished"
    assert not (tmp_path / "runs").exists()


def test_tensorboard_reads_the_events(toy, small, tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    history = run(toy, small, tmp_path / "best.pth")
    events = EventAccumulator(str(next((tmp_path / "runs").iterdir()))).Reload()
    assert [event.value for event in events.Scalars("accuracy/val")] == pytest.approx(history.val_accuracy)


def test_without_tensorboard_no_events(toy, small, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    run(toy, small, tmp_path / "best.pth")
    assert {file.name for file in next((tmp_path / "runs").iterdir()).iterdir()} == {"history.csv", "run.json"}


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
    assert Image.open(figure).size == (1000, 400)


@pytest.mark.parametrize("name", ["test", "single_view"])  # the second in folders from before 2026-11-27
def test_the_test_accuracy_of_make_run_is_shown(runs, tmp_path, capsys, name):
    folder = min(runs.iterdir())
    (folder / "metricas.json").write_text(json.dumps({name: {"accuracy": 0.8125}}))
    assert main(["comparar", str(folder), "--figura", str(tmp_path / "c.png")]) == 0
    assert "81,25%" in capsys.readouterr().out


@pytest.mark.parametrize("damage", ["", "[]", "{}", '{"settings": {}, "metrics": 3}'])
def test_a_foreign_run_json_is_one_line(runs, damage, tmp_path, capsys):
    (min(runs.iterdir()) / "run.json").write_text(damage)
    assert main(["comparar", str(runs), "--figura", str(tmp_path / "c.png")]) == 1
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
    assert main(["comparar", str(runs), "--figura", str(tmp_path / "c.png")]) == 1
    assert capsys.readouterr().err.count("\n") == 1


def test_a_broken_tensorboard_does_not_end_the_training(toy, small, tmp_path, monkeypatch, capsys):
    class Broken:
        def __getattr__(self, name):
            raise TypeError("descriptors")

    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", Broken())
    assert len(run(toy, small, tmp_path / "best.pth").val_loss) == 2
    assert capsys.readouterr().out.count("Sem eventos para o TensorBoard") == 1
