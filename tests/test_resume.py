"""Interrupted and resumed equals uninterrupted, bit for bit: on a CPU, with as many threads."""

import os
import re
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from itertools import count
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from classificador.data.dataset import Split
from classificador.device import has_bf16
from classificador.errors import CheckpointError, SettingsError, WriteError
from classificador.files.model_file import load_model, save_checkpoint
from classificador.network.build import build, make_network, make_optimizer
from classificador.network.cnn import CNN
from classificador.recipes import make_settings
from classificador.results.predict import predict_logits
from classificador.training import trainer as trainer_module
from classificador.training.fit import fit, train
from classificador.training.run_folder import Runs
from classificador.training.start import find_start
from conftest import INFO, ROOT, runs_of, stop_at

STEPS = 8  # batches an epoch, which shows each of the 520 images twice: 1040 // 128
SETTINGS = make_settings(epochs=3, batch_size=128, channels=(2, 4), hidden=8, device="cpu")
HANGUP = getattr(signal, "SIGHUP", None)  # which Windows has not
PAST = count(1)


class Dropping(CNN):
    """With dropout, as a user may add it: its draws must be the same in a resumed run."""

    def __init__(self, **sizes):
        super().__init__(**sizes)
        self.fc2.register_forward_pre_hook(lambda _, inputs: F.dropout(inputs[0], 0.2, self.training))


class Outcome:
    """All that a run leaves: weights, optimizer, random draws, history (but for the seconds) and the best file."""

    def __init__(self, settings, data, path, watch=None, resume=False):
        model = build(settings, data, Dropping)
        torch.rand(next(PAST))  # whatever was drawn before must not matter
        optimizer, criterion = make_optimizer(model, settings), nn.CrossEntropyLoss(label_smoothing=0.1)
        self.history = fit(model, data, criterion, optimizer, settings, path, watch, resume)
        moments = [value for state in optimizer.state_dict()["state"].values() for value in state.values()]
        self.tensors = [*model.state_dict().values(), *moments, torch.rand(3)]
        self.lr = optimizer.param_groups[0]["lr"]
        self.best = list(load_model(path).state_dict().values()) if path.exists() else []

    def __eq__(self, other):
        mine, theirs = self.tensors + self.best, other.tensors + other.best
        same = len(mine) == len(theirs) and all(torch.equal(a, b) for a, b in zip(mine, theirs, strict=True))
        histories = [outcome.history.state_dict() | {"seconds": None} for outcome in (self, other)]
        return same and self.lr == other.lr and histories[0] == histories[1]


@pytest.fixture(scope="module")
def uninterrupted(toy, tmp_path_factory):
    return Outcome(SETTINGS, toy, tmp_path_factory.mktemp("whole") / "best.pth")


def test_same_seed_same_bits_other_seed_other_weights(toy, uninterrupted, tmp_path):
    assert Outcome(SETTINGS, toy, tmp_path / "again.pth") == uninterrupted
    assert Outcome(replace(SETTINGS, seed=1), toy, tmp_path / "other.pth") != uninterrupted


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "batches"),
    [
        (signal.SIGINT, [1]),
        (signal.SIGTERM, [STEPS]),
        pytest.param(HANGUP, [2 * STEPS - 1], marks=pytest.mark.skipif(not HANGUP, reason="Windows has no SIGHUP")),
        (signal.SIGINT, [2, 3, STEPS + 1, 3 * STEPS - 1]),
    ],
)
def test_stopped_and_resumed_equals_uninterrupted(toy, uninterrupted, tmp_path, number, batches):
    path, handler = tmp_path / "best.pth", signal.getsignal(number)
    for turn, batch in enumerate(batches):
        stopped = Outcome(SETTINGS, toy, path, stop_at(batch, number), resume=turn > 0).history
        assert stopped.interrupted == number
        assert len(stopped.val_loss) == batch // STEPS
    assert Outcome(SETTINGS, toy, path, resume=True) == uninterrupted
    assert Runs(path).interrupted() is None
    assert signal.getsignal(number) == handler  # as before the training


