"""Two processes on this machine, started by torchrun: the same result as one, one writer, and a death survived."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime

import psutil
import pytest
import torch
from torch import nn

from classificador import processes
from classificador.data.dataset import ImageData, Split
from classificador.data.folders import write_example
from classificador.files.model_file import read_checkpoint
from classificador.network.build import build, make_optimizer
from classificador.network.cnn import CNN
from classificador.recipes import make_settings
from classificador.results.predict import predict_logits
from classificador.training.fit import fit
from classificador.training.run_folder import Runs
from conftest import ROOT

pytestmark = pytest.mark.slow

TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests")])}
ODD = 97  # images that two processes cannot share out evenly

WORKER = """
import json, sys
import torch
from conftest import toy
from classificador import atomic
from classificador.files import safe
from classificador import processes
from classificador.training import record
from classificador.training import run_folder
from classificador import device
from test_distributed import train

written, write = [], atomic.write_bytes
def note(path, data):
    written.append(path.name)
    write(path, data)
safe.write_bytes = record.write_bytes = run_folder.write_bytes = note
device.has_bf16 = lambda device: False  # in bfloat16 the order of the sums would show
with processes.process_group():
    model, test_logits, history = train(toy.__wrapped__(), sys.argv[1] + "/best.pth")
    torch.save([model.state_dict(), test_logits, history.val_loss], f"{sys.argv[1]}/rank{processes.rank()}.pt")
    with open(f"{sys.argv[1]}/rank{processes.rank()}.json", "w") as file:
        json.dump(written, file)
"""


def train(data, path):
    """A run whose batches and validation and test images two processes cannot share out evenly."""
    data = ImageData(data.train, Split(data.val.images[:ODD], data.val.labels[:ODD]), data.test)
    settings = make_settings(epochs=2, batch_size=33, channels=(4, 8), hidden=16, device="cpu")
    model = build(settings, data, CNN)
    history = fit(model, data, nn.CrossEntropyLoss(), make_optimizer(model, settings), settings, path)
    return model, predict_logits(model, data.test.images[:ODD]), history


def test_two_processes_agree_with_one_and_one_of_them_writes(toy, tmp_path, monkeypatch):
    monkeypatch.setattr("classificador.device.has_bf16", lambda device: False)
    (tmp_path / "worker.py").write_text(WORKER)
    command = [*TORCHRUN, tmp_path / "worker.py", tmp_path]
    done = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, encoding="utf-8", timeout=120)
    assert done.returncode == 0, done.stderr
    model, logits, history = train(toy, tmp_path / "single.pth")
    ranks = [torch.load(tmp_path / f"rank{rank}.pt") for rank in range(2)]
    for weights, test_logits, val_loss in ranks:
        for name, value in model.state_dict().items():
            torch.testing.assert_close(weights[name], value, rtol=1e-3, atol=1e-4)
        assert test_logits.shape == (ODD, 10)
        torch.testing.assert_close(test_logits, logits, rtol=1e-3, atol=1e-3)
        assert val_loss == pytest.approx(history.val_loss, rel=1e-4)
    assert all(torch.equal(a, b) for a, b in zip(ranks[0][0].values(), ranks[1][0].values(), strict=True))
    written = [json.loads((tmp_path / f"rank{rank}.json").read_text()) for rank in range(2)]
    assert {"best.pth", "best.retomar.pth", "history.csv", "run.json"} == set(written[0])
    assert written[1] == []


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    folder = tmp_path_factory.mktemp("digits") / "numeros"
    write_example(folder)
    return folder


def start(digits, checkpoint, *options, epochs=6):
    """Training by two processes, and what they print, in a file; returns once the first epoch is over."""
    command = [*TORCHRUN, *options, "-m", "classificador", "treinar", "--dados", digits, "--modelo", checkpoint]
    output = checkpoint.with_suffix(".txt")
    with output.open("w") as file:
        process = subprocess.Popen(
            [*command, "--epocas", str(epochs), "--lote", "64"], env=ENVIRONMENT, stdout=file, stderr=file
        )
    while not Runs(checkpoint).interrupted():
        assert process.poll() is None, output.read_text()
        time.sleep(0.02)
    return process, output


def test_a_killed_process_costs_at_most_an_epoch(digits, tmp_path):
    process, output = start(digits, tmp_path / "best.pth", "--max-restarts=1")
    (victim,) = (
        child for child in psutil.Process(process.pid).children(recursive=True) if child.environ().get("RANK") == "1"
    )
    victim.kill()
    assert process.wait(timeout=120) == 0, output.read_text()
    text = output.read_text()
    epochs = [int(number) for number in re.findall(r"Época (\d)/6: perda", text)]
    assert sorted(set(epochs)) == [1, 2, 3, 4, 5, 6]
    assert len(epochs) <= 7
    assert "Outro dos processos parou" in text  # the first process met its death and did not hang
    assert len(read_checkpoint(tmp_path / "best.pth").info.history["val_loss"]) > 1
    assert Runs(tmp_path / "best.pth").interrupted() is None


def test_two_processes_learn_from_one_teacher(digits, tmp_path):
    common = ["--dados", digits, "--epocas", "1", "--lote", "32", "--sem-espelho"]
    alone = [sys.executable, "-m", "classificador", "professor", *common]
    subprocess.run(alone, env=ENVIRONMENT, cwd=tmp_path, check=True, timeout=120)
    command = [*TORCHRUN, "-m", "classificador", "treinar", "--receita", "destilado", *common]
    done = subprocess.run(
        command, env=ENVIRONMENT, cwd=tmp_path, capture_output=True, text=True, encoding="utf-8", timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert read_checkpoint(tmp_path / "best_model.pth").info.val_accuracy > 0.5  # ten classes


FINISHER = """
import os, signal, sys
from classificador.apps.cli import main
code = main(sys.argv[1:])
if os.environ["TORCHELASTIC_RESTART_COUNT"] == "0":
    os.kill(os.getpid(), signal.SIGKILL)
