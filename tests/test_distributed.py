"""Two processes on this machine, started by torchrun: as good a result as one's, one writer, and a death survived."""

import json
import os
import re
import subprocess
import sys
import time
from dataclasses import replace
from datetime import UTC, datetime

import psutil
import pytest
import torch
from PIL import Image

from classificador import processes
from classificador.apps import cli
from classificador.data.dataset import Split
from classificador.files.model_file import save_checkpoint
from classificador.network.cnn import CNN, make_network
from classificador.network.teacher import Teacher
from classificador.recipes import make_settings
from classificador.results.predict import predict_logits
from classificador.training.fit import train
from classificador.training.run_folder import Runs
from conftest import INFO, ROOT, runs_of, stopped_when_written

TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests")])}
ODD = 97  # images that two processes cannot share out evenly

WORKER = """
import os, sys
import torch
from conftest import toy
from classificador import processes
from test_distributed import train_oddly

written, replace_file = [], os.replace
def note(source, target):
    written.append(target.name)
    replace_file(source, target)
os.replace = note
with processes.process_group():
    data, folder = toy.__wrapped__(), sys.argv[1]
    for name, teacher in (("own", ""), ("taught", folder + "/professor.pth")):
        model, logits, history = train_oddly(data, f"{folder}/{name}.pth", teacher)
        result = [model.state_dict(), logits, history.val_loss, written]
        torch.save(result, f"{folder}/{name}{processes.rank()}.pt")
"""


def train_oddly(data, path, teacher=""):
    """A run whose batches and validation and test images two processes cannot share out evenly."""
    data = replace(data, val=Split(data.val.images[:ODD], data.val.labels[:ODD]))
    sizes = {"epochs": 1 if teacher else 5, "batch_size": 33, "channels": (4, 8), "hidden": 16}
    model, history = train(make_settings(**sizes, teacher=teacher, device="cpu"), data, path)
    return model, predict_logits(model, data.test.images[:ODD]), history


@pytest.mark.slow
def test_two_processes_agree_with_one_and_one_of_them_writes(toy, tmp_path):
    save_checkpoint(tmp_path / "professor.pth", make_network(Teacher, widths=(8, 16, 16)), INFO)
    (tmp_path / "worker.py").write_text(WORKER)
    command = [*TORCHRUN, tmp_path / "worker.py", tmp_path]
    done = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, encoding="utf-8", timeout=120)
    assert done.returncode == 0, done.stderr
    for name in ("own", "taught"):
        first, second = (torch.load(tmp_path / f"{name}{rank}.pt") for rank in range(2))
        assert all(torch.equal(a, b) for a, b in zip(first[0].values(), second[0].values(), strict=True))
        assert torch.equal(first[1], second[1])
        assert first[2] == second[2]
    assert set(first[3]) == {"own.pth", "own.retomar.pth", "taught.pth", "history.csv", "run.json"}
    assert second[3] == []
    weights, logits, val_loss, _ = torch.load(tmp_path / "own0.pt")
    model, logits_of_one, history = train_oddly(toy, tmp_path / "single.pth")
    labels = toy.test.labels[:ODD]
    accuracies = [(answers.argmax(1) == labels).float().mean().item() for answers in (logits, logits_of_one)]
    assert accuracies[0] == pytest.approx(accuracies[1], abs=0.15)
    assert val_loss[-1] == pytest.approx(history.val_loss[-1], rel=0.1)
    model.load_state_dict(weights)
    torch.testing.assert_close(predict_logits(model, toy.test.images[:ODD]), logits)  # evaluated by one or by two