@pytest.mark.slow
def test_in_the_other_precision_too(toy, uninterrupted, tmp_path, monkeypatch):
    """Of bfloat16 and float32, in the one that this processor does not choose."""
    native = has_bf16(torch.device("cpu"))
    monkeypatch.setattr("classificador.device.has_bf16", lambda device: not native)
    whole = Outcome(SETTINGS, toy, tmp_path / "a.pth")
    assert whole != uninterrupted
    assert Outcome(SETTINGS, toy, tmp_path / "b.pth", stop_at(STEPS + 3)).history.interrupted
    assert Outcome(SETTINGS, toy, tmp_path / "b.pth", resume=True) == whole


def test_a_signal_while_the_last_epoch_is_validated_comes_too_late(toy, uninterrupted, tmp_path):
    assert Outcome(SETTINGS, toy, tmp_path / "best.pth", stop_at(3 * STEPS)) == uninterrupted


def test_more_signals_while_saving(toy, uninterrupted, tmp_path, monkeypatch):
    path, fsync = tmp_path / "best.pth", os.fsync
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", lambda handle: (signal.raise_signal(signal.SIGINT), fsync(handle)))
        assert Outcome(SETTINGS, toy, path).history.interrupted
    assert Outcome(SETTINGS, toy, path, resume=True) == uninterrupted


@pytest.mark.skipif(not HANGUP, reason="Windows has no SIGHUP")
def test_an_ignored_signal_stays_ignored_as_under_nohup(toy, tmp_path):
    before = signal.signal(HANGUP, signal.SIG_IGN)
    try:
        history = Outcome(replace(SETTINGS, epochs=1), toy, tmp_path / "best.pth", stop_at(3, HANGUP)).history
        assert history.interrupted == 0
    finally:
        signal.signal(HANGUP, before)


# When a process is killed: in a batch of the second epoch, or after so many batches, before a file is in its place; and
# in the first epoch, where this process keeps a point after every batch.
MOMENTS = ["batch 13", "16 runs best.pth", "16 . best.pth", "16 runs run.json", "16 runs best.retomar.pth", "batch 5"]
# Imports once, and forks for each moment a process that trains and is killed.
SERVER = """
import os, sys
from pathlib import Path
import scipy.optimize
import torch
import torch._dynamo  # which, as scipy, a training would load when it first needs it
torch.set_num_threads(int(sys.argv[2]))
from conftest import toy
from test_resume import MOMENTS, train_until_killed
for moment in MOMENTS:
    if os.fork() == 0:
        train_until_killed(moment, toy.__wrapped__(), Path(sys.argv[1], moment, "best.pth"))
        os._exit(0)
    if os.waitstatus_to_exitcode(os.wait()[1]) != -9:
        sys.exit("survived: " + moment)
"""


def train_until_killed(moment, data, path):
    """Train, and be killed by the system when the moment has come."""
    done, replace_file = 0, os.replace

    def reach(place):
        if place == moment:
            os.kill(os.getpid(), signal.SIGKILL)

    def watch(history):
        nonlocal done
        done = len(history.steps)
        reach(f"batch {done}")

    def watched_replace(source, target):
        where = target.relative_to(path.parent).parts[0] if target.parent != path.parent else "."
        reach(f"{done} {where} {target.name}")
        replace_file(source, target)

    os.replace = watched_replace
    trainer_module.KEEP_EVERY = -1.0 if moment == "batch 5" else 60.0
    path.parent.mkdir()
    Outcome(SETTINGS, data, path, watch)


@pytest.fixture(scope="module")
def killed(tmp_path_factory):
    """A folder with a folder for each of the moments, in which a run was killed."""
    if not hasattr(os, "fork"):
        pytest.skip("Windows has no fork")
    folder, threads = tmp_path_factory.mktemp("killed"), str(torch.get_num_threads())
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests")])}
    command = [sys.executable, "-c", SERVER, folder, threads]
    server = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert server.returncode == 0, server.stderr
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("moment", MOMENTS)
def test_killed_and_resumed_equals_uninterrupted(toy, uninterrupted, killed, moment):
    path = killed / moment / "best.pth"
    if moment == "batch 5":
        assert torch.load(Runs(path).interrupted(), weights_only=True)["state"]["batches"]["done"] == 4
    else:
        load_model(path)  # complete, whenever the kill came
    assert Outcome(SETTINGS, toy, path, resume=True) == uninterrupted
    assert {file.name for file in path.parent.iterdir()} == {"best.pth", ".best.pth.lock", "runs"}
    (folder,) = (path.parent / "runs").iterdir()  # what was at the top was this run's: nothing had to be kept
    assert {file.name for file in folder.iterdir()} == {"best.pth", "history.csv", "run.json"}


