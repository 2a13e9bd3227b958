"""Whatever kills a save, the file is the complete old one or the complete new one; and full disks are told."""

import os
import random
import signal
import subprocess
import sys
import time
from contextlib import contextmanager

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

# For every line "step path" forks a child that saves to the path again and again, with the number of the save in the
# metadata. It says its number as a process, and which save it begins; "dead" when it was killed, be it by itself in its
# second save, at the step.
SERVER = """
import builtins, io, os, signal, stat, sys
sys.path.insert(0, "tests")
import torch
from conftest import INFO
from classificador.files.model_file import save_checkpoint
from classificador.network.cnn import CNN, make_network

def die_at(here):
    if step == here and number == 2:
        os.kill(os.getpid(), signal.SIGKILL)

class HalfWriter(io.FileIO):
    def write(self, data):
        half = super().write(data[: len(data) // 2])
        die_at("half")
        return half + super().write(data[half:])

def fsync(handle, really=os.fsync):
    die_at("folder" if stat.S_ISDIR(os.fstat(handle).st_mode) else "complete")
    really(handle)

def replace(old, new, really=os.replace):
    die_at("replace")
    really(old, new)

def open_half(name, mode="r", *rest, really=open, **options):
    return HalfWriter(name, mode) if mode == "xb" else really(name, mode, *rest, **options)

os.fsync, os.replace, builtins.open = fsync, replace, open_half
torch.manual_seed(0)
torch.set_num_threads(1)  # a fork has one thread only
model = make_network(CNN, channels=(16, 64))
for line in sys.stdin:
    step, path = line.split()
    child = os.fork()
    if child == 0:
        os.write(1, b"%d\\n" % os.getpid())
        for number in range(1, 10_000):
            os.write(1, b"%d\\n" % number)  # in one piece: a kill before the newline would join two lines
            save_checkpoint(path, model, INFO | {"epoch": number})
    os.waitpid(child, 0)
    print("dead", flush=True)
"""


@pytest.fixture(scope="module")
def same_weights():
    torch.manual_seed(0)
    return make_network(CNN, channels=(16, 64)).state_dict()


@pytest.fixture(scope="module")
def server():
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen([sys.executable, "-c", SERVER], cwd=ROOT, **pipes) as process:
        yield process
        process.kill()


def save_until_killed(server, path, step="never", moment=None):
    """Let a child save until it is killed: by itself at the step, or by us in or after its second save.

    moment: of the second save, from 0, its beginning, to 1, when it should be over. Returns the save it was in.
    """
    print(step, path, file=server.stdin, flush=True)
    child = int(server.stdout.readline())
    if moment is not None:
        assert server.stdout.readline() == "1\n"
        started = time.perf_counter()
        assert server.stdout.readline() == "2\n"
        time.sleep(moment * (time.perf_counter() - started))
        os.kill(child, signal.SIGKILL)
    return [2, *map(int, iter(lambda: server.stdout.readline().strip(), "dead"))][-1]


def check_whole(path, same_weights):
    """The file loads, with the weights and a number that was really saved; return that number."""
    model = load_model(path)
    assert all(torch.equal(value, same_weights[name]) for name, value in model.state_dict().items())
    return model.info.epoch


@pytest.mark.parametrize(("step", "left"), [("half", 1), ("complete", 1), ("replace", 1), ("folder", 2)])
def test_a_kill_at_each_step_of_the_save(tmp_path, server, same_weights, step, left):
    path = tmp_path / "best_model.pth"
    assert save_until_killed(server, path, step) == 2
    assert check_whole(path, same_weights) == left
    assert len(list(tmp_path.glob(".*.tmp"))) == (left == 1), "the kill came before the unfinished file was there"
    with RunFolder(Runs(path)):  # the next start
        assert not list(tmp_path.glob(".*.tmp"))
    assert check_whole(path, same_weights) == left


def test_kills_at_random_moments(tmp_path, server, same_weights):
    draw, path, hits, tries = random.Random(0), tmp_path / "best_model.pth", 0, 0
    while hits < 6:  # kills that fell inside a write, as the unfinished file shows
        tries += 1
        assert tries < 200, f"only {hits} of {tries} kills fell inside a write"
        begun = save_until_killed(server, path, moment=draw.uniform(0, 1.2))
        assert check_whole(path, same_weights) in (begun - 1, begun)
        for file in tmp_path.glob(".*.tmp"):
            hits += 1
            file.unlink()


@contextmanager
def full_disk(size):
    """No file can grow beyond `size` bytes."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def test_a_full_disk_is_told_and_the_old_file_stays(toy, small, tmp_path):
    path, model = tmp_path / "best_model.pth", build(small, toy, CNN)
    save_checkpoint(path, make_network(CNN, channels=(4, 8), hidden=16), INFO | {"val_accuracy": 0.0})
    before = path.read_bytes()
    with full_disk(len(before) // 2), pytest.raises(WriteError, match=r"best_model.pth \(\d+ MB livres no disco\)"):
        save_checkpoint(path, model, INFO)
    assert os.listdir(tmp_path) == ["best_model.pth"]
    with full_disk(len(before) // 2), pytest.raises(WriteError, match=r"best_model.pth \(\d+ MB livres no disco\)"):
        fit(model, toy, nn.CrossEntropyLoss(), make_optimizer(model, small), small, path)
    assert path.read_bytes() == before