@pytest.fixture(scope="module")
def command(tmp_path_factory):
    """What trains a network of few weights on a thousand pictures, once --modelo is added."""
    folder = tmp_path_factory.mktemp("own")
    for number, name in enumerate(("azul", "verde")):
        (folder / "cores" / name).mkdir(parents=True)
        for shade in range(510):  # so many that it learns in epochs
            colour = (shade % 2, shade // 2, 250) if number else (shade // 2, 250, shade % 2)
            Image.new("RGB", (32, 32), colour).save(folder / "cores" / name / f"{shade}.png")
    save_checkpoint(folder / "start.pth", make_network(CNN, channels=(2, 4), hidden=8), INFO)
    return ["treinar", "--dados", str(folder / "cores"), "--partir-de", str(folder / "start.pth"), "--lote", "16"]


def start(command, checkpoint, epochs, *options):
    """Training by two processes, and what they print, in a file; returns once the first epoch is over."""
    output = checkpoint.with_suffix(".txt")
    command = [*TORCHRUN, *options, "-m", "classificador", *command, "--modelo", checkpoint, "--epocas", str(epochs)]
    with output.open("w") as file:
        process = subprocess.Popen(command, env=ENVIRONMENT, stdout=file, stderr=file)
    while not Runs(checkpoint).interrupted():
        assert process.poll() is None, output.read_text()
        time.sleep(0.02)
    return process, output


@pytest.mark.slow
def test_a_killed_process_costs_at_most_an_epoch(command, tmp_path):
    process, output = start(command, tmp_path / "best.pth", 9, "--max-restarts=1")
    (victim,) = (
        child for child in psutil.Process(process.pid).children(recursive=True) if child.environ().get("RANK") == "1"
    )
    victim.kill()
    assert process.wait(timeout=120) == 0, output.read_text()
    text = output.read_text()
    epochs = [int(number) for number in re.findall(r"Época (\d)/9: perda", text)]
    assert sorted(set(epochs)) == list(range(1, 10))
    assert len(epochs) <= 10
    assert "Outro dos processos parou" in text  # the first process met its death and did not hang
    (folder,) = runs_of(tmp_path)
    assert len((folder / "history.csv").read_text().splitlines()) == 1 + 9
    assert Runs(tmp_path / "best.pth").interrupted() is None


@pytest.mark.slow
def test_a_stopped_pair_is_resumed_by_one(command, tmp_path, capsys):
    path = tmp_path / "best.pth"
    process, output = start(command, path, 200)
    process.terminate()
    process.wait(timeout=120)
    assert "Para continuar: o mesmo comando, com --retomar" in output.read_text()
    before = len(torch.load(Runs(path).interrupted())["state"]["history"]["val_loss"])
    assert before > 0
    with stopped_when_written("best.retomar.pth"):
        assert cli.main([*command, "--modelo", str(path), "--retomar"]) == 130
    told = [line.strip() for line in capsys.readouterr().out.splitlines() if ": perda" in line]
    assert len(told) == before + 1  # those of before the stop, and a new one
    for number, line in enumerate(told, 1):
        assert f"Época {number}/200: perda" in line
    assert all(line in output.read_text() for line in told[:-1])


def test_a_death_after_the_last_epoch_does_not_repeat_the_training(command, tmp_path, monkeypatch, capsys):
    command = [*command, "--modelo", str(tmp_path / "best.pth"), "--epocas", "1"]
    assert cli.main(command) == 0
    monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", "1")  # as torchrun tells a process that it starts anew
    assert cli.main(command) == 0
    said = capsys.readouterr().out
    assert said.count("Época 1/1: perda") == 1
    assert "já tinha terminado" in said


def test_a_restarted_job_goes_on_with_the_run_that_it_began_and_no_other(tmp_path):
    runs = Runs(tmp_path / "best.pth")
    assert runs.left_since(0) == ""  # nothing there

    began = datetime(2026, 1, 1, 0, 2, tzinfo=UTC).timestamp()
    for minute, status, checkpoint, point, left in [
        (1, "interrupted", "best.pth", True, ""),  # stopped before
        (9, "finished", "other.pth", False, ""),  # of another file
        (3, "running", "best.pth", False, ""),  # killed before its first point
        (4, "running", "best.pth", True, "interrupted"),
        (5, "finished", "best.pth", False, "finished"),
    ]:
        folder = runs.folder / str(minute)
        folder.mkdir(parents=True)
        record = {"started": f"2026-01-01T00:0{minute}:00+00:00", "status": status, "checkpoint": checkpoint}
        (folder / "run.json").write_text(json.dumps(record))
        if point:
            (folder / runs.resume_name).touch()
        assert runs.left_since(began) == left


@pytest.mark.parametrize(("count", "size"), [(0, 2), (1, 2), (97, 1), (97, 3), (10_000, 8)])
def test_every_image_is_in_exactly_one_part(count, size, monkeypatch):
    parts = []
    for rank in range(size):
        monkeypatch.setattr(processes, "rank", lambda rank=rank: rank)
        monkeypatch.setattr(processes, "world_size", lambda: size)
        parts += range(count)[processes.shard(count)]
    assert parts == list(range(count))