def test_within_an_epoch_a_point_is_kept_once_a_minute(toy, tmp_path, monkeypatch):
    """Of a slow machine, on which a batch takes seven seconds."""
    now, kept, replace_file, batch = [0.0], [0.0], os.replace, 7.0

    def note(source, target):
        replace_file(source, target)
        kept.extend(now if target.name == "best.retomar.pth" else ())

    monkeypatch.setattr("time.perf_counter", lambda: now[0])
    monkeypatch.setattr(os, "replace", note)
    settings = replace(SETTINGS, epochs=2, batch_size=40)
    Outcome(settings, toy, tmp_path / "best.pth", lambda history: now.__setitem__(0, batch * len(history.steps)))
    pauses = [after - before for before, after in zip(kept, [*kept[1:], now[0]], strict=True)]
    assert max(pauses) <= 60 + batch
    assert len(pauses) < now[0] / 60 + 2


@pytest.fixture(scope="module")
def stopped_run(toy, tmp_path_factory):
    folder = tmp_path_factory.mktemp("stopped")
    Outcome(SETTINGS, toy, folder / "best.pth", stop_at(STEPS + 3))
    return folder


@pytest.fixture
def stopped(stopped_run, tmp_path):
    """The path of a run that was stopped in its second epoch."""
    return shutil.copytree(stopped_run, tmp_path, dirs_exist_ok=True) / "best.pth"


@pytest.mark.parametrize("change", [{"lr": 0.02}, {"channels": (8, 8)}])
def test_other_settings_are_refused(toy, stopped, change):
    before = Runs(stopped).interrupted().read_bytes()
    with pytest.raises(SettingsError, match=f"^{next(iter(change))}: "):
        Outcome(replace(SETTINGS, **change), toy, stopped, resume=True)
    assert Runs(stopped).interrupted().read_bytes() == before


def test_a_hostile_recipe_is_told_in_characters_that_can_be_printed(toy, stopped):
    put(stopped, "settings preset", "\x1b[2J")
    with pytest.raises(SettingsError, match="^preset: rapido aqui") as caught:
        Outcome(SETTINGS, toy, stopped, resume=True)
    assert str(caught.value).isprintable()


def test_other_data_are_refused(toy, stopped):
    images, labels = toy.val.images, toy.val.labels
    fewer, negative = Split(images[:50], labels[:50]), Split(255 - images, labels)
    for other in (fewer, negative, Split(images, labels.roll(1)), Split(images.flip(0), labels.flip(0))):
        said = (
            "que eram 520 imagens de treino e 100 de validação.* e são 520 imagens de treino e 50 de validação"
            if len(other) == 50
            else "em igual número"
        )
        with pytest.raises(CheckpointError, match=f"mudou: dados, .*{said}.* --partir-de .*best.pth") as caught:
            Outcome(SETTINGS, replace(toy, val=other), stopped, resume=True)
    named = re.search(r'START_FROM = "([^"]+)"', str(caught.value))[1]
    assert find_start(named, toy.classes).info.epoch == 1  # of the epoch that was complete


def test_on_another_device_it_goes_on_and_says_what_that_costs(toy, stopped, capsys):
    """A point that a GPU kept, as far as that can be had without one: its name, and random numbers of another size."""
    put(stopped, "fingerprint dispositivo", "cuda")
    put(stopped, "settings device", "cuda")
    put(stopped, "state batches generator", torch.zeros(16, dtype=torch.uint8))
    put(stopped, "state random device", torch.zeros(16, dtype=torch.uint8))
    history = Outcome(SETTINGS, toy, stopped, resume=True).history
    assert len(history.val_loss) == SETTINGS.epochs and not history.interrupted
    assert "O treino começou em cuda e segue em cpu: não será mais igual bit a bit." in capsys.readouterr().out