sys.exit(code)
"""


def test_a_death_after_the_last_epoch_does_not_repeat_the_training(digits, tmp_path):
    (tmp_path / "finisher.py").write_text(FINISHER)
    command = [*TORCHRUN[:-1], "--nproc-per-node=1", "--max-restarts=1", tmp_path / "finisher.py", "treinar"]
    command += ["--dados", digits, "--modelo", tmp_path / "best.pth", "--epocas", "1", "--lote", "256"]
    done = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, encoding="utf-8", timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("Época 1/1: perda") == 1
    assert "já tinha terminado" in done.stdout


def test_a_stopped_pair_is_resumed_by_one(digits, tmp_path):
    path = tmp_path / "best.pth"
    process, output = start(digits, path, epochs=50)
    process.send_signal(signal.SIGTERM)
    process.wait(timeout=120)
    assert "Para continuar: o mesmo comando, com --retomar" in output.read_text()
    before = len(torch.load(Runs(path).interrupted())["state"]["history"]["val_loss"])
    assert before > 0
    command = [sys.executable, "-m", "classificador", "treinar", "--dados", digits, "--modelo", path, "--retomar"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    with subprocess.Popen(command, env=ENVIRONMENT, **pipes) as resumed:
        epochs = (line for line in resumed.stdout if ": perda" in line)
        told = [next(epochs) for _ in range(before + 1)]  # those of before the stop, and a new one
        resumed.kill()
    for number, line in enumerate(told, 1):
        assert f"Época {number}/50: perda" in line
    assert told[0].strip() in output.read_text()


def test_a_restarted_job_goes_on_with_the_run_that_it_began_and_no_other(tmp_path):
    runs = Runs(tmp_path / "best.pth")
    assert runs.left_since(0) == ""  # nothing there

    def leave(name, minute, status, *points):
        (runs.folder / name).mkdir(parents=True)
        record = {"started": f"2026-01-01T00:{minute:02}:00+00:00", "status": status, "checkpoint": "best.pth"}
        (runs.folder / name / "run.json").write_text(json.dumps(record))
        for point in points:
            (runs.folder / name / point).touch()

    leave("stopped before", 1, "interrupted", runs.resume_name)
    leave("of another file", 9, "finished", "other.retomar.pth")
    (runs.folder / "of another file" / "run.json").write_text('{"started": "2026-01-01T00:09:00+00:00"}')
    began = datetime(2026, 1, 1, 0, 2, tzinfo=UTC).timestamp()
    assert runs.left_since(began) == ""
    leave("killed before its first point", 3, "running")
    assert runs.left_since(began) == ""
    leave("killed", 4, "running", runs.resume_name)
    assert runs.left_since(began) == "interrupted"
    leave("complete", 5, "finished")
    assert runs.left_since(began) == "finished"


def test_one_process_is_alone():
    assert (processes.rank(), processes.world_size(), processes.shard(7)) == (0, 1, slice(0, 7))


@pytest.mark.parametrize("count", [0, 1, 2, 97, 10_000])
@pytest.mark.parametrize("size", [1, 2, 3, 8])
def test_every_image_is_in_exactly_one_part(count, size, monkeypatch):
    parts = []
    for rank in range(size):
        monkeypatch.setattr(processes, "rank", lambda rank=rank: rank)
        monkeypatch.setattr(processes, "world_size", lambda: size)
        parts += range(count)[processes.shard(count)]
    assert parts == list(range(count))
