"""Whatever kills a save, the file is the complete old one or the complete new one; and full disks are told."""

import os
import random
import signal
import subprocess
import sys
import time

import pytest
import torch
from torch import nn

from classificador.errors import WriteError
from classificador.files.model_file import load_model, save_checkpoint
from classificador.network.build import build, make_network, make_optimizer
from classificador.network.cnn import CNN
from classificador.training.fit import fit
from classificador.training.run_folder import RunFolder, Runs
from conftest import INFO, ROOT

pytestmark = pytest.mark.slow

resource = pytest.importorskip("resource")  # not on Windows, where nobody can be sent SIGKILL either

# Saves the weights again and again, with the number of the save in the metadata; says which it began.
SAVING = """
import os, signal, sys
sys.path.insert(0, "tests")
import torch
from conftest import INFO
from classificador.files.model_file import save_checkpoint
from classificador.network.cnn import make_network
from classificador.network.cnn import CNN
torch.manual_seed(0)
model = make_network(CNN, channels=(16, 64))
{hook}
for number in range(1, 10_000):
    os.write(1, b"%d\\n" % number)  # in one piece: a kill between the number and its newline would join two lines
    save_checkpoint(sys.argv[1], model, INFO | {{"epoch": number}})
"""
# Kills the process inside the second save, at a given step; the line it prints first proves that it got there.
HOOK = """
import builtins, io
calls = []
def kill(step):
    print("killed at", step, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
class HalfWriter(io.FileIO):
    def write(self, data):
        calls.append(1)
        if len(calls) == 2:
            super().write(data[: len(data) // 2])
            kill("write")
        return super().write(data)
step = {step!r}
if step == "write":
    plain = builtins.open
    builtins.open = lambda name, mode="r", *rest, **more: HalfWriter(name, mode) if mode == "xb" else plain(name, mode, *rest, **more)
else:
    original = getattr(os, step)
    def killing(*arguments):
        calls.append(1)
        if len(calls) == {at}:
            kill(step)
        return original(*arguments)
    setattr(os, step, killing)
"""  # noqa: E501
# For every line it is sent, forks a child that saves and says its number; "dead" when that was killed.
FORKING = """
torch.set_num_threads(1)  # a fork has one thread only
for line in sys.stdin:
    child = os.fork()
    if child == 0:
        print(os.getpid(), flush=True)
        break
    os.waitpid(child, 0)
    print("dead", flush=True)
"""


@pytest.fixture(scope="module")
def same_weights():
    torch.manual_seed(0)
    return make_network(CNN, channels=(16, 64)).state_dict()


def start(path, hook=""):
    code = SAVING.format(hook=hook)
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    return subprocess.Popen([sys.executable, "-c", code, str(path)], cwd=ROOT, **pipes)


def check_whole(path, same_weights):
    """The file loads, with the weights and a number that was really saved; return that number."""
    model = load_model(path)
    assert all(torch.equal(value, same_weights[name]) for name, value in model.state_dict().items())
    return model.info.epoch


# Before the content is complete, before it is on the disk, before it takes the old file's place, and after that.
@pytest.mark.parametrize(("step", "at", "left"), [("write", 2, 1), ("fsync", 3, 1), ("replace", 2, 1), ("fsync", 4, 2)])
def test_a_kill_at_each_step_of_the_save(tmp_path, same_weights, step, at, left):
    path = tmp_path / "best_model.pth"
    child = start(path, HOOK.format(step=step, at=at))
    out = child.communicate()[0]
    assert child.returncode == -signal.SIGKILL
    assert f"killed at {step}" in out
    assert check_whole(path, same_weights) == left
    if left == 1:
        assert list(tmp_path.glob(".*.tmp")), "the kill came before the unfinished file was there"
    with RunFolder(Runs(path)):  # the next start
        assert not list(tmp_path.glob(".*.tmp"))
    assert check_whole(path, same_weights) == left


def test_kills_at_random_moments(tmp_path, same_weights):
    draw, path, hits, tries = random.Random(0), tmp_path / "best_model.pth", 0, 0
    before = 0  # the number in the file when a child starts
    with start(path, FORKING) as server:
        while hits < 10:  # kills that fell inside a write, as the unfinished file shows
            tries += 1
            assert tries < 1000, f"only {hits} of {tries} kills fell inside a write"
            print("another", file=server.stdin, flush=True)
            child = int(server.stdout.readline())
            time.sleep(draw.uniform(0, 0.05))
            os.kill(child, signal.SIGKILL)
            begun = [0, *map(int, iter(lambda: server.stdout.readline().strip(), "dead"))][-1]
            if path.exists():
                whole = begun - 1 if begun > 1 else before  # the save before the one that was killed
                before = check_whole(path, same_weights)
                assert before in (whole, begun)
            unfinished = list(tmp_path.glob(".*.tmp"))
            hits += len(unfinished)
            for file in unfinished:
                file.unlink()
        server.kill()


def test_a_full_disk_ends_a_training_and_leaves_the_old_file(toy, small, tmp_path):
    path, model = tmp_path / "best_model.pth", build(small, toy, CNN)
    save_checkpoint(path, make_network(CNN, channels=(4, 8), hidden=16), INFO | {"val_accuracy": 0.0})
    before, limits = path.read_bytes(), resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) // 2, limits[1]))
    try:
        with pytest.raises(WriteError, match=r"best_model.pth \(\d+ MB livres no disco\)"):
            fit(model, toy, nn.CrossEntropyLoss(), make_optimizer(model, small), small, path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert path.read_bytes() == before


def test_a_full_disk_is_told_and_the_old_file_stays(tmp_path):
    path, model = tmp_path / "best_model.pth", make_network(CNN, channels=(4, 8), hidden=16)
    save_checkpoint(path, model, INFO)
    before, limits = path.read_bytes(), resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) // 2, limits[1]))  # the write fails halfway
    try:
        with pytest.raises(WriteError, match=r"MB livres no disco"):
            save_checkpoint(path, model, INFO)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["best_model.pth"]