def test_after_a_finished_run_the_message_names_the_way_to_more_epochs(toy, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    settings = replace(SETTINGS, epochs=1)
    model, _ = train(settings, toy, "own.pth")
    with pytest.raises(CheckpointError, match=r'START_FROM = "own\.pth", ou --partir-de own\.pth\.'):
        Outcome(SETTINGS, toy, Path("own.pth"), resume=True)
    start = find_start("own.pth", toy.classes)
    again = build(settings, toy, pretrained=start)
    assert torch.equal(predict_logits(again, toy.test.images), predict_logits(start, toy.test.images))
    train(replace(settings, start_from="own.pth"), toy, "more.pth")
    before, after = (load_model(name).state_dict() for name in ("own.pth", "more.pth"))
    assert {name for name, weight in before.items() if torch.equal(weight, after[name])} == {"network.conv1.weight"}


class Linear(nn.Sequential):
    def __init__(self):
        super().__init__(nn.Flatten(), nn.Linear(3072, 10))

    def forward(self, images):
        return super().forward(images / 255)


class Swapped(CNN):
    """The same layers by name and shape, in another order, by which the optimizer knows them."""

    def __init__(self, **architecture):
        super().__init__(**architecture)
        self.fc2 = self._modules.pop("fc2")
        self.conv2 = self._modules.pop("conv2")


@pytest.mark.parametrize(
    ("network", "loss", "optimizer", "words"),
    [
        (Linear, 0.1, None, "1.weight: na rede"),
        (Swapped, 0.1, None, "mudou: rede"),
        (CNN, 0.0, None, "mudou: critério"),
        (CNN, 0.1, torch.optim.SGD, "mudou: otimizador"),
        (CNN, 0.1, torch.optim.Adam, "mudou: otimizador"),  # with other options
    ],
)
def test_an_edited_notebook_is_refused_rather_than_mixed(toy, stopped, network, loss, optimizer, words):
    model = build(SETTINGS, toy, network)
    steps = optimizer(model.parameters(), lr=0.5) if optimizer else make_optimizer(model, SETTINGS)
    with pytest.raises(CheckpointError, match=words):
        fit(model, toy, nn.CrossEntropyLoss(label_smoothing=loss), steps, SETTINGS, stopped, resume=True)


def test_what_is_no_point_to_go_on_from_is_told_apart(toy, stopped):
    point = Runs(stopped).interrupted()
    with pytest.raises(CheckpointError, match="Não há treino interrompido"):
        Outcome(SETTINGS, toy, stopped.with_name("other.pth"), resume=True)
    with pytest.raises(CheckpointError, match="um treino interrompido, para retomar"):
        load_model(point)
    for content, words in ((point.read_bytes()[:-9], "danificado"), (stopped.read_bytes(), "é um modelo pronto")):
        point.write_bytes(content)
        with pytest.raises(CheckpointError, match=words):
            Outcome(SETTINGS, toy, stopped, resume=True)


def put(path, place, value):
    """Change what the resume file holds at a place, the names that lead there with spaces between them."""
    content = part = torch.load(Runs(path).interrupted(), weights_only=True)
    *names, last = (int(name) if name.isdigit() else name for name in place.split())
    for name in names:
        part = part[name]
    part[last] = value
    torch.save(content, Runs(path).interrupted())


COLUMNS = ("train_loss", "train_accuracy", "val_loss", "val_accuracy", "seconds")
SHORT = torch.zeros(3, dtype=torch.uint8)
HOSTILE = {
    "state": [{}],
    "state batches done": [10.5, 10**6],
    "state batches order": [torch.zeros(1040, dtype=torch.int64), torch.arange(1040.0)],
    "state batches generator": [SHORT],
    "state random cpu": [SHORT],
    "state tally sums": [torch.zeros(2, 3)],
    "state clock seconds": [float("nan"), 10**400],
    "state history": [{name: [1.0] * 7 for name in COLUMNS}],
    "state history steps": [[[1.0, 2.0]]],
    "state history val_loss": [[None]],
    "state history unknown": [4],
    "state optimizer state 1 exp_avg": [torch.zeros(1), 3.0],  # fused Adam would read on behind a shorter one
    "state optimizer state 1 step": [torch.zeros(2)],
    "state optimizer state 1 more": [1],
    "state optimizer param_groups 0 maximize": [True],
    "settings": [{"preset": "rapido", "unknown": 3}],
}


@pytest.mark.parametrize(("place", "value"), [(place, value) for place in HOSTILE for value in HOSTILE[place]])
def test_a_hostile_state_is_refused_in_one_line_and_the_best_file_stays(toy, stopped, place, value):
    before = stopped.read_bytes()
    put(stopped, place, value)
    with pytest.raises(CheckpointError, match="não serve para retomar") as caught:
        Outcome(SETTINGS, toy, stopped, resume=True)
    assert str(caught.value).isprintable()
    assert stopped.read_bytes() == before


def test_the_best_weights_and_the_learning_rate_are_the_runs_own_whatever_the_files_say(toy, uninterrupted, stopped):
    put(stopped, "state optimizer param_groups 0 lr", 100.0)
    save_checkpoint(stopped, make_network(CNN, channels=(4, 8), hidden=16), INFO | {"val_accuracy": 2.0})
    foreign = stopped.read_bytes()
    assert Outcome(SETTINGS, toy, stopped, resume=True) == uninterrupted
    (kept,) = stopped.parent.glob("runs/*-anterior/best.pth")
    assert kept.read_bytes() == foreign


def test_a_better_earlier_file_stays_until_an_epoch_is_over_and_is_still_known_after_stops(toy, tmp_path, capsys):
    path = tmp_path / "best.pth"
    save_checkpoint(path, make_network(CNN, channels=(4, 8), hidden=16), INFO | {"val_accuracy": 2.0})
    before = path.read_bytes()
    assert Outcome(SETTINGS, toy, path, stop_at(STEPS - 1)).history.val_loss == []
    assert path.read_bytes() == before
    assert Outcome(SETTINGS, toy, path, stop_at(STEPS + 3), resume=True).history.val_loss
    capsys.readouterr()
    Outcome(SETTINGS, toy, path, resume=True)
    assert "O modelo anterior era melhor na validação (200,00% contra" in capsys.readouterr().out
    (kept,) = tmp_path.glob("runs/*-anterior/best.pth")
    assert kept.read_bytes() == before


@pytest.mark.slow
def test_a_second_training_on_the_same_file_is_refused_and_names_the_first(toy, tmp_path):
    path, settings = tmp_path / "best.pth", replace(SETTINGS, epochs=1)
    code = "import pathlib, sys; from classificador.atomic import reserve\n"
    code += "lock = reserve(pathlib.Path(sys.argv[1])); print(flush=True); sys.stdin.read()"
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    holder = subprocess.Popen([sys.executable, "-c", code, str(path)], cwd=ROOT, **pipes)
    holder.stdout.readline()
    with pytest.raises(WriteError, match=f"processo {holder.pid}"):
        Outcome(settings, toy, path)
    holder.kill()
    holder.communicate()
    Outcome(settings, toy, path)  # a dead holder holds nothing


def test_starting_anew_keeps_every_interrupted_run(toy, uninterrupted, tmp_path, capsys):
    path = tmp_path / "best.pth"
    for batch in (STEPS + 3, 1):
        Outcome(SETTINGS, toy, path, stop_at(batch))
    first, second = runs_of(tmp_path)
    assert f"Há um treino interrompido em {first}, que fica lá para retomar" in capsys.readouterr().out
    for folder, left in ((second, first / "best.retomar.pth"), (first, None)):  # the newest first
        assert Outcome(SETTINGS, toy, path, resume=True) == uninterrupted
        assert Runs(path).interrupted() == left
        assert (folder / "best.pth").read_bytes() == path.read_bytes()
